"""Measure models side by side, each in a separate process, in turn in every round.

A launch starts all processes anew and loads every model. For each length of audio and number of threads there
are rounds, in which every model has a turn, in a random order. The launch's share of the utterances follows;
all models recognise an utterance before the next one. Disturbances of the machine thus affect all models, and
ratios round by round are more reliable than times.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from littlefoot.audio import SAMPLE_RATE, reading
from littlefoot.audio.manifest import Utterance
from littlefoot.bench import energy, quiet
from littlefoot.bench.entries import Entry, Waveform
from littlefoot.bench.process import EntryError, Process
from littlefoot.bench.report import MEASURED
from littlefoot.errors import AudioError, LittlefootError

HEADLINE_SECONDS = 10.0
STREAMED = 20
"""Utterances whose delays are measured in a stream."""
STREAMED_SECONDS = 1.5
"""Least seconds of these utterances; shorter ones have too few chunks."""
ENERGY_LAUNCHES, ENERGY_SECONDS = 3, 3.0


@dataclass(frozen=True)
class BenchSettings:
    """The extent of a measurement."""

    lengths: tuple[float, ...] = (2.0, 10.0, 30.0)
    """Lengths of clips, in seconds."""
    threads: tuple[int, ...] = (1,)
    """Numbers of threads. The first one is used for everything but the speeds."""
    launches: int = 4
    rounds: int = 4
    tdp: float | None = None
    country: str | None = None
    busy: bool = False
    """Measure beside other programs too."""

    @property
    def headline(self) -> float:
        """Return the length that the table shows."""
        return HEADLINE_SECONDS if HEADLINE_SECONDS in self.lengths else sorted(self.lengths)[-1]


Configuration = tuple[float, int]
"""Seconds of audio and number of threads."""


@dataclass
class Row:
    """The raw measurements of a model."""

    entry: Entry
    folder: Path
    """Folder of the converted model and of its cache of compiled models."""
    error: str | None = None
    description: dict[str, Any] = field(default_factory=dict)
    engine: str | None = None
    precision: str | None = None
    kernels: str = "none"
    """The kernels of ``littlefoot_native`` that compute the model, or ``none``."""
    load_cold: float | None = None
    rss_cold: int | None = None
    loads: list[float] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)
    times: dict[Configuration, list[list[float]]] = field(default_factory=dict)
    """Seconds of every round of every launch."""
    texts: list[dict[str, Any] | None] = field(default_factory=list)
    """Text, seconds and cpu_seconds of each utterance."""
    streams: list[dict[str, Any]] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)
    """Joules per second of audio, if they can be measured."""
    overhead: float | None = None

    def start(self) -> Process:
        return Process(self.folder / "cache")

    def load(self, process: Process, threads: int) -> float:
        """Load the model in the worker; return the seconds."""
        found = process.ask("load", entry=asdict(self.entry), folder=str(self.folder), threads=threads)
        self.engine, self.precision, self.kernels = (found[k] for k in ("engine", "precision", "kernels"))
        return float(found["seconds"])


@dataclass
class Measured:
    """The raw measurements of a run."""

    rows: list[Row]
    utterances: list[Utterance]
    """Utterances that could be read."""
    seconds: list[float]
    """Lengths of the utterances in seconds."""
    failed: list[str]
    """Recordings that could not be read, with the reasons."""
    peaks: dict[str, float]
    source: energy.Source
    others: float | None = None
    """Largest share of the processor threads that other programs used before a launch; None if unknown."""


def steps(entries: Sequence[Entry], utterances: Sequence[Utterance], settings: BenchSettings) -> int:
    """Count the steps of a measurement."""
    turns = len(settings.lengths) * len(settings.threads) * settings.rounds
    return len(entries) * (2 + settings.launches * (1 + turns)) + len(utterances)


def measure(
    entries: Sequence[Entry],
    utterances: Sequence[Utterance],
    settings: BenchSettings,
    progress: Callable[[int], None] = lambda done: None,
) -> Measured:
    """Measure all models on all utterances.

    ``progress`` gets the number of ``steps`` that are done. A model that fails keeps its error and is not
    measured further.

    Raises LittlefootError if no recording can be read, and BusyError if other programs use the processor.
    """
    with tempfile.TemporaryDirectory(prefix="littlefoot-bench-") as name:
        return _Bench(entries, utterances, settings, Path(name), progress).run()


class _Bench:
    def __init__(
        self,
        entries: Sequence[Entry],
        utterances: Sequence[Utterance],
        settings: BenchSettings,
        folder: Path,
        progress: Callable[[int], None],
    ) -> None:
        self._settings, self._folder, self._progress = settings, folder, progress
        self._random = random.Random(0)
        self._utterances = list(utterances)
        self._failed: dict[int, str] = {}
        self._seconds = [0.0] * len(self._utterances)
        self._rows = []
        for number, entry in enumerate(entries):
            place = folder / str(number)
            place.mkdir()
            self._rows.append(Row(entry, place, texts=[None] * len(self._utterances)))
        self._done = 0

    def run(self) -> Measured:
        settings = self._settings
        self._clips = self._write_clips()
        source = energy.find(settings.tdp)
        peaks: dict[str, float] = {}
        others = [self._others()]
        for row in self._rows:
            with self._failing(row), row.start() as process:
                self._step()
                row.description = process.ask(
                    "prepare",
                    entry=asdict(row.entry),
                    folder=str(row.folder),
                    samples=round(settings.headline * SAMPLE_RATE),
                )
            if row.error is None:
                with self._failing(row), row.start() as process:
                    self._step()
                    row.load_cold, row.rss_cold = self._load_and_run(row, process)
        for launch in range(settings.launches):
            others.append(self._others())
            for precision, peak in self._peaks().items():
                peaks[precision] = max(peak, peaks.get(precision, 0.0))
            self._launch(launch, source)
        kept = [index for index in range(len(self._utterances)) if index not in self._failed]
        for row in self._rows:
            row.texts = [row.texts[index] for index in kept]
        return Measured(
            self._rows,
            [self._utterances[index] for index in kept],
            [self._seconds[index] for index in kept],
            list(self._failed.values()),
            peaks,
            source,
            max((share for share in others if share is not None), default=None),
        )

    def _others(self) -> float | None:
        return quiet.others() if self._settings.busy else quiet.wait()

    def _step(self, count: int = 1) -> None:
        self._done += count
        self._progress(self._done)

    @contextmanager
    def _failing(self, row: Row) -> Iterator[None]:
        """Turn a model's failure into the error of its row."""
        try:
            yield
        except EntryError as error:
            row.error = str(error)

    def _write_clips(self) -> dict[float, Path]:
        """Write a clip of each length, joined from recordings in a random order."""
        wanted = round(max(self._settings.lengths) * SAMPLE_RATE)
        order = list(range(len(self._utterances)))
        random.Random(1).shuffle(order)
        joined: list[Waveform] = []
        for index in order:
            if sum(map(len, joined)) >= wanted:
                break
            if (waveform := self._read(index)) is not None:
                joined.append(waveform)
        if not joined:
            raise LittlefootError(
                f"none of {len(order)} recordings can be read; the first: {next(iter(self._failed.values()))}"
            )
        samples = np.resize(np.concatenate(joined), wanted)  # repeated if there is too little audio
        clips = {}
        for seconds in self._settings.lengths:
            clips[seconds] = self._folder / f"{seconds:g}.npy"
            np.save(clips[seconds], samples[: round(seconds * SAMPLE_RATE)])
        return clips

    def _read(self, index: int) -> Waveform | None:
        """Read the samples of an utterance; return None and add a note if that fails."""
        if index in self._failed:
            return None
        utterance = self._utterances[index]
        try:
            waveform = reading.read(utterance.path)
        except AudioError as error:
            self._failed[index] = f"{utterance.id}: {error}"
            return None
        self._seconds[index] = len(waveform) / SAMPLE_RATE
        return waveform

    def _peaks(self) -> dict[str, float]:
        with Process(self._folder / "cache") as process:
            found: dict[str, float] = process.ask("peaks", threads=self._settings.threads[0])
        return found

    def _load_and_run(self, row: Row, process: Process) -> tuple[float, int]:
        """Return the seconds of loading, and the memory for recognising the longest clip."""
        seconds = row.load(process, self._settings.threads[0])
        process.ask("transcribe", path=str(self._clips[max(self._clips)]))
        return seconds, process.ask("peak_rss")

    def _launch(self, launch: int, source: energy.Source) -> None:
        with ExitStack() as stack:
            processes: dict[int, Process] = {}
            for number, row in enumerate(self._rows):
                if row.error is None:
                    with self._failing(row):
                        processes[number] = stack.enter_context(row.start())
                        load, rss = self._load_and_run(row, processes[number])
                        row.loads.append(load)
                        row.rss.append(rss)
                    self._step()
            first, *others = self._settings.threads
            self._rounds(launch, processes, first)
            self._recognise(launch, processes)
            if launch == self._settings.launches - 1:
                self._stream(processes)
                self._each(processes, lambda row, process: setattr(row, "overhead", process.ask("overhead")))
            if source.kind == MEASURED and launch < ENERGY_LAUNCHES:
                self._each(processes, self._measure_energy)
            for threads in others:
                self._each(processes, partial(Row.load, threads=threads))
                self._rounds(launch, processes, threads)

    def _each(self, processes: dict[int, Process], do: Callable[[Row, Process], object]) -> None:
        """Do something for every running model, in a random order."""
        order = list(processes)
        self._random.shuffle(order)
        for number in order:
            row = self._rows[number]
            if row.error is None:
                with self._failing(row):
                    do(row, processes[number])

    def _rounds(self, launch: int, processes: dict[int, Process], threads: int) -> None:
        def turn(row: Row, process: Process, seconds: float) -> None:
            times = row.times.setdefault((seconds, threads), [])
            if len(times) == launch:
                times.append([])
            times[launch].append(process.ask("turn", path=str(self._clips[seconds]))["seconds"])

        for seconds in self._settings.lengths:
            for _ in range(self._settings.rounds):
                self._each(processes, partial(turn, seconds=seconds))
                self._step(len(processes))

    def _recognise(self, launch: int, processes: dict[int, Process]) -> None:
        """Recognise this launch's share of the utterances."""
        clip = self._folder / "utterance.npy"

        def recognise(row: Row, process: Process, index: int) -> None:
            row.texts[index] = process.ask("transcribe", path=str(clip))

        for index in range(launch, len(self._utterances), self._settings.launches):
            if (waveform := self._read(index)) is not None:
                np.save(clip, waveform)
                self._each(processes, partial(recognise, index=index))
            self._step()

    def _stream(self, processes: dict[int, Process]) -> None:
        clip = self._folder / "streamed.npy"
        long = [i for i, seconds in enumerate(self._seconds) if seconds >= STREAMED_SECONDS]

        def stream(row: Row, process: Process) -> None:
            if (found := process.ask("stream", path=str(clip))) is not None:
                row.streams.append(found)

        for index in long[:: max(1, len(long) // STREAMED)][:STREAMED]:
            if (waveform := self._read(index)) is not None:
                np.save(clip, waveform)
                self._each(processes, stream)

    def _measure_energy(self, row: Row, process: Process) -> None:
        done: dict[str, float] = {}
        clip = str(self._clips[self._settings.headline])
        joules = energy.measured_joules(
            lambda: done.update(process.ask("work", path=clip, seconds=ENERGY_SECONDS))
        )
        if joules is not None:
            row.joules.append(joules / done["audio_seconds"])
