"""``littlefoot transcribe``: turn recordings into text, subtitles or tables."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from littlefoot.cli import inputs, options
from littlefoot.errors import ConfigError, LittlefootError

if TYPE_CHECKING:
    from littlefoot.cli.batch import Outcome, RecognizerSettings
    from littlefoot.transcript.results import Transcription
    from littlefoot.transcript.subtitles import Layout

EXTENSIONS = {
    **{"text": ".txt", "json": ".json", "srt": ".srt"},
    **{"vtt": ".vtt", "tsv": ".tsv", "ctm": ".ctm", "textgrid": ".TextGrid"},
}
ONE_EACH = ("srt", "vtt", "tsv", "textgrid")
"""Formats of which one file can contain only one transcription."""


def transcribe(
    model: options.Model,
    audio: Annotated[
        list[str], typer.Argument(help="Recordings, folders of them, patterns; - reads standard input.")
    ],
    form: Annotated[
        str, typer.Option("--format", help="Format: text, json, srt, vtt, tsv, ctm or textgrid.")
    ] = "text",
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Write one file per recording to this folder.")
    ] = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Skip recordings whose output is newer than they are.")
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Number of processes, each with one recording at a time.")
    ] = 1,
    vad: options.Vad = None,
    line_length: Annotated[
        int, typer.Option("--line-length", help="Characters in a line of subtitles.")
    ] = 42,
    lines: Annotated[int, typer.Option("--lines", help="Lines of subtitles shown at once.")] = 2,
    cue_seconds: Annotated[
        float, typer.Option("--cue-seconds", help="Longest time that subtitles are shown.")
    ] = 7.0,
    channel: Annotated[
        str,
        typer.Option(
            "--channel",
            help="Channel to use: left, right or a number; each: one speaker per channel.",
        ),
    ] = "auto",
    track: Annotated[int | None, typer.Option("--track", min=1, help="Audio track to use, from 1.")] = None,
    engine: options.Engine = "auto",
    threads: options.Threads = None,
    precision: options.Precision = "auto",
    language: options.Language = None,
    layers: options.Layers = None,
    bits: options.Bits = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Transcribe live; - reads raw PCM, mic the microphone.")
    ] = False,
    chunk_ms: Annotated[
        float | None, typer.Option("--chunk-ms", help="With --stream: length of a chunk in milliseconds.")
    ] = None,
    beam: options.Beam = None,
    lm: options.LanguageModel = None,
    alpha: options.Alpha = None,
    beta: options.Beta = None,
    hotwords: options.HotWords = None,
    lexicon: options.Lexicon = None,
    alternatives: Annotated[
        int, typer.Option("--alternatives", min=0, help="Number of best texts that JSON contains.")
    ] = 0,
    case: Annotated[
        str | None,
        typer.Option("--case", help="Case of the text: lower, upper, or sentence with full stops at pauses."),
    ] = None,
    punctuate: Annotated[
        str | None,
        typer.Option("--punctuate", help="Punctuation model, a Python function: package.module:function."),
    ] = None,
) -> None:
    """Transcribe recordings of any length.

    With several recordings each line of text begins with the file's name and a tab, and JSON has one object
    per line. If a recording fails, it is reported, the others are transcribed, and the exit code is 1.

    Standard input is an audio file or raw PCM (16 kHz, mono, 16 bits, little-endian). With --stream it must
    be raw PCM; each segment is printed as soon as it ends, and a terminal also shows the current text.

    \b
    Examples:
      littlefoot transcribe littlefoot-en talk.wav --format srt
      littlefoot transcribe MODEL podcast/ --format srt -o subtitles --skip-existing
      littlefoot transcribe littlefoot-en-live mic --stream
    """
    from littlefoot.cli.decoding import decoder
    from littlefoot.decode.beam import BeamConfig
    from littlefoot.runtime import recognizer

    if chunk_ms is not None and not stream:
        raise ConfigError("--chunk-ms goes with --stream")
    if chunk_ms is not None and chunk_ms <= 0:
        raise ConfigError(f"--chunk-ms must be greater than 0, not {chunk_ms:g}")
    if stream and (case is not None or punctuate is not None):
        raise ConfigError("--stream goes without --case and --punctuate: they need the whole recording")
    if stream:
        if len(audio) > 1 or output_dir is not None or form not in ("text", "json"):
            raise ConfigError("--stream takes one recording, and prints it as text or json")
        if alternatives:
            raise ConfigError("--stream has no place for --alternatives: leave it out")
        if vad is not None or jobs > 1 or skip_existing or channel != "auto" or track is not None:
            raise ConfigError("--stream goes without --vad, --jobs, --skip-existing, --channel and --track")
        from littlefoot.cli import live

        loaded = recognizer.load(model, engine, threads, precision, language, layers, bits=bits)
        live.transcribe(
            loaded, audio[0], form, chunk_ms, decoder(loaded, beam, lm, alpha, beta, hotwords, lexicon)
        )
        return
    if form not in EXTENSIONS:
        raise ConfigError(f"--format {form} is unknown: use one of {', '.join(EXTENSIONS)}")
    if alternatives and form != "json":
        raise ConfigError(f"--alternatives needs --format json: {form} has no place for them")
    if skip_existing and output_dir is None:
        raise ConfigError("--skip-existing needs --output-dir: nothing else shows what is done")
    from littlefoot.audio.channels import Choice
    from littlefoot.transcript.conversation import EACH
    from littlefoot.transcript.style import check
    from littlefoot.transcript.subtitles import Layout

    check(case, punctuate is not None)
    Choice("auto" if channel == EACH else channel, track)  # refused now, not at every recording
    if channel == EACH and alternatives:
        raise ConfigError("--channel each has no place for --alternatives: leave one of them out")
    layout = Layout(line_length, lines, cue_seconds)
    recordings, problems = inputs.expand(audio)
    if len(recordings) > 1 and form in ONE_EACH and output_dir is None:
        raise ConfigError(f"several recordings as {form} need --output-dir: each makes a file of its own")
    if jobs > 1 and len(recordings) > 1 and any(each.name == inputs.STANDARD_INPUT for each in recordings):
        raise ConfigError("- goes without --jobs: one process only reads standard input")
    if output_dir is not None:
        inputs.refuse_collisions(recordings, EXTENSIONS[form])
    from littlefoot.cli.batch import RecognizerSettings

    if alternatives and beam is None:
        beam = BeamConfig.beam
    vad = recognizer.VAD if vad is None else vad
    settings = RecognizerSettings(
        model,
        engine,
        threads,
        precision,
        language,
        layers,
        vad,
        beam,
        lm,
        alpha,
        beta,
        hotwords,
        lexicon,
        alternatives,
        bits,
        channel,
        track,
        case,
        punctuate,
    )
    output = _Output(form, layout, output_dir, named=len(recordings) > 1)
    for problem in problems:
        typer.echo(f"littlefoot: {problem}", err=True)
    failed = len(problems) + _transcribe(settings, recordings, output, jobs, skip_existing, len(problems))
    if failed:
        raise typer.Exit(1)


def _transcribe(
    settings: RecognizerSettings,
    recordings: list[inputs.Recording],
    output: _Output,
    jobs: int,
    skip_existing: bool,
    problems: int,
) -> int:
    """Transcribe, write the results and print a summary. Returns the number of failures."""
    from littlefoot.cli import batch, progress

    output.prepare()
    todo = [each for each in recordings if not (skip_existing and output.is_done(each))]
    names = [each.name for each in todo]
    begin, seconds, done, failed = time.monotonic(), 0.0, 0, 0
    try:
        with progress.recordings(names) as meter:
            outcomes: Iterable[Outcome] = ()
            if todo:
                outcomes = batch.run(settings, names, jobs, meter.heard)
            for index, result in outcomes if output.directory else _ordered(outcomes):
                if isinstance(result, LittlefootError):
                    failed += 1
                    typer.echo(f"littlefoot: {result}", err=True)
                else:
                    output.write(result, todo[index])
                    done += 1
                    seconds += result.duration
                meter.ended(index)
    finally:
        skipped = len(recordings) - len(todo)
        several = len(recordings) + problems > 1 or output.directory is not None
        if several and done + failed + skipped:
            _sum_up(done, seconds, time.monotonic() - begin, failed + problems, skipped)
    return failed


def _ordered(outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Yield outcomes by index, each as soon as those before it are there."""
    waiting: dict[int, Outcome] = {}
    following = 0
    for outcome in outcomes:
        waiting[outcome[0]] = outcome
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def _sum_up(done: int, seconds: float, took: float, failed: int, skipped: int) -> None:
    parts = [f"{done} recordings" if done != 1 else "1 recording"]
    if done:
        length = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
        parts.append(f"{length} in {took:.0f} s, {seconds / max(took, 1e-3):.0f} x real time")
    if skipped:
        parts.append(f"{skipped} already done")
    if failed:
        parts.append(f"{failed} failed")
    typer.echo(f"littlefoot: {'; '.join(parts)}", err=True)


