"""The commands on a tiny random model and generated recordings, from end to end."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import string
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import artifacts
import checkpoints
import numpy as np
import onnxruntime
import oracle
import pytest
import soundfile
import torch
import transformers
from conftest import Run
from families import RELATIVE, speechlike

import littlefoot
from littlefoot import artifact
from littlefoot.artifact import Artifact, checkpoint
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import reading
from littlefoot.cli import demo
from littlefoot.compress import calibration
from littlefoot.decode.arpa import write_arpa
from littlefoot.decode.ngram import estimate
from littlefoot.runtime import openvino
from littlefoot.runtime.openvino import openvino_core

SECONDS = (0.6, 0.9, 1.2)


@pytest.fixture(scope="module")
def made() -> Artifact:
    """A random model that talks."""
    return artifacts.talkative(oracle.tiny("wav2vec2-base").artifact, speechlike(1.0))


@pytest.fixture
def model(made: Artifact, tmp_path: Path) -> Path:
    return artifact.save(made, tmp_path / "model")


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "clips"
    folder.mkdir()
    paths = [folder / f"clip{index}.wav" for index in range(len(SECONDS))]
    for index, (path, seconds) in enumerate(zip(paths, SECONDS, strict=True)):
        soundfile.write(path, 0.1 * speechlike(seconds, index), 16_000)
    return paths


@pytest.fixture
def rubbish(tmp_path: Path) -> Path:
    path = tmp_path / "rubbish.wav"
    path.write_bytes(b"no audio at all")
    return path


@pytest.fixture
def texts(model: Path, clips: list[Path]) -> list[str]:
    """What the library makes of the clips."""
    loaded = littlefoot.load(str(model))
    found = [loaded.transcribe(clip).text for clip in clips]
    assert all(found)
    assert len(set(found)) == len(found)
    return found


def manifest(directory: Path, clips: list[Path], texts: list[str], split: str = "test") -> Path:
    rows = ["id\tpath\tseconds\tspeaker\tsplit\ttext"]
    rows += [
        f"{index}\t{clip}\t1\tnobody\t{split}\t{text}"
        for index, (clip, text) in enumerate(zip(clips, texts, strict=True))
    ]
    directory.mkdir(exist_ok=True)
    path = directory / "manifest.tsv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


# transcribe


def test_one_recording_gives_its_text(run: Run, model: Path, clips: list[Path], texts: list[str]) -> None:
    assert run("transcribe", model, clips[0]) == (0, f"{texts[0]}\n", "")


def test_several_recordings_have_their_names(
    run: Run, model: Path, clips: list[Path], texts: list[str]
) -> None:
    lines = "".join(f"{clip}\t{text}\n" for clip, text in zip(clips, texts, strict=True))
    result = run("transcribe", model, *clips)
    assert (result.code, result.out) == (0, lines)
    assert re.fullmatch(
        rf"littlefoot: {len(clips)} recordings; {sum(SECONDS) / 60:.1f} min in \d+ s, \d+ x real time\n",
        result.err,
    )


def test_json_is_one_object_on_each_line(run: Run, model: Path, clips: list[Path], texts: list[str]) -> None:
    result = run("transcribe", model, *clips, "--format", "json")
    records = [json.loads(line) for line in result.out.splitlines()]
    assert result.code == 0
    assert [record["text"] for record in records] == texts
    assert [record["duration"] for record in records] == list(SECONDS)
    for record, clip in zip(records, clips, strict=True):
        assert set(record) == {"file", "text", "duration", "segments", "words"}
        assert record["file"] == str(clip)
        assert set(record["segments"][0]) == {"start", "end", "text"}
        assert set(record["words"][0]) == {"start", "end", "word", "confidence"}


@pytest.mark.parametrize(("form", "start"), [("srt", "1\n00:00:0"), ("vtt", "WEBVTT\n\n00:00:0")])
def test_subtitles(run: Run, model: Path, clips: list[Path], form: str, start: str) -> None:
    result = run("transcribe", model, clips[0], "--format", form)
    assert result.code == 0
    assert result.out.startswith(start)
    assert " --> " in result.out


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_subtitles_of_several_recordings_need_a_directory(
    run: Run, model: Path, clips: list[Path], form: str
) -> None:
    result = run("transcribe", model, *clips, "--format", form)
    assert result.code == 2
    assert "--output-dir" in result.err


@pytest.mark.parametrize(
    ("form", "suffix"),
    [("text", "txt"), ("json", "json"), ("srt", "srt"), ("vtt", "vtt"), ("tsv", "tsv"), ("ctm", "ctm")],
)
def test_a_directory_gets_a_file_for_each_recording(
    run: Run, model: Path, clips: list[Path], tmp_path: Path, form: str, suffix: str
) -> None:
    out = tmp_path / "new" / "out"
    result = run("transcribe", model, *clips[:2], "--format", form, "-o", out)
    assert (result.code, result.out) == (0, "")
    assert result.err.startswith("littlefoot: 2 recordings; ")
    assert sorted(path.name for path in out.iterdir()) == [f"clip0.{suffix}", f"clip1.{suffix}"]
    assert (out / f"clip0.{suffix}").read_text() == run("transcribe", model, clips[0], "--format", form).out


def test_beam_search_with_hot_words_lexicon_and_language_model(
    run: Run, model: Path, clips: list[Path], texts: list[str], tmp_path: Path
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("\n".join(texts[0].split()))
    result = run("transcribe", model, clips[0], "--lexicon", words, "--format", "json", "--alternatives", "3")
    assert result.code == 0
    record = json.loads(result.out)
    assert set(record["text"].split()) <= set(texts[0].split())
    assert record["alternatives"][0]["text"] == record["text"]
    assert 1 <= len(record["alternatives"]) <= 3
    arpa = tmp_path / "words.arpa"
    write_arpa(estimate([text.split() for text in texts], 2), arpa)
    hot = tmp_path / "hot.txt"
    hot.write_text(f"{texts[1].split()[0]}\t50\n")
    boosted = run("transcribe", model, clips[0], "--lm", arpa, "--beam", "8", "--hotwords", hot)
    assert texts[1].split()[0] in boosted.out.split()
    rates = {}
    table = manifest(tmp_path / "set", clips, texts)
    for name, options in (
        ("greedy", ()),
        ("lm", ("--lm", arpa, "--alpha", "0", "--beta", "0")),
        ("hot", ("--hotwords", hot)),
    ):
        result = run("eval", model, table, "--json", *options)
        assert result.code == 0
        rates[name] = json.loads(result.out)["wer"]
    assert rates["greedy"] == 0 <= rates["lm"] < rates["hot"]


@pytest.mark.parametrize(
    ("option", "content", "code", "message"),
    [
        ("--lm", None, 1, "given.txt: neither a file nor the name of a language model (en)"),
        (
            "--lm",
            "no model\n",
            1,
            "given.txt, line 1: no line up to here is \\data\\: this is not a complete ARPA file",
        ),
        ("--lm", "\\data\\\nngram 1=1\n\n\\1-grams:\n-1\txyz\n\n\\end\\\n", 2, "'x' 'y' 'z'"),
        ("--hotwords", None, 1, "given.txt: cannot be read"),
        ("--hotwords", "tea\tmuch\n", 2, "given.txt, line 1: the weight 'much' is not a number"),
        ("--hotwords", "tea\nx-ray\n", 2, "given.txt, line 2: hot word 'x-ray' holds characters outside"),
        ("--lexicon", "xyz\n", 2, "need characters such as 'x' 'y' 'z'"),
    ],
)
def test_useless_files_for_decoding_are_named(
    run: Run,
    model: Path,
    clips: list[Path],
    tmp_path: Path,
    option: str,
    content: str | None,
    code: int,
    message: str,
) -> None:
    if content is not None:
        (tmp_path / "given.txt").write_text(content)
    result = run("transcribe", model, clips[0], option, tmp_path / "given.txt")
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--beam", "0"), "a beam of 0 is impossible"),
        (("--alpha", "0.5"), "give one with --lm"),
        (("--alternatives", "2"), "--alternatives needs --format json"),
    ],
)
def test_impossible_settings_of_decoding_are_exit_code_2(
    run: Run, model: Path, clips: list[Path], options: tuple[str, ...], message: str
) -> None:
    result = run("transcribe", model, clips[0], *options)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_recordings_that_would_share_a_file_are_refused(
    run: Run, model: Path, clips: list[Path], tmp_path: Path
) -> None:
    other = tmp_path / clips[0].name
    other.write_bytes(clips[1].read_bytes())
    result = run("transcribe", model, clips[0], other, "--output-dir", tmp_path / "out")
    assert result.code == 2
    assert "both be written to clip0.txt" in result.err
    assert not (tmp_path / "out").exists()


def test_one_bad_recording_leaves_the_others_alone(
    run: Run, model: Path, clips: list[Path], texts: list[str], rubbish: Path
) -> None:
    result = run("transcribe", model, clips[0], rubbish, "missing.wav", clips[1])
    assert result.code == 1
    assert result.out == f"{clips[0]}\t{texts[0]}\n{clips[1]}\t{texts[1]}\n"
    first, second, total = result.err.splitlines()
    assert str(rubbish) in first
    assert "missing.wav" in second
    assert total.startswith("littlefoot: 2 recordings; ")
    assert total.endswith("; 2 failed")


def test_standard_input_is_a_recording(
    run: Run,
    model: Path,
    clips: list[Path],
    texts: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def give() -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(clips[0].read_bytes())))

    give()
    assert run("transcribe", model, "-") == (0, f"{texts[0]}\n", "")
    give()
    assert run("transcribe", model, "-", "--output-dir", tmp_path).code == 0
    assert (tmp_path / "stdin.txt").read_text() == f"{texts[0]}\n"


def test_nothing_on_standard_input_is_a_failed_recording(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO()))
    result = run("transcribe", model, "-")
    assert (result.code, result.out) == (1, "")
    assert "empty" in result.err


def test_the_other_engine_says_the_same(run: Run, model: Path, clips: list[Path], texts: list[str]) -> None:
    result = run("transcribe", model, clips[0], "--engine", "onnxruntime", "--threads", "1")
    assert result == (0, f"{texts[0]}\n", "")


# eval


def test_texts_that_are_right_have_no_errors(
    run: Run, model: Path, clips: list[Path], texts: list[str], tmp_path: Path
) -> None:
    path = manifest(tmp_path / "own", clips, texts)
    result = run("eval", model, path, "--json")
    assert result.code == 0
    found = json.loads(result.out)
    keys = {"wer", "cer", "wer_interval", "cer_interval", "utterances", "words"}
    assert set(found) >= keys | {"failed", "per_set"}
    assert (found["wer"], found["cer"], found["failed"], found["utterances"]) == (0, 0, 0, 3)
    assert found["words"] == sum(len(text.split()) for text in texts)
    assert set(found["per_set"]) == {"own"}
    assert set(found["per_set"]["own"]) >= keys


def test_errors_are_counted_over_all_sets(
    run: Run, model: Path, clips: list[Path], texts: list[str], tmp_path: Path
) -> None:
    right = manifest(tmp_path / "right", clips[:1], texts[:1])
    wrong = manifest(tmp_path / "wrong", clips[1:2], ["QQQ " * len(texts[1].split())])
    found = json.loads(run("eval", model, right, wrong, "--json").out)
    first, second = len(texts[0].split()), len(texts[1].split())
    assert found["per_set"]["right"]["wer"] == 0
    assert found["per_set"]["wrong"]["wer"] == 1
    assert found["wer"] == pytest.approx(second / (first + second))
    table = run("eval", model, right, wrong).out.splitlines()
    assert [line.split()[0] for line in table] == ["set", "right", "wrong", "all", "intervals:"]


def test_texts_by_recognisers_do_not_enter_the_whole(
    run: Run, model: Path, clips: list[Path], texts: list[str], tmp_path: Path
) -> None:
    right = manifest(tmp_path / "right", clips[:1], texts[:1])
    guessed = manifest(tmp_path / "guessed", clips[1:2], ["QQQ " * len(texts[1].split())])
    lines = guessed.read_text().splitlines()
    rows = [f"{lines[0]}\tconfidence", *(f"{line}\t0.9" for line in lines[1:])]
    guessed.write_text("\n".join(rows) + "\n")
    found = json.loads(run("eval", model, right, guessed, "--json").out)
    assert found["per_set"]["guessed"]["wer"] == 1
    assert found["per_set"]["guessed"]["pseudo_labelled"]
    assert (found["wer"], found["utterances"]) == (0, 1)
    assert json.loads(run("eval", model, guessed, "--json").out)["wer"] == 1
    assert "all but *" in run("eval", model, right, guessed).out
    whole = json.loads(run("eval", model, right, guessed, "--json", "--exact", "guessed").out)
    assert (whole["wer"] > 0, whole["utterances"]) == (True, 2)


def test_a_missing_recording_is_counted_and_reported(
    run: Run, model: Path, clips: list[Path], texts: list[str], rubbish: Path, tmp_path: Path
) -> None:
    recordings = [clips[0], tmp_path / "missing.wav", rubbish]
    path = manifest(tmp_path / "own", recordings, texts)
    result = run("eval", model, path, "--json")
    found = json.loads(result.out)
    assert result.code == 1
    assert (found["failed"], found["utterances"], found["wer"]) == (2, 1, 0)
    assert [line.split(":")[1].strip() for line in result.err.splitlines()] == ["1", "2"]  # their ids
    assert "missing.wav" in result.err


def test_no_recording_at_all_is_an_error(run: Run, model: Path, tmp_path: Path) -> None:
    path = manifest(tmp_path / "own", [tmp_path / "missing.wav"], ["E"])
    result = run("eval", model, path)
    assert (result.code, result.out) == (1, "")
    assert "none of 1 recordings could be recognised" in result.err


def test_the_split_is_chosen(
    run: Run, model: Path, clips: list[Path], texts: list[str], tmp_path: Path
) -> None:
    path = manifest(tmp_path / "own", clips, texts, split="dev")
    assert run("eval", model, path, "--split", "dev").code == 0
    result = run("eval", model, path)
    assert result.code == 1
    assert "no utterance is in split 'test'" in result.err


# quantize


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny layers are fitted on fewer samples."""
    monkeypatch.setattr(calibration, "MAX_ROWS", 128)
    monkeypatch.setattr(calibration, "SINGLE_VALUES", 4096)


