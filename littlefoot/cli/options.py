"""Options that several commands share, one by one or in groups.

A group is a frozen dataclass, such as ``LoadOptions``: a command that ``grouped`` decorates takes it as one
parameter, and the command line has an option for each of its fields.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import Field, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer
from typer.models import OptionInfo

from littlefoot.label.options import LabelOptions
from littlefoot.runtime.specification import LoadOptions
from littlefoot.runtime.transcriber import DecodingOptions, RecordingOptions
from littlefoot.server.address import Address
from littlefoot.server.limits import LEAST, Limits
from littlefoot.transcript.subtitles import Layout

Model = Annotated[
    str, typer.Argument(help="A bundled name, an artifact or checkpoint directory, or a Hub id.")
]
_ENGINE = typer.Option("--engine", help="Engine: auto, native, openvino or onnxruntime.")
_PRECISION = typer.Option(
    "--precision", help="Precision of unquantized layers: auto, f32, or bf16 if the CPU has it."
)
_LANGUAGE = typer.Option("--language", help="Language of an MMS model, such as eng.")
_VAD = typer.Option("--vad", help="Detector of speech in long recordings: energy, silero or off.")
Engine = Annotated[str, _ENGINE]
Precision = Annotated[str, _PRECISION]
Language = Annotated[str | None, _LANGUAGE]
Vad = Annotated[str | None, _VAD]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing artifact.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting of a recipe's step, such as train.steps=500."),
]
TrainingData = typer.Option("--data", help="Manifest with splits 'train' and 'dev'; may be repeated.")
ExactSets = Annotated[
    list[str] | None,
    typer.Option(
        "--exact",
        help="Set whose texts people wrote, though its manifest has a disagreement; may be repeated.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


FLAGS: dict[type, dict[str, Any]] = {
    LoadOptions: {
        "engine": _ENGINE,
        "threads": typer.Option("--threads", min=1, help="Number of processor threads; all by default."),
        "precision": _PRECISION,
        "language": _LANGUAGE,
        "layers": typer.Option(
            "--layers", help="Stop after this many layers, for models trained with exits: faster."
        ),
        "device": typer.Option(
            "--device", help="cpu, or cuda with --engine onnxruntime and onnxruntime-gpu."
        ),
        "bits": typer.Option("--bits", help="Bits of the weights, for models with nested precisions."),
    },
    DecodingOptions: {
        "beam": typer.Option(
            "--beam",
            help="Hypotheses of a beam search. Default: greedy; 128 with a language model of words, 32 with "
            "hot words and the like.",
        ),
        "lm": typer.Option(
            "--lm", help="Language model: en, a file (ARPA, .lflm, KenLM's), or a checkpoint that has one."
        ),
        "alpha": typer.Option("--alpha", help="Weight of the language model."),
        "beta": typer.Option("--beta", help="Score added for each word, with a language model."),
        "hotwords": typer.Option(
            "--hotwords", help="File of likely phrases, one per line; a tab and a weight may follow."
        ),
        "lexicon": typer.Option(
            "--lexicon", help="File of the only words that texts may contain, one per line."
        ),
    },
    RecordingOptions: {
        "vad": _VAD,
        "channel": typer.Option(
            "--channel", help="Channel to use: left, right or a number; each: one speaker per channel."
        ),
        "track": typer.Option("--track", min=1, help="Audio track to use, from 1."),
        "alternatives": typer.Option(
            "--alternatives", min=0, help="Number of best texts that JSON contains."
        ),
        "case": typer.Option(
            "--case", help="Case of the text: lower, upper, or sentence with full stops at pauses."
        ),
        "punctuate": typer.Option(
            "--punctuate", help="Punctuation model, a Python function: package.module:function."
        ),
    },
    Layout: {
        "line_characters": typer.Option("--line-length", help="Characters in a line of subtitles."),
        "lines": typer.Option("--lines", help="Lines of subtitles shown at once."),
        "seconds": typer.Option("--cue-seconds", help="Longest time that subtitles are shown."),
    },
    LabelOptions: {
        "split": typer.Option("--split", help="Rows of this split only."),
        "min_confidence": typer.Option(
            "--min-confidence", help="Least confidence (0 to 1) of rows in the manifest."
        ),
        "shard_rows": typer.Option(
            "--shard-rows", min=1, help="Recordings that are saved together; 100 by default."
        ),
        "retry_failed": typer.Option("--retry-failed", help="Try recordings again that failed before."),
    },
    Address: {
        "host": typer.Option("--host", help="Address to listen on."),
        "port": typer.Option("--port", min=0, max=65535, help="Port; 0 for any free one."),
        "wyoming": typer.Option(
            "--wyoming", min=0, max=65535, help="Port for Home Assistant's Wyoming protocol."
        ),
        "wyoming_language": typer.Option(
            "--wyoming-language", help="Language of the models for Wyoming, such as en; may be repeated."
        ),
    },
    Limits: {
        "queue": typer.Option("--queue", min=0, help="Largest number of waiting recordings."),
        "streams": typer.Option("--streams", min=1, help="Largest number of live streams at once."),
        "connections": typer.Option("--connections", min=1, help="Largest number of open connections."),
        "audio_seconds": typer.Option(
            "--max-seconds", min=LEAST, help="Longest recording or live stream, in seconds."
        ),
        "idle_seconds": typer.Option("--idle", min=LEAST, help="Seconds that a client may be idle."),
        "total_seconds": typer.Option("--timeout", min=LEAST, help="Longest time for a request, in seconds."),
        "idle_minutes": typer.Option(
            "--idle-minutes", min=LEAST, help="Minutes without use after which a model is unloaded."
        ),
        "grace_seconds": typer.Option(
            "--grace", min=LEAST, help="Seconds for running work when the server stops."
        ),
    },
}
"""Options for the fields of groups that other rooms define. Fields that are not listed keep their default."""


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for each field of the dataclasses that it takes as parameters.

    The option of a field is its annotation's, or that of ``FLAGS``; its default is the field's. A command's
    own parameter takes the place of the option of a field with the same name, and its value is the field's.
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        name: given.annotation
        for name, given in signature.parameters.items()
        if is_dataclass(given.annotation)
    }
    own = {name: given for name, given in signature.parameters.items() if name not in groups}
    taken = dict(own)
    for field, annotation in (each for group in groups.values() for each in _offered(group)):
        option = inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=annotation
        )
        taken.setdefault(field.name, option)

    @wraps(command)
    def run(**given: Any) -> None:
        made = {
            name: group(**{field.name: given[field.name] for field, _ in _offered(group)})
            for name, group in groups.items()
        }
        command(**{name: given[name] for name in own}, **made)

    run.__signature__ = signature.replace(parameters=list(taken.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {name: given.annotation for name, given in taken.items()}
    return run


def _offered(group: Any) -> Iterator[tuple[Field[Any], Any]]:
    """Yield the fields that have an option, and their types annotated with it."""
    hints = get_type_hints(group, include_extras=True)
    flags = FLAGS.get(group, {})
    for field in fields(group):
        hint = hints[field.name]
        if field.name in flags:
            yield field, Annotated[hint, flags[field.name]]
        elif any(isinstance(each, OptionInfo) for each in getattr(hint, "__metadata__", ())):
            yield field, hint
