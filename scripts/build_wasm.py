"""Compile liblittlefoot to WebAssembly, for the page of ``littlefoot export --to web``.

Writes ``littlefoot.wasm``, for browsers with vectors, and ``littlefoot-relaxed.wasm``, for those with relaxed
vectors too, into ``littlefoot/web/``, and beside them ``wasm.json`` with the compiler, the digest of the
sources and those of the files: a test fails when the sources have changed since. The same compiler gives the
same bytes. Needs Clang 19, its linker, the libraries of Emscripten, and cmake:
apt-get install clang-19 lld-19 emscripten cmake.

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
FOLDER = ROOT / "littlefoot" / "web"
NAMES = ("littlefoot.wasm", "littlefoot-relaxed.wasm")
RECORD = FOLDER / "wasm.json"
TOOLS = ("clang++-19", "wasm-ld-19", "em-config", "cmake")
INSTALL = "apt-get install clang-19 lld-19 emscripten cmake"
OTHERS = ("src/module", "src/command/")
"""Sources of the Python extension and of the command, which the files do not contain."""


def sources_digest(native: Path = NATIVE) -> str:
    """SHA-256 of the sources, without comments, empty lines and indentation, which change no instruction."""
    names = ["wasm.cmake", "web.cmake", "include/littlefoot.h"]
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


def build(folder: Path) -> list[Path]:
    """Compile the files in a folder."""
    configure = ["cmake", "-S", str(NATIVE), "-B", str(folder), "-DCMAKE_BUILD_TYPE=MinSizeRel"]
    for command in (
        [*configure, f"-DCMAKE_TOOLCHAIN_FILE={NATIVE / 'wasm.cmake'}"],
        ["cmake", "--build", str(folder), "-j", "2"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
    return [folder / name for name in NAMES]


def missing() -> list[str]:
    """Return the programs that are not installed."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def compiler() -> str:
    """Return the versions of the compiler and, as its libraries are part of the files, of Emscripten."""
    versions = [
        subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
        for tool in ("clang++-19", "emcc")
    ]
    return ", ".join(versions)


def main() -> None:
    if missing():
        sys.exit(f"not installed: {', '.join(missing())}: {INSTALL}")
    digests = {}
    with tempfile.TemporaryDirectory() as folder:
        for built in build(Path(folder)):
            content = built.read_bytes()
            (FOLDER / built.name).write_bytes(content)
            digests[built.name] = hashlib.sha256(content).hexdigest()
            print(f"{(FOLDER / built.name).relative_to(ROOT)}: {len(content) / 1e6:.3f} MB")
    record = {"compiler": compiler(), "sources": sources_digest(), "sha256": digests}
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
