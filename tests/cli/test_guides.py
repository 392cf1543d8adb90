"""Every command of README.md and of the pages in docs/ is carried out, or has a reason why not.

Each document gets a directory in which its names are real: ``MODEL`` is a tiny model that was trained on
tones and stands for the models of the Hub too; ``my-recordings`` is a set of tones. The commands run there,
from the first to the last. Training takes two steps, and ``SHORTER`` shortens other commands.
"""

from __future__ import annotations

import io
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Run
from tones import QUIET, sing, write_recipe, write_set

from littlefoot import artifact
from littlefoot.artifact import Artifact
from littlefoot.audio import reading
from littlefoot.compress import calibration, quantize
from littlefoot.decode.arpa import write_arpa
from littlefoot.decode.ngram import estimate
from littlefoot.training import train as trainer
from littlefoot.training.train_config import TrainConfig

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

SLOW = ("README.md", "bench.md", "lowbit.md", "target.md")
"""Documents whose commands take more than a few seconds."""

NOT_RUN = {
    r"littlefoot transcribe \S+ mic\b": "there is no microphone; test_stream.py feeds streams",
    r"littlefoot transcribe .*--lm en\b": "its words need English letters; test_mixture.py loads it",
    r"littlefoot \w+ .*\.\./shared/": "it measures on speech that is not in the repository",
    r"littlefoot serve\b": "a server does not end; test_server.py starts it",
    r"python -m http\.server\b": "a server does not end; test_web_page.py has one of its own",
    r"littlefoot push\b": "it needs the Hub; test_push.py has one of its own",
    r"littlefoot graft\b": "its recipe is made for real Whispers; test_graft.py carries out smaller ones",
    r"littlefoot shrink mine -o mine-live\b": "it continues from the command graft",
    r"arecord\b": "there is no microphone",
    r"pip (un)?install\b": "it installs packages; make test and make demo do so",
    r"littlefoot transcribe .* --device cuda\b": "there is no graphics card; test_device.py replaces it",
    r"curl\b": "it needs a server; test_server_clients.py sends the same request",
    r"export LITTLEFOOT_API_KEY=": "it sets a variable of your shell",
    r"(accelerate launch|torchrun|OMP_NUM_THREADS=1 torchrun)\b": "test_train.py starts such processes",
    r"python (scripts|benchmarks)/": "it fetches packages, synthesises speech or measures for a long time",
    r"tensorboard\b": "a server does not end",
    r"taskset\b": "it measures; the same command without taskset is carried out by test_lm.py",
}
"""Commands that are not carried out, by a pattern of how they begin, with the reason."""

PROGRAMS = (
    "littlefoot",
    "pip",
    "make",
    "python",
    "curl",
    "torchrun",
    "accelerate",
    "arecord",
    "tensorboard",
    "taskset",
    "export",
)
SHORTER = {"bench": ["--launches", "1", "--rounds", "1", "--lengths", "0.5", "--threads", "1", "--busy"]}
"""Options that are added to commands, by the command's name."""


