"""From a Whisper encoder to a wav2vec 2.0 recogniser: copies are exact, and what must be learned is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import yaml
from checkpoints import change_config, tensors, write_tensors
from conftest import Run
from families import speechlike
from tones import LETTERS, QUIET

import littlefoot
from littlefoot import artifact as artifacts
from littlefoot.audio import manifest, reading
from littlefoot.compress import whisper as whispers
from littlefoot.compress.graft import Regression, alphabet, begin
from littlefoot.compress.head import HeadConfig, make_head
from littlefoot.compress.methods import StepContext
from littlefoot.compress.positions import Fading, PositionsConfig, change_positions, convert
from littlefoot.compress.teacher import LiveTeacher
from littlefoot.errors import CheckpointError, ConfigError, TrainingError
from littlefoot.network.config import ModelConfig
from littlefoot.network.encoder import transform
from littlefoot.runtime.registry import create
from littlefoot.training.data import TrainingSet
from littlefoot.training.module import CTCModel, Parameters
from littlefoot.training.torch_ops import TorchOps
from littlefoot.training.train_config import TrainConfig

ENCODER = {
    "d_model": 64,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 96,
    "vocab_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "max_target_positions": 16,
}


@pytest.fixture(scope="module")
def reference() -> transformers.WhisperForConditionalGeneration:
    """A small Whisper with random weights."""
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**ENCODER)).eval()
    with torch.no_grad():
        for name, parameter in model.model.encoder.named_parameters():
            if "embed_positions" not in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def directory(
    reference: transformers.WhisperForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("whisper")
    reference.save_pretrained(path)
    return path


# what is copied


@pytest.mark.parametrize("mels", [80, 128])
def test_the_spectrogram_is_whispers(
    mels: int, reference: transformers.WhisperForConditionalGeneration, directory: Path
) -> None:
    waveform = speechlike(30.0) * 0.1
    extractor = transformers.WhisperFeatureExtractor(feature_size=mels)
    expected = extractor(waveform, sampling_rate=16_000, return_tensors="pt").input_features
    whisper = whispers.Whisper("random", 64, 2, 4, 96, mels, whispers.read(directory).weights)
    found = whisper.log_mel(torch.from_numpy(waveform)[None])
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


def test_stem_and_blocks_give_what_whispers_encoder_gives(
    reference: transformers.WhisperForConditionalGeneration, directory: Path
) -> None:
    whisper = whispers.read(directory)
    waveform = torch.from_numpy(speechlike(30.0))[None] * 0.1
    encoder = reference.model.encoder
    with torch.no_grad():
        expected = encoder(whisper.log_mel(waveform)).last_hidden_state
        model = CTCModel.from_artifact(begin(whisper, LETTERS)).eval()
        ops = TorchOps(Parameters(model))
        x = whisper.stem(waveform)
        x = x + torch.from_numpy(littlefoot.network.encoder.sinusoids(64))[: x.shape[1]]
        found = transform(ops, model.config, x)[-1]
        norm = model.get_submodule("encoder.layer_norm")
        found = torch.nn.functional.layer_norm(found, (64,), norm.weight, norm.bias)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)


def test_the_copied_model_runs_alike_in_torch_and_in_the_engine(directory: Path) -> None:
    begun = begin(whispers.read(directory), LETTERS)
    waveform = speechlike(1.5)
    with torch.no_grad():
        expected = CTCModel.from_artifact(begun).eval().encode(torch.from_numpy(waveform)[None]).logits[0]
    found = create(begun, "onnxruntime").run(waveform)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3)


def test_the_first_convolution_hears_loudness_and_pitch(directory: Path) -> None:
    begun = begin(whispers.read(directory), LETTERS)
    weights = begun.weights["feature_extractor.conv_layers.0.conv.weight"][:, 0]
    time = np.arange(400) / 16_000
    for hertz in (440.0, 2000.0):
        response = np.abs(weights @ np.sin(2 * np.pi * hertz * time))
        strongest = int(response[: 2 * 199].argmax()) % 199
        assert abs((strongest + 1) * 40 - hertz) <= 40


def test_an_alphabet_is_that_of_the_texts() -> None:
    assert alphabet(["BEE", "A DAD"]) == ("A", "B", "D", "E")


# what is learned


def set_of(tones: Path, model: CTCModel, **train: Any) -> TrainingSet:
    settings = TrainConfig(**{**QUIET, **train})
    return TrainingSet(
        manifest.index(tones).of_split("train"), model.vocabulary, model.config, settings, True
    )


def test_the_front_end_learns_whispers_stem(directory: Path, tones: Path) -> None:
    whisper = whispers.read(directory)
    model = CTCModel.from_artifact(begin(whisper, LETTERS, channels=96))
    model.dropout = False
    data = set_of(tones, model, batch_seconds=1.0)
    batch = data.load(0, data.epoch(0)[0])
    objective = Regression(model, whisper)
    trained = [p for name, p in model.named_parameters() if name.startswith("feature_")]
    optimizer = torch.optim.Adam(trained, lr=2e-3)
    missed = []
    for _ in range(25):
        loss = objective(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        missed.append(float(loss.detach()))
    assert missed[-1] < 0.5 < 1.0 < missed[0]


def test_the_regression_compares_the_same_moment(directory: Path, tones: Path) -> None:
    """A click moves the frames of the front end and of the stem at the same places."""
    whisper = whispers.read(directory)
    model = CTCModel.from_artifact(begin(whisper, LETTERS, channels=96)).eval()
    quiet, click = np.full(16_000, 1e-3, np.float32), np.full(16_000, 1e-3, np.float32)
    click[8000:8010] = 1.0

    def moved(run: Any) -> np.ndarray:
        with torch.no_grad():
            change = (
                (run(torch.from_numpy(click)[None]) - run(torch.from_numpy(quiet)[None])).abs().sum(-1)[0]
            )
        frames = np.arange(len(change))
        return float((frames * change.numpy()).sum() / change.sum())

    mine = moved(lambda waveform: model.encode(waveform).features)
    # The stem's floor depends on the loudest moment, so that every frame moves a little: not in this one.
    theirs = moved(lambda waveform: whisper.stem(waveform[:, 200:])[:, 1:])
    assert abs(mine - theirs) < 0.6


def test_a_head_is_learned_on_a_frozen_encoder(
    teacher: artifacts.Artifact, tones: Path, tmp_path: Path
) -> None:
    weights = {**teacher.weights}
    for leaf in ("weight", "bias"):
        weights[f"lm_head.{leaf}"] = np.zeros_like(weights[f"lm_head.{leaf}"])
    emptied = artifacts.Artifact(teacher.config, weights, teacher.vocabulary, teacher.preprocessor)
    told: list[str] = []
    corpus = manifest.index(tones)
    made = make_head(
        emptied, HeadConfig(epochs=150, lr=2e-2), StepContext(emptied, corpus, tmp_path, False, told.append)
    )
    unchanged = [name for name in weights if not name.startswith("lm_head")]
    assert all(np.array_equal(made.weights[name], weights[name]) for name in unchanged)
    assert "12 utterances" in told[0]
    artifacts.save(made, tmp_path / "made")
    recognizer = littlefoot.load(tmp_path / "made", engine="onnxruntime")
    rows = manifest.read(tones, "dev")
    right = sum(recognizer.transcribe(row.path).text == row.text for row in rows)
    assert right >= 3


def test_at_first_a_fading_student_says_what_its_teacher_says(
    directory: Path, tones: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = begin(whispers.read(directory), LETTERS)
    config = PositionsConfig(kernel=8, groups=4, fade_steps=10)
    student = convert(CTCModel.from_artifact(begun), config).eval()
    data = set_of(tones, student)
    batch = data.load(0, data.epoch(0)[0])
    objective = Fading(student, LiveTeacher(CTCModel.from_artifact(begun)), config)
    student.dropout = False
    student.train()
    monkeypatch.setattr(TorchOps, "begin_anywhere", lambda ops, positions, count: positions)
    first = {name: float(value.detach()) for name, value in objective(batch).items()}
    assert first["kl"] < 1e-5
    assert first["sinusoids"] == 1.0
    objective.step = 10
    last = {name: float(value.detach()) for name, value in objective(batch).items()}
    assert last["kl"] > 1e-4
    assert last["sinusoids"] == 0.0
    assert objective.model.config.sinusoidal_positions == 0.0


def test_a_scaffold_adds_the_sinusoids_up(directory: Path, tmp_path: Path) -> None:
    begun = begin(whispers.read(directory), LETTERS)
    made = change_positions(
        begun, PositionsConfig(kind="scaffold"), StepContext(begun, None, tmp_path, False, print)
    )
    waveform = speechlike(4.0)
    with torch.no_grad():
        theirs, mine = (
            CTCModel.from_artifact(model).eval().encode(torch.from_numpy(waveform)[None]).hidden_states[0][0]
            for model in (begun, made)
        )
    assert torch.nn.functional.cosine_similarity(theirs, mine, dim=1).min() > 0.9
    artifacts.save(made, tmp_path / "made")
    oracle = transformers.Wav2Vec2ForCTC.from_pretrained(tmp_path / "made").eval()
    with torch.no_grad():
        expected = oracle(torch.from_numpy(waveform)[None]).logits[0]
    assert torch.isfinite(expected).all()  # taps of zero under weight norm must not become NaN
    found = create(made, "onnxruntime").run(waveform)
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-3)


def test_in_training_sinusoids_begin_anywhere() -> None:
    ops = TorchOps({}, training=True)
    torch.manual_seed(0)
    begins = {int(ops.begin_anywhere(torch.arange(100), 1500)[0]) for _ in range(50)}
    assert len(begins) > 30
    assert max(begins) < 1400
    assert torch.equal(TorchOps({}).begin_anywhere(torch.arange(9), 1500), torch.arange(9))


# the command


def write_steps(folder: Path, steps: Sequence[dict[str, Any]]) -> Path:
    path = folder / "graft.yaml"
    path.write_text(yaml.safe_dump({"steps": list(steps)}), encoding="utf-8")
    return path


def quick(steps: int, **changes: Any) -> dict[str, Any]:
    return {**QUIET, "steps": steps, **changes}


def test_a_whisper_becomes_a_checkpoint_that_transformers_loads(
    directory: Path, tones: Path, tmp_path: Path, run: Run
) -> None:
    frozen = ["encoder.*", "lm_head.*", "masked_spec_embed"]
    recipe = write_steps(
        tmp_path,
        [
            {"front_end": {"train": quick(3, freeze=frozen)}},
            {"head": {"seconds": 5, "epochs": 2}},
            {"train": {"train": quick(3, freeze=["feature_extractor.*"])}},
            {"positions": {"kernel": 16, "groups": 4, "fade_steps": 2, "train": quick(3)}},
        ],
    )
    out = tmp_path / "out"
    result = run("graft", directory, "-o", out, "--data", tones, "--recipe", recipe)
    assert result.code == 0, result.err
    made = artifacts.load(out)
    assert made.vocabulary.tokens == ("<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS)
    assert [next(iter(entry)) for entry in made.config.littlefoot.recipe] == [
        "front_end",
        "head",
        "train",
        "positions",
    ]
    oracle = transformers.Wav2Vec2ForCTC.from_pretrained(out).eval()
    waveform = speechlike(1.0)
    with torch.no_grad():
        expected = oracle(torch.from_numpy(reading.normalize(waveform))[None]).logits[0]
    found = littlefoot.load(out, engine="onnxruntime").logits(waveform)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3)
    again = run("graft", directory, "-o", out, "--data", tones, "--recipe", recipe, "--resume", "--overwrite")
    assert again.code == 0, again.err
    assert again.err.count("done before") == 4


def test_the_bundled_recipe_is_one() -> None:
    from littlefoot.compress import load_recipe

    assert [step.method for step in load_recipe("graft").steps][:2] == ["front_end", "head"]


# bad input


def changed(directory: Path, tmp_path: Path, drop: str = "", **config: Any) -> Path:
    """A copy of the Whisper without the weights that have ``drop`` in their names."""
    copy = tmp_path / "changed"
    copy.mkdir()
    (copy / "config.json").write_bytes((directory / "config.json").read_bytes())
    weights = tensors(directory)
    write_tensors(copy, {name: value for name, value in weights.items() if not drop or drop not in name})
    change_config(copy, **config)
    return copy


def test_what_is_no_whisper_is_refused(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="model_type is 'wav2vec2': a graft needs a Whisper"):
        whispers.read(changed(directory, tmp_path, model_type="wav2vec2"))


def test_a_whisper_without_its_encoder_is_refused(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights of a Whisper encoder"):
        whispers.read(changed(directory, tmp_path, drop="model.encoder"))


def test_a_missing_weight_is_named(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"layers\.1\.fc1\.weight is missing"):
        whispers.read(changed(directory, tmp_path, drop="encoder.layers.1.fc1"))


def test_another_number_of_bands_than_the_config_says_is_named(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="num_mel_bins is 128, but the first convolution has 80"):
        whispers.read(changed(directory, tmp_path, num_mel_bins=128))


def test_another_whisper_is_refused_for_the_front_end(
    directory: Path, tones: Path, tmp_path: Path, run: Run
) -> None:
    other = changed(directory, tmp_path)
    weights = tensors(other)
    weights["model.encoder.layers.0.fc1.weight"] += 1
    write_tensors(other, weights)
    recipe = write_steps(tmp_path, [{"front_end": {"train": quick(2)}}])
    arguments = ("graft", directory, "-o", tmp_path / "out", "--data", tones, "--recipe", recipe)
    result = run(*arguments, "--set", f"front_end.whisper={other}")
    assert result.code == 2
    assert "is not the Whisper that this model's blocks are from" in result.err


def test_letters_that_the_alphabet_lacks_are_counted(
    directory: Path, tones: Path, tmp_path: Path, run: Run
) -> None:
    recipe = write_steps(tmp_path, [{"head": {}}])
    arguments = ("graft", directory, "-o", tmp_path / "out", "--data", tones, "--recipe", recipe)
    result = run(*arguments, "--alphabet", "XYZ")
    assert result.code == 2  # the recipe has no front_end
    assert "no step 'front_end'" in result.err


def test_a_model_without_sinusoids_has_none_to_lose(
    teacher: artifacts.Artifact, tones: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="has no sinusoids"):
        change_positions(teacher, PositionsConfig(), StepContext(teacher, None, tmp_path, False, print))


def test_sinusoids_cannot_stream() -> None:
    config = ModelConfig(feat_extract_norm="layer", sinusoidal_positions=1.0)
    with pytest.raises(ConfigError, match="the step positions"):
        config.replace(chunk_frames=24, left_context_frames=100)


def test_an_alphabet_names_each_letter_once(directory: Path) -> None:
    with pytest.raises(ConfigError, match="every letter once"):
        begin(whispers.read(directory), ["A", "B", "A"])


def test_a_head_needs_texts(teacher: artifacts.Artifact, tones: Path, tmp_path: Path) -> None:
    empty = tmp_path / "manifest.tsv"
    lines = tones.read_text(encoding="utf-8").splitlines()
    rows = [row.rsplit("\t", 1)[0] + "\t" for row in lines[1:]]
    empty.write_text("\n".join([lines[0], *rows]) + "\n", encoding="utf-8")
    with pytest.raises(TrainingError, match="empty text"):
        make_head(teacher, HeadConfig(), StepContext(teacher, manifest.index(empty), tmp_path, False, print))
