"""Attack the readers with damaged and hostile input, and count what happened.

    python tests/attack/campaign.py --minutes 5 --write docs/reliability.md
    python tests/attack/campaign.py --tries 1000000 --jobs 2 --write docs/reliability.md
    python tests/attack/campaign.py --target WAV --only 4711        # one try again, in this process

A ``*_targets.py`` file beside this one has a list TARGETS. Each target runs in a process of its own, which is
watched: a crash, a hang, too much memory, an error that is not a ``LittlefootError`` and a wrong result are
failures. Every try follows from the campaign's seed, the target's name and a number, and can be repeated.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HANG_SECONDS = 5.0
"""Of computing, for one try: by the clock, a machine that others keep busy would hang it."""
STUCK_SECONDS = 60.0
"""By the clock, for a try that waits."""
START_SECONDS = 120.0
MEMORY_BYTES = 1_000_000_000
"""What one try may add to the memory of its process."""
_SHOWN = 10  # failures of each target that are kept with their messages
_FAILURES = ("crash", "hang", "memory", "exception", "wrong")


@dataclass(frozen=True)
class Target:
    """Something that reads bytes from strangers."""

    name: str
    seeds: Callable[[], Sequence[bytes]]
    """Good inputs, from which bad ones are made."""
    attempt: Callable[[bytes, bytes], None]
    """Given an input and the seed that it was made from: returns where it was read, raises LittlefootError
    where it was refused, AssertionError where it was read wrongly. Any other exception is a failure."""
    repair: Callable[[bytes], bytes] | None = None
    """Makes the checksums of every second input right again, so that the code behind them is reached too."""
    share: float = 1.0
    """Of the time, relative to other targets."""
    slowness: float = 1.0
    """How much longer a try takes than most: where tries are counted, its share is so much smaller."""


@dataclass
class Row:
    """What came of the tries on one target."""

    target: str
    seed: int
    tries: int = 0
    refused: int = 0
    read: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    seconds: float = 0.0
    slowest_seconds: float = 0.0
    memory_mb: float = 0.0
    """The most by which the memory of the process grew."""


# Mutations

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1)


def mutated(random_: random.Random, data: bytes, other: bytes) -> bytes:
    """``data`` after some mutations, most of them near its beginning; pieces of ``other`` may get into it."""
    changed = bytearray(data)
    for _ in range(random_.choice((1, 1, 1, 2, 3, 5, 8))):
        random_.choice(_MUTATIONS)(random_, changed, other)
    return bytes(changed)


def _place(random_: random.Random, data: bytearray) -> int:
    reach = random_.choice((64, 512, 4096, len(data) or 1, len(data) or 1))
    return random_.randrange(min(reach, len(data) or 1))


def _span(random_: random.Random, data: bytearray) -> slice:
    start = _place(random_, data)
    return slice(start, start + random_.choice((1, 2, 4, 16, 100, 1000)))


def _flip(random_: random.Random, data: bytearray, other: bytes) -> None:
    if data:
        data[_place(random_, data)] ^= 1 << random_.randrange(8)


def _set(random_: random.Random, data: bytearray, other: bytes) -> None:
    if data:
        data[_place(random_, data)] = random_.randrange(256)


def _number(random_: random.Random, data: bytearray, other: bytes) -> None:
    size = random_.choice((1, 2, 3, 4, 8))
    value = random_.choice((*_NUMBERS, len(data), random_.getrandbits(8 * size))) % (1 << 8 * size)
    start = _place(random_, data)
    data[start : start + size] = value.to_bytes(size, random_.choice(("little", "big")))


def _digits(random_: random.Random, data: bytearray, other: bytes) -> None:
    """A number that is written in decimal digits, as in text formats."""
    found = [place for place in range(min(len(data), 4096)) if 48 <= data[place] <= 57]
    if found:
        start = random_.choice(found)
        text = str(random_.choice((*_NUMBERS, -1, 10**30, "1e400", "nan", "-0", "")))
        data[start : start + random_.choice((1, 1, 4))] = text.encode()


def _cut(random_: random.Random, data: bytearray, other: bytes) -> None:
    del data[_place(random_, data) :]


def _delete(random_: random.Random, data: bytearray, other: bytes) -> None:
    del data[_span(random_, data)]


def _zero(random_: random.Random, data: bytearray, other: bytes) -> None:
    span = _span(random_, data)
    data[span] = bytes([random_.choice((0, 0, 255, 32))]) * len(data[span])


def _repeat(random_: random.Random, data: bytearray, other: bytes) -> None:
    span = _span(random_, data)
    place = _place(random_, data)
    data[place:place] = data[span] * random_.choice((1, 1, 2, 50))


def _splice(random_: random.Random, data: bytearray, other: bytes) -> None:
    if other:
        start = random_.randrange(len(other))
        piece = other[start : start + random_.choice((4, 50, 1000))]
        place = _place(random_, data)
        data[place : place + random_.choice((0, len(piece)))] = piece


def _insert(random_: random.Random, data: bytearray, other: bytes) -> None:
    place = _place(random_, data)
    data[place:place] = random_.randbytes(random_.choice((1, 2, 8, 200)))


_MUTATIONS = (
    _flip,
    _flip,
    _set,
    _set,
    _number,
    _number,
    _digits,
    _cut,
    _delete,
    _zero,
    _repeat,
    _splice,
    _insert,
)


def made(target: Target, seeds: Sequence[bytes], seed: int, index: int) -> tuple[bytes, bytes]:
    """The input of a try, and the good one that it was made from."""
    random_ = random.Random(f"{seed}/{target.name}/{index}")
    original = random_.choice(seeds)
    data = mutated(random_, original, random_.choice(seeds))
    if target.repair is not None and index % 2:
        data = target.repair(data)
    return data, original


# One process


class _Mark:
    """Where a process is, in memory that its parent sees too."""

    _INDEX, _BEGAN, _REFUSED, _READ, _SLOWEST, _GROWN, _COMPUTED = range(7)

    def __init__(self, array: Any) -> None:
        self._array = array

    def begin(self, index: int) -> None:
        self._array[self._INDEX] = index
        self._array[self._COMPUTED] = time.process_time()
        self._array[self._BEGAN] = time.monotonic()

    def end(self, outcome: str, grown: int) -> None:
        took = time.process_time() - self._array[self._COMPUTED]
        self._array[self._BEGAN] = 0.0
        self._array[self._SLOWEST] = max(self._array[self._SLOWEST], took)
        self._array[self._GROWN] = max(self._array[self._GROWN], grown)
        if outcome in ("refused", "read"):
            self._array[self._REFUSED if outcome == "refused" else self._READ] += 1

    @property
    def index(self) -> int:
        return int(self._array[self._INDEX])

    @property
    def is_trying(self) -> bool:
        return bool(self._array[self._BEGAN])

    def hangs(self, pid: int) -> bool:
        began, computed = self._array[self._BEGAN], self._array[self._COMPUTED]
        long = _computed(pid) - computed > HANG_SECONDS or time.monotonic() - began > STUCK_SECONDS
        return bool(began) and long and self._array[self._BEGAN] == began  # the process goes on meanwhile

    def add_to(self, row: Row) -> None:
        row.refused += int(self._array[self._REFUSED])
        row.read += int(self._array[self._READ])
        row.slowest_seconds = round(max(row.slowest_seconds, self._array[self._SLOWEST]), 2)
        row.memory_mb = round(max(row.memory_mb, self._array[self._GROWN] / 1e6), 1)


def _work(place: tuple[str, str], seed: int, begin: int, end: int, array: Any, parent: Connection) -> None:
    """Try ``begin`` to ``end``, and tell the parent of every failure; ends after one of memory."""
    target, mark = find(*place), _Mark(array)
    getattr(importlib.import_module(place[0]), "prepare", lambda: None)()  # of this process alone
    seeds = target.seeds()
    for each in seeds:
        target.attempt(each, each)  # what is good must be read, and whatever is imported or compiled, is now
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libmpg123 has a line for every odd header
    start = _memory()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + 4 * MEMORY_BYTES, hard))
    parent.send(("ready", begin, ""))
    for index in range(begin, end):
        data, original = made(target, seeds, seed, index)
        mark.begin(index)
        outcome, message = judged(target, data, original)
        grown = _memory() - start
        if grown > MEMORY_BYTES and outcome in ("refused", "read"):
            outcome, message = "memory", f"{grown / 1e6:.0f} MB more"
        mark.end(outcome, grown)
        if outcome in _FAILURES:
            parent.send((outcome, index, message))
        if outcome == "memory":
            return  # the peak would hide all later ones
    parent.send(("done", end, ""))


def judged(target: Target, data: bytes, original: bytes) -> tuple[str, str]:
    """What came of an input, and why."""
    from littlefoot.errors import LittlefootError

    try:
        target.attempt(data, original)
    except LittlefootError as error:
        return "refused", str(error)
    except MemoryError as error:
        return "memory", f"MemoryError: {error}"
    except AssertionError as error:
        return "wrong", str(error)
    except BaseException as error:
        return "exception", f"{type(error).__name__}: {error}"
    return "read", ""


def _memory() -> int:
    """The most memory that this process ever used, in bytes.

    From /proc: what ``getrusage`` says begins with the peak of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def _computed(pid: int) -> float:
    """Seconds that a process has computed; none where it has just ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


# The parent


def attack(place: tuple[str, str], seed: int, tries: int | None, seconds: float | None) -> Row:
    """Try a target so often, or for so long."""
    row = Row(place[1], seed)
    clock = _Clock(seconds)
    context = multiprocessing.get_context("spawn")
    end = tries if tries is not None else 1 << 40
    following = 0
    while following < end and not clock.over:
        mark = _Mark(array := context.RawArray("d", 7))
        ours, its = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(place, seed, following, end, array, its), daemon=True)
        process.start()
        its.close()
        following = _watch(process, ours, mark, row, end, clock)
        process.kill()
        process.join()
        mark.add_to(row)
    row.tries = row.refused + row.read + sum(row.failures.values())
    row.seconds = round(time.monotonic() - clock.began, 1)
    return row


class _Clock:
    """The time that tries may take; it begins when the first process is ready, for which it waits a while."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self.began, self._ready = time.monotonic(), False

    def start(self) -> None:
        if not self._ready:
            self.began, self._ready = time.monotonic(), True

    @property
    def over(self) -> bool:
        allowed = START_SECONDS if not self._ready else self._seconds
        return self._seconds is not None and time.monotonic() - self.began > (allowed or 0.0)


