"""Start a server, and stop it without losing work."""

from __future__ import annotations

import asyncio
import logging
import socket
from functools import partial

import uvicorn

from littlefoot.server.app import create_app
from littlefoot.server.live import MESSAGE_BYTES
from littlefoot.server.protocol import protocol
from littlefoot.server.service import Service

log = logging.getLogger("littlefoot.server")

_RESERVED_FILES = 256
"""File descriptors that are reserved for everything but connections and their uploads."""
ACCEPTED_AT_ONCE = 32
"""Connections that are accepted before excess ones are closed and others are read."""
_BACKLOG = 4096
"""Connections that the system holds until they are accepted."""


class Server(uvicorn.Server):
    """A uvicorn server that ends live streams first, and then all other requests."""

    def __init__(self, service: Service, wyoming: socket.socket | None = None) -> None:
        """``wyoming`` is a listening socket for the Wyoming protocol, or None."""
        self.service, self._wyoming = service, wyoming
        self._door: asyncio.Server | None = None
        limits = service.limits
        super().__init__(
            uvicorn.Config(
                create_app(service),
                loop="asyncio",
                http=protocol(limits),
                ws="websockets-sansio",
                ws_max_size=MESSAGE_BYTES,
                ws_per_message_deflate=False,
                ws_ping_interval=None,  # answers would wait behind queued audio
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=ACCEPTED_AT_ONCE,  # asyncio takes this for both
                timeout_graceful_shutdown=max(1, round(limits.grace_seconds)),
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(_BACKLOG)
            log.info("listening on %s", address(listener))
        if self._wyoming is not None:
            from littlefoot.server.wyoming import LINE_BYTES, serve

            self._door = await asyncio.start_server(
                partial(serve, service=self.service), sock=self._wyoming, limit=LINE_BYTES
            )
            log.info("Wyoming on %s", address(self._wyoming).replace("http", "tcp"))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing new, let streams send their last text, then finish requests."""
        for server in self.servers:
            server.close()
        if self._door is not None:
            self._door.close()
        self.service.ending.set()
        end = asyncio.get_running_loop().time() + self.service.limits.grace_seconds
        while self.service.streams and not self.force_exit and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket. Raises OSError, for example if the port is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def address(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def allow_open_files(connections: int) -> int:
    """Request file descriptors for a number of connections. Returns the possible number."""
    try:
        import resource
    except ImportError:  # not on Windows
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + _RESERVED_FILES  # an upload takes a file descriptor too
    if soft < wanted:
        soft = min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(connections, (soft - _RESERVED_FILES) // 2)
