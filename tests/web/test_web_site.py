"""The folder that ``littlefoot export --to web`` writes, and the library in WebAssembly under Node."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from artifacts import few_bits, noise
from artifacts import tiny as plain
from browsers import offering
from conftest import Run
from families import RELATIVE_TYPE
from nodes import NODE, relaxed

from littlefoot.artifact import Artifact, checkpoint
from littlefoot.audio import reading
from littlefoot.errors import ConfigError
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.native import model_file
from littlefoot.runtime.native.program import Program
from littlefoot.runtime.recognizer import Recognizer, load
from littlefoot.web import site

ROOT = Path(__file__).parents[2]
STREAMING = "littlefoot-en-live"
"""A bundled model that streams, and is fast: it is tried in ``make test``."""
SAMPLES = sorted(checkpoint.SAMPLES.glob("*.ogg"))
PLAIN, RELAXED = site.PROGRAMS

with_node = pytest.mark.skipif(NODE is None, reason="node is not installed: apt-get install nodejs")


def build_wasm() -> Any:
    """The module of ``scripts/build_wasm.py``."""
    spec = importlib.util.spec_from_file_location("build_wasm", ROOT / "scripts" / "build_wasm.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tiny(**changes: object) -> Artifact:
    settings = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
    return few_bits(2, positions=8, front_end=8, **settings, **changes)


def tiny_live() -> Artifact:
    return tiny(chunk_frames=5, left_context_frames=20, right_context_frames=2)


@contextmanager
def sites(root: Path, *names: str) -> Iterator[str]:
    """Offer a folder with the pages of bundled models, and of one that is tiny; gives its address."""
    for name in names:
        site.save(checkpoint.load(name), name, root / name)
    site.save(tiny_live(), "tiny", root / "tiny")
    with offering(root) as address:
        yield address


# the file


def test_the_library_is_compiled_from_the_sources_as_they_are() -> None:
    script = build_wasm()
    record = json.loads(script.RECORD.read_text(encoding="utf-8"))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in site.PROGRAMS}
    assert found == record["sha256"]
    assert record["sources"] == script.sources_digest(), (
        "native/ has changed: run make wasm, and commit the files"
    )
    for program in site.PROGRAMS:
        assert program.stat().st_size < 400_000


def test_a_change_of_the_sources_is_noticed_and_one_of_comments_is_not(tmp_path: Path) -> None:
    script = build_wasm()
    shutil.copytree(script.NATIVE, tmp_path / "native")
    changed = tmp_path / "native" / "src" / "wasm.cpp"
    text = changed.read_text(encoding="utf-8")
    changed.write_text("// another comment\n\n" + text, encoding="utf-8")
    assert script.sources_digest(tmp_path / "native") == script.sources_digest()
    changed.write_text(text.replace("kPiece = 256", "kPiece = 128"), encoding="utf-8")
    assert script.sources_digest(tmp_path / "native") != script.sources_digest()


@pytest.mark.slow
def test_the_same_compiler_gives_the_same_bytes(tmp_path: Path) -> None:
    script = build_wasm()
    if script.missing():
        pytest.skip(f"not installed: {', '.join(script.missing())}: {script.INSTALL}")
    record = json.loads(script.RECORD.read_text(encoding="utf-8"))
    if script.compiler() != record["compiler"]:
        pytest.skip(f"the files were made by {record['compiler']}")
    assert [path.read_bytes() for path in script.build(tmp_path)] == [
        path.read_bytes() for path in site.PROGRAMS
    ]


# the folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("web") / "site"
    site.save(tiny_live(), "tiny", target, "mit")
    return target


def test_the_folder_has_every_file_that_its_pages_name(folder: Path) -> None:
    files = {path.name for path in folder.iterdir()}
    scripts = [path.read_text(encoding="utf-8") for path in folder.glob("*.js")]
    page = (folder / "index.html").read_text(encoding="utf-8")
    named = set(re.findall(r'(?:src|href)="([^"]+)"', page))
    for script in scripts:
        named |= set(re.findall(r'(?:from|register\() ?"(?:\./)?([\w.-]+)"', script))
        named |= set(re.findall(r'(?:new URL|address)\("([\w.-]+)"', script))
        named |= set(re.findall(r'"([\w-]+\.wasm)"', script))
    assert named > {"page.js", "engine.js", "worker.js", "worklet.js", "model.lf", "sw.js"}
    assert {program.name for program in site.PROGRAMS} < named
    assert named <= files
    for name in files - named:
        assert name == "index.html"
    assert not re.search(r"https?://", page + "".join(scripts))  # nothing comes from elsewhere


def test_the_service_worker_keeps_every_file_but_itself(folder: Path) -> None:
    text = (folder / "sw.js").read_text(encoding="utf-8")
    found = re.search(r"^const FILES = (\{.+\});", text, re.MULTILINE)
    assert found
    kept = json.loads(found[1])
    assert kept == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "sw.js"
    }


def test_another_model_is_another_version(folder: Path, tmp_path: Path) -> None:
    def version(target: Path) -> str:
        found = re.search(r'^const VERSION = "(\w{16})";', (target / "sw.js").read_text(), re.MULTILINE)
        assert found
        return found[1]

    site.save(tiny_live(), "tiny", tmp_path / "same", "mit")
    site.save(tiny_live(), "other", tmp_path / "other", "mit")
    assert version(tmp_path / "same") == version(folder)
    assert version(tmp_path / "other") != version(folder)


def test_the_command_writes_the_folder(tmp_path: Path, run: Run) -> None:
    arguments = ("export", STREAMING, "-o", tmp_path / "site", "--to", "web")
    assert run(*arguments, "--license", "apache-2.0").code == 0
    content = (tmp_path / "site" / "model.lf").read_bytes()
    assert content == model_file.encode(checkpoint.load(STREAMING), STREAMING, "apache-2.0")
    assert "exists" in run(*arguments).err


def test_a_model_that_the_kernels_do_not_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be exported as one file"):
        site.save(plain(model_type=RELATIVE_TYPE), "tiny", tmp_path / "site")
    assert not (tmp_path / "site").exists()


# recognition under Node


class Node:
    """``recognise.mjs``, which answers requests."""

    def __init__(self, command: list[str], program: Path) -> None:
        # rounding once instead of twice may move a word by a frame of at most 30 ms
        self.seconds_apart = 0.031 if program == RELAXED else 1e-6
        script = Path(__file__).with_name("recognise.mjs")
        engine = ROOT / "littlefoot" / "web" / "static" / "engine.js"
        self.process = subprocess.Popen(
            [*command, script, engine, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **request: object) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module", params=site.PROGRAMS, ids=lambda program: program.stem)
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    assert NODE is not None
    command = relaxed() if request.param == RELAXED else [NODE]
    if command is None:
        pytest.skip("this Node has no relaxed vectors: install Node 20 or later")
    node = Node(command, request.param)
    yield node
    node.process.communicate()


@with_node
def test_a_browser_gets_the_file_that_it_can_run() -> None:
    source = (PLAIN.parent / "static" / "program.js").read_text(encoding="utf-8")
    show = 'console.log((await import("data:text/javascript," + encodeURIComponent(source))).PROGRAM);'

    def chosen(command: list[str], before: str = "") -> str:
        text = f"const source = {json.dumps(source)}; {before}{show}"
        return subprocess.run(
            [*command, "--input-type=module", "-e", text], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert NODE is not None
    assert chosen([NODE], "WebAssembly.validate = () => false; ") == PLAIN.name
    if (command := relaxed()) is not None:
        assert chosen(command) == RELAXED.name


def on_kernels(artifact: Artifact) -> Recognizer:
    """Python's recogniser, all of it on the portable kernels, which compute floats in WebAssembly's order."""
    program = Program(artifact, "scalar", 1)
    features = native.front_end(artifact, program)
    assert features is not None
    return Recognizer(artifact, native.NativeEngine(features, None, program))


def write_samples(path: Path, samples: np.ndarray) -> str:
    path.write_bytes(samples.astype("<f4").tobytes())
    return str(path)


def open_model(node: Node, artifact: Artifact, folder: Path, name: str = "tiny") -> Any:
    model_file.save(artifact, name, folder / f"{name}.lf")
    return node.ask(model=str(folder / f"{name}.lf"))


@with_node
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == STREAMING else pytest.mark.slow)
        for name in checkpoint.bundled()
    ],
)
def test_bundled_models_give_the_text_of_python(name: str, node: Node, tmp_path: Path) -> None:
    artifact = checkpoint.load(name)
    here, opened = on_kernels(artifact), open_model(node, artifact, tmp_path, name)
    assert opened["description"]["name"] == name
    assert opened["streaming"] == (artifact.config.chunk_frames > 0)
    for path in SAMPLES:
        samples = reading.read(path)
        expected = here.transcribe(samples)
        found = node.ask(samples=write_samples(tmp_path / "samples", samples), stream=0)
        assert found["text"] == expected.text
        assert [word["text"] for word in found["words"]] == [word.word for word in expected.words]
        for key in ("start", "end"):
            times = [getattr(word, key) for word in expected.words]
            np.testing.assert_allclose(
                [word[key] for word in found["words"]], times, rtol=0, atol=node.seconds_apart
            )
        confidences = [word.confidence for word in expected.words]
        np.testing.assert_allclose([word["confidence"] for word in found["words"]], confidences, atol=0.05)


@pytest.fixture(scope="module")
def two_clips() -> np.ndarray:
    """Two recordings, each with a pause that ends a segment."""
    pause = np.zeros(20_000, np.float32)
    return np.concatenate([part for path in SAMPLES[:2] for part in (reading.read(path), pause)])


@with_node
@pytest.mark.parametrize("size", [160, 5000])
def test_a_stream_gives_the_words_of_the_whole_recording(
    size: int, node: Node, two_clips: np.ndarray, tmp_path: Path
) -> None:
    artifact = checkpoint.load(STREAMING)
    open_model(node, artifact, tmp_path)
    samples = write_samples(tmp_path / "samples", two_clips)
    whole, found = node.ask(samples=samples, stream=0), node.ask(samples=samples, stream=size)
    assert found["latency"] == pytest.approx(artifact.config.algorithmic_latency / 16_000)
    assert len(found["segments"]) == 2
    # a pause ends a word in a stream, and in a whole recording only if the model writes a delimiter
    letters = "".join(segment["text"] for segment in found["segments"]).replace(" ", "")
    assert letters == whole["text"].replace(" ", "")
    for segment in found["segments"]:
        words = segment["words"]
        assert segment["text"] == " ".join(word["text"] for word in words)
        assert (segment["start"], segment["end"]) == (words[0]["start"], words[-1]["end"])
    assert found["segments"][0]["text"] in found["partials"]


@with_node
@pytest.mark.slow
def test_a_stream_gives_the_segments_of_python(node: Node, two_clips: np.ndarray, tmp_path: Path) -> None:
    name = STREAMING
    open_model(node, checkpoint.load(name), tmp_path)
    stream = load(name, precision="f32").stream()
    expected = [*stream.feed(two_clips).final, *stream.finish().final]
    found = node.ask(samples=write_samples(tmp_path / "samples", two_clips), stream=4000)["segments"]
    assert [segment["text"] for segment in found] == [segment.text for segment in expected]
    times = [(segment.start, segment.end) for segment in expected]
    np.testing.assert_allclose([(s["start"], s["end"]) for s in found], times, atol=1e-6)


@with_node
def test_streams_do_not_grow_the_memory(node: Node, tmp_path: Path) -> None:
    assert open_model(node, tiny_live(), tmp_path)["streaming"]
    samples = write_samples(tmp_path / "samples", noise(16_000))
    first = node.ask(samples=samples, stream=1600)["memory"]
    for _ in range(20):
        last = node.ask(samples=samples, stream=1600)["memory"]
    assert last == first


@with_node
def test_bad_files_and_samples_are_refused_with_a_sentence(node: Node, tmp_path: Path) -> None:
    content = model_file.encode(tiny(), "tiny")
    flipped = bytearray(content)
    flipped[-1] ^= 4
    for damaged, code, sentence in (
        (b"", 3, "littlefoot export"),
        (b"<!doctype html>" * 10, 3, "not a model of littlefoot"),
        (content[:-1], 5, "get or export it again"),
        (bytes(flipped), 5, "checksum of tensor"),
    ):
        (tmp_path / "damaged.lf").write_bytes(damaged)
        answer = node.ask(model=str(tmp_path / "damaged.lf"))
        assert (answer["name"], answer["code"]) == ("Refused", code)
        assert sentence in answer["error"]
    open_model(node, tiny_live(), tmp_path)
    samples = np.array([0.5, np.nan], np.float32)
    for size in (0, 1):
        answer = node.ask(samples=write_samples(tmp_path / "samples", samples), stream=size)
        assert answer["code"] == 1
        assert "NaN" in answer["error"]
    assert node.ask(samples=write_samples(tmp_path / "samples", samples[:0]), stream=0)["text"] == ""


@with_node
def test_subtitles_follow_pauses_and_stay_readable(tmp_path: Path) -> None:
    words = [
        {"text": text, "start": start, "end": start + 0.3}
        for text, start in (
            ("ONE", 0.0),
            ("TWO", 0.4),
            ("THREE", 3661.5),
            *((f"W{i}", 3664 + i) for i in range(8)),
        )
    ]
    program = f"""
      const source = {json.dumps((PLAIN.parent / "static" / "transcript.js").read_text())};
      const {{ segmentsOf, srt }} = await import("data:text/javascript," + encodeURIComponent(source));
      const segments = segmentsOf({json.dumps(words[:3])});
      const long = {{ words: {json.dumps(words[3:])} }};
      console.log(JSON.stringify([segments.map(({{ text }}) => text), srt(segments), srt([long])]));
    """
    assert NODE is not None
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", program], capture_output=True, text=True, check=True
    )
    texts, content, cut = json.loads(done.stdout)
    assert texts == ["ONE TWO", "THREE"]
    assert content == (
        "1\n00:00:00,000 --> 00:00:00,700\nONE TWO\n\n2\n01:01:01,500 --> 01:01:01,800\nTHREE\n"
    )
    assert re.findall(r"^W.*$", cut, re.MULTILINE) == ["W0 W1 W2 W3 W4 W5", "W6 W7"]
