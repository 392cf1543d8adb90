"""The command line. Results go to stdout, messages to stderr; a file for each command.

Exit codes: 0 done, 1 an input failed, 2 wrong usage. A command imports no other command's module, and its
own imports what is heavy inside of its functions. ``littlefoot --help`` imports no command at all, so that it
answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Collection
from importlib import import_module
from typing import Annotated, Any

import typer

from littlefoot.cli.progress import tell
from littlefoot.errors import ConfigError, LittlefootError

COMMANDS = {
    "transcribe": "Transcribe recordings of any length.",
    "align": "Find when the words of a known text are spoken.",
    "eval": "Measure word and character errors.",
    "graft": "Make a CTC recogniser from Whisper's encoder.",
    "manifest": "Make a manifest of a corpus in another format.",
    "bench": "Compare errors, speed, size, memory and energy.",
    "quantize": "Quantize a model to 8 bits, or fewer.",
    "shrink": "Make a model smaller, by a recipe or for a target.",
    "train": "Train or fine-tune a CTC model.",
    "label": "Transcribe an archive, to train on its texts.",
    "analyze": "Show what the layers of a model do.",
    "export": "Write a model for other programs.",
    "push": "Upload a model to the Hugging Face Hub.",
    "serve": "Serve models: an API, live speech, and a page.",
    "info": "Show a model's size, geometry and origin.",
    "doctor": "Check the installation, or measure the engines.",
    "demo": "Quantize the bundled model and compare the two.",
    "lm": "Make language models.",
}
"""All commands, each a module of its own, with their lines in ``littlefoot --help``, in its order."""
_FUNCTIONS = {"eval": "evaluate"}
"""Functions of commands that do not have the name of the command."""
_COMPLETE = "_LITTLEFOOT_COMPLETE"
"""Environment variable with which a shell asks for completions."""


def application(commands: Collection[str] = tuple(COMMANDS)) -> typer.Typer:
    """Make the command line. Only the modules of some commands are imported; the others are listed only."""
    made = typer.Typer(
        name="littlefoot",
        help="Make wav2vec 2.0-family speech recognisers small and fast, and run them without PyTorch.",
        epilog="Add --debug to any command for the full traceback of an error.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    made.callback(invoke_without_command=True)(root)
    for name, summary in COMMANDS.items():
        command = _imported(name) if name in commands else _listed
        if isinstance(command, typer.Typer):
            made.add_typer(command, name=name, short_help=summary)
        else:
            made.command(name, short_help=summary)(command)
    return made


def _imported(name: str) -> Any:
    """Return the function of a command, or its group of commands."""
    return getattr(import_module(f"littlefoot.cli.{name}"), _FUNCTIONS.get(name, name))


def _listed() -> None:
    """Stand for a command that the command line does not name."""


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
    first = next((argument for argument in arguments if not argument.startswith("-")), "")
    try:
        application(tuple(COMMANDS) if _COMPLETE in os.environ else (first,))(
            arguments, prog_name="littlefoot"
        )
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