def _watch(process: Any, connection: Connection, mark: _Mark, row: Row, end: int, clock: _Clock) -> int:
    """Listen to a process until it ends, hangs or the time is over; returns the number of the next try."""
    finished = False
    while True:
        try:
            while connection.poll(0.2):
                outcome, index, message = connection.recv()
                if outcome == "ready":
                    clock.start()
                    continue
                finished = outcome == "done"
                if not finished:
                    _note(row, outcome, index, message)
        except (EOFError, OSError):
            process.join()
            if finished:
                return end
            if not mark.is_trying and process.exitcode:
                raise RuntimeError(
                    f"{row.target}: the process ended outside of a try ({process.exitcode}): see above"
                ) from None
            if process.exitcode:
                _note(row, "crash", mark.index, f"exit code {process.exitcode}")
            return mark.index + 1
        if mark.hangs(process.pid):
            _note(row, "hang", mark.index, f"over {HANG_SECONDS:g} s of computing, or {STUCK_SECONDS:g} s")
            return mark.index + 1
        if clock.over:
            return mark.index + 1


def _note(row: Row, kind: str, index: int, message: str) -> None:
    row.failures[kind] = row.failures.get(kind, 0) + 1
    if len(row.examples) < _SHOWN:
        row.examples.append(f"{kind} at {index}: {message[:300]}")


