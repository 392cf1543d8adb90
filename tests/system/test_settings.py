"""Settings from mappings: names, and errors that name the setting."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from littlefoot.errors import ConfigError
from littlefoot.system import settings


@dataclass(frozen=True)
class Inner:
    rate: float = 0.0


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    widths: tuple[int, ...] = ()


def test_nested_settings_are_read() -> None:
    read = settings.read(Outer, {"widths": [1, 2], "inner": {"rate": 3}}, "step.")
    assert read == Outer(Inner(3.0), (1, 2))


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown setting 'step\.inner\.rat': did you mean 'step\.inner\.rate'"
    ):
        settings.read(Outer, {"inner": {"rat": 3}}, "step.")
