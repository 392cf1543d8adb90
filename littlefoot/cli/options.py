"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str, typer.Argument(help="A bundled name, an artifact or checkpoint directory, or a Hub id.")
]
Engine = Annotated[str, typer.Option("--engine", help="auto, openvino or onnxruntime.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Processor threads; all by default.")]
Precision = Annotated[
    str,
    typer.Option("--precision", help="Of what is not quantized: auto, f32, or bf16 where the CPU has it."),
]
Language = Annotated[str | None, typer.Option("--language", help="Of an MMS model, such as eng.")]
Layers = Annotated[
    int | None,
    typer.Option("--layers", help="Stop after so many layers: faster. For models that are trained for it."),
]
Bits = Annotated[
    int | None,
    typer.Option("--bits", help="Weights of so many bits, of a model that was trained for several."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an artifact.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting of a recipe's step, such as train.train.steps=500."),
]
Vad = Annotated[
    str | None, typer.Option("--vad", help="What finds speech in long recordings: energy, silero or off.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# Decoding (littlefoot.cli.decoding)
Beam = Annotated[
    int | None,
    typer.Option(
        "--beam", help="Hypotheses of a beam search, 32 where other options need one; greedy without."
    ),
]
LanguageModel = Annotated[
    Path | None,
    typer.Option(
        "--lm", help="Language model: en, a file (ARPA, .lflm, KenLM's), or a checkpoint that has one."
    ),
]
Alpha = Annotated[float | None, typer.Option("--alpha", help="Weight of the language model.")]
Beta = Annotated[float | None, typer.Option("--beta", help="Added for each word, with a language model.")]
HotWords = Annotated[
    Path | None,
    typer.Option(
        "--hotwords", help="File of phrases that are likely, each on a line; a tab and a weight may follow."
    ),
]
Lexicon = Annotated[
    Path | None, typer.Option("--lexicon", help="File of the words that alone can come out, each on a line.")
]
