"""What the requests to one server share."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from littlefoot.server.errors import ApiError
from littlefoot.server.jobs import Jobs
from littlefoot.server.limits import Limits
from littlefoot.server.metrics import Metrics
from littlefoot.server.models import Models


class Service:
    """Models, threads, limits and rights. Used from one event loop."""

    def __init__(
        self,
        models: Models,
        limits: Limits,
        api_key: str | None = None,
        origins: frozenset[str] = frozenset(),
        hosts: frozenset[str] | None = None,
    ) -> None:
        """
        Args:
            models: that can be asked for.
            limits: what is taken on.
            api_key: that clients must know; None: nobody needs one.
            origins: of other sites whose pages may use the server, such as ``https://example.org``.
            hosts: names besides this machine's own under which the server may be asked; None: any.
        """
        self.models, self.limits, self.origins, self._hosts = models, limits, origins, hosts
        self._api_key = api_key
        self.jobs = Jobs(limits.parallel, limits.queue)
        self.live_threads = ThreadPoolExecutor(limits.parallel, thread_name_prefix="littlefoot-live")
        self.streams = 0
        self.ending = asyncio.Event()
        """Set when the server stops: live streams say what they have heard, and end."""
        self.metrics = Metrics(
            running=lambda: self.jobs.running, waiting=lambda: self.jobs.waiting, streams=lambda: self.streams
        )

    @property
    def needs_key(self) -> bool:
        return self._api_key is not None

    def check_key(self, key: str | None) -> None:
        """Raises ApiError 401. Takes the same time for any wrong key of one length."""
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
        """Refuse what was sent to another name than the server's. Raises ApiError 403.

        A site whose name is made to lead here (DNS rebinding) has pages that are of one origin with the
        server, and whose requests no other check could tell from the server's own page's.
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
                f"this server is not asked as {host[:100]!a}: start it with --allow-host",
                "host_not_allowed",
            )

    def check_origin(self, headers: Headers) -> None:
        """Pages of other sites may not use their visitors' browsers as clients. Raises ApiError 403."""
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
        """A live stream is open. Raises ApiError 429 where there are too many."""
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

    def close(self) -> None:
        """Begin nothing more in threads."""
        self.jobs.close()
        self.models.close()
        self.live_threads.shutdown(wait=False, cancel_futures=True)


def is_unicode(*texts: str) -> bool:
    """Whether texts can be sent: JSON and some encodings can hold halves of characters, UTF-8 cannot."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether an address or a name is of this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bearer(headers: Headers) -> str | None:
    """The key of ``Authorization: Bearer KEY``."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
