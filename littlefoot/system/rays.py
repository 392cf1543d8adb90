"""A connection to Ray, for commands that may use it. Needs the extra scale."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from typing import Any

from littlefoot.errors import LittlefootError, MissingExtraError
from littlefoot.system import machine

OBJECT_STORE_BYTES = 512_000_000
"""Of a Ray that we start: it holds places of rows and texts, never audio."""


def require(feature: str) -> None:
    """Raises MissingExtraError if Ray is not installed."""
    for package in ("ray", "pyarrow", "pandas"):
        if find_spec(package) is None:
            raise MissingExtraError(feature, package, "scale")


@contextmanager
def connected(address: str, processors: int, feature: str) -> Iterator[Any]:
    """Yields the module ``ray``, connected.

    Args:
        address: ``local`` starts a Ray that ends with the context; ``auto`` or ``HOST:PORT`` is one that
            runs; its machines need littlefoot, and all files at the same paths.
        processors: that a Ray which we start has at least.
        feature: what needs it, for the error if it is missing.

    Raises:
        MissingExtraError: Ray is not installed.
        LittlefootError: no Ray is at the address, or it gives up.
    """
    require(feature)
    import ray

    with redirect_stdout(sys.stderr):  # where results go is no place for what Ray has to say
        _connect(ray, address, processors)
        try:
            yield ray
        except ray.exceptions.RayError as error:
            raise LittlefootError(
                f"Ray gave up: {_reason(error)}: the same command goes on where it was"
            ) from error
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str, processors: int) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anyone
        options |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        options["num_cpus"] = max(processors, machine.threads())
    try:
        ray.init(address, **options)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise LittlefootError(
            f"--ray {address}: no Ray can be reached or started there ({_reason(error)}): start one with"
            " 'ray start --head', or use --ray local"
        ) from error


def _reason(error: Exception) -> str:
    """The line of a long report that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    own = [line for line in lines if "LittlefootError" in line or "Error:" in line]
    return (own or lines or [type(error).__name__])[-1]
