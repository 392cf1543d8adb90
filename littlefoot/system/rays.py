"""Connect to Ray, for commands that may use it. Needs the extra ``scale``."""

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
"""Size of the object store of a Ray that we start, in bytes. It holds row numbers and texts, never audio."""


def require(feature: str) -> None:
    """Check that Ray is installed. Raises MissingExtraError if it is not."""
    for package in ("ray", "pyarrow", "pandas"):
        if find_spec(package) is None:
            raise MissingExtraError(feature, package, "scale")


@contextmanager
def connected(address: str, processors: int, feature: str) -> Iterator[Any]:
    """Yield the module ``ray``, connected to a cluster.

    Args:
        address: ``local`` starts a Ray that ends with the context; ``auto`` or ``HOST:PORT`` is a running
            one, whose machines need littlefoot, and all files at the same paths.
        processors: least number of processors of a Ray that we start.
        feature: the feature that needs Ray, for the error message if it is missing.

    Raises:
        MissingExtraError: Ray is not installed.
        LittlefootError: there is no Ray at the address, or it fails.
    """
    require(feature)
    import ray

    with redirect_stdout(sys.stderr):  # stdout is for results, not for Ray's messages
        _connect(ray, address, processors)
        try:
            yield ray
        except ray.exceptions.RayError as error:
            raise LittlefootError(
                f"Ray failed: {_reason(error)}: the same command continues the job"
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
    """Return the line of a long report that states the error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    own = [line for line in lines if "LittlefootError" in line or "Error:" in line]
    return (own or lines or [type(error).__name__])[-1]
