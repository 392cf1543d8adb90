"""Models in one file, and liblittlefoot, which runs them behind a C header."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import clib
import numpy as np
import pytest
from artifacts import TOKENS, difference, few_bits, noise, tiny
from conftest import Run
from families import RELATIVE_TYPE

from littlefoot import artifact as artifacts
from littlefoot.artifact import Artifact, checkpoint
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import reading
from littlefoot.errors import ConfigError
from littlefoot.runtime import registry
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.native import model_file
from littlefoot.runtime.native.program import Program
from littlefoot.runtime.recognizer import Recognizer, load

SAMPLES = sorted((checkpoint.BUNDLED / "samples").glob("*.ogg"))
SETTINGS = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
STREAMING = {"chunk_frames": 5, "left_context_frames": 20, "right_context_frames": 2}
KERNELS = ("avx512", "avx2", "neon", "scalar")

built = pytest.mark.skipif(
    not (clib.BUILT / "built").exists(), reason="liblittlefoot is not built: make .venv/liblittlefoot/built"
)


def small(**changes: object) -> Artifact:
    return few_bits(2, positions=8, front_end=8, **SETTINGS, **changes)


def live(**changes: object) -> Artifact:
    return few_bits(1, 4, positions=8, front_end=8, **SETTINGS, **STREAMING, **changes)


def floating(**changes: Any) -> Artifact:
    """In floating point; the weights are halves but for the positional convolution's."""
    model = tiny(**SETTINGS, **changes)
    kept = [name for name in model.weights if "pos_conv" in name]
    weights = {name: w if name in kept else w.astype(np.float16) for name, w in model.weights.items()}
    return replace(model, weights=weights)


MODELS = {
    "few bits": small,
    "live": live,
    "floating": floating,
    "floating live": partial(floating, **STREAMING),
}
"""What a file can hold."""


@pytest.fixture(scope="session")
def library() -> clib.Library:
    return clib.Library(clib.BUILT / "liblittlefoot.so")


@pytest.fixture
def kernels() -> str:
    """Those that Python and C share; attention in bfloat16 would hide errors."""
    return next(name for name in KERNELS if name in native.available())


def on_kernels(artifact: Artifact, kernels: str) -> Recognizer:
    """Python's recogniser, all of it on the kernels."""
    program = Program(artifact, kernels, 1)
    features = native.front_end(artifact, program)
    assert features is not None
    return Recognizer(artifact, native.NativeEngine(features, None, program))


def varied(artifact: Artifact, samples: np.ndarray, kernels: str) -> Artifact:
    """With an output layer that makes each token the best of some frames; random models always predict the
    same."""
    logits = on_kernels(artifact, kernels).logits(samples)
    spread, weights = logits.std(axis=0), artifact.weights
    changed = {
        "lm_head.weight": weights["lm_head.weight"] / spread[:, None],
        "lm_head.bias": (weights["lm_head.bias"] - logits.mean(axis=0)) / spread,
    }
    return replace(artifact, weights={**weights, **changed})


def samples_of(path: Path) -> np.ndarray:
    return reading.read(path)


def write_wav(path: Path, samples: np.ndarray, rate: int = 16_000, channels: int = 1) -> Path:
    data = (samples * 32767).astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 * channels, 2 * channels, 16)
    path.write_bytes(
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data"
        + struct.pack("<I", len(data))
        + data
    )
    return path


# the same results as Python


@built
@pytest.mark.parametrize("name", checkpoint.bundled())
def test_bundled_models_give_the_text_and_logits_of_python(
    name: str, library: clib.Library, kernels: str
) -> None:
    artifact = checkpoint.load(name)
    here, there = on_kernels(artifact, kernels), library.open(model_file.encode(artifact, name), kernels)
    for path in SAMPLES:
        samples = samples_of(path)
        expected, found = here.transcribe(samples), there.transcribe(samples)
        assert found.text == expected.text
        assert [word[0] for word in found.words] == [word.word for word in expected.words]
        numbers = [(word.start, word.end, word.confidence) for word in expected.words]
        np.testing.assert_allclose([word[1:] for word in found.words], numbers, atol=1e-5)
        np.testing.assert_array_equal(found.logits, here.logits(samples))


