"""The command line. Results go to stdout, messages to stderr; a file for each command.

Exit codes: 0 done, 1 an input failed, 2 wrong usage. Command modules import what is heavy inside of
their functions, so that ``littlefoot --help`` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from littlefoot.cli.align import align
from littlefoot.cli.analyze import analyze
from littlefoot.cli.bench import bench
from littlefoot.cli.demo import demo
from littlefoot.cli.doctor import doctor
from littlefoot.cli.eval import evaluate
from littlefoot.cli.export import export
from littlefoot.cli.graft import graft
from littlefoot.cli.info import info
from littlefoot.cli.label import label
from littlefoot.cli.lm import lm
from littlefoot.cli.manifest import manifest
from littlefoot.cli.progress import tell
from littlefoot.cli.push import push
from littlefoot.cli.quantize import quantize
from littlefoot.cli.serve import serve
from littlefoot.cli.shrink import shrink
from littlefoot.cli.train import train
from littlefoot.cli.transcribe import transcribe
from littlefoot.errors import ConfigError, LittlefootError

app = typer.Typer(
    name="littlefoot",
    help="Make wav2vec 2.0-family speech recognisers small and fast, and run them without PyTorch.",
    epilog="Add --debug to any command for the full traceback of an error.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(transcribe)
app.command()(align)
app.command("eval")(evaluate)
app.command()(graft)
app.command()(manifest)
for command in (bench, quantize, shrink, train, label, analyze, export, push, serve, info, doctor, demo):
    app.command()(command)
app.add_typer(lm, name="lm")


@app.callback(invoke_without_command=True)
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
    try:
        app(arguments, prog_name="littlefoot")
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
