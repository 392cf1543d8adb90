"""Transcribe many recordings, one after the other in this process or in parallel in several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from littlefoot.errors import LittlefootError
from littlefoot.system import machine
from littlefoot.system.processes import deaf_to_interrupts, follow_parent

if TYPE_CHECKING:
    from littlefoot.runtime.transcriber import Recognise, Transcriber
    from littlefoot.transcript.results import Transcription

Progress = Callable[[int, float], None]
"""Callback with the index of a recording and the seconds of it that were processed."""
Outcome = tuple[int, "Transcription | LittlefootError"]
"""The index of a recording and its transcription or error."""

_POLL_SECONDS = 0.2


def run(
    transcriber: Transcriber, names: list[str], jobs: int, progress: Progress | None
) -> Iterator[Outcome]:
    """Transcribe recordings, in order with one job, otherwise in the order in which they finish.

    Raises LittlefootError if the model cannot be loaded. The error of a single recording is its outcome.
    """
    jobs = min(jobs, len(names))
    if jobs <= 1:
        yield from _in_turn(transcriber, names, progress)
    else:
        yield from _side_by_side(transcriber, names, jobs, progress)


def _in_turn(transcriber: Transcriber, names: list[str], progress: Progress | None) -> Iterator[Outcome]:
    recognise = transcriber.load()
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
    transcriber: Transcriber, names: list[str], jobs: int, progress: Progress | None
) -> Iterator[Outcome]:
    import multiprocessing
    from concurrent import futures
    from concurrent.futures.process import BrokenProcessPool

    specification = transcriber.specification
    threads = specification.options.threads or max(1, machine.threads() // jobs)
    loading = replace(specification.options, threads=threads)
    transcriber = replace(transcriber, specification=replace(specification, options=loading))
    transcriber.load()  # errors occur here, and the processes find the model compiled
    context = multiprocessing.get_context("spawn")
    waiting = list(enumerate(names))[::-1]
    while waiting:
        heard = context.SimpleQueue() if progress is not None else None
        running: dict[futures.Future[Any], tuple[int, str]] = {}
        pool = futures.ProcessPoolExecutor(jobs, context, _begin, (transcriber, heard))
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


def _begin(transcriber: Transcriber, heard: Any) -> None:
    global _recognise, _heard
    follow_parent()
    _recognise, _heard = transcriber.load(), heard


def _work(index: int, name: str) -> Transcription | LittlefootError:
    progress = None if _heard is None else lambda index, seconds: _heard.put((index, seconds))
    return _outcome(_recognise, index, name, progress)
