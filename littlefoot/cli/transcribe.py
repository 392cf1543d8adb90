"""``littlefoot transcribe``: recordings to text, JSON or subtitles."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from littlefoot.cli import options
from littlefoot.errors import ConfigError, LittlefootError

if TYPE_CHECKING:
    from littlefoot.results import Transcription

EXTENSIONS = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt"}


def transcribe(
    model: options.Model,
    audio: Annotated[list[str], typer.Argument(help="Recordings; - reads one from standard input.")],
    form: Annotated[str, typer.Option("--format", help="text, json, srt or vtt.")] = "text",
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", help="Write a file for each recording here.")
    ] = None,
    engine: options.Engine = "auto",
    threads: options.Threads = None,
    precision: options.Precision = "auto",
    language: options.Language = None,
    layers: options.Layers = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Say what is heard as it comes; - is raw PCM, mic a microphone.")
    ] = False,
    chunk_ms: Annotated[
        float | None, typer.Option("--chunk-ms", help="With --stream: how much is decided at once.")
    ] = None,
    beam: options.Beam = None,
    lm: options.LanguageModel = None,
    alpha: options.Alpha = None,
    beta: options.Beta = None,
    hotwords: options.HotWords = None,
    lexicon: options.Lexicon = None,
    alternatives: Annotated[
        int, typer.Option("--alternatives", min=0, help="How many of the best texts JSON holds besides.")
    ] = 0,
) -> None:
    """Transcribe recordings of any length.

    Several recordings: text lines begin with the file's name and a tab, JSON is one object on each line.
    A recording that fails is reported, the others are done, and the exit code is 1.

    With --stream a line is printed as soon as a segment ends, and on a terminal what is being said. Standard
    input is then raw PCM: 16 kHz, mono, 16 bits, little-endian.
    """
    from littlefoot.cli.decoding import decoder
    from littlefoot.decode.beam import BeamConfig
    from littlefoot.runtime import recognizer

    if chunk_ms is not None and not stream:
        raise ConfigError("--chunk-ms goes with --stream")
    if stream:
        if len(audio) > 1 or output_dir is not None or form not in ("text", "json"):
            raise ConfigError("--stream takes one recording, and prints it as text or json")
        if alternatives:
            raise ConfigError("--stream has no place for --alternatives: leave it out")
        from littlefoot.cli import live

        loaded = recognizer.load(model, engine, threads, precision, language, layers)
        live.transcribe(
            loaded, audio[0], form, chunk_ms, decoder(loaded, beam, lm, alpha, beta, hotwords, lexicon)
        )
        return
    if form not in EXTENSIONS:
        raise ConfigError(f"--format {form} is unknown: use one of {', '.join(EXTENSIONS)}")
    if len(audio) > 1 and form in ("srt", "vtt") and output_dir is None:
        raise ConfigError(f"several recordings as {form} need --output-dir: each makes a file of its own")
    if output_dir is not None:
        _refuse_collisions(audio, form)
    if alternatives and form != "json":
        raise ConfigError(f"--alternatives needs --format json: {form} has no place for them")
    loaded = recognizer.load(model, engine, threads, precision, language, layers)
    if alternatives and beam is None:
        beam = BeamConfig.beam
    search = decoder(loaded, beam, lm, alpha, beta, hotwords, lexicon)
    if output_dir is not None:
        output_dir.mkdir(parents=True, exist_ok=True)
    failures = 0
    for name in audio:
        try:
            result = loaded.transcribe(sys.stdin.buffer.read() if name == "-" else name, search, alternatives)
            _write(result, name, form, output_dir, named=len(audio) > 1)
        except LittlefootError as error:
            failures += 1
            typer.echo(f"littlefoot: {error}", err=True)
    if failures:
        if len(audio) > 1:
            typer.echo(f"littlefoot: {failures} of {len(audio)} recordings failed", err=True)
        raise typer.Exit(1)


def _refuse_collisions(audio: list[str], form: str) -> None:
    """One transcription must not replace another."""
    written: dict[str, str] = {}
    for name in audio:
        target = _file_name(name, form)
        if target in written:
            raise ConfigError(
                f"{written[target]} and {name} would both be written to {target}: "
                "transcribe them into different directories"
            )
        written[target] = name


def _file_name(name: str, form: str) -> str:
    return ("stdin" if name == "-" else Path(name).stem) + EXTENSIONS[form]


def _write(result: Transcription, name: str, form: str, output_dir: Path | None, named: bool) -> None:
    from littlefoot.writers import WRITERS

    written = WRITERS[form](result, name)
    if output_dir is not None:
        (output_dir / _file_name(name, form)).write_text(written, encoding="utf-8")
    elif named and form == "text":
        typer.echo(f"{name}\t{written}", nl=False)
    else:
        typer.echo(written, nl=False)
