"""``littlefoot demo``: quantize the bundled model and compare the two on the bundled clips."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import typer

MODEL = "littlefoot-en"


def demo() -> None:
    """Quantize the bundled English model to 8 bits and transcribe the sample clips with both.

    \b
    Example:
      littlefoot demo
    """
    from littlefoot import artifact
    from littlefoot.artifact import checkpoint, weights_file_bytes
    from littlefoot.audio import SAMPLE_RATE, manifest, reading
    from littlefoot.compress.calibration import load_clips, recordings
    from littlefoot.compress.quantize import QuantizeConfig, quantize
    from littlefoot.evaluate.metrics import evaluate
    from littlefoot.runtime.recognizer import load

    samples = checkpoint.BUNDLED / "samples"
    original = checkpoint.load(MODEL)
    typer.echo(f"quantizing {MODEL} to 8 bits ...", err=True)
    made, _ = quantize(original, load_clips(recordings([samples]), original), QuantizeConfig())
    utterances = manifest.read(samples)
    clips = [reading.read(utterance.path) for utterance in utterances]
    seconds = sum(map(len, clips)) / SAMPLE_RATE
    with tempfile.TemporaryDirectory() as directory:
        artifact.save(made, Path(directory) / "int8")
        texts: dict[str, list[str]] = {}
        rows: list[tuple[str, float, float]] = []
        for name, source in ((MODEL, MODEL), (f"{MODEL}, 8 bits", Path(directory) / "int8")):
            recognizer = load(source)
            recognizer.transcribe(clips[0])  # the first run allocates
            start = time.perf_counter()
            texts[name] = [recognizer.transcribe(clip).text for clip in clips]
            elapsed = time.perf_counter() - start
            size = weights_file_bytes(made if rows else original)
            rows.append((name, size / 1e6, seconds / elapsed))
    reference = texts[MODEL]
    for index, utterance in enumerate(utterances):
        typer.echo(f"\n{utterance.path.name}: {utterance.text}")
        for name in texts:
            typer.echo(f"  {name:<24} {texts[name][index]}")
    typer.echo(f"\n{'model':<26} {'MB':>6} {'x real time':>12} {'agreement':>10}")
    for name, megabytes, speed in rows:
        agreement = 1 - evaluate(reference, texts[name]).cer
        typer.echo(f"{name:<26} {megabytes:6.2f} {speed:12.0f} {100 * agreement:8.1f} %")
    typer.echo("agreement: characters as in the text of the full-precision model", err=True)
