"""``littlefoot lm``: n-gram language models."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, TypeVar

import typer

from littlefoot.cli import options
from littlefoot.cli.progress import tell
from littlefoot.errors import ConfigError, LittlefootError
from littlefoot.runtime.transcriber import STANDARD_INPUT
from littlefoot.system.outputs import check_new

if TYPE_CHECKING:
    from littlefoot.decode.ngram import NGram

Number = TypeVar("Number", int, float)

Out = Annotated[
    Path, typer.Option("-o", "--out", help="A compact file if it ends in .lflm, an ARPA file otherwise.")
]
MaxMB = Annotated[
    float | None,
    typer.Option("--max-mb", help="Prune until a compact file has at most this many MB."),
]

lm = typer.Typer(help="Make language models.", no_args_is_help=True, rich_markup_mode=None)


@lm.command()
def build(
    texts: Annotated[
        list[Path],
        typer.Argument(
            help="Text files with one sentence per line; - for standard input; or manifests, whose rows of "
            "split train are read.",
            metavar="TEXT",
        ),
    ],
    out: Out,
    order: Annotated[int, typer.Option("--order", help="Length of the longest n-gram.")] = 3,
    prune: Annotated[
        str,
        typer.Option(
            "--prune",
            help="Leave out n-grams that occur at most this often, for each order: 0,0,1 drops trigrams seen "
            "once. The last number holds for all higher orders.",
        ),
    ] = "0",
    max_mb: MaxMB = None,
    as_json: options.Json = False,
) -> None:
    """Estimate an n-gram model of the words of TEXT by modified Kneser-Ney smoothing.

    \b
    Example:
      littlefoot lm build sentences.txt -o words.arpa --order 3
    """
    from littlefoot.decode import ngram

    check_new(out)
    seen: Counter[str] = Counter()
    model = ngram.estimate(_counted(_sentences(texts), seen), order, _numbers("--prune", prune, int, "0,0,1"))
    _save(model, out, max_mb, seen, as_json)


@lm.command()
def mix(
    models: Annotated[list[Path], typer.Argument(help="ARPA files.", metavar="MODEL")],
    out: Out,
    weights: Annotated[
        str | None, typer.Option("--weights", help="Weight of each MODEL, such as 0.7,0.3. Default: equal.")
    ] = None,
    tune: Annotated[
        list[Path] | None,
        typer.Option("--tune", help="Text to optimise the weights for; of manifests the rows of split dev."),
    ] = None,
    max_mb: MaxMB = None,
    as_json: options.Json = False,
) -> None:
    """Mix several n-gram models into one by linear interpolation, or prune one.

    \b
    Example:
      littlefoot lm mix general.arpa mine.arpa -o both.lflm --tune dev.txt --max-mb 10
    """
    from littlefoot.decode import arpa, mixture

    check_new(out)
    if weights is not None and tune:
        raise ConfigError("--weights and --tune exclude each other: give one")
    parts = [arpa.read_arpa(path) for path in models]
    if tune:
        shares = mixture.best_weights(parts, _sentences(tune, "dev"))
    else:
        shares = [1.0] * len(parts) if weights is None else _numbers("--weights", weights, float, "0.7,0.3")
    mixed = mixture.mix(parts, shares)
    shares = [round(share / sum(shares), 4) for share in shares]
    _save(mixed, out, max_mb, {"weights": shares}, as_json)


def _save(model: NGram, out: Path, max_mb: float | None, told: Mapping[str, object], as_json: bool) -> None:
    """Prune and write a model, and print its size and ``told``."""
    from littlefoot.decode import arpa, compact, pruning

    if max_mb is not None:
        model = pruning.fit(model, int(max_mb * 1e6))
    (compact.write_compact if out.suffix == compact.SUFFIX else arpa.write_arpa)(model, out)
    ngrams = [len(table.last) for table in model.tables]
    size = out.stat().st_size
    if as_json:
        typer.echo(json.dumps({**told, "ngrams": ngrams, "bytes": size}, indent=2))
    else:
        typer.echo(_table(told, ngrams, size), nl=False)
    tell(f"saved {out}")


def _table(told: Mapping[str, object], ngrams: list[int], size: int) -> str:
    rows = {**told, **{f"{order}-grams": count for order, count in enumerate(ngrams, start=1)}}
    lines = [f"{name:<10} {count!s:>12}\n" for name, count in rows.items()]
    return "".join([*lines, f"{'size':<10} {size / 1e6:>12.2f} MB\n"])


def _numbers(option: str, text: str, kind: Callable[[str], Number], example: str) -> list[Number]:
    try:
        return [kind(number) for number in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{option} {text} is not a list of numbers such as {example}") from error


def _counted(sentences: Iterable[list[str]], seen: Counter[str]) -> Iterator[list[str]]:
    for words in sentences:
        seen["sentences"] += 1
        seen["words"] += len(words)
        yield words


def _sentences(paths: Iterable[Path], split: str = "train") -> Iterator[list[str]]:
    """Yield the words of every text that has any, normalized as for comparisons.

    Raises:
        LittlefootError: a file cannot be read, has no words, or contains a special token of language models.
    """
    from littlefoot.decode.ngram import SPECIAL
    from littlefoot.evaluate.metrics import normalize_text

    for path in paths:
        empty = True
        for where, text in _texts(path, split):
            for mark in SPECIAL:
                if mark in text.lower():
                    raise LittlefootError(
                        f"{where}: holds {mark}, which has a special meaning in language models: remove it"
                    )
            if words := normalize_text(text).split():
                empty = False
                yield words
        if empty:
            raise LittlefootError(f"{_name(path)} holds no words: give text with a sentence on each line")


def _texts(path: Path, split: str) -> Iterator[tuple[str, str]]:
    """Yield the location of each text, and the text."""
    if path.suffix in (".tsv", ".jsonl") or path.is_dir():
        from littlefoot.audio import manifest

        for utterance in manifest.index(path).of_split(split):
            yield f"{path}, utterance {utterance.id}", utterance.text
    elif str(path) == STANDARD_INPUT:
        yield from _lines(sys.stdin.buffer, _name(path))
    else:
        try:
            with path.open("rb") as file:
                yield from _lines(file, _name(path))
        except OSError as error:
            raise LittlefootError(
                f"{path}: cannot be read ({error}): check the path and its permissions"
            ) from error


def _lines(file: BinaryIO, name: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(file, start=1):
        where = f"{name}, line {number}"
        try:
            yield where, line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise LittlefootError(f"{where}: is not UTF-8 text: save the file as UTF-8") from error


def _name(path: Path) -> str:
    return "standard input" if str(path) == STANDARD_INPUT else str(path)
