"""Report the progress of training: a progress bar or plain lines, and metrics as JSON lines."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from littlefoot.training.training_state import unwritable


class Reporter:
    """Progress on stderr (a bar on a terminal, plain lines elsewhere) and metrics in a JSONL file.

    The function ``log`` gets the metrics and the step too. A ``silent`` reporter, for all processes but the
    first, does nothing.
    """

    def __init__(
        self,
        metrics: Path,
        total: int,
        start: int,
        log: Callable[[dict[str, Any], int], None],
        silent: bool = False,
    ) -> None:
        self.metrics, self.total, self.start, self.silent = metrics, total, start, silent
        self._log = log
        self._began = time.monotonic()
        self._console = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        if not silent and sys.stderr.isatty():
            self._bar = Progress(
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
                console=self._console,
            )
            self._task = self._bar.add_task("", total=total, completed=start)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def message(self, text: str) -> None:
        """Print one line for the user."""
        if not self.silent:
            self._console.print(text, markup=False, soft_wrap=True)

    def row(self, values: dict[str, Any]) -> None:
        """Write one row of metrics, which must have ``step``."""
        if self.silent:
            return
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise unwritable(self.metrics, error) from error
        self._log({key: value for key, value in values.items() if key != "step"}, values["step"])
        shown = "  ".join(f"{key} {_short(value)}" for key, value in values.items() if key != "step")
        step = values["step"]
        if self._bar and "loss" in values:
            self._bar.update(self._task, completed=step, description=shown)
        elif self._bar:
            self.message(f"step {step}  {shown}")
        else:
            left = (time.monotonic() - self._began) / max(step - self.start, 1) * (self.total - step)
            clock = f"{int(left) // 3600}:{int(left) // 60 % 60:02d}:{int(left) % 60:02d}"
            self.message(f"step {step}/{self.total}  {shown}  left {clock}")


def drop_rows_after(metrics: Path, step: int) -> None:
    """Delete the rows of steps that a resumed run will repeat."""
    if not metrics.exists():
        return
    rows = []
    for line in metrics.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                rows.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue  # a row cut off by a kill
    temporary = metrics.with_suffix(".partial")
    temporary.write_text("".join(rows), encoding="utf-8")
    os.replace(temporary, metrics)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
