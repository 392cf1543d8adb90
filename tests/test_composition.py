"""Methods compose: any two in either order work, or are refused at once; and so does the whole chain."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import artifacts
import numpy as np
import oracle
import pytest
import torch
from conftest import Run
from families import RELATIVE_LARGE, STACKED, speechlike
from servers import RATE, serving
from test_bench_command import QUICK as QUICK_BENCH
from test_server_live import rest, started
from tones import MODEL, QUIET, VOCABULARY

from littlefoot import cli
from littlefoot.artifact import Artifact, weights_file_bytes
from littlefoot.artifact import artifact as artifact_files
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import manifest, reading
from littlefoot.audio.manifest import Corpus
from littlefoot.bench import report
from littlefoot.cli.info import describe
from littlefoot.compress import calibration, chain, factorize, lowbit, quantize
from littlefoot.compress.distill import Distillation
from littlefoot.compress.methods import METHODS
from littlefoot.compress.recipe import Recipe, make_step
from littlefoot.errors import ConfigError
from littlefoot.evaluate.metrics import character_errors
from littlefoot.network.config import ModelConfig
from littlefoot.network.inventory import inventory
from littlefoot.network.weights import expected_weights, packable
from littlefoot.runtime import recognizer
from littlefoot.runtime.frames import ChunkedFrames
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.registry import create, create_stream
from littlefoot.runtime.saturation import may_saturate
from littlefoot.training.module import CTCModel, MakeOps
from littlefoot.training.torch_ops import TorchOps

DOCUMENTATION = Path(__file__).parents[1] / "docs" / "compose.md"
CLIP = speechlike(1.2)[: 56 * 320 + 330]
"""57 frames, so that a chunk of a single one comes last where they have two on the right."""
CUTS = ([], [7777], list(range(0, len(CLIP), 1600)))

SETTINGS: dict[str, dict[str, Any]] = {
    "distill": {"student": {"layers": 3, "intermediate_size": 0.75}},
    "prune": {"sparsity": 0.2},
    "factorize": {"operations": 0.8},
    "share": {"group": 2, "map_group": 2, "delta_rank": 2},
    "stream": {"chunk_frames": 4, "left_context_frames": 20, "right_context_frames": 2},
    "lowbit": {"bits": 2},
    "quantize": {"bits": 4, "max_disagreement": 1.0},
}
"""Each changes a lot, for models of four layers and more."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny layers are fitted on fewer samples, and nobody asks for the speed of every model."""
    monkeypatch.setattr(calibration, "MAX_CLIPS", 4)
    monkeypatch.setattr(calibration, "MAX_ROWS", 128)
    monkeypatch.setattr(factorize, "NARROW_MULTIPLE", 4)
    monkeypatch.setattr(calibration, "SINGLE_VALUES", 4096)
    monkeypatch.setattr(quantize, "speedup", lambda *models: 1.0)


