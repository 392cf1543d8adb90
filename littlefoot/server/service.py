"""Hold what the requests to one server share."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from littlefoot.server.errors import ApiError
from littlefoot.server.jobs import Jobs
from littlefoot.server.limits import Limits
from littlefoot.server.metrics import Metrics
from littlefoot.server.models import Models

Message = TypeVar("Message")


class Service:
    """Models, threads, limits and rights of a server, for use from one event loop."""

    def __init__(
        self,
        models: Models,
        limits: Limits,
        api_key: str | None = None,
        origins: frozenset[str] = frozenset(),
        hosts: frozenset[str] | None = None,
        languages: tuple[str, ...] = ("en",),
    ) -> None:
        """
        Args:
            models: models that clients may request.
            limits: limits of the server.
            api_key: key that clients must send; None: no key is needed.
            origins: other sites whose pages may use the server, such as ``https://example.org``.
            hosts: names of the server besides those of this machine; None: any name.
            languages: what is spoken, for clients that ask (Wyoming).
        """
        self.models, self.limits, self.origins, self._hosts = models, limits, origins, hosts
        self._api_key, self.languages = api_key, languages
        self.jobs = Jobs(limits.parallel, limits.queue)
        # A thread for each stream: the chunks of those that wait at the same time are computed side by side.
        self.live_threads = ThreadPoolExecutor(limits.streams, thread_name_prefix="littlefoot-live")
        self.streams = 0
        self.ending = asyncio.Event()
        """Event that is set when the server stops: live streams send their last text and end."""
        self.metrics = Metrics(
            running=lambda: self.jobs.running, waiting=lambda: self.jobs.waiting, streams=lambda: self.streams
        )

    @property
    def needs_key(self) -> bool:
        return self._api_key is not None

    def check_key(self, key: str | None) -> None:
        """Check the API key, in the same time for all wrong keys of one length. Raises ApiError 401."""
        if self._api_key is None:
            return
        if not key:
            raise ApiError(
                401, "an API key is needed: send it as Authorization: Bearer KEY", "missing_api_key"
            )
        sent, wanted = (each.encode("utf-8", "surrogatepass") for each in (key, self._api_key))
        if not hmac.compare_digest(sent, wanted):
            raise ApiError(401, "the API key is wrong", "invalid_api_key")

    def check_host(self, headers: Headers) -> None:
        """Refuse a request to another name than the server's. Raises ApiError 403.

        If the name of a site is made to point to this machine (DNS rebinding), its pages have the same origin
        as the server, and no other check can distinguish their requests from those of the server's own page.
        """
        host = headers.get("host")
        if self._hosts is None or host is None:  # every browser sends it
            return
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            name = ""
        if name not in self._hosts and not is_loopback(name):
            raise ApiError(
                403,
                f"this server does not accept the host name {host[:100]!a}: start it with --allow-host",
                "host_not_allowed",
            )

    def check_origin(self, headers: Headers) -> None:
        """Refuse pages of other sites, which would use visitors' browsers as clients. Raises ApiError 403."""
        origin = headers.get("origin")
        if origin is None or origin in self.origins:
            return
        try:
            same = urlsplit(origin).netloc == headers.get("host")
        except ValueError:
            same = False
        if not same:
            shown = ascii(origin[:100])
            raise ApiError(
                403,
                f"pages of {shown} may not use this server: start it with --allow-origin",
                "origin_not_allowed",
            )

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Count a live stream while it is open. Raises ApiError 429 if there are too many."""
        if self.streams >= self.limits.streams:
            raise ApiError(
                429,
                f"{self.streams} live streams are open already: try again later",
                "too_many_streams",
                None,
                10,
            )
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1

    async def received(self, message: Coroutine[Any, Any, Message]) -> Message | None:
        """Wait for a client's message; None if the server stops first. Raises ApiError 408 if none comes."""
        waiting = asyncio.create_task(message)
        ending = asyncio.create_task(self.ending.wait())
        idle = self.limits.idle_seconds
        try:
            await asyncio.wait({waiting, ending}, timeout=idle, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            if ending.done():
                return None
        finally:
            waiting.cancel()
            ending.cancel()
        raise ApiError(408, f"nothing was received for {idle:g} s", "idle_timeout")

    def close(self) -> None:
        """Start no more work in threads."""
        self.jobs.close()
        self.models.close()
        self.live_threads.shutdown(wait=False, cancel_futures=True)


def is_unicode(*texts: str) -> bool:
    """Return True if UTF-8 can encode all texts; JSON and some encodings can hold halves of characters."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return True if an address or a name belongs to this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bearer(headers: Headers) -> str | None:
    """Extract the key of ``Authorization: Bearer KEY``."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
