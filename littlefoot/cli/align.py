"""``littlefoot align``: find the times of a known text."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from littlefoot.cli import options
from littlefoot.errors import ConfigError
from littlefoot.runtime.specification import LoadOptions, Specification
from littlefoot.runtime.transcriber import STANDARD_INPUT
from littlefoot.system.outputs import check_file, writing
from littlefoot.transcript.subtitles import Layout

FORMATS = ("json", "srt", "vtt", "textgrid", "ctm", "tsv")
_TEXT_SUFFIXES = (".txt", ".text", ".md", ".lab", ".trn")


@dataclass(frozen=True)
class Reading:
    """Options of reading the text."""

    stars: Annotated[
        str,
        typer.Option(
            "--stars",
            help="Speech that the text lacks: written (where it has *), ends (before and after it too) or"
            " sentences (between them too).",
        ),
    ] = "written"
    sentences: Annotated[
        str, typer.Option("--sentences", help="What ends a sentence: marks (.?! and blank lines) or lines.")
    ] = "marks"


@options.grouped
def align(
    model: options.Model,
    audio: Annotated[str, typer.Argument(help="A recording of any length; - reads standard input.")],
    text: Annotated[str, typer.Argument(help="The text, or a file of it in UTF-8.")],
    form: Annotated[
        str, typer.Option("--format", help="Format: json, srt, vtt, textgrid, ctm or tsv.")
    ] = "json",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
    channel: Annotated[str, typer.Option("--channel", help="Channel: left, right or a number.")] = "auto",
    track: Annotated[int | None, typer.Option("--track", min=1, help="Audio track to use, from 1.")] = None,
    *,
    how: Reading,
    layout: Layout,
    loading: LoadOptions,
) -> None:
    """Find when the words, characters and sentences of a known text are spoken.

    Numbers and punctuation stay in the text. What the model's alphabet lacks, such as digits, gets the time
    between its neighbours, and so does a word * for speech that the text lacks. A word's confidence is low
    where the recording has another one.

    \b
    Examples:
      littlefoot align littlefoot-en talk.wav talk.txt --format srt -o talk.srt
      littlefoot align littlefoot-en digits.wav "seven * two" --format ctm
    """
    from littlefoot.audio import reading
    from littlefoot.audio.channels import Choice
    from littlefoot.cli import progress
    from littlefoot.runtime import recognizer
    from littlefoot.system import atomic
    from littlefoot.transcript.writers import WRITERS

    if form not in FORMATS:
        raise ConfigError(f"--format {form} is unknown: use one of {', '.join(FORMATS)}")
    choice = Choice(channel, track)
    spoken = _text(text)
    if output is not None:
        check_file(output)
    loaded = recognizer.load_with(Specification(model, loading))
    with ExitStack() as stack:
        source: reading.Source = audio
        if audio == STANDARD_INPUT:
            source = stack.enter_context(reading.standard_input(sys.stdin.buffer))
        if choice != Choice():
            source = reading.selected(source, channel, track)
        meter = stack.enter_context(progress.recordings([audio]))
        heard = None if meter is None else lambda seconds, _: meter.heard(0, seconds)
        result = loaded.align(source, spoken, how.stars, how.sentences, heard)
    written = WRITERS[form](result, audio, layout)
    if output is None:
        typer.echo(written, nl=False)
        return
    with writing(output), atomic.file(output) as temporary:
        temporary.write_text(written, encoding="utf-8")


def _text(argument: str) -> str:
    """Return the text that an argument is, or that of the file that it names."""
    from littlefoot.decode.known_text import read_text

    try:
        is_file = Path(argument).is_file()
    except (OSError, ValueError):  # too long for a path, or with a zero byte
        is_file = False
    if is_file or Path(argument).suffix.lower() in _TEXT_SUFFIXES:
        return read_text(argument)
    return argument
