"""Kill real commands at random moments, go on with them, and compare with what uninterrupted ones make.

    python tests/attack/kills.py --kills 30 --write docs/reliability.md
    python tests/attack/kills.py --command train --kills 5

A command is started as a user starts it, and its process gets a SIGKILL at a random time of what it takes
without one, start of Python included. Several kills in a row, each while the command goes on with what the
one before left; then it runs to its end. Whatever is left of killed processes, or differs from the
uninterrupted result, is a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from campaign import write

HERE = Path(__file__).parent
IN_A_ROW = 5
GONE_SECONDS = 20.0
"""By then no process of a killed command is left."""


@dataclass(frozen=True)
class Command:
    """What is killed."""

    name: str
    arguments: Callable[[Path, Path], Sequence[str]]
    """Of littlefoot, given the folder with model and data and where the result goes; to go on with it too."""
    result: Callable[[Path, str], Any]
    """What must be the same, of where the result is and what was printed."""
    is_done: Callable[[Path], bool] = lambda out: False
    """Whether the result is there, so that the command need not be given again."""


@dataclass
class Row:
    """What came of one command."""

    command: str
    seconds: float
    """It takes without a kill."""
    kills: int = 0
    ended_before: int = 0
    """Of these, where the command was done when the kill came."""
    failures: list[str] = field(default_factory=list)


def make_data(folder: Path) -> None:
    """A tiny model that talks, and a set for it."""
    from artifacts import talkative, tiny
    from tones import LETTERS, write_set

    from littlefoot import artifact
    from littlefoot.artifact.vocabulary import Vocabulary
    from littlefoot.audio import manifest, reading

    table = write_set(folder, 8)
    model = tiny(do_stable_layer_norm=True, feat_extract_norm="layer")
    vocabulary = Vocabulary(("<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS, "'"))
    model = replace(model, vocabulary=vocabulary)
    model = talkative(model, reading.read(manifest.read(table)[0].path))
    artifact.save(model, folder / "model")
    train = {"train": {**_TRAIN, "steps": 12}}
    steps = [{"distill": {"student": {"layers": 1}, **train}}, {"quantize": {"mode": "dynamic"}}]
    steps[1]["quantize"]["max_disagreement"] = 1.0
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"steps": steps}), encoding="utf-8")


_TRAIN: dict[str, Any] = {
    "batch_seconds": 4,
    "checkpoint_minutes": 0.0,
    "eval_every": 6,
    "loaders": 0,
    "log_every": 5,
    "mixed_precision": "no",
    "threads": 1,
    "warmup_steps": 2,
}
_MEASURED = ("speedup",)  # of this processor at that moment


def _artifact(out: Path, printed: str) -> dict[str, Any]:
    """Weights and settings, without what a clock measured."""
    from littlefoot import artifact

    loaded = artifact.load(out)
    section = loaded.config.littlefoot.to_dict()
    section["quantization"] = {k: v for k, v in section.get("quantization", {}).items() if k not in _MEASURED}
    return {
        "section": json.loads(json.dumps(section)),
        "card": loaded.card,
        "weights": {name: (w.dtype.name, w.shape, w.tobytes()) for name, w in loaded.weights.items()},
    }


def _text(out: Path, printed: str) -> str:
    return (out / "manifest.tsv").read_text(encoding="utf-8").replace(str(out), "OUT")


def _is_artifact(out: Path) -> bool:
    from littlefoot import artifact

    return artifact.is_artifact(out)


COMMANDS = [
    Command(
        "eval --json",
        lambda data, out: ["eval", f"{data}/model", f"{data}/tones", "--split", "dev", "--json"],
        lambda out, printed: json.loads(printed),
    ),
    Command(
        "quantize",
        lambda data, out: ["quantize", f"{data}/model", "-o", str(out), "--calibrate", f"{data}/tones/0.wav"],
        _artifact,
        _is_artifact,
    ),
    Command(
        "shrink",
        lambda data, out: [
            *("shrink", f"{data}/model", "-o", str(out), "--recipe", f"{data}/recipe.yaml"),
            *("--data", f"{data}/tones", "--resume"),
        ],
        _artifact,
        _is_artifact,
    ),
    Command(
        "train",
        lambda data, out: [
            *("train", f"{data}/model", "-o", str(out), "--data", f"{data}/tones", "--resume"),
            *(
                part
                for key, value in {**_TRAIN, "steps": 30}.items()
                for part in ("--set", f"train.{key}={value}")
            ),
        ],
        _artifact,
    ),
    Command(
        "label",
        lambda data, out: [
            *(
                "label",
                f"{data}/model",
                f"{data}/tones",
                "-o",
                str(out),
                "--workers",
                "2",
                "--shard-rows",
                "2",
            ),
        ],
        _text,
    ),
]


def start(arguments: Sequence[str], cache: Path) -> subprocess.Popen[str]:
    """A command in a group of processes of its own."""
    environment = {
        **os.environ,
        "LITTLEFOOT_CACHE": str(cache),
        "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
        "PYTHONHASHSEED": "0",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "littlefoot", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def _group_is_gone(group: int) -> bool:
    begin = time.monotonic()
    while time.monotonic() - begin < GONE_SECONDS:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def attack(command: Command, data: Path, folder: Path, kills: int, seed: int = 0) -> Row:
    """Kill a command so often."""
    random_ = random.Random(f"{seed}/{command.name}")
    cache = folder / "cache"
    first = folder / "first" / "out"
    for _ in range(
        2
    ):  # the second time with a cache that is full, as most of those that are killed will find it
        begin = time.monotonic()
        printed = _finish(command, data, first, cache)
        row = Row(command.name, round(time.monotonic() - begin, 1))
        expected, names = command.result(first, printed), _names(first)
        if command.is_done(first):
            break
    number = 0
    while row.kills < kills:
        number += 1
        out = folder / f"{number}" / "out"
        for _ in range(min(IN_A_ROW, kills - row.kills)):
            if command.is_done(out):
                break
            process = start(command.arguments(data, out), cache)
            try:
                process.communicate(timeout=random_.uniform(0, 1.05 * row.seconds))
                row.ended_before += 1
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
            row.kills += 1
            if not _group_is_gone(process.pid):
                row.failures.append(f"kill {row.kills}: a process was left")
                os.killpg(process.pid, signal.SIGKILL)
        try:
            printed = "" if command.is_done(out) else _finish(command, data, out, cache)
            if not _same(command.result(out, printed), expected):
                row.failures.append(f"after kill {row.kills}: another result in {out}")
            if left := _names(out) ^ names:
                row.failures.append(f"after kill {row.kills}: {sorted(left)} is left or missing")
        except AssertionError as error:
            row.failures.append(f"after kill {row.kills}: {error}")
    return row


def _finish(command: Command, data: Path, out: Path, cache: Path) -> str:
    process = start(command.arguments(data, out), cache)
    printed, errors = process.communicate()
    assert process.returncode == 0, errors[-2000:]
    assert "Traceback" not in errors, errors[-2000:]
    return printed


def _names(out: Path) -> set[str]:
    """All that stands where the result is."""
    return (
        {str(path.relative_to(out.parent)) for path in out.parent.rglob("*")}
        if out.parent.exists()
        else set()
    )


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict) and isinstance(found, dict):
        return found.keys() == expected.keys() and all(_same(found[key], expected[key]) for key in expected)
    if isinstance(expected, np.ndarray):
        return np.array_equal(found, expected)
    return bool(found == expected)


def table(rows: Sequence[Row], call: str) -> str:
    """The rows in Markdown."""
    lines = [
        f"`{call}`, {time.strftime('%Y-%m-%d')}",
        "",
        "| command | takes, s | kills | of these after its end | failures |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        failures = len(row.failures) or "none"
        lines.append(f"| {row.command} | {row.seconds} | {row.kills} | {row.ended_before} | {failures} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30, help="of each command")
    parser.add_argument("--command", action="append", help="only those whose name contains this; repeatable")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="put the table into this page")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="littlefoot-kills-") as name:
        data = Path(name) / "data"
        data.mkdir()
        make_data(data)
        for command in COMMANDS:
            if not options.command or any(part in command.name for part in options.command):
                folder = Path(name) / command.name.split()[0]
                rows.append(attack(command, data, folder, options.kills, options.seed))
                print(rows[-1], flush=True)
    text = table(rows, "python tests/attack/kills.py " + " ".join(sys.argv[1:]))
    print(text)
    if options.write:
        write(options.write, text, "kills")
    return int(any(row.failures for row in rows))


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent / "support"))  # what tests share
    sys.exit(main())
