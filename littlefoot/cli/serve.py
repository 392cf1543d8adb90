"""``littlefoot serve``: models behind HTTP and WebSocket."""

from __future__ import annotations

import logging
import math
import os
import re
from dataclasses import replace
from typing import Annotated

import typer

from littlefoot.cli import options
from littlefoot.cli.progress import tell
from littlefoot.errors import ConfigError, MissingExtraError
from littlefoot.runtime.specification import LoadOptions, Specification
from littlefoot.runtime.transcriber import DecodingOptions
from littlefoot.server.address import Address
from littlefoot.server.limits import Limits
from littlefoot.system import machine
from littlefoot.system.extras import imported

API_KEY = "LITTLEFOOT_API_KEY"


@options.grouped
def serve(
    models: Annotated[
        list[str], typer.Argument(help="Models; the first is the default. NAME=MODEL gives another name.")
    ],
    parallel: Annotated[
        int | None,
        typer.Option(
            "--parallel", min=1, help="Recordings at once, sharing the threads; default: one per core."
        ),
    ] = None,
    max_mb: Annotated[float, typer.Option("--max-mb", help="Largest request, in megabytes.")] = 200,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option("--allow-origin", help="A site whose pages may use this server; may be repeated."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="A host name that the server accepts; may be repeated."),
    ] = None,
    *,
    address: Address,
    limits: Limits,
    loading: LoadOptions,
    decoding: DecodingOptions,
) -> None:
    """Serve models: OpenAI's transcription API, live speech over a WebSocket, and a page.

    Listens on this machine only, unless --host says otherwise. The environment's LITTLEFOOT_API_KEY is a key
    that clients must send. Ctrl-C or SIGTERM finishes what runs; a second Ctrl-C does not.

    \b
    Example:
      littlefoot serve littlefoot-en --hotwords names.txt --port 8000
    """
    try:
        from littlefoot.server.run import Server, allow_open_files, listen
    except ImportError as error:
        raise MissingExtraError("littlefoot serve", error.name or "fastapi", "serve") from error
    from littlefoot.runtime import recognizer
    from littlefoot.server.models import Models
    from littlefoot.server.service import Service, is_loopback

    key = os.environ.get(API_KEY)
    if key is not None and not key.strip():
        raise ConfigError(f"{API_KEY} is empty: set it to a key, or unset it")
    _log_to_stderr()
    host = address.host
    loopback = is_loopback(host)
    if address.wyoming is not None:
        imported("wyoming", "--wyoming", "wyoming")
        if key is not None and not loopback:
            raise ConfigError(
                f"--wyoming: the Wyoming protocol has no keys, and {host} can be reached from elsewhere:"
                f" start a server of its own for it, without {API_KEY}"
            )
    if key is None and not loopback:
        tell(f"{host} can be reached from elsewhere, and no key is needed: set {API_KEY}")
    if (open_at_once := allow_open_files(limits.connections)) < limits.connections:
        tell(
            f"--connections {limits.connections}: {open_at_once} can be open: the system"
            " allows no more files (ulimit -Hn)"
        )
    if not 1e-6 <= max_mb < math.inf:
        raise ConfigError(f"--max-mb {max_mb:g}: give a size above 0")
    cores = machine.threads()
    parallel = parallel or min(cores, loading.threads or cores)
    limits = replace(
        limits, body_bytes=round(max_mb * 1e6), parallel=parallel, connections=max(1, open_at_once)
    )
    loading = replace(loading, parallel=parallel, measure=True)

    def load(source: str, language: str | None = None) -> recognizer.Recognizer:
        chosen = replace(loading, language=language) if language else loading
        return recognizer.load_with(Specification(source, chosen))

    origins = _origins(allow_origin or [])
    hosts = _names(allow_host or []) if loopback or allow_host else None
    languages = tuple(address.wyoming_language or ["en"])
    service = Service(Models(models, load, decoding.decoder), limits, key, origins, hosts, languages)
    door = None if address.wyoming is None else listen(host, address.wyoming)
    Server(service, door).run([listen(host, address.port)])


def _origins(given: list[str]) -> frozenset[str]:
    for origin in given:
        if not re.fullmatch(r"https?://[^/\s*]+/?", origin):
            raise ConfigError(f"--allow-origin {origin!a}: give an origin such as https://app.example")
    return frozenset(origin.rstrip("/") for origin in given)


def _names(given: list[str]) -> frozenset[str]:
    for name in given:
        if not name or set(name) & set("/ @,*") or ("]" not in name and name.count(":") == 1):
            raise ConfigError(f"--allow-host {name!a}: give a name alone, without https:// and port")
    return frozenset(name.strip("[]").rstrip(".").lower() for name in given)


def _log_to_stderr() -> None:
    """Log a line for each request and other events."""
    logging.getLogger("littlefoot.server").setLevel(logging.INFO)
