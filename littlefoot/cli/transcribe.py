"""``littlefoot transcribe``: turn recordings into text, subtitles or tables."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from littlefoot.cli import inputs, options
from littlefoot.cli.progress import tell
from littlefoot.errors import ConfigError, LittlefootError
from littlefoot.runtime.specification import LoadOptions, Specification
from littlefoot.runtime.transcriber import STANDARD_INPUT, DecodingOptions, RecordingOptions, Transcriber
from littlefoot.system.outputs import check_folder, writing
from littlefoot.transcript.subtitles import Layout

if TYPE_CHECKING:
    from littlefoot.cli.batch import Outcome
    from littlefoot.transcript.results import Transcription

EXTENSIONS = {
    **{"text": ".txt", "json": ".json", "srt": ".srt"},
    **{"vtt": ".vtt", "tsv": ".tsv", "ctm": ".ctm", "textgrid": ".TextGrid"},
}
ONE_EACH = ("srt", "vtt", "tsv", "textgrid")
"""Formats of which one file can contain only one transcription."""


@dataclass(frozen=True)
class Output:
    """Options of the output: its form and its place."""

    form: Annotated[
        str, typer.Option("--format", help="Format: text, json, srt, vtt, tsv, ctm or textgrid.")
    ] = "text"
    directory: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Write one file per recording to this folder.")
    ] = None
    """Folder of the output; None for standard output."""
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Skip recordings whose output is newer than they are.")
    ] = False


@options.grouped
def transcribe(
    model: options.Model,
    audio: Annotated[
        list[str], typer.Argument(help="Recordings, folders of them, patterns; - reads standard input.")
    ],
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Number of processes, each with one recording at a time.")
    ] = 1,
    stream: Annotated[
        bool, typer.Option("--stream", help="Transcribe live; - reads raw PCM, mic the microphone.")
    ] = False,
    chunk_ms: Annotated[
        float | None, typer.Option("--chunk-ms", help="With --stream: length of a chunk in milliseconds.")
    ] = None,
    *,
    output: Output,
    layout: Layout,
    reading: RecordingOptions,
    loading: LoadOptions,
    decoding: DecodingOptions,
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
      littlefoot transcribe littlefoot-en mic --stream
    """
    from littlefoot.audio.channels import Choice
    from littlefoot.decode.fusion import BEAM
    from littlefoot.transcript.conversation import EACH
    from littlefoot.transcript.style import check

    specification = Specification(model, loading)
    form = output.form
    if chunk_ms is not None and not stream:
        raise ConfigError("--chunk-ms needs --stream")
    if chunk_ms is not None and not 0 < chunk_ms < math.inf:
        raise ConfigError(f"--chunk-ms must be greater than 0, not {chunk_ms:g}")
    if stream and (reading.case is not None or reading.punctuate is not None):
        raise ConfigError("--stream excludes --case and --punctuate: they need the whole recording")
    if stream:
        if len(audio) > 1 or output.directory is not None or form not in ("text", "json"):
            raise ConfigError("--stream takes one recording, and prints it as text or json")
        if reading.alternatives:
            raise ConfigError("--stream has no place for --alternatives: leave it out")
        if reading != RecordingOptions() or jobs > 1 or output.skip_existing:
            raise ConfigError("--stream excludes --vad, --jobs, --skip-existing, --channel and --track")
        from littlefoot.cli import live
        from littlefoot.runtime import recognizer

        loaded = recognizer.load_with(specification)
        live.transcribe(loaded, audio[0], form, chunk_ms, decoding.decoder(loaded))
        return
    if form not in EXTENSIONS:
        raise ConfigError(f"--format {form} is unknown: use one of {', '.join(EXTENSIONS)}")
    if reading.alternatives and form != "json":
        raise ConfigError(f"--alternatives needs --format json: {form} cannot contain them")
    if output.skip_existing and output.directory is None:
        raise ConfigError("--skip-existing needs --output-dir: without it, finished recordings are not known")
    check(reading.case, reading.punctuate is not None)
    Choice("auto" if reading.channel == EACH else reading.channel, reading.track)  # refused now, not later
    if reading.channel == EACH and reading.alternatives:
        raise ConfigError("--channel each has no place for --alternatives: leave one of them out")
    recordings, problems = inputs.expand(audio)
    if len(recordings) > 1 and form in ONE_EACH and output.directory is None:
        raise ConfigError(f"several recordings as {form} need --output-dir: each makes a file of its own")
    if jobs > 1 and len(recordings) > 1 and any(each.name == STANDARD_INPUT for each in recordings):
        raise ConfigError("- excludes --jobs: only one process can read standard input")
    if output.directory is not None:
        inputs.refuse_collisions(recordings, EXTENSIONS[form])
    if reading.alternatives and not decoding.searches:
        decoding = replace(decoding, beam=BEAM)
    transcriber = Transcriber(specification, decoding, reading)
    writer = _Writer(output, layout, named=len(recordings) > 1)
    for problem in problems:
        tell(problem)
    failed = len(problems) + _transcribe(transcriber, recordings, writer, jobs, len(problems))
    if failed:
        raise typer.Exit(1)


def _transcribe(
    transcriber: Transcriber,
    recordings: list[inputs.Recording],
    writer: _Writer,
    jobs: int,
    problems: int,
) -> int:
    """Transcribe, write the results and print a summary. Returns the number of failures."""
    from littlefoot.cli import batch, progress

    output = writer.output
    writer.prepare()
    todo = [each for each in recordings if not (output.skip_existing and writer.is_done(each))]
    names = [each.name for each in todo]
    begin, seconds, done, failed = time.monotonic(), 0.0, 0, 0
    try:
        with progress.recordings(names) as meter:
            outcomes: Iterable[Outcome] = ()
            if todo:
                outcomes = batch.run(transcriber, names, jobs, meter.heard)
            for index, result in outcomes if output.directory else _ordered(outcomes):
                if isinstance(result, LittlefootError):
                    failed += 1
                    tell(result)
                else:
                    writer.write(result, todo[index])
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
    tell(f"{'; '.join(parts)}")


@dataclass(frozen=True)
class _Writer:
    """Write transcriptions to their destination."""

    output: Output
    layout: Layout
    named: bool
    """True if there are several recordings."""

    def prepare(self) -> None:
        """Check at once, not after hours, that the directory can be written to. Raises LittlefootError."""
        if self.output.directory is not None:
            check_folder(self.output.directory, "choose another --output-dir")

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

        written = WRITERS[self.output.form](result, recording.name, self.layout)
        if self.output.directory is None:
            typer.echo(
                f"{recording.name}\t{written}" if self.named and self.output.form == "text" else written,
                nl=False,
            )
            return
        target = self._target(recording)
        remedy = (
            "what was done before is there; make room or choose another --output-dir, and continue with"
            " --skip-existing"
        )
        with writing(target, remedy), atomic.file(target) as temporary:
            temporary.write_text(written, encoding="utf-8")

    def _target(self, recording: inputs.Recording) -> Path:
        assert self.output.directory is not None
        return self.output.directory / f"{recording.output}{EXTENSIONS[self.output.form]}"
