"""Parse the target of a search, such as ``25MB, wer+1.0, 50x, 480ms``, and compare models with it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields

from littlefoot.errors import ConfigError

FORMS = "25MB (size), wer+1.0 or wer+5% or wer12.5 (errors), 50x (times real time), 480ms (latency, live)"

LEAST_WER = 0.001
"""Lower bound of the limit by which a missed word error rate is divided."""

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_SIZE = re.compile(rf"(?:<=?)?\s*{_NUMBER}\s*([kmg]i?)?b", re.IGNORECASE)
_WER = re.compile(rf"wer\s*(\+|<=?|=)?\s*{_NUMBER}\s*(%)?", re.IGNORECASE)
_SPEED = re.compile(rf"(?:>=?)?\s*{_NUMBER}\s*x", re.IGNORECASE)
_LATENCY = re.compile(rf"(?:<=?)?\s*{_NUMBER}\s*(ms|s)", re.IGNORECASE)
_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


@dataclass(frozen=True)
class Figures:
    """Measured or predicted figures of a model."""

    bytes: int
    """Bytes of the weights, as stored."""
    speed: float | None = None
    """Speed in times real time; None if it was not measured."""
    latency_ms: float | None = None
    """Algorithmic latency; None if the model does not stream."""
    wer: float | None = None
    """Word error rate, a fraction; None if it is not known."""


@dataclass(frozen=True)
class Target:
    """Limits of a model's figures; None is unlimited."""

    bytes: float | None = None
    """Largest number of bytes of the weights."""
    wer: float | None = None
    """Largest word error rate, a fraction."""
    wer_loss: float | None = None
    """Largest increase over the first model's word error rate, as a fraction of the words."""
    wer_relative: float | None = None
    """Largest increase over the first model's word error rate, as a fraction of that rate."""
    speed: float | None = None
    """Lowest speed, in times real time."""
    latency_ms: float | None = None
    """Largest algorithmic latency. The model must stream."""
    text: str = ""
    """The target as it was written."""

    @property
    def limits_errors(self) -> bool:
        """Return True if the target limits errors. Otherwise a search minimises them."""
        return not (self.wer is self.wer_loss is self.wer_relative is None)

    def wer_limit(self, reference: float) -> float | None:
        """Return the allowed word error rate, if that of the first model is ``reference``."""
        limits = [
            self.wer,
            None if self.wer_loss is None else reference + self.wer_loss,
            None if self.wer_relative is None else reference * (1 + self.wer_relative),
        ]
        return min((limit for limit in limits if limit is not None), default=None)

    def misses(self, figures: Figures, reference_wer: float | None = None) -> list[str]:
        """Return the limits that figures miss, in words. Unknown figures miss no limit."""
        return [words for _, words in self._missed(figures, reference_wer)]

    def shortfall(self, figures: Figures, reference_wer: float | None = None) -> float:
        """Compute how far figures miss the target; 0 if they meet it.

        The shortfall is the sum, over the missed limits, of the logarithm of value / limit (limit / value for
        the speed). A model twice as large as allowed is therefore as far off as one that is half as fast.
        """
        return sum(math.log(ratio) for ratio, _ in self._missed(figures, reference_wer))

    def _missed(self, figures: Figures, reference_wer: float | None) -> list[tuple[float, str]]:
        """Return the factor by which each missed limit is missed, and the limit in words."""
        found = []
        if self.bytes is not None and figures.bytes > self.bytes:
            words = f"{figures.bytes / 1e6:.2f} MB, not {self.bytes / 1e6:.2f}"
            found.append((figures.bytes / self.bytes, words))
        if self.speed is not None and figures.speed is not None and figures.speed < self.speed:
            words = f"{figures.speed:.0f} times real time, not {self.speed:g}"
            found.append((self.speed / figures.speed, words))
        if self.latency_ms is not None:
            if figures.latency_ms is None:
                found.append((math.inf, f"does not stream, not {self.latency_ms:g} ms"))
            elif figures.latency_ms > self.latency_ms + 1e-6:
                words = f"{figures.latency_ms:.0f} ms, not {self.latency_ms:g} ms"
                found.append((figures.latency_ms / self.latency_ms, words))
        if figures.wer is not None and reference_wer is not None:
            limit = self.wer_limit(reference_wer)
            if limit is not None and figures.wer > limit + 1e-9:
                words = f"{100 * figures.wer:.2f} % of words wrong, not {100 * limit:.2f}"
                found.append((figures.wer / max(limit, LEAST_WER), words))
        return [(max(ratio, 1.0), words) for ratio, words in found]


def parse(text: str) -> Target:
    """Parse a target.

    Raises ConfigError if a part is not a limit, is given twice, or cannot be met by any model.
    """
    values: dict[str, float] = {}
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise ConfigError(f"the target is empty: write for example {FORMS}")
    for part in parts:
        name, value = _limit(part)
        if name in values:
            raise ConfigError(
                f"target '{text}': '{part}' limits the same figure as another part: leave one out"
            )
        if value < 0 or (value == 0 and not name.startswith("wer")):
            raise ConfigError(f"target '{part}': no model can meet this: write for example {FORMS}")
        values[name] = value
    assert set(values) <= {field.name for field in fields(Target)}
    return Target(**values, text=", ".join(parts))


def _limit(part: str) -> tuple[str, float]:
    """Parse one part of a target into a field of Target and its value."""
    if match := _WER.fullmatch(part):
        sign, number, percent = match[1], float(match[2]) / 100, match[3]
        if sign != "+":
            return "wer", number
        return ("wer_relative" if percent else "wer_loss"), number
    if match := _SIZE.fullmatch(part):
        return "bytes", float(match[1]) * _UNITS[(match[2] or "").lower()]
    if match := _SPEED.fullmatch(part):
        return "speed", float(match[1])
    if match := _LATENCY.fullmatch(part):
        return "latency_ms", float(match[1]) * (1 if match[2].lower() == "ms" else 1000)
    raise ConfigError(f"target '{part}' is not understood: write for example {FORMS}")