@dataclass(frozen=True)
class _Output:
    """Destination of transcriptions."""

    form: str
    layout: Layout
    directory: Path | None
    """Folder of the output; None: standard output."""
    named: bool
    """True if there are several recordings."""

    def prepare(self) -> None:
        """Check at once, not after hours, that the directory can be written to. Raises LittlefootError."""
        if self.directory is None:
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.directory):
                pass
        except OSError as error:
            raise LittlefootError(
                f"--output-dir {self.directory}: cannot be written to ({error.strerror}): choose another"
            ) from error

    def is_done(self, recording: inputs.Recording) -> bool:
        """Return True if the output file exists and is not older than the recording."""
        try:
            return self._target(recording).stat().st_mtime_ns >= Path(recording.name).stat().st_mtime_ns
        except (OSError, ValueError):
            return False

    def write(self, result: Transcription, recording: inputs.Recording) -> None:
        """Print, or write a file that is complete or absent. Raises LittlefootError."""
        from littlefoot.system import atomic
        from littlefoot.transcript.writers import WRITERS

        written = WRITERS[self.form](result, recording.name, self.layout)
        if self.directory is None:
            typer.echo(
                f"{recording.name}\t{written}" if self.named and self.form == "text" else written, nl=False
            )
            return
        target = self._target(recording)
        try:
            with atomic.file(target) as temporary:
                temporary.write_text(written, encoding="utf-8")
        except OSError as error:
            raise LittlefootError(
                f"{target}: cannot be written ({error.strerror}): what was done before is there; make room"
                " or choose another --output-dir, and continue with --skip-existing"
            ) from error

    def _target(self, recording: inputs.Recording) -> Path:
        assert self.directory is not None
        return self.directory / f"{recording.output}{EXTENSIONS[self.form]}"
