"""Compile liblittlefoot to WebAssembly, for the page of ``littlefoot export --to web``.

Writes ``littlefoot/web/littlefoot.wasm`` and, beside it, ``littlefoot.wasm.json`` with the compiler, the
digest of the sources and that of the file: a test fails when the sources have changed since. The same
compiler gives the same bytes. Needs emcc (Emscripten) and cmake: apt-get install emscripten cmake.

    python scripts/build_wasm.py
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NATIVE = ROOT / "native"
WASM = ROOT / "littlefoot" / "web" / "littlefoot.wasm"
RECORD = WASM.with_name("littlefoot.wasm.json")
OTHERS = ("src/module", "src/command/")
"""Sources of the Python extension and of the command, which the file does not contain."""


def sources_digest(native: Path = NATIVE) -> str:
    """SHA-256 of the sources, without comments, empty lines and indentation, which change no instruction."""
    names = ["web.cmake", "include/littlefoot.h"]
    names += sorted(path.relative_to(native).as_posix() for path in (native / "src").rglob("*.*"))
    digest = hashlib.sha256()
    for name in names:
        if name.startswith(OTHERS):
            continue
        comment = "#" if name.endswith("cmake") else "//"
        text = re.sub(r"/\*.*?\*/", "", (native / name).read_text(encoding="utf-8"), flags=re.DOTALL)
        lines = (line.partition(comment)[0].strip() for line in text.splitlines())
        digest.update("\n".join([name, *filter(None, lines)]).encode())
    return digest.hexdigest()


def build(folder: Path) -> Path:
    """Compile the file in a folder."""
    for command in (
        ["emcmake", "cmake", "-S", str(NATIVE), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release"],
        ["cmake", "--build", str(folder), "-j", "2"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
    return folder / WASM.name


def compiler() -> str:
    first = subprocess.run(["emcc", "--version"], capture_output=True, text=True, check=True).stdout
    return first.splitlines()[0]


def main() -> None:
    missing = [tool for tool in ("emcc", "cmake") if shutil.which(tool) is None]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}: apt-get install emscripten cmake")
    with tempfile.TemporaryDirectory() as folder:
        content = build(Path(folder)).read_bytes()
    WASM.write_bytes(content)
    record = {
        "compiler": compiler(),
        "sources": sources_digest(),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"{WASM.relative_to(ROOT)}: {len(content) / 1e6:.3f} MB")


if __name__ == "__main__":
    main()
