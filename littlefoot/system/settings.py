"""Read settings from YAML: fill dataclasses from mappings, with errors that name the setting."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from littlefoot.errors import ConfigError
from littlefoot.system import checks

Config = TypeVar("Config")

_TRUTH = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """A loader of YAML 1.2's booleans and numbers.

    In YAML 1.1, ``no`` is a boolean, and ``1e-3`` without a point is text. Where a setting is a boolean,
    pydantic accepts ``yes`` and ``no``.
    """


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != _TRUTH]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_TRUTH, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile("^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse(text: str) -> Any:
    """Parse a YAML document. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)


def read(kind: type[Config], values: Mapping[str, Any] | None, prefix: str) -> Config:
    """Fill a dataclass, and the dataclasses nested in it, from a mapping.

    ``prefix``, such as ``train.``, precedes names in errors. Raises ConfigError, which names the
    setting that is unknown or invalid.
    """
    values = _checked(kind, {} if values is None else values, prefix)
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise ConfigError(checks.explain(error, prefix.rstrip("."))) from None


def _checked(kind: type[Any], values: object, prefix: str) -> dict[str, Any]:
    """Return the values. Raises ConfigError for an unknown name, in nested dataclasses too."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{prefix.rstrip('.')} must be a section of settings, not {values!r}")
    current = dict(values)
    refuse_unknown(current, [field.name for field in fields(kind)], prefix)
    hints = get_type_hints(kind)
    for name, value in current.items():
        if is_dataclass(hints[name]) and value is not None:
            nested: Any = hints[name]
            current[name] = _checked(nested, value, f"{prefix}{name}.")
    return current


def refuse_unknown(names: Iterable[object], known: list[str], prefix: str) -> None:
    """Raise ConfigError for the first unknown name; the message suggests the closest known one."""
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
            raise ConfigError(f"unknown setting '{prefix}{name}': did you mean '{prefix}{close}'?")