@pytest.mark.usefixtures("quick")
def test_a_model_is_quantized_and_transcribes(
    run: Run, model: Path, clips: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "int8"
    calibrate = [part for clip in clips for part in ("--calibrate", clip)]
    result = run("quantize", model, "-o", out, *calibrate, "--max-disagreement", "0.3", "--json")
    assert result.code == 0
    report = json.loads(result.out)
    sizes = [sum(path.stat().st_size for path in folder.iterdir()) for folder in (model, out)]
    assert [report["bytes_before"], report["bytes"]] == sizes
    assert report["bytes"] < 0.5 * report["bytes_before"]
    assert report["comparison"]["disagreement"] <= 0.3
    assert report["speedup"] > 0
    assert artifact.load(out).weights["lm_head.weight"].dtype == np.int8
    assert run("transcribe", out, clips[0]).out.strip()
    info = json.loads(run("info", out, "--json").out)
    assert info["bits"] == 8

    again = run("quantize", model, "-o", out, "--calibrate", clips[0])
    assert again.code == 1
    assert "is a littlefoot artifact already" in again.err
    twice = run("quantize", out, "-o", tmp_path / "twice", "--calibrate", clips[0])
    assert twice.code == 2
    assert "quantized already" in twice.err
    place = tmp_path / "in-place"
    shutil.copytree(model, place)
    calibrated = (*calibrate, "--max-disagreement", "0.3")
    replaced = run("quantize", place, "-o", place, *calibrated, "--overwrite", "--json")
    assert json.loads(replaced.out)["bytes_before"] == sizes[0]
    plain = run(
        "quantize",
        model,
        "-o",
        out,
        "--calibrate",
        clips[0],
        "--overwrite",
        "--mode",
        "dynamic",
        "--keep",
        "lm_head",
        "--max-disagreement",
        "1",
    )
    assert plain.code == 0
    assert "smaller" in plain.out
    assert "lm_head in higher precision" in plain.out
    assert artifact.load(out).config.littlefoot.quantization.mode == "dynamic"


def test_an_output_that_exists_is_refused_before_the_work(
    run: Run, model: Path, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr(calibration, "collect", never)
    monkeypatch.setattr(checkpoint, "load", never)
    for out in (model, clips[0].parent, clips[0]):
        result = run("quantize", model, "-o", out, "--calibrate", clips[0])
        assert result.code == 1
        assert "choose another output" in result.err


@pytest.mark.parametrize(
    "command",
    [("shrink", "{model}", "--recipe", "bigfoot"), ("train", "{model}"), ("train", "{recipe}")],
    ids=["shrink", "train", "steps"],
)
def test_an_output_that_exists_is_refused_before_the_model_is_loaded(
    run: Run,
    model: Path,
    clips: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr(checkpoint, "load", never)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {model}\nsteps:\n  - train: {{steps: 1}}\n", encoding="utf-8")
    words = [word.format(model=model, recipe=recipe) for word in command]
    for out in (model, clips[0].parent, clips[0]):
        result = run(*words, "-o", out, "--data", clips[0].parent)
        assert result.code == 1
        assert "choose another output" in result.err


def test_silence_does_not_calibrate(run: Run, model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    result = run("quantize", model, "-o", tmp_path / "int8", "--calibrate", tmp_path / "silence.wav")
    assert result.code == 2
    assert "empty or silent" in result.err
    assert not (tmp_path / "int8").exists()


# export


@pytest.fixture(params=["full precision", "int8"])
def exported(request: pytest.FixtureRequest, made: Artifact, tmp_path: Path) -> Path:
    """The directory of a model to export."""
    if request.param == "full precision":
        return artifact.save(made, tmp_path / "model")
    from littlefoot.compress.quantize import QuantizeConfig, quantize_static
    from littlefoot.compress.rounding import fit

    inputs = calibration.collect(made, [speechlike(0.5)])
    scales = {each.layers: fit(each, made.weights) for each in inputs}
    return artifact.save(quantize_static(made, inputs, scales, QuantizeConfig()), tmp_path / "model")


@pytest.mark.usefixtures("quick")
def test_an_exported_onnx_network_is_what_littlefoot_runs(run: Run, exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "model.onnx"
    written = run("export", exported, "-o", out, "--to", "onnx")
    assert written.code == 0
    exactly = onnxruntime.SessionOptions()
    if artifact.load(exported).config.littlefoot.quantization is not None:
        assert "the option session.x64quantprecision=1" in written.err
        exactly.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(out, exactly, providers=["CPUExecutionProvider"])
    recognizer = littlefoot.load(str(exported), engine="onnxruntime")
    for seconds in (0.3, 1.1):
        waveform = 0.1 * speechlike(seconds)
        (logits,) = session.run(["logits"], {"waveform": reading.normalize(waveform)[None]})
        np.testing.assert_allclose(logits[0], recognizer.logits(waveform), atol=1e-4)


@pytest.mark.usefixtures("quick")
def test_an_exported_openvino_network_is_what_littlefoot_runs(
    run: Run, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "may_saturate", lambda: False)  # it has all 8 bits
    out = tmp_path / "model.xml"
    assert run("export", exported, "-o", out, "--to", "openvino").code == 0
    assert (tmp_path / "model.bin").exists()
    compiled = openvino_core().compile_model(out, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    recognizer = littlefoot.load(str(exported), engine="openvino", precision="f32")
    for seconds in (0.3, 1.1):
        waveform = 0.1 * speechlike(seconds)
        logits = compiled({"waveform": reading.normalize(waveform)[None]})["logits"]
        # The recognizer pads and masks, so some 8-bit values are rounded to their neighbour.
        error = np.sqrt(np.square(logits[0] - recognizer.logits(waveform)).mean()) / logits.std()
        quantized = artifact.load(exported).config.littlefoot.quantization is not None
        assert error < (0.02 if quantized else 1e-5)


@pytest.mark.parametrize("half", [False, True])
def test_an_exported_checkpoint_is_loaded_by_transformers(
    run: Run, model: Path, made: Artifact, tmp_path: Path, half: bool
) -> None:
    out = tmp_path / "hf"
    assert run("export", model, "-o", out, "--to", "hf", *["--half"] * half).code == 0
    loaded = transformers.AutoModelForCTC.from_pretrained(out, dtype=torch.float32).eval()
    processor = transformers.AutoFeatureExtractor.from_pretrained(out)
    waveform = 0.1 * speechlike(0.8)
    values = processor(waveform, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        logits = loaded(values).logits[0].numpy()
    tolerance = 0.2 if half else 1e-3
    np.testing.assert_allclose(logits, littlefoot.load(str(model)).logits(waveform), atol=tolerance)
    assert run("transcribe", out, "missing.wav").code == 1  # and littlefoot loads it as well


def test_a_checkpoint_is_exported_too(run: Run, tmp_path: Path) -> None:
    directory = checkpoints.write(oracle.tiny(RELATIVE).model, tmp_path / "checkpoint")
    assert run("export", directory, "-o", tmp_path / "model.onnx").code == 0
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    waveform = speechlike(0.4)
    (logits,) = session.run(["logits"], {"waveform": waveform[None]})
    np.testing.assert_allclose(logits[0], oracle.tiny(RELATIVE).logits(waveform), atol=1e-3)


@pytest.mark.parametrize(
    ("to", "given", "written"),
    [
        ("onnx", "m.onnx", "m.onnx"),
        ("openvino", "m", "m.xml"),
        ("openvino", "m.xml", "m.xml"),
        ("hf", "m", "m"),
    ],
)
def test_an_export_replaces_nothing(
    run: Run, model: Path, tmp_path: Path, to: str, given: str, written: str
) -> None:
    (tmp_path / written).write_text("mine")
    result = run("export", model, "-o", tmp_path / given, "--to", to)
    assert result.code == 1
    assert f"{written} exists" in result.err
    assert (tmp_path / written).read_text() == "mine"


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_half_of_an_export_is_removed(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    def fill(*arguments: object, **options: object) -> None:
        (tmp_path / "m.xml").write_text("half")
        (tmp_path / "m.onnx").write_text("half")
        if to == "openvino":
            raise RuntimeError("No space left on device")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("littlefoot.runtime.graph.Graph.save", fill)
    monkeypatch.setattr("openvino.save_model", fill)
    out = tmp_path / {"onnx": "m.onnx", "openvino": "m.xml"}[to]
    result = run("export", model, "-o", out, "--to", to)
    assert result.code == 1
    assert re.search(r"cannot be written \(.*No space left on device\): choose another output", result.err)
    assert not out.exists()


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    run: Run, model: Path, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("littlefoot.compress.quantize.quantize", None)
    (tmp_path / "file").write_text("")
    result = run("quantize", model, "-o", tmp_path / "file" / "int8", "--calibrate", clips[0])
    assert result.code == 1
    assert "int8 cannot be written" in result.err


def test_a_quantized_model_is_no_checkpoint(run: Run, made: Artifact, tmp_path: Path) -> None:
    from littlefoot.compress.quantize import QuantizeConfig, quantize_dynamic

    artifact.save(quantize_dynamic(made, QuantizeConfig(mode="dynamic")), tmp_path / "int8")
    result = run("export", tmp_path / "int8", "-o", tmp_path / "hf", "--to", "hf")
    assert result.code == 2
    assert "full-precision original" in result.err


@pytest.mark.parametrize(
    ("variant", "own"),
    [("pruned", "layer_attention_heads, layer_intermediate_size"), ("log-mel", "feat_extract_first")],
)
def test_what_transformers_does_not_know_is_exported_to_engines_only(
    run: Run, tmp_path: Path, variant: str, own: str
) -> None:
    model = artifact.save(oracle.tiny(variant).artifact, tmp_path / "model")
    result = run("export", model, "-o", tmp_path / "hf", "--to", "hf")
    assert result.code == 2
    assert f"transformers has no models with {own}: " in result.err
    assert not (tmp_path / "hf").exists()
    assert run("export", model, "-o", tmp_path / "model.onnx").code == 0


def test_info_tells_the_sizes_of_pruned_layers(run: Run, tmp_path: Path) -> None:
    pruned = oracle.tiny("pruned").artifact
    model = artifact.save(pruned, tmp_path / "pruned")
    found = json.loads(run("info", model, "--json").out)
    assert (found["layer_attention_heads"], found["layer_intermediate_size"]) == ([2, 4, 1], [48, 20, 5])
    spare = pruned.weights["masked_spec_embed"].size
    assert found["parameters"] == sum(weight.size for weight in pruned.weights.values()) - spare
    assert "layer attention heads  2, 4, 1\n" in run("info", model).out


def test_info_tells_of_a_spectrogram(run: Run, tmp_path: Path) -> None:
    model = artifact.save(oracle.tiny("log-mel").artifact, tmp_path / "model")
    found = json.loads(run("info", model, "--json").out)
    assert (found["feat_extract_first"], found["frame_ms"], found["receptive_field_ms"]) == (
        "log_mel",
        5.0,
        180 / 16,
    )


# demo


def test_the_demo_prints_one_table(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = ("<pad>", "<s>", "</s>", "<unk>", "|", *string.ascii_uppercase, "'")
    strides = {"conv_kernel": [160, 4], "conv_stride": [80, 4]}  # 50 frames per second
    model = replace(artifacts.tiny(vocab_size=len(tokens), **strides), vocabulary=Vocabulary(tokens))
    path = artifact.save(artifacts.talkative(model, speechlike(1.0)), tmp_path / "model")
    monkeypatch.setattr(demo, "MODEL", str(path))
    result = run("demo")
    assert result.code == 0, result.err
    rows = [line.split() for line in result.out.partition("x real time")[2].splitlines()[1:]]
    assert [" ".join(row[:-4]) for row in rows] == [str(path), f"{path}, 8 bits", f"8 bits, --lm {demo.LM}"]


@pytest.mark.slow
@pytest.mark.skipif("littlefoot-en" not in checkpoint.bundled(), reason="littlefoot-en is not in the package")
def test_the_demo_shows_the_bundled_model(run: Run) -> None:
    result = run("demo")
    assert result.code == 0
    assert "littlefoot-en, 8 bits" in result.out
    row = next(line.split() for line in result.out.splitlines() if re.match(r"littlefoot-en +\d", line))
    on_disk = sum(path.stat().st_size for path in (checkpoint.BUNDLED / "littlefoot-en").iterdir())
    assert float(row[1]) == pytest.approx(on_disk / 1e6, abs=0.05)