def lines(text: str) -> Iterator[str]:
    """The commands of a document, without comments; of a synopsis, what is not optional."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for body in (body for language, body in blocks if not language):
        for line in re.sub(r"\\\n\s*", "", body).splitlines():
            program = re.match(r"(?:[A-Z_]+=\S* )*(\w+) ", line)
            if program and program[1] in PROGRAMS:
                yield synopsis(re.sub(r" {3,}[a-z].*", "", line))


def outputs(text: str) -> dict[str, str]:
    """The outputs in a document, each after a comment ``<!-- output -->``, by their commands."""
    shown = r"^```\n((?:(?!```).*\n)+)```\n\n<!-- output -->\n```text\n((?:(?!```).*\n)*)```$"
    found = re.findall(shown, text, re.MULTILINE)
    return {commands.splitlines()[-1]: output for commands, output in found}


def masked(output: str) -> list[str]:
    """The lines of an output without the values of its numbers."""
    numbers = re.compile(r"(?<=\()\s+|\d[\d.,]*")
    plain = (numbers.sub(lambda found: "N" * found[0][0].isdigit(), line) for line in output.splitlines())
    return [" ".join(line.split()) for line in plain]


def synopsis(line: str) -> str:
    """A command without what stands in brackets after a space, and without ``...``."""
    while (shorter := re.sub(r" \[[^\[\]]*\]|(?<=\w)\.\.\.", "", line)) != line:
        line = shorter
    return line


def reason(line: str) -> str | None:
    return next((why for pattern, why in NOT_RUN.items() if re.match(pattern, line)), None)


@pytest.fixture(scope="module")
def in_8_bits(deep_teacher: Artifact) -> Artifact:
    rng = np.random.default_rng(5)
    clips = [reading.normalize(sing(text, rng).astype(np.float32)) for text in ("ABC DEF", "FED CAB")]
    return quantize.quantize(deep_teacher, clips, quantize.QuantizeConfig(max_disagreement=1.0))[0]


@pytest.fixture
def tree(
    deep_teacher: Artifact, in_8_bits: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The working directory of a document."""
    directory = tmp_path / "work"
    directory.mkdir()
    monkeypatch.chdir(directory)
    first = artifact.save(deep_teacher, directory / "MODEL")
    artifact.save(in_8_bits, directory / "mine-int8")
    (directory / "littlefoot" / "bundled").mkdir(parents=True)
    (directory / "littlefoot" / "bundled" / "samples").symlink_to(ROOT / "littlefoot" / "bundled" / "samples")
    for name in (
        "facebook/wav2vec2-base-960h",
        "facebook/wav2vec2-large-960h",
        "littlefoot-en",
        "mine",
    ):
        shutil.copytree(first, directory / name)
    shutil.copytree(first, directory / "littlefoot" / "bundled" / "littlefoot-en")
    recordings = write_set(directory, name="my-recordings")
    split_off_tests(recordings)
    for name in ("my-speech", "MANIFEST", "MANIFEST_OR_AUDIO", "books"):
        shutil.copytree(recordings.parent, directory / name)
    for name in ("kathleen", "librispeech3", "prompts"):
        shutil.copytree(recordings.parent, tmp_path / "shared" / "data" / name)
    write_recipe(directory, recordings).rename(directory / "RECIPE.yaml")
    text = (ROOT / "docs" / "compose.md").read_text(encoding="utf-8")
    chain = re.search(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert chain
    (directory / "chain.yaml").write_text(chain[1], encoding="utf-8")
    write_recordings(directory)
    write_librispeech(directory / "LibriSpeech" / "train-clean-100")
    sentences = ["A FACE", "A BAD CAFE", "A FACADE", "BE A CAD", "FEED A CAB"]
    for name in ("garden.txt", "chapter.txt"):
        (directory / name).write_text("ABC DEF\n", encoding="utf-8")
    (directory / "TEXT").write_text("\n".join(sentences) + "\n", encoding="utf-8")
    write_arpa(estimate([sentence.split() for sentence in sentences], 2), directory / "MODEL.arpa")
    shutil.copy(recordings, directory / "manifest.tsv")
    for sung in recordings.parent.glob("*.wav"):
        shutil.copy(sung, directory)
    return directory


def split_off_tests(path: Path) -> None:
    """Make the first rows of a manifest known as split ``test`` too, twice, by five speakers."""
    rows = path.read_text(encoding="utf-8").splitlines()
    dev = [row.split("\t") for row in rows if "\tdev\t" in row]
    tests = [
        "\t".join([f"test{i}", *cells[1:3], f"speaker {i % 5}", "test", cells[5]])
        for i, cells in enumerate(dev + dev)
    ]
    path.write_text("\n".join([*rows, *tests]) + "\n", encoding="utf-8")


def write_recordings(directory: Path) -> None:
    """Recordings of all names that documents use."""
    rng = np.random.default_rng(3)
    for name in ("AUDIO", "talk.wav", "recording.wav", "meeting.flac", "episode.mp3", "audiobook.mp3"):
        form = Path(name).suffix.removeprefix(".").upper() or "WAV"
        soundfile.write(directory / name, sing("ABC DEF", rng), 16_000, format=form)
    for folder in ("podcast", "archive/2024"):
        (directory / folder).mkdir(parents=True)
        for index, text in enumerate(("FACE", "BAD", "CAB FED")):
            soundfile.write(directory / folder / f"{index}.wav", sing(text, rng), 16_000)


def write_librispeech(split: Path) -> None:
    """A speaker with one utterance."""
    chapter = split / "19" / "198"
    chapter.mkdir(parents=True)
    soundfile.write(chapter / "19-198-0000.flac", sing("FACE", np.random.default_rng(3)), 16_000)
    (chapter / "19-198.trans.txt").write_text("19-198-0000 FACE\n", encoding="utf-8")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of training, few samples for calibration, no timing, and a yes to every question."""
    train = trainer.train
    settings = {name: value for name, value in QUIET.items() if name not in ("speeds", "eval_every")}

    def two_steps(
        objective: Any, corpus: Any, config: TrainConfig, out: Path, resume: bool = False, *data: Any
    ) -> Any:
        brief = {**settings, "steps": 2, "warmup_steps": 1, "eval_every": 2, "lr": 1e-6, "average_every": 0}
        return train(objective, corpus, replace(config, **brief), out, resume, *data)

    monkeypatch.setattr(trainer, "train", two_steps)
    monkeypatch.setattr(calibration, "MAX_CLIPS", 4)
    monkeypatch.setattr(calibration, "MAX_ROWS", 128)
    monkeypatch.setattr(quantize, "speedup", lambda *models: 1.0)
    monkeypatch.setattr("sys.stdin", Terminal("y\n" * 10))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def remove_output(words: list[str]) -> None:
    """Remove what an earlier command of the document has written where this one writes."""
    if "--resume" in words or "-o" not in words:
        return
    out = Path(words[words.index("-o") + 1])
    for path in [out, *out.parent.glob(f"{out.name}-*")]:
        if path.name in {out.name, *(f"{out.name}-{part}" for part in ("steps", "plan", "training"))}:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def documents() -> Iterator[Any]:
    for path in DOCUMENTS:
        yield pytest.param(path, id=path.name, marks=[pytest.mark.slow] if path.name in SLOW else [])


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("document", documents())
def test_every_command_of_a_document_works(
    document: Path, tree: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = outputs(document.read_text(encoding="utf-8"))
    for line in lines(document.read_text(encoding="utf-8")):
        if reason(line):
            continue
        expected = shown.pop(line, None)
        words = shlex.split(line, comments=True)
        while "=" in words[0]:
            monkeypatch.setenv(*words.pop(0).split("=", 1))
        assert words[0] == "littlefoot"
        remove_output(words)
        result = run(*words[1:], *SHORTER.get(words[1], []))
        assert result.code == 0, f"{line}\n{result.err}\n{result.out}"
        assert expected is None or masked(result.out) == masked(expected), line
    assert not shown, "an output stands after a command that is not carried out"


def test_every_reason_is_used() -> None:
    found = [line for path in DOCUMENTS for line in lines(path.read_text(encoding="utf-8"))]
    assert len(found) > 50
    for pattern in NOT_RUN:
        assert any(re.match(pattern, line) for line in found), f"no document has a command like {pattern}"


def test_most_commands_are_carried_out() -> None:
    found = [line for path in DOCUMENTS for line in lines(path.read_text(encoding="utf-8"))]
    ours = [line for line in found if line.startswith("littlefoot ")]
    assert sum(reason(line) is None for line in ours) > 0.75 * len(ours)


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        ("littlefoot lm build TEXT... -o FILE [--order 3] [--max-mb N]", "littlefoot lm build TEXT -o FILE"),
        ("littlefoot x MODEL [--lm en|FILE [--alpha A]] [--beam N]", "littlefoot x MODEL"),
        (
            "littlefoot x --set lowbit.nested_precisions=[1]",
            "littlefoot x --set lowbit.nested_precisions=[1]",
        ),
    ],
)
def test_optional_parts_of_a_synopsis_are_left_out(line: str, plain: str) -> None:
    assert synopsis(line) == plain
