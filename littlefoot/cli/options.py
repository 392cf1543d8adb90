"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str, typer.Argument(help="A bundled name, an artifact or checkpoint directory, or a Hub id.")
]
Engine = Annotated[str, typer.Option("--engine", help="Engine: auto, openvino or onnxruntime.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Number of processor threads; all by default.")
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision", help="Precision of unquantized layers: auto, f32, or bf16 if the CPU has it."
    ),
]
Language = Annotated[str | None, typer.Option("--language", help="Language of an MMS model, such as eng.")]
Layers = Annotated[
    int | None,
    typer.Option("--layers", help="Stop after this many layers, for models trained with exits: faster."),
]
Bits = Annotated[
    int | None,
    typer.Option("--bits", help="Bits of the weights, for models with nested precisions."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing artifact.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting of a recipe's step, such as train.train.steps=500."),
]
Vad = Annotated[
    str | None, typer.Option("--vad", help="Detector of speech in long recordings: energy, silero or off.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# Decoding (littlefoot.cli.decoding)
Beam = Annotated[
    int | None,
    typer.Option(
        "--beam", help="Hypotheses of a beam search; 32 if another option needs one. Default: greedy."
    ),
]
LanguageModel = Annotated[
    Path | None,
    typer.Option(
        "--lm", help="Language model: en, a file (ARPA, .lflm, KenLM's), or a checkpoint that has one."
    ),
]
Alpha = Annotated[float | None, typer.Option("--alpha", help="Weight of the language model.")]
Beta = Annotated[
    float | None, typer.Option("--beta", help="Score added for each word, with a language model.")
]
HotWords = Annotated[
    Path | None,
    typer.Option("--hotwords", help="File of likely phrases, one per line; a tab and a weight may follow."),
]
Lexicon = Annotated[
    Path | None,
    typer.Option("--lexicon", help="File of the only words that texts may contain, one per line."),
]
