"""``littlefoot eval``: measure word and character error rates on a manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from littlefoot.cli import options
from littlefoot.runtime.specification import LoadOptions, Specification
from littlefoot.runtime.transcriber import DecodingOptions

if TYPE_CHECKING:
    from littlefoot.evaluate.evaluation import Evaluation


@options.grouped
def evaluate(
    model: options.Model,
    manifest: Annotated[list[Path], typer.Argument(help="Manifests, or folders that hold one.")],
    split: Annotated[str, typer.Option("--split", help="Split of the manifests.")] = "test",
    as_json: options.Json = False,
    *,
    loading: LoadOptions,
    decoding: DecodingOptions,
) -> None:
    """Measure WER and CER with 95 % bootstrap intervals.

    \b
    Example:
      littlefoot eval littlefoot-en my-recordings/manifest.tsv --split test
    """
    from littlefoot.audio import manifest as manifests
    from littlefoot.cli.progress import bar
    from littlefoot.evaluate.evaluation import evaluate_recognizer
    from littlefoot.runtime import recognizer

    utterances = manifests.read(manifest, split)
    loaded = recognizer.load_with(Specification(model, loading))
    search = decoding.decoder(loaded)
    with bar("transcribing", len(utterances)) as advance:
        result = evaluate_recognizer(loaded, utterances, advance, search)
    for failure in result.failed:
        typer.echo(f"littlefoot: {failure}", err=True)
    if result.outside:
        shown = ", ".join(f"{character!r} in {count}" for character, count in result.outside.most_common(10))
        typer.echo(f"littlefoot: references have characters that the alphabet lacks: {shown}", err=True)
    typer.echo(json.dumps(result.to_dict(), indent=2) if as_json else _table(result), nl=as_json)
    if result.failed:
        raise typer.Exit(1)


def _table(result: Evaluation) -> str:
    lines = [f"{'set':<18} {'utterances':>10} {'words':>7}   WER %  (95 %)            CER %  (95 %)\n"]
    rows = dict(result.per_set)
    if len(rows) > 1:
        rows["all"] = result.score
    for name, score in rows.items():
        rates = "  ".join(
            f"{100 * rate:6.2f}  ({100 * low:5.2f} - {100 * high:5.2f})"
            for rate, (low, high) in ((score.wer, score.wer_interval), (score.cer, score.cer_interval))
        )
        mark = " *" if name in result.pseudo_labelled else ""
        lines.append(f"{name + mark:<18} {score.utterances:>10} {score.words:>7}  {rates}\n")
    for name, recall in result.slot_recall.items():
        low, high = recall.interval
        lines.append(
            f"{name}: {100 * recall.rate:.2f} % ({100 * low:.2f} - {100 * high:.2f}) "
            f"of {recall.words} slot words recognised\n"
        )
    if result.pseudo_labelled:
        lines.append("* references by other recognisers: agreement with them, not errors against the truth\n")
    return "".join(lines)
