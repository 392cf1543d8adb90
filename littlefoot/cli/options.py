"""Options that several commands share."""

from __future__ import annotations

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
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
