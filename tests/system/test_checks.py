"""Settings are checked by their types, wherever they come from, and errors name the setting and the value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from annotated_types import Len

from littlefoot.errors import ConfigError
from littlefoot.system import checks, settings
from littlefoot.system.checks import Checked, Count, PositiveFloat, Share


@dataclass(frozen=True)
class Inner(Checked):
    section = "inner."
    rate: PositiveFloat = 1.0


@dataclass(frozen=True)
class Outer(Checked):
    count: Count = 0
    share: Share = 0.5
    kind: Literal["big", "small"] = "big"
    sizes: Annotated[tuple[Count, ...], Len(1)] = (1,)
    weights: dict[str, Share] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)


NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"count": -1}, "count must be at least 0, not -1"),
    ({"count": None}, "count must be a valid integer, not None"),
    ({"share": 1.5}, "share must be at most 1, not 1.5"),
    ({"share": float("nan")}, "share must be at (least 0|most 1), not nan"),
    ({"kind": "huge"}, "kind must be big or small, not 'huge'"),
    ({"sizes": ()}, r"sizes must have at least 1 item, not \(\)"),
    ({"sizes": (1, -2)}, r"sizes\[1\] must be at least 0, not -2"),
    ({"weights": {"a": 2}}, r"weights\.a must be at most 1, not 2"),
]


@pytest.mark.parametrize(("values", "message"), NONSENSE)
def test_nonsense_is_refused_by_name_with_its_value(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        Outer(**values)
    with pytest.raises(ConfigError, match=f"^{message}$"):
        replace(Outer(), **values)
    with pytest.raises(ConfigError, match=rf"^step\.{message}$"):
        settings.read(Outer, values, "step.")


def test_sections_are_part_of_the_name() -> None:
    with pytest.raises(ConfigError, match=r"^inner\.rate must be greater than 0, not 0$"):
        Inner(rate=0)
    with pytest.raises(ConfigError, match=r"^step\.inner\.rate must be greater than 0, not 0$"):
        settings.read(Outer, {"inner": {"rate": 0}}, "step.")


def test_values_are_converted_to_their_types() -> None:
    made = Outer(count=np.int64(3), share=1, sizes=[2, 3])  # type: ignore[arg-type]
    assert (type(made.count), made.share, made.sizes) == (int, 1.0, (2, 3))


def test_strictly_only_integers_become_floats() -> None:
    assert checks.value(Outer, "share", 1, strict=True) == 1.0
    for name, given in (("count", "3"), ("count", True), ("share", "0.5"), ("sizes", [1])):
        with pytest.raises(ConfigError, match=f"^{name} must be a valid"):
            checks.value(Outer, name, given, strict=True)


def test_a_long_value_does_not_fill_the_screen() -> None:
    with pytest.raises(ConfigError) as caught:
        Outer(kind="x" * 1000)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 150
