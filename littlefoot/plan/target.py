"""What somebody needs of a model, such as ``25MB, wer+1.0, 50x, 480ms``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields

from littlefoot.errors import ConfigError

FORMS = "25MB (size), wer+1.0 or wer+5% or wer12.5 (errors), 50x (times real time), 480ms (latency, live)"

LEAST_WER = 0.001
"""A limit below this counts as this where misses are compared: nothing is a multiple of 0."""

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_SIZE = re.compile(rf"(?:<=?)?\s*{_NUMBER}\s*([kmg]i?)?b", re.IGNORECASE)
_WER = re.compile(rf"wer\s*(\+|<=?|=)?\s*{_NUMBER}\s*(%)?", re.IGNORECASE)
_SPEED = re.compile(rf"(?:>=?)?\s*{_NUMBER}\s*x", re.IGNORECASE)
_LATENCY = re.compile(rf"(?:<=?)?\s*{_NUMBER}\s*(ms|s)", re.IGNORECASE)
_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


@dataclass(frozen=True)
class Figures:
    """What a model has."""

    bytes: int
    """Of its weights, as stored."""
    speed: float | None = None
    """Times real time; None: not measured."""
    latency_ms: float | None = None
    """Algorithmic; None: it does not stream."""
    wer: float | None = None
    """A fraction; None: not known."""


@dataclass(frozen=True)
class Target:
    """Limits; None is no limit."""

    bytes: float | None = None
    """Of the weights, at most."""
    wer: float | None = None
    """Word error rate at most, a fraction."""
    wer_loss: float | None = None
    """How much more of it than the first model's at most, a fraction of the words."""
    wer_relative: float | None = None
    """Or as a fraction of the first model's errors."""
    speed: float | None = None
    """Times real time at least."""
    latency_ms: float | None = None
    """Of a model that streams, at most."""
    text: str = ""
    """As it was written."""

    @property
    def limits_errors(self) -> bool:
        """Whether errors are part of it; if not, the fewest are wanted."""
        return not (self.wer is self.wer_loss is self.wer_relative is None)

    def wer_limit(self, reference: float) -> float | None:
        """The word error rate that is allowed where the first model has that of ``reference``."""
        limits = [
            self.wer,
            None if self.wer_loss is None else reference + self.wer_loss,
            None if self.wer_relative is None else reference * (1 + self.wer_relative),
        ]
        return min((limit for limit in limits if limit is not None), default=None)

    def misses(self, figures: Figures, reference_wer: float | None = None) -> list[str]:
        """What figures miss, in words; what is not known is not missed."""
        return [words for _, words in self._missed(figures, reference_wer)]

    def shortfall(self, figures: Figures, reference_wer: float | None = None) -> float:
        """How far figures miss the target, to compare models that do: 0 where they meet it.

        It is the sum, over the limits that are missed, of the logarithm of value / limit (limit / value for
        the speed), so that a model twice as large as allowed is as far off as one half as fast.
        """
        return sum(math.log(ratio) for ratio, _ in self._missed(figures, reference_wer))

    def _missed(self, figures: Figures, reference_wer: float | None) -> list[tuple[float, str]]:
        """Each limit that is missed: by which factor, and in words."""
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
    """Read a target.

    Raises ConfigError for what is no limit, for one given twice, and for one that nothing can meet.
    """
    values: dict[str, float] = {}
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise ConfigError(f"the target is empty: write for example {FORMS}")
    for part in parts:
        name, value = _limit(part)
        if name in values:
            raise ConfigError(
                f"target '{text}': '{part}' limits what another part limits already: leave one out"
            )
        if value < 0 or (value == 0 and not name.startswith("wer")):
            raise ConfigError(f"target '{part}': nothing can have that: write for example {FORMS}")
        values[name] = value
    assert set(values) <= {field.name for field in fields(Target)}
    return Target(**values, text=", ".join(parts))


def _limit(part: str) -> tuple[str, float]:
    """Field of Target and value of one part."""
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
