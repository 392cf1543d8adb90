"""``littlefoot manifest``: make a manifest of a corpus in another format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from littlefoot.cli import options
from littlefoot.cli.progress import tell
from littlefoot.errors import ConfigError


def manifest(
    corpus: Annotated[
        list[Path],
        typer.Argument(
            help="Parquet, a saved data set or an audiofolder of Hugging Face, tar shards (webdataset), a"
            " directory of Kaldi, manifests or Shar directories of lhotse, LibriSpeech or Common Voice."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for manifest.tsv and new audio files.")],
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column", help="Column of audio, text, speaker, id or split, such as text=normalized."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Split of all rows, instead of the corpus's own.")
    ] = None,
    run_commands: Annotated[
        bool,
        typer.Option(
            "--run-commands",
            help="Run the commands in wav.scp of Kaldi. They can do anything: only if you trust the corpus.",
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing folder.")] = False,
    as_json: options.Json = False,
) -> None:
    """Make a manifest of a corpus in another format, for train, eval, label and all other commands.

    Recordings that are files stay where they are. Recordings in shards, and segments of recordings, are
    written to the folder. Rows that cannot be used are reported and listed in left-out.tsv there, and the
    exit code is 1.

    \b
    Examples:
      littlefoot manifest LibriSpeech/ -o librispeech
      littlefoot manifest fleurs/ -o fleurs --column text=raw_transcription
    """
    from littlefoot.cli.progress import counter
    from littlefoot.corpora.rows import ROLES
    from littlefoot.corpora.write import LEFT_OUT, write

    named = {}
    for given in column or []:
        role, equals, name = given.partition("=")
        if not equals or role not in ROLES:
            raise ConfigError(f"--column {given} is not ROLE=NAME, where ROLE is one of {', '.join(ROLES)}")
        named[role] = name
    with counter("rows") as progress:
        summary = write(corpus, out, named, split, overwrite, progress, run_commands)
    for warning in summary.warnings:
        tell(warning)
    if as_json:
        typer.echo(json.dumps(summary.to_dict(), indent=2))
    else:
        splits = ", ".join(f"{name} {count}" for name, count in summary.splits.items())
        typer.echo(f"manifest      {summary.manifest}")
        typer.echo(f"rows          {summary.rows}, {summary.seconds / 3600:.2f} h ({splits})")
        typer.echo(f"speakers      {summary.speakers}")
        typer.echo(f"without text  {summary.without_text}")
        listed = f", listed in {out / LEFT_OUT}" if summary.left_out else ""
        typer.echo(f"left out      {summary.left_out.total()}{listed}")
    if summary.left_out:
        raise typer.Exit(1)