@pytest.fixture(scope="module")
def given() -> Artifact:
    """A random model of base's kind, which looks at whole recordings wherever a model can."""
    geometry = {"num_hidden_layers": 4, "feat_extract_norm": "group", "do_stable_layer_norm": False}
    config = ModelConfig.from_dict({**MODEL, **geometry})
    model = CTCModel.from_config(config, Vocabulary(tuple(VOCABULARY), 0), seed=3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and name.startswith("encoder.layers."):
                parameter.mul_(5.0)  # so that attention has an opinion
    return artifacts.talkative(model.to_artifact(), CLIP)


@pytest.fixture(scope="module")
def corpus(tones: Path) -> Corpus:
    return manifest.index(tones)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pairs have in common, their first steps, is done once."""
    return tmp_path_factory.mktemp("work")


def recipe(*steps: tuple[str, Mapping[str, Any]], training: int = 0) -> Recipe:
    """So many steps of training with each method that trains."""
    train = {} if not training else {"train": {**QUIET, "steps": training, "warmup_steps": 1}}
    return Recipe(
        tuple(
            make_step(name, {**settings, **({} if name in ("quantize", "factorize") else train)})
            for name, settings in steps
        )
    )


def pair(first: str, second: str, training: int = 0) -> Recipe:
    keeps = second == "distill" and first in ("share", "factorize")  # such layers keep their geometry
    later = {} if keeps else SETTINGS[second]
    return recipe((first, SETTINGS[first]), (second, later), training=training)


# What the documentation says


def documented() -> dict[tuple[str, str], str]:
    """Of every ordered pair the cell of the documentation's table."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in DOCUMENTATION.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    (_, *columns), _, *body = rows
    return {
        (first, second): cell for first, *cells in body for second, cell in zip(columns, cells, strict=True)
    }


def reasons() -> dict[str, str]:
    """By the number in the table, what a refusal says."""
    text = DOCUMENTATION.read_text(encoding="utf-8")
    return dict(re.findall(r"^- \((\d)\) [^`\n]*`([^`\n]+)`", text, re.MULTILINE))


PAIRS = documented()
WORKING = [names for names, cell in PAIRS.items() if cell.startswith("works")]
REFUSED = [names for names, cell in PAIRS.items() if cell.startswith("refused")]


def test_the_table_has_every_pair() -> None:
    smaller = set(METHODS) - {"front_end", "head", "train", "positions"}  # these make models, docs/graft.md
    assert set(PAIRS) == set(itertools.product(smaller, smaller))
    assert set(WORKING) | set(REFUSED) == set(PAIRS)
    assert {cell for cell in PAIRS.values() if "(" in cell} == {
        f"{'works' if number == '4' else 'refused'} ({number})" for number in reasons()
    }


@pytest.mark.parametrize(("first", "second"), REFUSED, ids=map("-".join, REFUSED))
def test_what_cannot_follow_is_refused_before_anything_is_done(
    first: str, second: str, given: Artifact, tmp_path: Path
) -> None:
    told: list[str] = []
    with pytest.raises(ConfigError) as refusal:
        chain.run(given, pair(first, second), None, tmp_path / "work", "given", progress=told.append)
    reason = reasons()[PAIRS[first, second].removeprefix("refused ").strip("()")]
    assert str(refusal.value).startswith(f"step 2, {second}: ")
    assert reason in str(refusal.value)
    assert told == []
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(("first", "second"), WORKING, ids=map("-".join, WORKING))
def test_pairs_work(
    first: str, second: str, given: Artifact, corpus: Corpus, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[Distillation] = []

    def learn(objective: Distillation, data: Any, step: Any) -> Artifact:
        learned.append(objective)
        return objective.model.to_artifact()

    monkeypatch.setattr(lowbit, "learn", learn)
    steps = pair(first, second)
    inferred = chain.infer_shape(given.config, steps)
    made = chain.run(given, steps, corpus, work / first, "given", resume=True, untrained=True)
    assert_has(made, first, given.config)
    assert_has(made, second, given.config)
    assert (inferred.littlefoot.quantization is not None) == (made.config.littlefoot.quantization is not None)
    if "prune" not in (first, second):  # training decides what goes
        unknown = {"waveform_gain": made.config.waveform_gain, "littlefoot": {}}  # without speech and weights
        assert inferred.replace(**unknown).to_dict() == made.config.replace(**unknown).to_dict()
    assert [list(step) for step in made.config.littlefoot.recipe] == [[first], [second]]
    assert_is_an_artifact(made, work / f"{first}-{second}")
    trained = learned[-1] if second == "lowbit" else None
    assert_engines_agree(made, trained, CLIP)


def assert_has(made: Artifact, method: str, before: ModelConfig) -> None:
    """What a method does to a model is there, whatever came before or after it."""
    config = made.config
    if method == "distill" and not (config.layer_blocks or config.linear_ranks):
        assert config.num_hidden_layers < before.num_hidden_layers
    if method == "prune":
        assert config.layer_intermediate_size or config.conv_dim != before.conv_dim
    if method == "factorize":
        assert config.linear_ranks
    if method == "share":
        assert config.block(1) == config.map(1) == 0
        assert config.layer_delta_rank == 2
    if method == "stream":
        assert (config.chunk_frames, config.left_context_frames, config.right_context_frames) == (4, 20, 2)
        assert made.preprocessor["do_normalize"] is False
    if method in ("lowbit", "quantize"):
        bits = SETTINGS[method]["bits"]
        assert config.littlefoot.quantization.bits == bits
        names = packable(config)
        assert {int(made.weights[f"{name}.weight_bits"]) for name in names} == {bits}


def assert_is_an_artifact(made: Artifact, path: Path) -> None:
    """Saved and loaded it is the same, and ``info`` counts what is there."""
    artifact_files.check_weights(made.weights, made.config)
    loaded = artifact_files.load(artifact_files.save(made, path))
    section = {**made.config.littlefoot.to_dict(), "format_version": artifact_files.FORMAT_VERSION}
    assert loaded.config.to_dict() == made.config.replace(littlefoot=section).to_dict()
    assert (loaded.vocabulary, loaded.card) == (made.vocabulary, made.card)
    assert loaded.preprocessor == {**loaded.preprocessor, **made.preprocessor}
    assert loaded.weights.keys() == made.weights.keys()
    for name, weight in made.weights.items():
        assert loaded.weights[name].dtype == weight.dtype, name
        np.testing.assert_array_equal(loaded.weights[name], weight, err_msg=name)

    config, shown = made.config, describe(str(path))
    assert shown["parameters"] == sum(int(np.prod(s)) for s in expected_weights(config).values())
    counted = sum(shown["bytes_by_part"].values())
    assert counted == sum(weight.nbytes for weight in made.weights.values())
    file = (path / "model.safetensors").stat().st_size
    assert weights_file_bytes(loaded) == file
    assert 0 <= file - counted < 250 * len(made.weights)
    assert shown["bytes"] == sum(each.stat().st_size for each in path.iterdir())
    assert shown["layers"] == config.num_hidden_layers
    assert shown["teacher"]["name"] == "given"
    assert (shown["algorithmic_latency_ms"] is None) == (config.chunk_frames == 0)
    assert (shown["quantization"] is None) == (shown["bits"] == 32)


def whole(model: CTCModel, waveform: np.ndarray, make_ops: MakeOps = TorchOps) -> np.ndarray:
    with torch.no_grad():
        return model.eval().encode(torch.from_numpy(waveform)[None], make_ops=make_ops).logits[0].numpy()


def assert_engines_agree(
    made: Artifact, trained: Distillation | None, waveform: np.ndarray, cuts: Sequence[list[int]] = CUTS
) -> None:
    """PyTorch, where it computes such a model, both engines, the native kernels, and streams.

    Args:
        trained: the training of a model that is ``made`` in few bits, if it is.
    """
    rounded = made.config.littlefoot.quantization is not None
    found = {
        name: create(made, name, precision="f32", cached=False, kernels="off").run(waveform)
        for name in ("openvino", "onnxruntime")
    }
    exact = "onnxruntime" if may_saturate() else "openvino"
    if native.available() and rounded and made.config.littlefoot.quantization.bits < 8:
        found["native"] = create(made, exact, precision="f32", cached=False, kernels="auto").run(waveform)
    expected = found[exact]
    if not rounded:
        expected = whole(CTCModel.from_artifact(made), waveform)
    elif trained is not None:
        expected = whole(trained.model, waveform, trained.make_ops)
    assert expected.shape == (made.config.frames(len(waveform)), made.config.vocab_size)
    assert expected.std() > 0.1
    if made.config.chunk_frames:
        for name in ("openvino", "onnxruntime"):
            stepper = create_stream(made, name, precision="f32")
            for places in cuts:
                frames = ChunkedFrames(made.config, stepper)
                pieces = [frames.feed(piece) for piece in np.split(waveform, places)]
                found[f"{name}, live, {len(places)}"] = np.concatenate([*pieces, frames.finish()])
    computed = expected  # by OpenVINO
    if rounded and may_saturate():
        computed = create(artifacts.as_computed(made), "onnxruntime", kernels="off").run(waveform)
    for name, logits in found.items():
        wanted = computed if name.startswith("openvino") else expected
        assert logits.shape == wanted.shape, name
        if not rounded:
            np.testing.assert_allclose(logits, wanted, atol=1e-3, err_msg=name)
        else:  # a value in the middle of two levels may go to either
            assert np.sqrt(np.square(logits - wanted).mean()) < 0.03 * wanted.std(), name


def test_narrower_students_of_shared_layers_are_refused_at_once(given: Artifact, tmp_path: Path) -> None:
    assert PAIRS["share", "distill"] == "works (4)"
    steps = recipe(("share", SETTINGS["share"]), ("distill", SETTINGS["distill"]))
    with pytest.raises(ConfigError, match=f"step 2, distill: .*{reasons()['4']}"):
        chain.run(given, steps, None, tmp_path / "work", "given")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            [("prune", {"sparsity": 0.2}), ("prune", {"sparsity": 0.9, "parts": ["conv"]})],
            "cannot be reached",
        ),
        ([("distill", {"student": {"layers": 2}}), ("share", {"layer_blocks": [0, 0, 2]})], "one entry per"),
        ([("stream", {}), ("stream", {"right_context_frames": 8})], "right_context_frames 8 must be less"),
        (
            [("share", {}), ("lowbit", {"group_size": 24})],
            "q_proj: groups of 24 do not divide its 32 columns",
        ),
        ([("share", {}), ("lowbit", {"layer_bits": {"*.lm_head": 4}})], "no linear layer of the Transformer"),
        (
            [("stream", {}), ("quantize", {"layer_bits": {"decoder*": 4}})],
            "no linear layer of the Transformer",
        ),
        ([("distill", {"student": {"intermediate_size": 33}}), ("quantize", {"bits": 3})], "33 columns of 3"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(name for name, _ in value),
)
def test_settings_that_what_comes_before_rules_out_are_refused_at_once(
    steps: list[tuple[str, dict[str, Any]]], message: str, given: Artifact, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"^step 2, .*{message}"):
        chain.run(given, recipe(*steps), None, tmp_path / "work", "given")
    assert not (tmp_path / "work").exists()


def test_a_quantized_model_is_refused_at_once(given: Artifact, tmp_path: Path) -> None:
    config = given.config.replace(littlefoot={"quantization": {}})
    with pytest.raises(ConfigError, match="step 1, share: the model was quantized before"):
        chain.run(replace(given, config=config), recipe(("share", {})), None, tmp_path / "work", "given")


def test_a_chain_that_stopped_between_steps_ends_as_one_that_did_not(
    given: Artifact, corpus: Corpus, tmp_path: Path
) -> None:
    steps = recipe(*((name, SETTINGS[name]) for name in ("share", "stream", "lowbit")), training=2)
    expected = chain.run(given, steps, corpus, tmp_path / "whole", "given")

    def stop(message: str) -> None:
        if message.startswith("step 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chain.run(given, steps, corpus, tmp_path / "stopped", "given", progress=stop)
    made = chain.run(given, steps, corpus, tmp_path / "stopped", "given", resume=True)
    assert made.config.to_dict() == expected.config.to_dict()
    assert made.card == expected.card
    for name, weight in expected.weights.items():
        np.testing.assert_array_equal(made.weights[name], weight, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), WORKING, ids=map("-".join, WORKING))
def test_pairs_train(first: str, second: str, given: Artifact, corpus: Corpus, work: Path) -> None:
    directory = work / f"{first}-trained"
    made = chain.run(given, pair(first, second, training=2), corpus, directory, "given", resume=True)
    assert_has(made, first, given.config)
    assert_has(made, second, given.config)
    assert_is_an_artifact(made, work / f"{first}-{second}-trained")
    assert_engines_agree(made, None, CLIP)


ORDERS = (
    ("distill", "prune", "share", "stream", "lowbit"),
    ("stream", "prune", "distill", "share", "quantize"),
    ("prune", "stream", "share", "distill", "lowbit"),
)


MORE = (
    *("conformer-relative", "wav2vec2-adapters", "sew-projected", "sew-d", "bert-relative-key"),
    *("parakeet", "parakeet-no-bias"),
)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
@pytest.mark.parametrize("family", ["wav2vec2-large", "mms", RELATIVE_LARGE, STACKED, "log-mel", *MORE])
def test_families_go_through_chains_of_all_methods(
    family: str, order: Sequence[str], corpus: Corpus, tmp_path: Path
) -> None:
    config = oracle.tiny(family).artifact.config.replace(num_hidden_layers=4, extra={})
    tokens = ("<pad>", "|", *(f"t{number}" for number in range(2, config.vocab_size)))
    vocabulary = Vocabulary(tokens, config.pad_token_id)
    model = artifacts.talkative(CTCModel.from_config(config, vocabulary, seed=3).to_artifact(), CLIP)
    kinds = {axis.kind for axis in inventory(config).axes.values()}  # a spectrogram has no channels to lose
    parts = [part for part in ("ffn", "conv") if part in kinds]
    chosen = {**SETTINGS, "prune": {"sparsity": 0.2, "parts": parts}}
    if order.index("share") < order.index("distill"):
        chosen["distill"] = {}  # shared layers keep their geometry
    cannot_stream = bool(config.family.cannot_stream)
    methods = [name for name in order if not (name == "stream" and cannot_stream)]
    steps = recipe(*((name, chosen[name]) for name in methods))
    made = chain.run(model, steps, corpus, tmp_path / "work", "given", untrained=True)
    before = artifact_files.load(tmp_path / "work" / f"{len(methods) - 1}-{methods[-2]}" / "model")
    assert_engines_agree(before, None, CLIP)
    assert_engines_agree(made, None, CLIP)
    for name in methods:
        assert_has(made, name, config)
    assert_is_an_artifact(made, tmp_path / "made")


@pytest.mark.slow
def test_a_chain_of_a_model_of_bases_size(corpus: Corpus, tmp_path: Path) -> None:
    config = ModelConfig.from_dict({"model_type": "wav2vec2", "vocab_size": len(VOCABULARY)})
    model = CTCModel.from_config(config, Vocabulary(tuple(VOCABULARY), 0), seed=3).to_artifact()
    steps = recipe(
        ("distill", {"student": {"layers": 0.5, "hidden_size": 0.75, "num_attention_heads": 9}}),
        ("share", {"group": 2, "map_group": 2}),  # as the native kernels know it
        ("stream", {"chunk_frames": 24, "left_context_frames": 100}),
        ("lowbit", {"bits": 2}),
    )
    waveform = speechlike(2.0)
    model = artifacts.talkative(model, waveform)
    made = chain.run(model, steps, corpus, tmp_path / "work", "given", untrained=True)
    between = artifact_files.load(tmp_path / "work" / "3-stream" / "model")
    assert (between.config.num_hidden_layers, between.config.hidden_size) == (6, 576)
    for each in (between, made):
        assert_engines_agree(each, None, waveform, [[], [9999]])
    assert_is_an_artifact(made, tmp_path / "made")
    bits = 8 * sum(weight.nbytes for weight in made.weights.values()) / made.parameters
    assert 3 < bits < 6  # most of what is left are convolutions in 8 bits


# From a recipe to a server

CHAIN = """\
steps:
  - distill:
      student: {layers: [0, 1, 3], intermediate_size: 0.75}
      train: &train
        {lr: 3.0e-3, warmup_steps: 5, batch_seconds: 4, steps: 40, eval_every: 1000, ema_decay: 0.9,
         mixed_precision: "no", threads: 1, loaders: 0, speeds: [1.0], time_mask_fraction: 0.0,
         feature_mask_fraction: 0.0}
  - share: {layer_blocks: [0, 1, 1], layer_maps: [0, 1, 1], teacher: first, train: *train}
  - stream: {chunk_frames: 8, left_context_frames: 40, teacher: first, train: *train}
  - lowbit: {bits: 2, teacher: first, train: *train}
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For what fixtures compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITTLEFOOT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def small(cache: None, deep_teacher: Artifact, tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes of a recipe."""
    folder = tmp_path_factory.mktemp("chain")
    (folder / "recipe.yaml").write_text(CHAIN, encoding="utf-8")
    teacher = artifact_files.save(deep_teacher, folder / "teacher")
    arguments = [teacher, "-o", folder / "small", "--recipe", folder / "recipe.yaml", "--data", tones]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["littlefoot", "shrink", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    assert not stopped.value.code
    return folder / "small"


@pytest.fixture(scope="module")
def said(cache: None, small: Path, corpus: Corpus) -> dict[Path, str]:
    """What the model says of each recording, on one engine."""
    loaded = recognizer.load(small, "openvino", precision="f32", kernels="off")
    texts = {row.path: loaded.transcribe(str(row.path)).text for row in corpus.of_split("dev")}
    counts = [character_errors(row.text, texts[row.path]) for row in corpus.of_split("dev")]
    errors, characters = np.sum(counts, axis=0)
    assert errors < 0.3 * characters  # it knows its language
    return texts


def test_the_chain_has_all_that_its_steps_made(
    small: Path, said: dict[Path, str], run: Run, deep_teacher: Artifact
) -> None:
    shown = json.loads(run("info", small, "--json").out)
    assert [list(step) for step in shown["recipe"]] == [["distill"], ["share"], ["stream"], ["lowbit"]]
    assert (shown["layers"], shown["layer_blocks"], shown["layer_maps"]) == (3, [0, 1, 1], [0, 1, 1])
    assert shown["quantization"]["bits"] == 2
    assert shown["algorithmic_latency_ms"] == pytest.approx((7 * 320 + 20 + 7 * 10 + 3 * 80) / 16)
    weights = sum(weight.nbytes for weight in deep_teacher.weights.values())
    assert sum(shown["bytes_by_part"].values()) < 0.2 * weights
    made = artifact_files.load(small)
    assert_engines_agree(made, None, reading.read(next(iter(said))))


def test_all_engines_say_the_same(small: Path, said: dict[Path, str]) -> None:
    choices: list[dict[str, Any]] = [
        {"engine": "openvino"},
        {"engine": "onnxruntime"},
        {"engine": "onnxruntime", "kernels": "off"},
        *({"engine": "openvino", "kernels": kernels} for kernels in native.available()),
    ]
    for choice in choices:
        loaded = recognizer.load(small, **choice)
        for path, text in said.items():
            assert loaded.transcribe(str(path)).text == text, choice


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_streams_say_the_same_however_they_are_cut(engine: str, small: Path, said: dict[Path, str]) -> None:
    loaded = recognizer.load(small, engine)
    assert loaded.streams
    for path, text in said.items():
        waveform = reading.read(path)
        for size in (160, 1777, 8000):
            stream = loaded.stream()
            heard = [stream.feed(waveform[at : at + size]) for at in range(0, len(waveform), size)]
            final = [segment.text for partial in [*heard, stream.finish()] for segment in partial.final]
            assert " ".join(final) == text


def test_the_commands_say_the_same(small: Path, said: dict[Path, str], run: Run) -> None:
    for options in ((), ("--stream",)):
        path, text = next(iter(said.items()))
        done = run("transcribe", small, path, *options)
        assert (done.code, done.out) == (0, f"{text}\n")


def test_a_server_says_the_same(small: Path, said: dict[Path, str]) -> None:
    with serving([small]) as running:
        for path, text in said.items():
            answer = running.transcribe(path.read_bytes())
            assert (answer.status, answer.json["text"]) == (200, text)
            samples = np.rint(32768 * reading.read(path)).astype("<i2")
            with started(running, model="small", rate=RATE) as client:
                for piece in np.array_split(samples, 7):
                    client.send(piece.tobytes())
                client.send('{"type": "stop"}')
                messages, code = rest(client)
            assert code == 1000
            assert " ".join(m["text"] for m in messages if m["type"] == "final") == text


@pytest.mark.slow
def test_the_bench_measures_it(
    small: Path, said: dict[Path, str], tones: Path, run: Run, tmp_path: Path
) -> None:
    written = tmp_path / "report.json"
    done = run(
        "bench", small, "--data", tones, "--split", "dev", *QUICK_BENCH, "--launches", "2", "--json", written
    )
    assert done.code == 0, done.err
    found = report.load(written)
    (row,) = found.models
    assert row.bytes == describe(str(small))["bytes"]
    assert [h.text for h in row.hypotheses] == list(said.values())
    assert sum(h.errors for h in row.hypotheses) == pytest.approx(row.wer * found.data.words)
