"""``littlefoot push``: upload a model to the Hugging Face Hub."""

from __future__ import annotations

from typing import Annotated

import typer


def push(
    model: Annotated[str, typer.Argument(help="Directory of an artifact.")],
    repository: Annotated[str, typer.Argument(help="USER/NAME on the Hub.", metavar="REPO_ID")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch; created if there is none.")
    ] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Message of the commit.")] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="Licence for the card, as the Hub names it: apache-2.0.")
    ] = None,
    languages: Annotated[
        list[str] | None,
        typer.Option("--language", help="Language for the card, such as en; may be repeated."),
    ] = None,
) -> None:
    """Upload a model and its card to the Hugging Face Hub, and print its address.

    The token is that of 'hf auth login', or HF_TOKEN.

    \b
    Example:
      littlefoot push mine anna/mine --license apache-2.0 --language en
    """
    from littlefoot.artifact import hub

    url = hub.push(
        model,
        repository,
        private=private,
        revision=revision,
        message=message,
        licence=licence,
        languages=languages or (),
    )
    typer.echo(url)