@built
def test_text_rules_are_those_of_python(library: clib.Library, kernels: str) -> None:
    """Phones, lower case, an alphabet without a delimiter, and punctuation that moves to the word before."""
    samples = noise(40_000)
    base = varied(small(), samples, kernels)
    marks = (*TOKENS[:5], "N'T", ".", "!", "O", "?", "É", "'")
    for vocabulary in (
        base.vocabulary,
        Vocabulary(TOKENS, lower_case=True),
        Vocabulary(TOKENS, word_delimiter="+"),
        Vocabulary(TOKENS, phones=True),
        Vocabulary(marks, clean_up=True),
        Vocabulary(marks, clean_up=True, lower_case=True),
    ):
        artifact = replace(base, vocabulary=vocabulary)
        expected = on_kernels(artifact, kernels).transcribe(samples)
        found = library.open(model_file.encode(artifact, "tiny"), kernels).transcribe(samples)
        assert len(expected.words) > 5
        assert found.text == expected.text
        assert [word[0] for word in found.words] == [word.word for word in expected.words]
        confidences = [word.confidence for word in expected.words]
        np.testing.assert_allclose([word[3] for word in found.words], confidences, atol=1e-5)


@built
def test_long_recordings_are_computed_in_the_windows_of_python(library: clib.Library, kernels: str) -> None:
    samples = noise(45 * 16_000)
    artifact = small(conv_kernel=[25, 17], conv_stride=[20, 16])
    found = library.open(model_file.encode(artifact, "tiny"), kernels).transcribe(samples)
    expected = on_kernels(artifact, kernels).logits(samples)
    assert found.logits.shape == expected.shape
    np.testing.assert_array_equal(found.logits, expected)


@built
@pytest.mark.parametrize("make", ["few bits", "floating"])
def test_every_set_of_kernels_gives_about_the_same(make: str, library: clib.Library) -> None:
    content, samples = model_file.encode(MODELS[make](), "tiny"), noise(9000)
    expected = library.open(content, "scalar").transcribe(samples).logits
    for name in native.available():
        found = library.open(content, name).transcribe(samples).logits
        assert np.abs(found - expected).mean() < 0.05 * expected.std()


@built
def test_a_file_in_floating_point_gives_the_logits_of_an_engine(library: clib.Library, kernels: str) -> None:
    artifact, samples = floating(), noise(9000)
    expected = registry.create(artifact, "openvino", 1, "f32", cached=False).run(samples)
    found = library.open(model_file.encode(artifact, "tiny"), kernels).transcribe(samples).logits
    np.testing.assert_allclose(found, expected, atol=1e-3 * expected.std())


@built
def test_a_file_of_version_1_gives_what_it_gave(library: clib.Library, kernels: str) -> None:
    """A file that version 1 of the exporter wrote, with a layer in floating point, and its logits."""
    files = Path(__file__).with_name("version1")
    model = library.open(files / "model.lf", kernels)
    found = model.transcribe(noise(4000)).logits
    assert difference(found, np.load(files / "logits.npy")) < 1e-3


@built
def test_nothing_and_too_little_audio_is_empty(library: clib.Library) -> None:
    model = library.open(model_file.encode(small(), "tiny"))
    for count in (0, 5):
        found = model.transcribe(noise(count))
        assert (found.text, found.words, found.logits.shape) == ("", [], (0, len(TOKENS)))
        stream = model.stream()
        assert stream.feed(noise(count)).partial == ""
        assert stream.finish().segments == []


# streams


@built
@pytest.mark.parametrize("make", ["live", "floating live"])
@pytest.mark.parametrize("size", [1, 160, 999, 20_000])
def test_a_streaming_model_gives_the_logits_of_the_whole_recording(
    size: int, make: str, library: clib.Library, kernels: str
) -> None:
    artifact = MODELS[make]()
    samples = noise(300 if size == 1 else 12_345)
    model = library.open(model_file.encode(artifact, "tiny"), kernels)
    assert model.streaming
    stream = model.stream()
    assert stream.latency_seconds == pytest.approx(artifact.config.algorithmic_latency / 16_000)
    found = np.concatenate([heard.logits for heard in clib.feed_all(stream, samples, size)])
    np.testing.assert_allclose(found, model.transcribe(samples).logits, atol=1e-4)
    np.testing.assert_allclose(found, on_kernels(artifact, kernels).logits(samples), atol=1e-4)


