"""``littlefoot graft``: make a wav2vec 2.0 recogniser with a CTC head from a Whisper encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from littlefoot.cli import options


def graft(
    whisper: Annotated[
        str, typer.Argument(metavar="WHISPER", help="Checkpoint directory or Hub id of a Whisper.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Directory of the recogniser.")],
    data: Annotated[list[Path], options.TrainingData],
    recipe: Annotated[
        str, typer.Option("--recipe", help="A recipe's name, or a YAML file; its first step is front_end.")
    ] = "graft",
    alphabet: Annotated[
        str | None,
        typer.Option("--alphabet", help="The letters to recognise; those of the training texts by default."),
    ] = None,
    overrides: options.Overrides = None,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Make a CTC recogniser from the encoder of WHISPER. It has word times, and you can shrink it.

    OUT-steps keeps the result of each step.

    \b
    Example:
      littlefoot graft openai/whisper-base -o mine --data my-speech/manifest.tsv
    """
    from littlefoot import artifact
    from littlefoot.artifact import checkpoint
    from littlefoot.audio import manifest
    from littlefoot.cli.recipes import carry_out
    from littlefoot.compress import load_recipe
    from littlefoot.errors import ConfigError, MissingExtraError

    try:
        from littlefoot.compress import graft as grafting
        from littlefoot.compress import whisper as whispers
    except ModuleNotFoundError as error:
        raise MissingExtraError("littlefoot graft", str(error.name), "train") from error

    artifact.check_output(out, overwrite)
    directory = checkpoint.locate(whisper)
    steps = load_recipe(recipe, [f"front_end.whisper={directory}", *(overrides or [])])
    texts = (utterance.text for utterance in manifest.index(data).of_split("train"))
    letters = list(alphabet) if alphabet is not None else grafting.alphabet(texts)
    if not letters:
        raise ConfigError("the training texts have no letters: a graft is trained on transcribed speech")
    begun = grafting.begin(whispers.read(directory), letters)
    carry_out(steps, begun, whisper, out, data, resume, overwrite)
