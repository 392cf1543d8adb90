"""Node, and whether it runs WebAssembly with relaxed vectors."""

from __future__ import annotations

import functools
import shutil
import subprocess

NODE = shutil.which("node")


@functools.cache
def relaxed() -> list[str] | None:
    """Return Node with what makes it take relaxed vectors, or None where it does not have them.

    Node 21 has them, Node 20 on request; Node 18 has others of the same name.
    """
    if NODE is None:
        return None
    version = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout
    major = int(version.lstrip("v").partition(".")[0])
    if major < 20:
        return None
    return [NODE, "--experimental-wasm-relaxed-simd"] if major == 20 else [NODE]