@built
def test_chunks_of_another_length_are_those_of_a_model_made_for_it(
    library: clib.Library, kernels: str
) -> None:
    other = live()
    other = replace(other, config=other.config.replace(chunk_frames=9))
    stream = library.open(model_file.encode(live(), "tiny"), kernels).stream(9)
    samples = noise(5000)
    found = np.concatenate([heard.logits for heard in clib.feed_all(stream, samples, 700)])
    np.testing.assert_allclose(found, on_kernels(other, kernels).logits(samples), atol=1e-4)


@built
@pytest.mark.parametrize("name", ["littlefoot-en-live", "littlefoot-en-bigfoot"])
def test_segments_are_those_of_python(name: str, library: clib.Library, kernels: str) -> None:
    """Of a streaming model, whose chunks Python gives to an engine, and of one with windows."""
    artifact = checkpoint.load(name)
    streaming = artifact.config.chunk_frames > 0
    recognizer = load(name, precision="f32") if streaming else on_kernels(artifact, kernels)
    pause = np.zeros(20_000, np.float32)
    samples = np.concatenate([part for path in SAMPLES[:2] for part in (samples_of(path), pause)])
    here, there = recognizer.stream(), library.open(model_file.encode(artifact, name), kernels).stream()
    expected: list[tuple[str, float, float]] = []
    found: list[tuple[str, float, float]] = []
    for at in range(0, len(samples), 4000):
        expected += [(s.text, s.start, s.end) for s in here.feed(samples[at : at + 4000]).final]
        found += there.feed(samples[at : at + 4000]).segments
    expected += [(s.text, s.start, s.end) for s in here.finish().final]
    found += there.finish().segments
    assert len(found) == 2
    assert [text for text, *_ in found] == [text for text, *_ in expected]
    np.testing.assert_allclose([times for _, *times in found], [times for _, *times in expected], atol=1e-6)


