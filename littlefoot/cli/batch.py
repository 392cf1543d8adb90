"""Transcribe many recordings, one after the other in this process or in parallel in several."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from littlefoot.cli.inputs import STANDARD_INPUT
from littlefoot.errors import LittlefootError
from littlefoot.system import machine
from littlefoot.system.processes import deaf_to_interrupts, follow_parent

if TYPE_CHECKING:
    from littlefoot.runtime.windows import Heard
    from littlefoot.transcript.results import Transcription

Progress = Callable[[int, float], None]
"""Callback with the index of a recording and the seconds of it that were processed."""
Recognise = Callable[[str, "Heard | None"], "Transcription"]
"""Function of the name of a recording and a progress callback."""
Outcome = tuple[int, "Transcription | LittlefootError"]
"""The index of a recording and its transcription or error."""

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class RecognizerSettings:
    """The options that define a recogniser; they can be sent to a process."""

    model: str
    engine: str
    threads: int | None
    precision: str
    language: str | None
    layers: int | None
    vad: str
    beam: int | None
    lm: Path | None
    alpha: float | None
    beta: float | None
    hotwords: Path | None
    lexicon: Path | None
    alternatives: int
    bits: int | None = None
    channel: str = "auto"
    track: int | None = None
    case: str | None = None
    punctuate: str | None = None

    def load(self) -> Recognise:
        """Load the model and the decoder. Raises LittlefootError."""
        from littlefoot.audio import reading, vad
        from littlefoot.cli.decoding import decoder
        from littlefoot.runtime import recognizer
        from littlefoot.transcript.conversation import EACH, transcribe_each
        from littlefoot.transcript.style import find_punctuate, restyle

        vad.create(self.vad)
        punctuate = find_punctuate(self.punctuate) if self.punctuate else None
        loaded = recognizer.load(
            self.model,
            self.engine,
            self.threads,
            self.precision,
            self.language,
            self.layers,
            bits=self.bits,
        )
        search = decoder(loaded, self.beam, self.lm, self.alpha, self.beta, self.hotwords, self.lexicon)

        def recognise(name: str, heard: Heard | None) -> Transcription:
            return restyle(as_recognised(name, heard), self.case, punctuate)

        def as_recognised(name: str, heard: Heard | None) -> Transcription:
            with ExitStack() as stack:
                source: reading.Source = name
                if name == STANDARD_INPUT:
                    source = stack.enter_context(reading.standard_input(sys.stdin.buffer))

                def transcribe(source: reading.Source) -> Transcription:
                    return loaded.transcribe(source, search, self.alternatives, self.vad, heard)

                if self.channel == EACH:
                    return transcribe_each(transcribe, source, self.track)
                if (self.channel, self.track) != ("auto", None):
                    source = reading.selected(source, self.channel, self.track)
                return transcribe(source)

        return recognise


def run(
    settings: RecognizerSettings, names: list[str], jobs: int, progress: Progress | None
) -> Iterator[Outcome]:
    """Transcribe recordings, in order with one job, otherwise in the order in which they finish.

    Raises LittlefootError if the model cannot be loaded. The error of a single recording is its outcome.
    """
    jobs = min(jobs, len(names))
    if jobs <= 1:
        yield from _in_turn(settings, names, progress)
    else:
        yield from _side_by_side(settings, names, jobs, progress)


def _in_turn(settings: RecognizerSettings, names: list[str], progress: Progress | None) -> Iterator[Outcome]:
    recognise = settings.load()
    for index, name in enumerate(names):
        yield index, _outcome(recognise, index, name, progress)


def _outcome(
    recognise: Recognise, index: int, name: str, progress: Progress | None
) -> Transcription | LittlefootError:
    try:
        return recognise(name, None if progress is None else lambda seconds, _: progress(index, seconds))
    except LittlefootError as error:
        return error


# Several processes, because decoding is Python, and threads of one process would wait for each other.


def _side_by_side(
    settings: RecognizerSettings, names: list[str], jobs: int, progress: Progress | None
) -> Iterator[Outcome]:
    threads = settings.threads or max(1, machine.threads() // jobs)
    settings = replace(settings, threads=threads)
    settings.load()  # errors occur here, and the processes find the model compiled
    context = multiprocessing.get_context("spawn")
    waiting = list(enumerate(names))[::-1]
    while waiting:
        heard = context.SimpleQueue() if progress is not None else None
        running: dict[futures.Future[Any], tuple[int, str]] = {}
        pool = futures.ProcessPoolExecutor(jobs, context, _begin, (settings, heard))
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    index, name = waiting.pop()
                    with deaf_to_interrupts():  # a process may be started
                        running[pool.submit(_work, index, name)] = (index, name)
                done, _ = futures.wait(running, _POLL_SECONDS, futures.FIRST_COMPLETED)
                while heard is not None and progress is not None and not heard.empty():
                    progress(*heard.get())
                for future in done:
                    index, name = running.pop(future)
                    yield index, future.result()
        except BrokenProcessPool:
            yield index, _died(name)
            for index, name in running.values():
                yield index, _died(name)
        finally:
            if running:  # interrupted or broken: no result is awaited
                for process in multiprocessing.active_children():
                    process.terminate()
            pool.shutdown(cancel_futures=True)


def _died(name: str) -> LittlefootError:
    return LittlefootError(
        f"{name}: the process that transcribed it ended, perhaps for lack of memory: try again with fewer"
        " --jobs"
    )


_recognise: Recognise
_heard: Any = None


def _begin(settings: RecognizerSettings, heard: Any) -> None:
    global _recognise, _heard
    follow_parent()
    _recognise, _heard = settings.load(), heard


def _work(index: int, name: str) -> Transcription | LittlefootError:
    progress = None if _heard is None else lambda index, seconds: _heard.put((index, seconds))
    return _outcome(_recognise, index, name, progress)
