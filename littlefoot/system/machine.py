"""Describe this machine: its processor, its threads, and the installed packages."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

INSTRUCTIONS = {
    "avx2": "float32",
    "avx512f": "float32, wider",
    "avx512_vnni": "fast int8",
    "avx512vbmi": "fast few bits, with the extra native",
    "avx_vnni": "fast int8",
    "avx512_bf16": "bfloat16",
    "amx_int8": "fastest int8",
    "amx_bf16": "fastest bfloat16",
    "asimddp": "fast int8 (ARM)",
}
"""Processor features that engines use, and what each of them accelerates."""


def processor() -> str:
    """Return the processor's name."""
    lines = (line for line in _cpuinfo().splitlines() if line.startswith("model name"))
    return next(lines, "").partition(":")[2].strip() or platform.processor() or platform.machine()


def flags() -> set[str]:
    """Return the features that the processor declares, under their names in Linux."""
    lines = (line for line in _cpuinfo().splitlines() if line.startswith(("flags", "Features")))
    return set(next(lines, "").partition(":")[2].split())


def instructions() -> dict[str, str]:
    """Return the entries of ``INSTRUCTIONS`` that this processor has."""
    return {name: use for name, use in INSTRUCTIONS.items() if name in flags()}


def processors() -> set[int] | None:
    """Return the numbers of the processor threads that this process may use; None if the system does not
    tell.
    """
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def threads() -> int:
    """Return the number of processor threads that this process may use."""
    usable = processors()
    return (os.cpu_count() or 1) if usable is None else len(usable)


def available_memory() -> int | None:
    """Return the bytes of memory that new work can use; None if the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kilobytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    free = None if kilobytes is None else 1024 * int(kilobytes)
    try:  # of a container
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        left = limit - int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return free
    return left if free is None else min(free, left)


def package_version(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""