# The campaign


def targets() -> dict[tuple[str, str], Target]:
    """All targets, by their module and name."""
    found = {}
    for path in sorted(HERE.glob("*_targets.py")):
        for target in importlib.import_module(path.stem).TARGETS:
            found[path.stem, target.name] = target
    return found


def find(module: str, name: str) -> Target:
    """A target by its place. Raises StopIteration where there is none."""
    return next(each for each in importlib.import_module(module).TARGETS if each.name == name)


def table(rows: Sequence[Row], command: str) -> str:
    """The rows in Markdown."""
    lines = [
        f"`{command}`, {time.strftime('%Y-%m-%d')}",
        "",
        "| what | tries | refused | read | crash | hang | memory | exception | wrong | slowest, s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        failures = " | ".join(str(row.failures.get(kind, 0) or "none") for kind in _FAILURES)
        cells = f"{row.target} | {row.tries:,} | {row.refused:,} | {row.read:,} | {failures}"
        lines.append(f"| {cells} | {row.slowest_seconds} |")
    total = sum(row.tries for row in rows)
    failed = sum(sum(row.failures.values()) for row in rows)
    return "\n".join([*lines, "", f"Tries in all: {total:,}; failures: {failed or 'none'}."]) + "\n"


def write(path: Path, text: str, mark: str) -> None:
    """Put text between the marks ``<!-- mark -->`` and ``<!-- end of mark -->`` of a page."""
    page = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    head, found, rest = page.partition(begin)
    if not found:
        raise SystemExit(f"{path} has no {begin.strip()}")
    path.write_text(head + begin + text + end + rest.partition(end)[2], encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", action="append", help="only those whose name contains this; repeatable")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tries", type=int, help="of all targets together")
    parser.add_argument("--minutes", type=float, help="for all targets together")
    parser.add_argument("--jobs", type=int, default=1, help="targets at once")
    parser.add_argument("--only", type=int, help="repeat one try in this process")
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--write", type=Path, help="put the table into this page")
    options = parser.parse_args()
    chosen = {
        place: target
        for place, target in targets().items()
        if not options.target or any(part in target.name for part in options.target)
    }
    if not chosen:
        parser.error(f"no target is called so: {', '.join(name for _, name in targets())}")
    if options.only is not None:
        (target,) = chosen.values()
        data, original = made(target, target.seeds(), options.seed, options.only)
        print(len(data), data[:200])
        print(*judged(target, data, original))
        return 0
    counted = options.tries is not None

    def size(target: Target) -> float:
        return target.share / target.slowness if counted else target.share

    total = sum(map(size, chosen.values()))

    def run(place: tuple[str, str]) -> Row:
        part = size(chosen[place]) / total
        tries = max(1, round(options.tries * part)) if counted else None
        seconds = None if counted else 60 * (options.minutes or 1) * part * options.jobs
        row = attack(place, options.seed, tries, seconds)
        print(json.dumps(asdict(row)), flush=True)
        return row

    with ThreadPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(run, chosen))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    command = "python tests/attack/campaign.py " + " ".join(sys.argv[1:])
    print(table(rows, command))
    if options.write:
        write(options.write, table(rows, command), "attack")
    return int(any(row.failures for row in rows))


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent / "support"))  # what tests share
    sys.exit(main())
