"""The folder of the page: static files, the library in WebAssembly, and one model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from littlefoot.artifact import Artifact
from littlefoot.errors import ArtifactError
from littlefoot.runtime.native import model_file
from littlefoot.system import atomic
from littlefoot.system.outputs import writing

PROGRAMS = tuple(Path(__file__).parent / f"{name}.wasm" for name in ("littlefoot", "littlefoot-relaxed"))
"""The library in WebAssembly with vectors, and with relaxed vectors; ``static/program.js`` chooses one."""
_STATIC = Path(__file__).parent / "static"
_SERVER = Path(__file__).parents[1] / "server" / "static"
_SHARED = ("controls.js", "icon.svg", "microphone.js", "resampler.js", "style.css", "worklet.js")
"""Files of the server's page that this page has too."""
_SERVICE_WORKER = "sw.js"


def save(artifact: Artifact, name: str, target: Path, licence: str | None = None) -> None:
    """Write the page with an artifact's model into a new folder. It is complete or it is not there.

    Args:
        name: of the model, which the page shows.
        licence: of the model, such as ``apache-2.0``; None: the one in the front matter of its card, if any.

    Raises:
        ConfigError: the kernels do not have an operation of the network.
        ArtifactError: the folder cannot be written.
    """
    files = {path.name: path.read_bytes() for path in sorted(_STATIC.iterdir())}
    files |= {shared: (_SERVER / shared).read_bytes() for shared in _SHARED}
    files |= {program.name: program.read_bytes() for program in PROGRAMS}
    files["model.lf"] = model_file.encode(artifact, name, licence)
    files[_SERVICE_WORKER] = _service_worker(files)
    with writing(target, kind=ArtifactError), atomic.directory(target) as folder:
        for file, content in files.items():
            (folder / file).write_bytes(content)


def _service_worker(files: dict[str, bytes]) -> bytes:
    """Return the service worker with the list of the files that it keeps, and a version made of them."""
    kept = {
        name: hashlib.sha256(content).hexdigest()
        for name, content in sorted(files.items())
        if name != _SERVICE_WORKER
    }
    listed = json.dumps(kept)
    version = hashlib.sha256(listed.encode()).hexdigest()[:16]
    text = files[_SERVICE_WORKER].decode()
    for empty, filled in (
        ("const FILES = {};", f"const FILES = {listed};"),
        ('const VERSION = "";', f'const VERSION = "{version}";'),
    ):
        text = text.replace(empty, filled)
    return text.encode()
