"""``littlefoot demo``: the bundled English model on the sample clips, in 8 bits and with a language model."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from littlefoot.audio.opened import Waveform

MODEL = "littlefoot-en"
LM = "en"


@dataclass(frozen=True)
class Row:
    """One way to recognise the clips, and what came of it."""

    name: str
    texts: list[str]
    megabytes: float
    """Size of the model's files on the disk, in 10^6 bytes."""
    speed: float
    """Seconds of audio recognised per second."""


def demo() -> None:
    """Quantize the bundled English model to 8 bits, and transcribe the sample clips with both and with an LM.

    \b
    Example:
      littlefoot demo
    """
    from littlefoot import artifact
    from littlefoot.artifact import checkpoint, sizes
    from littlefoot.audio import manifest, reading
    from littlefoot.compress.calibration import load_clips, recordings
    from littlefoot.compress.quantize import QuantizeConfig, quantize
    from littlefoot.evaluate.metrics import evaluate

    samples = checkpoint.BUNDLED / "samples"
    original = checkpoint.load(MODEL)
    typer.echo(f"quantizing {MODEL} to 8 bits ...", err=True)
    made, _ = quantize(original, load_clips(recordings([samples]), original), QuantizeConfig())
    utterances = manifest.read(samples)
    clips = [reading.read(utterance.path) for utterance in utterances]
    with tempfile.TemporaryDirectory() as directory:
        small = Path(directory) / "int8"
        artifact.save(made, small)
        megabytes = [sizes.megabytes(folder) for folder in (checkpoint.BUNDLED / MODEL, small)]
        rows = [
            _recognised(MODEL, MODEL, clips, megabytes[0]),
            _recognised(f"{MODEL}, 8 bits", small, clips, megabytes[1]),
            _recognised(f"8 bits, --lm {LM}", small, clips, megabytes[1], LM),
        ]
    references = [utterance.text for utterance in utterances]
    for index, utterance in enumerate(utterances):
        typer.echo(f"\n{utterance.path.name}: {utterance.text}")
        for row in rows:
            typer.echo(f"  {row.name:<24} {row.texts[index]}")
    typer.echo(f"\n{'model':<26} {'MB':>6} {'x real time':>12} {'word errors':>12}")
    for row in rows:
        wer = evaluate(references, row.texts).wer
        typer.echo(f"{row.name:<26} {row.megabytes:6.1f} {row.speed:12.0f} {100 * wer:10.1f} %")


def _recognised(
    name: str, source: str | Path, clips: list[Waveform], megabytes: float, lm: str | None = None
) -> Row:
    from littlefoot.audio import SAMPLE_RATE
    from littlefoot.runtime.recognizer import load

    recognizer = load(source)
    decoder = recognizer.decoder(lm=lm) if lm else None
    recognizer.transcribe(clips[0], decoder)  # the first run allocates
    start = time.perf_counter()
    texts = [recognizer.transcribe(clip, decoder).text for clip in clips]
    elapsed = time.perf_counter() - start
    return Row(name, texts, megabytes, sum(map(len, clips)) / SAMPLE_RATE / elapsed)
