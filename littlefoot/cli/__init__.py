"""The command line. Results go to stdout, messages to stderr; a file for each command.

Exit codes: 0 done, 1 an input failed, 2 wrong usage. A command imports no other command's module, and its
own imports what is heavy inside of its functions, so that ``littlefoot --help`` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated

import typer

from littlefoot.cli.progress import tell
from littlefoot.errors import ConfigError, LittlefootError

COMMANDS = (
    *("transcribe", "align", "eval", "graft", "manifest", "bench", "quantize", "shrink", "train", "label"),
    *("analyze", "export", "push", "serve", "info", "doctor", "demo", "lm"),
)
"""All commands, each a module of its own, in the order of ``littlefoot --help``."""
_FUNCTIONS = {"eval": "evaluate"}
"""Functions of commands that do not have the name of the command."""


def application(commands: Iterable[str] = COMMANDS) -> typer.Typer:
    """Make the command line of some commands. Only their modules are imported."""
    made = typer.Typer(
        name="littlefoot",
        help="Make wav2vec 2.0-family speech recognisers small and fast, and run them without PyTorch.",
        epilog="Add --debug to any command for the full traceback of an error.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    made.callback(invoke_without_command=True)(root)
    for name in commands:
        command = getattr(import_module(f"littlefoot.cli.{name}"), _FUNCTIONS.get(name, name))
        if isinstance(command, typer.Typer):
            made.add_typer(command, name=name)
        else:
            made.command(name)(command)
    return made


def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and commit.")] = False,
) -> None:
    if version:
        from littlefoot import __version__
        from littlefoot.system.version import commit

        known = commit()
        typer.echo(f"littlefoot {__version__}" + (f" ({known})" if known else ""))
        raise typer.Exit


def main() -> None:
    """Run the command ``littlefoot``."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    logging.basicConfig(level=logging.INFO if debug else logging.WARNING, format="littlefoot: %(message)s")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")  # it would look for them in all installed packages
    first = next((argument for argument in arguments if not argument.startswith("-")), None)
    try:
        application([first] if first in COMMANDS else COMMANDS)(arguments, prog_name="littlefoot")
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        tell(f"{_message(error)}")
        sys.exit(2 if isinstance(error, ConfigError) else 1)


def _message(error: Exception) -> str:
    if isinstance(error, LittlefootError | OSError):
        return str(error)
    return f"unexpected {type(error).__name__}: {error}: a fault of littlefoot; --debug shows where"
