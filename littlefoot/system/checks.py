"""Check the fields of dataclasses against their types, which may have limits: ``Annotated[int, Gt(0)]``."""

from __future__ import annotations

import re
from dataclasses import fields
from functools import cache
from typing import Annotated, Any, ClassVar, get_type_hints

from annotated_types import Ge, Gt, Le
from pydantic import TypeAdapter, ValidationError

from littlefoot.errors import ConfigError

Count = Annotated[int, Ge(0)]
PositiveInt = Annotated[int, Gt(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]


class Checked:
    """Base of dataclasses that check and convert their fields when they are made, and when they are replaced.

    Rules across fields belong in a ``__post_init__`` that calls this one first. Raises ConfigError.
    """

    section: ClassVar[str] = ""
    """Prefix of the fields' names in errors, such as ``train.``."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            found = value(type(self), field.name, getattr(self, field.name), self.section)
            object.__setattr__(self, field.name, found)


def value(kind: Any, name: str, given: object, prefix: str = "", strict: bool = False) -> Any:
    """Return the value of a dataclass's field, converted to its type: if ``strict``, integers to floats only.

    Raises ConfigError that names the field, the limit and the value.
    """
    try:
        return _adapters(kind)[name].validate_python(given, strict=strict)
    except ValidationError as error:
        raise ConfigError(explain(error, prefix + name)) from None


def explain(error: ValidationError, name: str) -> str:
    """Describe the error in the value called ``name``."""
    first = error.errors()[0]
    for part in first["loc"]:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name.strip(".") else part
    text, replaced = re.subn(r"^\w+ should (be|have)", r"must \1", first["msg"])
    text = text.partition(" after validation")[0]
    text = text.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
    if first["type"] == "literal_error":
        text = text.replace("'", "")
    return f"{name}{'' if replaced else ':'} {text}, not {first['input']!r:.100}"


@cache
def _adapters(kind: Any) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _adapter(hints[field.name]) for field in fields(kind)}


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    """Return what checks a type, which many fields share: to make it takes a millisecond of every start."""
    return TypeAdapter(hint)
