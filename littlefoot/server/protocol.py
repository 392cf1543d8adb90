"""Limit how long HTTP connections stay open without use.

uvicorn waits without limit for a request's headers, and for a client that does not read its response. Here
both have ``idle_seconds``. If there are too many connections, the one that has waited longest for a request
is closed, so that open sockets cannot lock other clients out.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from littlefoot.server.limits import Limits

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


def protocol(limits: Limits) -> type[H11Protocol]:
    """Make the class of a server's connections."""
    waiting: dict[Connection, None] = {}  # those that wait for a request, the longest first

    class Connection(H11Protocol):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._headers_timer: asyncio.TimerHandle | None = None
            self._write_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            _let_the_kernel_give_up(transport, limits.idle_seconds)
            if len(self.connections) > limits.connections:
                if not waiting:
                    transport.write(_FULL)
                    transport.close()
                    return
                oldest = next(iter(waiting))
                oldest._wait_no_more()  # at once: more connections may arrive before its end
                oldest.transport.abort()
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._wait_no_more()

        def handle_websocket_upgrade(self, event: Any) -> None:
            self._wait_no_more()
            super().handle_websocket_upgrade(event)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
                self._wait()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._write_timer = self.loop.call_later(limits.idle_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._write_timer is not None:
                self._write_timer.cancel()

        def connection_lost(self, exc: Exception | None) -> None:
            self._wait_no_more()
            if self._write_timer is not None:
                self._write_timer.cancel()
            super().connection_lost(exc)

        def _wait(self) -> None:
            """Start waiting for a request."""
            self._wait_no_more()
            waiting[self] = None
            self._headers_timer = self.loop.call_later(limits.idle_seconds, self.transport.abort)

        def _wait_no_more(self) -> None:
            waiting.pop(self, None)
            if self._headers_timer is not None:
                self._headers_timer.cancel()
                self._headers_timer = None

    return Connection


def _let_the_kernel_give_up(transport: asyncio.Transport, seconds: float) -> None:
    """Let the kernel close connections whose other side acknowledges nothing (Linux)."""
    connection = transport.get_extra_info("socket")
    if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        with suppress(OSError):  # not a TCP socket
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * seconds))