@built
@pytest.mark.skipif(sys.platform != "linux", reason="allocations are counted with glibc")
@pytest.mark.parametrize("name", ["littlefoot-en-live", "littlefoot-en-bigfoot"])
def test_a_stream_allocates_nothing(name: str, tmp_path: Path) -> None:
    model_file.save(checkpoint.load(name), name, tmp_path / "model.lf")
    audio = write_wav(tmp_path / "a.wav", samples_of(SAMPLES[0]))
    done = subprocess.run(
        [clib.BUILT / "allocations", tmp_path / "model.lf", audio],
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.fullmatch(r"\d{3,} frames, 5 segments, 0 allocations\n", done.stdout), done.stdout


@built
def test_streams_of_one_model_run_side_by_side(library: clib.Library) -> None:
    model = library.open(model_file.encode(live(), "tiny"), threads=2)
    recordings = [noise(8000, seed) for seed in range(4)]

    def streamed(samples: np.ndarray) -> np.ndarray:
        return np.concatenate([heard.logits for heard in clib.feed_all(model.stream(), samples, 300)])

    alone = [streamed(samples) for samples in recordings]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(streamed, recordings))
        whole = list(pool.map(lambda samples: model.transcribe(samples).logits, recordings))
    for a, b, c in zip(alone, together, whole, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(b, c, atol=1e-4)


@built
def test_a_stream_outlives_its_model(library: clib.Library) -> None:
    model = library.open(model_file.encode(live(), "tiny"))
    stream = model.stream()
    del model
    assert len(stream.feed(noise(5000)).logits)


# bad input


@built
def test_damaged_files_are_refused(library: clib.Library, tmp_path: Path) -> None:
    content = model_file.encode(small(), "tiny")
    flipped = bytearray(content)
    flipped[-1] ^= 4
    early = bytearray(content)
    early[70] ^= 1
    newer = bytearray(content)
    newer[8] = 3
    newer[60:64] = struct.pack("<I", zlib.crc32(newer[:60]))
    for damaged, code, sentence in (
        (b"", clib.NOT_A_MODEL, "littlefoot export"),
        (b"RIFF" * 100, clib.NOT_A_MODEL, "is not a model of littlefoot"),
        (content[:40], clib.DAMAGED, "ends within its first 64 bytes"),
        (content[:1000], clib.DAMAGED, f"it has 1000 bytes, not {len(content)}"),
        (content[:-1], clib.DAMAGED, "get or export it again"),
        (content + b"\0", clib.DAMAGED, "get or export it again"),
        (bytes(flipped), clib.DAMAGED, "checksum of tensor"),
        (bytes(early), clib.DAMAGED, "checksum of its description"),
        (bytes(newer), clib.VERSION, "version 3 of the format, and this library reads versions 1 to 2"),
    ):
        with pytest.raises(clib.RefusedError, match=re.escape(sentence)) as refused:
            library.open(damaged)
        assert refused.value.code == code
        if damaged:
            (tmp_path / "model.lf").write_bytes(damaged)
            with pytest.raises(clib.RefusedError, match=re.escape(sentence)):
                library.open(tmp_path / "model.lf")
    for path in (tmp_path / "missing.lf", tmp_path):
        with pytest.raises(clib.RefusedError, match=str(path)) as refused:
            library.open(path)
        assert refused.value.code == clib.CANNOT_READ


def resealed(content: bytes, changes: dict[int, int]) -> bytes:
    """With other numbers (u32) at these offsets of the description, and right checksums."""
    changed = bytearray(content)
    (size,) = struct.unpack_from("<Q", content, 16)
    for at, number in changes.items():
        struct.pack_into("<I", changed, at, number)
    struct.pack_into("<I", changed, 12, zlib.crc32(changed[model_file.PREFIX :][:size]))
    struct.pack_into("<I", changed, 60, zlib.crc32(changed[:60]))
    return bytes(changed)


def tables(content: bytes, artifact: Artifact) -> tuple[list[int], list[int]]:
    """Where a file has its tensors' entries, and its matrices'."""
    body = model_file.Body(artifact)
    at = content.index(struct.pack("<I", len(body.tensors)) + struct.pack("<I", 1), model_file.PREFIX) + 4
    tensors = [at + 24 * number for number in range(len(body.tensors))]
    first = tensors[-1] + 24 + 4
    return tensors, [first + 24 * number for number in range(body.matrix_count)]


@built
def test_damaged_tensors_of_floats_are_refused(library: clib.Library) -> None:
    artifact = floating()
    content = model_file.encode(artifact, "tiny")
    tensors, matrices = tables(content, artifact)
    kinds = [struct.unpack_from("<I", content, at)[0] for at in tensors]
    half = tensors[kinds.index(2)]
    tensor, rows, columns, bits, *_ = struct.unpack_from("<6I", content, matrices[0])
    assert (kinds[tensor], bits) == (2, 16)
    assert library.open(resealed(content, {})).tokens == len(TOKENS)
    at = matrices[0]
    for changes, sentence in (
        ({half: 1}, "must have"),  # float32 instead of float16: too few numbers for a norm or a bias
        ({half: 3}, "a tensor's type is 3"),
        ({half + 8: 2**31}, "a tensor reaches beyond its end"),
        ({half + 20: 2**31}, "a tensor reaches beyond its end"),
        ({half + 16: 3}, "is not aligned"),
        ({at + 4: rows + 1}, "a matrix does not fit its tensor"),
        ({at + 4: 65536}, "a matrix does not fit its tensor"),
        ({at + 8: columns - 1}, "a matrix does not fit its tensor"),
        ({at + 4: 1, at + 8: 65536}, "a matrix does not fit its tensor"),
        ({at + 12: 32}, "a matrix does not fit its tensor"),
        ({at + 12: 8, at + 16: 8}, "a matrix does not fit its tensor"),
        ({at + 12: 33}, "bits is 33"),
        ({at: tensors.index(half) - 1 if tensors[0] != half else len(tensors)}, "damaged"),
    ):
        if sentence == "must have" and kinds.index(2) == tensor:
            sentence = "does not fit"
        with pytest.raises(clib.RefusedError, match=re.escape(sentence)) as refused:
            library.open(resealed(content, changes))
        assert refused.value.code == clib.DAMAGED
    infinite = bytearray(content)
    offset, size = struct.unpack_from("<QQ", content, half + 8)
    struct.pack_into("<H", infinite, offset, 0x7C00)
    checksum = zlib.crc32(infinite[offset : offset + size])
    with pytest.raises(clib.RefusedError, match="a number in it is not finite"):
        library.open(resealed(bytes(infinite), {half + 4: checksum}))
    for length in (offset, offset + 1, len(content) - 2):
        with pytest.raises(clib.RefusedError, match="bytes, not"):
            library.open(content[:length])


@built
def test_wrong_arguments_are_refused(library: clib.Library) -> None:
    content = model_file.encode(small(), "tiny")
    for arguments, code, sentence in (
        ((content, "sse9"), clib.ARGUMENT, "kernels 'sse9' are unknown"),
        ((content, "neon" if "avx2" in native.available() else "avx2"), clib.UNSUPPORTED, "does not have"),
        ((content, None, -1), clib.ARGUMENT, "threads must be 0"),
    ):
        with pytest.raises(clib.RefusedError, match=sentence) as refused:
            library.open(*arguments)
        assert refused.value.code == code
    model = library.open(content)
    with pytest.raises(clib.RefusedError, match="NaN"):
        model.transcribe(np.array([0.5, np.nan], np.float32))
    with pytest.raises(clib.RefusedError, match="absurdly large") as refused:
        model.transcribe(np.array([0.5, 1e30], np.float32))
    assert refused.value.code == clib.ARGUMENT
    with pytest.raises(clib.RefusedError, match="chunk_frames must be 0"):
        model.stream(5)
    with pytest.raises(clib.RefusedError, match="chunk_frames is -1"):
        library.open(model_file.encode(live(), "tiny")).stream(-1)
    stream = model.stream()
    with pytest.raises(clib.RefusedError, match="infinite"):
        stream.feed(np.array([np.inf], np.float32))
    stream.finish()
    for call in (stream.finish, lambda: stream.feed(noise(10))):
        with pytest.raises(clib.RefusedError, match="open a new one") as refused:
            call()
        assert refused.value.code == clib.FINISHED
    assert library.c.lf_transcribe(None, None, 0, None, None) == clib.ARGUMENT
    assert library.c.lf_open(None, None, 1, None, None) == clib.ARGUMENT


def overflowing() -> Artifact:
    """Whose attention computes with what is not a number."""
    model = tiny(**SETTINGS)
    large = {
        n: w * np.float32(1e30)
        for n, w in model.weights.items()
        if n.endswith(("q_proj.weight", "k_proj.weight"))
    }
    return replace(model, weights={**model.weights, **large})


@built
def test_a_model_whose_numbers_overflow_is_called_broken(library: clib.Library) -> None:
    content = model_file.encode(overflowing(), "tiny")
    for kernels in ("scalar", None):
        with pytest.raises(clib.RefusedError, match="the logits are not finite") as refused:
            library.open(content, kernels).transcribe(noise(2000))
        assert refused.value.code == clib.DAMAGED


@built
@pytest.mark.parametrize("make", MODELS)
def test_mutated_files_are_refused_or_run(make: str, tmp_path: Path) -> None:
    model_file.save(MODELS[make](), make, tmp_path / "model.lf")
    assert_mutations_are_refused(clib.BUILT, tmp_path / "model.lf", 2000)


def assert_mutations_are_refused(folder: Path, model: Path, count: int) -> None:
    command = [folder / "mutate", model, str(count), "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found = re.fullmatch(rf"{count} mutations, (\d+) opened\n", done.stdout)
    assert found, done.stdout
    assert int(found[1]) > count / 100  # the others would show little


# the exporter


def test_what_the_kernels_do_not_run_is_refused_by_name(tmp_path: Path, run: Run) -> None:
    artifacts.save(tiny(model_type=RELATIVE_TYPE), tmp_path / "wavlm")
    result = run("export", tmp_path / "wavlm", "-o", tmp_path / "a.lf", "--to", "file")
    assert result.code == 2
    assert "wavlm cannot be exported as one file: the native kernels do not support" in result.err
    assert "littlefoot export --to onnx" in result.err
    assert not (tmp_path / "a.lf").exists()


@pytest.mark.parametrize(
    ("changes", "operation"),
    [
        ({"hidden_act": "silu"}, "the activation sigmoid"),
        ({"feat_extract_activation": "gelu_new"}, "the activation gelu_tanh"),
        ({"conv_pos_batch_norm": True}, "the operation affine"),
    ],
)
def test_what_the_kernels_lack_is_refused(changes: dict[str, object], operation: str) -> None:
    with pytest.raises(ConfigError, match=f"do not support {operation}. littlefoot export --to onnx"):
        model_file.encode(small(**changes), "model")


def test_the_command_writes_the_file_and_its_licence(tmp_path: Path, run: Run) -> None:
    out = tmp_path / "tiny.lf"
    arguments = ("export", "littlefoot-en-live", "-o", out, "--to", "file")
    assert run(*arguments, "--license", "apache-2.0").code == 0
    content = out.read_bytes()
    length = struct.unpack_from("<I", content, model_file.PREFIX)[0]
    description = json.loads(content[model_file.PREFIX + 4 :][:length])
    assert (description["name"], description["licence"]) == ("littlefoot-en-live", "apache-2.0")
    assert description["architecture"] == "wav2vec2"
    assert description["tokens"][0] == "<pad>"
    assert "exists" in run(*arguments).err
    assert "--license is for --to file" in run("export", "x", "-o", "y", "--license", "mit").err


def test_the_licence_is_that_of_the_card() -> None:
    artifact = replace(small(), card="---\nlanguage: en\nlicense: cc-by-4.0\n---\n# A card\n")
    assert b'"licence": "cc-by-4.0"' in model_file.encode(artifact, "tiny")
    assert b'"licence": null' in model_file.encode(small(), "tiny")


# the command


@built
def test_littlefoot_run_prints_text_words_and_segments(tmp_path: Path, kernels: str) -> None:
    name = "littlefoot-en-live"
    model_file.save(checkpoint.load(name), name, tmp_path / "model.lf")
    audio = write_wav(tmp_path / "a.wav", samples_of(SAMPLES[0]))

    def call(*arguments: str | Path, given: bytes | None = None) -> tuple[int, str, str]:
        done = subprocess.run(
            [clib.BUILT / "littlefoot-run", *arguments], input=given, capture_output=True, check=False
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    model = tmp_path / "model.lf"
    code, text, _ = call(model, audio)
    expected = on_kernels(checkpoint.load(name), kernels).transcribe(audio).text
    assert (code, text) == (0, expected + "\n")
    assert call(model, "-", given=audio.read_bytes())[1] == text
    stereo = write_wav(tmp_path / "b.wav", np.repeat(samples_of(SAMPLES[0]), 2), channels=2)
    assert call(model, stereo)[1] == text
    words = [line.split("\t") for line in call("--words", model, audio)[1].splitlines()]
    assert " ".join(word for *_, word in words) + "\n" == text
    segments = call("--stream", model, audio)[1].splitlines()
    assert [line.split("\t")[2] for line in segments] == [text.strip()]
    assert json.loads(call("--info", model)[1])["name"] == name
    assert call("--help")[0] == 0
    assert call("--version")[1].startswith("littlefoot-run 0")

    slow = write_wav(tmp_path / "c.wav", noise(100), rate=8000)
    short = tmp_path / "d.wav"
    short.write_bytes(audio.read_bytes()[:-1000])
    for arguments, code, sentence in (
        ((model, slow), 1, "8000 samples per second, not 16000"),
        ((model, short), 1, "ends before its header says so"),
        ((model, model), 1, "is not a WAV file"),
        ((model, tmp_path / "none.wav"), 1, "No such file"),
        ((audio, audio), 1, "is not a model of littlefoot"),
        ((model,), 2, "MODEL and AUDIO are needed"),
        (("--loud", model, audio), 2, "--loud is unknown"),
        (("--threads", "0", model, audio), 2, "--threads must be 1 to 1024"),
    ):
        found = call(*arguments)
        assert (found[0], found[1]) == (code, "")
        assert sentence in found[2]


@built
def test_the_command_is_small(tmp_path: Path) -> None:
    if clib.missing_tools("strip"):
        pytest.skip("strip is not installed")
    subprocess.run(["strip", "-o", tmp_path / "run", clib.BUILT / "littlefoot-run"], check=True)
    assert (tmp_path / "run").stat().st_size <= 1_500_000


# the document


@built
def test_the_programs_of_the_document_compile_and_run(
    tmp_path: Path, library: clib.Library, kernels: str
) -> None:
    if clib.missing_tools("cc"):
        pytest.skip("cc is not installed")
    programs = re.findall(r"```c\n(.*?)```", (clib.ROOT / "docs" / "c.md").read_text(), re.DOTALL)
    assert len(programs) == 2
    name = "littlefoot-en-live"
    model_file.save(checkpoint.load(name), name, tmp_path / "model.lf")
    samples = samples_of(SAMPLES[0])
    outputs = []
    for number, program in enumerate(programs):
        source, made = tmp_path / f"{number}.c", tmp_path / f"{number}"
        source.write_text(program)
        flags = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{clib.SOURCES / 'include'}")
        subprocess.run(["cc", *flags, source, "-o", made, f"-L{clib.BUILT}", "-llittlefoot"], check=True)
        done = subprocess.run(
            [made, tmp_path / "model.lf"],
            input=samples.tobytes(),
            capture_output=True,
            env={**os.environ, "LD_LIBRARY_PATH": str(clib.BUILT)},
            check=True,
        )
        outputs.append(done.stdout.decode().splitlines())
    expected = on_kernels(checkpoint.load(name), kernels).transcribe(samples)
    assert outputs[0][0] == expected.text
    assert [line.split()[2] for line in outputs[0][1:]] == [word.word for word in expected.words]
    assert [line.split(maxsplit=2)[2] for line in outputs[1]] == [expected.text]


# builds


@pytest.mark.slow
def test_an_installed_library_is_found_by_pkg_config(tmp_path: Path) -> None:
    if missing := clib.missing_tools("cmake", "c++", "cc", "pkg-config"):
        pytest.skip(f"not installed: {', '.join(missing)}")
    clib.build(tmp_path / "build", f"-DCMAKE_INSTALL_PREFIX={tmp_path / 'installed'}")
    subprocess.run(["cmake", "--install", tmp_path / "build"], check=True, capture_output=True)
    found = next((tmp_path / "installed").rglob("littlefoot.pc")).parent
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "littlefoot"],
        env={**os.environ, "PKG_CONFIG_PATH": str(found)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    source = tmp_path / "version.c"
    source.write_text(
        "#include <littlefoot.h>\n#include <stdio.h>\nint main(void) { return puts(lf_version()) < 0; }\n"
    )
    subprocess.run(["cc", source, "-o", tmp_path / "version", *flags], check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(found.parent)}
    done = subprocess.run([tmp_path / "version"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "0.1.0\n"
    assert (tmp_path / "installed" / "bin" / "littlefoot-run").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sanitizers are tried on Linux")
def test_sanitizers_find_nothing_in_mutated_files(tmp_path: Path) -> None:
    if missing := clib.missing_tools("cmake", "c++"):
        pytest.skip(f"not installed: {', '.join(missing)}")
    folder = clib.build(tmp_path / "build", "-DSANITIZE=ON", "-DCHECKS=ON", "-DBUILD_SHARED_LIBS=OFF")
    for name, make in MODELS.items():
        model_file.save(make(), name, tmp_path / f"{name}.lf")
        assert_mutations_are_refused(folder, tmp_path / f"{name}.lf", 20_000)
    audio = write_wav(tmp_path / "a.wav", noise(30_000) / 10)
    for name in MODELS:
        for option in ("--words", "--stream"):
            command = [folder / "littlefoot-run", option, tmp_path / f"{name}.lf", audio]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, "")
    model_file.save(overflowing(), "overflowing", tmp_path / "overflowing.lf")
    for kernels in ("scalar", native.available()[0]):
        command = [folder / "littlefoot-run", "--kernels", kernels, tmp_path / "overflowing.lf", audio]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (
            done.stderr
            == "littlefoot-run: the logits are not finite: the model or its quantization is broken\n"
        )


@pytest.mark.slow
def test_the_fuzzers_find_nothing_in_a_minute(tmp_path: Path) -> None:
    if missing := clib.missing_tools("cmake", "clang++"):
        pytest.skip(f"not installed: {', '.join(missing)}: apt-get install clang")
    script = clib.ROOT / "tests" / "attack" / "fuzz.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path, "--seconds", "30"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    tried = re.findall(r"stat::number_of_executed_units: (\d+)", done.stderr)
    assert len(tried) == 2  # model files, and samples
    assert min(map(int, tried)) > 1000
