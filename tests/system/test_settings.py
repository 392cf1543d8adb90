"""Settings from mappings: names, old names, and errors that name the setting."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from littlefoot.errors import ConfigError
from littlefoot.system import settings


@dataclass(frozen=True)
class Inner:
    rate: float = field(default=0.0, metadata={"was": "speed"})


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    widths: tuple[int, ...] = field(default=(), metadata={"was": "sizes"})


def test_current_names_are_read_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    read = settings.read(Outer, {"widths": [1, 2], "inner": {"rate": 3}}, "step.")
    assert read == Outer(Inner(3.0), (1, 2))
    assert not caplog.messages


def test_old_names_are_read_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    read = settings.read(Outer, {"sizes": [1, 2], "inner": {"speed": 3}}, "step.")
    assert read == Outer(Inner(3.0), (1, 2))
    assert caplog.messages == [
        "the setting step.sizes is now called widths: rename it",
        "the setting step.inner.speed is now called rate: rename it",
    ]


def test_an_old_and_a_new_name_together_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'step\.sizes' and 'step\.widths' are the same"):
        settings.read(Outer, {"sizes": [1], "widths": [2]}, "step.")


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown setting 'step\.inner\.rat': did you mean 'step\.inner\.rate'"
    ):
        settings.read(Outer, {"inner": {"rat": 3}}, "step.")
