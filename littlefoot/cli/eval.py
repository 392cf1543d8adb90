"""``littlefoot eval``: measure word and character error rates on a manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from littlefoot.cli import options
from littlefoot.cli.progress import tell
from littlefoot.runtime.specification import LoadOptions, Specification
from littlefoot.runtime.transcriber import DecodingOptions

if TYPE_CHECKING:
    from littlefoot.evaluate.evaluation import Evaluation


@dataclass(frozen=True)
class Details:
    """The tables that follow the error rates."""

    speakers: Annotated[bool, typer.Option("--speakers", help="Show a table of the speakers.")] = False
    worst: Annotated[
        int, typer.Option("--worst", min=0, help="Number of utterances with the highest WER to show.")
    ] = 0
    confused: Annotated[
        int, typer.Option("--confusions", min=0, help="Number of the most frequent errors to show.")
    ] = 0


@options.grouped
def evaluate(
    model: options.Model,
    manifest: Annotated[list[Path], typer.Argument(help="Manifests, or folders that contain one.")],
    split: Annotated[str, typer.Option("--split", help="Split of the manifests.")] = "test",
    normalize: Annotated[
        str,
        typer.Option(
            "--normalize", help="How texts are compared: littlefoot, whisper (English) or whisper-basic."
        ),
    ] = "littlefoot",
    exact: options.ExactSets = None,
    as_json: options.Json = False,
    *,
    details: Details,
    loading: LoadOptions,
    decoding: DecodingOptions,
) -> None:
    """Measure WER and CER with 95 % bootstrap intervals, over speakers where the manifests name several.

    A reference may have several spellings, such as "I {want to / wanna} go": the closest counts. JSON always
    contains the speakers, all utterances and all confusions.

    \b
    Examples:
      littlefoot eval littlefoot-en my-recordings/manifest.tsv --split test
      littlefoot eval MODEL my-recordings/manifest.tsv --normalize whisper --worst 10 --confusions 20
    """
    from littlefoot.audio import manifest as manifests
    from littlefoot.cli.progress import bar
    from littlefoot.evaluate.evaluation import evaluate_recognizer
    from littlefoot.evaluate.normalizers import normalizer
    from littlefoot.runtime import recognizer

    normalizer(normalize)  # refused now, not when all is transcribed
    utterances = manifests.read(manifest, split, exact or ())
    loaded = recognizer.load_with(Specification(model, loading))
    search = decoding.decoder(loaded)
    with bar("transcribing", len(utterances)) as advance:
        result = evaluate_recognizer(loaded, utterances, advance, search, normalize)
    for failure in result.failed:
        tell(failure)
    if result.outside:
        shown = ", ".join(f"{character!r} in {count}" for character, count in result.outside.most_common(10))
        tell(f"references have characters that the alphabet lacks: {shown}")
    if as_json:
        typer.echo(json.dumps(result.to_dict(), indent=2))
    else:
        typer.echo(_table(result) + _details(result, details), nl=False)
    if result.failed:
        raise typer.Exit(1)


def _table(result: Evaluation) -> str:
    from littlefoot.evaluate.normalizers import OWN

    lines = [f"{'set':<18} {'utterances':>10} {'words':>7}   WER %  (95 %)            CER %  (95 %)\n"]
    rows = dict(result.per_set)
    if len(rows) > 1:
        rows["all but *" if result.pseudo_labelled else "all"] = result.score
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
    over = {score.interval_over for score in rows.values()}
    lines.append(f"intervals: bootstrap over {' or '.join(sorted(over))}\n")
    if result.pseudo_labelled:
        lines.append("* references by other recognisers: agreement with them, not errors against the truth\n")
    if result.normalizer != OWN:
        lines.append(f"texts compared in the form of the normalizer '{result.normalizer}'\n")
    return "".join(lines)


def _details(result: Evaluation, details: Details) -> str:
    """Return the tables of speakers, utterances and confusions that were asked for."""
    from littlefoot.evaluate.details import worst

    lines: list[str] = []
    if details.speakers:
        lines.append(f"\n{'speaker':<18} {'utterances':>10} {'words':>7}   WER %   CER %\n")
        lines += [
            f"{speaker:<18} {each.utterances:>10} {each.words:>7}"
            f"  {100 * each.wer:6.2f}  {100 * each.cer:6.2f}\n"
            for speaker, each in result.per_speaker.items()
        ]
    for each in worst(result.per_utterance, details.worst):
        lines.append(f"\n{each.id}: {each.errors} errors, {each.words} words\n")
        lines.append(f"  reference   {each.reference}\n  hypothesis  {each.hypothesis}\n")
    if details.confused:
        found = result.confusions
        rows = [(count, f"{meant} -> {said}") for meant, said, count in found.substitutions]
        rows += [(count, f"{meant} ->") for meant, count in found.deletions]
        rows += [(count, f"-> {said}") for said, count in found.insertions]
        lines.append("\n  count  reference -> hypothesis\n")
        rows.sort(key=lambda row: -row[0])
        lines += [f"{count:>7}  {row}\n" for count, row in rows[: details.confused]]
    return "".join(lines)
