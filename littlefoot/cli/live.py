"""``littlefoot transcribe --stream``: transcribe a recording, standard input or a microphone live."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from littlefoot.audio import SAMPLE_RATE
from littlefoot.cli.progress import tell
from littlefoot.errors import AudioError, MissingExtraError

if TYPE_CHECKING:
    from littlefoot.decode.beam import BeamDecoder
    from littlefoot.runtime.recognizer import Recognizer
    from littlefoot.runtime.stream import Partial, Stream

BLOCK_SECONDS = 0.1
MICROPHONE = "mic"


def transcribe(
    loaded: Recognizer, source: str, form: str, chunk_ms: float | None, decoder: BeamDecoder | None
) -> None:
    """Print every segment when it ends and, on a terminal, the current text."""
    step = loaded.config.chunk_step
    shortest_ms = step * loaded.config.feature_frame_ms
    chunk = None if chunk_ms is None else max(1, round(chunk_ms / shortest_ms)) * step
    stream = loaded.stream(chunk, decoder)
    if not loaded.streams:
        tell(
            "this model was not made for streaming: it is simulated by windows that overlap "
            f"({stream.latency_seconds:g} s late, several times the work)"
        )
    try:
        for block in _blocks(source):
            _show(stream.feed(block), form)
    except KeyboardInterrupt:  # how a microphone ends
        pass
    finally:
        _end(stream, form)


def _end(stream: Stream, form: str) -> None:
    _show(stream.finish(), form)
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")


def _show(partial: Partial, form: str) -> None:
    terminal = sys.stderr.isatty()
    if terminal and partial.final:
        sys.stderr.write("\r\033[K")
    for segment in partial.final:
        line = json.dumps(asdict(segment)) if form == "json" else segment.text
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    if terminal:
        sys.stderr.write(f"\r\033[K{partial.text[-100:]}")
        sys.stderr.flush()


def _blocks(source: str) -> Iterator[Any]:
    """Samples (N,), as they come."""
    from littlefoot.audio import reading

    if source == "-":
        return _standard_input()
    if source == MICROPHONE:
        return _microphone()
    return reading.blocks(source, BLOCK_SECONDS)


def _standard_input() -> Iterator[Any]:
    """Raw 16-bit PCM. Raises AudioError for what is obviously something else."""
    from littlefoot.audio import formats, pcm

    size, left, first = 2 * round(BLOCK_SECONDS * SAMPLE_RATE), b"", True
    while data := os.read(sys.stdin.fileno(), size):
        data = left + data
        if first and formats.is_file(data):
            raise AudioError(f"standard input is not raw PCM: {formats.CONVERT_TO_PCM}")
        first = False
        whole = len(data) - len(data) % 2
        left = data[whole:]
        yield pcm.from_bytes(data[:whole])


def _microphone() -> Iterator[Any]:
    import queue

    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: PortAudio is missing
        raise MissingExtraError("the microphone", "sounddevice", "mic") from error
    blocks: queue.Queue[Any] = queue.Queue()
    try:
        with sounddevice.InputStream(
            SAMPLE_RATE,
            round(BLOCK_SECONDS * SAMPLE_RATE),
            channels=1,
            dtype="float32",
            callback=lambda data, *_: blocks.put(data[:, 0].copy()),
        ):
            tell("listening; Ctrl-C ends")
            while True:
                yield blocks.get()
    except sounddevice.PortAudioError as error:
        raise AudioError(f"the microphone cannot be opened: {error}") from error
