"""``littlefoot serve``: models behind HTTP and WebSocket."""

from __future__ import annotations

import functools
import logging
import os
from typing import TYPE_CHECKING, Annotated

import typer

from littlefoot.cli import options
from littlefoot.errors import ConfigError, MissingExtraError
from littlefoot.system import machine

if TYPE_CHECKING:
    from littlefoot.decode.beam import BeamDecoder

API_KEY = "LITTLEFOOT_API_KEY"


def serve(
    models: Annotated[
        list[str], typer.Argument(help="Models; the first is the default. NAME=MODEL gives another name.")
    ],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8000,
    engine: options.Engine = "auto",
    threads: options.Threads = None,
    precision: options.Precision = "auto",
    language: options.Language = None,
    beam: options.Beam = None,
    lm: options.LanguageModel = None,
    alpha: options.Alpha = None,
    beta: options.Beta = None,
    hotwords: options.HotWords = None,
    lexicon: options.Lexicon = None,
    parallel: Annotated[
        int | None,
        typer.Option("--parallel", min=1, help="Recordings at once, which share the threads; one a core."),
    ] = None,
    queue: Annotated[int, typer.Option("--queue", min=0, help="Recordings that may wait besides.")] = 64,
    streams: Annotated[int, typer.Option("--streams", min=1, help="Live streams at once.")] = 32,
    connections: Annotated[int, typer.Option("--connections", min=1, help="Open at once.")] = 1000,
    max_mb: Annotated[float, typer.Option("--max-mb", help="Of a request, in megabytes.")] = 200,
    max_seconds: Annotated[
        float, typer.Option("--max-seconds", help="Of a recording or live stream.")
    ] = 14400,
    idle: Annotated[float, typer.Option("--idle", help="Seconds that a client may do nothing.")] = 30,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds for a request in all.")] = 600,
    grace: Annotated[float, typer.Option("--grace", help="Seconds for what runs when stopping.")] = 30,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option("--allow-origin", help="A site whose pages may use this server. Repeatable."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="A name under which the server is asked. Repeatable."),
    ] = None,
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
    from littlefoot.cli.decoding import decoder
    from littlefoot.runtime import recognizer
    from littlefoot.server.limits import Limits
    from littlefoot.server.models import Models
    from littlefoot.server.service import Service, is_loopback

    key = os.environ.get(API_KEY)
    if key is not None and not key.strip():
        raise ConfigError(f"{API_KEY} is empty: set it to a key, or unset it")
    _log_to_stderr()
    loopback = is_loopback(host)
    if key is None and not loopback:
        typer.echo(
            f"littlefoot: {host} can be reached from elsewhere, and no key is needed: set {API_KEY}", err=True
        )
    if (open_at_once := allow_open_files(connections)) < connections:
        typer.echo(
            f"littlefoot: --connections {connections}: {open_at_once} can be open: the system allows no"
            " more files (ulimit -Hn)",
            err=True,
        )
    cores = machine.threads()
    parallel = parallel or min(cores, threads or cores)
    limits = Limits(
        body_bytes=round(max_mb * 1e6),
        audio_seconds=max_seconds,
        parallel=parallel,
        queue=queue,
        streams=streams,
        connections=max(1, open_at_once),
        idle_seconds=idle,
        total_seconds=timeout,
        grace_seconds=grace,
    )
    load = functools.partial(
        recognizer.load,
        engine=engine,
        threads=threads,
        precision=precision,
        language=language,
        parallel=parallel,
    )

    def make_decoder(loaded: recognizer.Recognizer) -> BeamDecoder | None:
        return decoder(loaded, beam, lm, alpha, beta, hotwords, lexicon)

    origins = frozenset(origin.rstrip("/") for origin in allow_origin or [])
    hosts = _names(allow_host or []) if loopback or allow_host else None
    service = Service(Models(models, load, make_decoder), limits, key, origins, hosts)
    Server(service).run([listen(host, port)])


def _names(given: list[str]) -> frozenset[str]:
    for name in given:
        if not name or set(name) & set("/ @,*") or ("]" not in name and name.count(":") == 1):
            raise ConfigError(f"--allow-host {name!a}: give a name alone, without https:// and port")
    return frozenset(name.strip("[]").rstrip(".").lower() for name in given)


def _log_to_stderr() -> None:
    """A line for each request, and what happens besides."""
    logging.getLogger("littlefoot.server").setLevel(logging.INFO)
