"""Define the application: routes, rights, headers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Security
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from littlefoot import __version__
from littlefoot.audio import isolation
from littlefoot.server.errors import ApiError
from littlefoot.server.live import live
from littlefoot.server.realtime import realtime
from littlefoot.server.schema import ANSWERS, REFUSALS, TRANSCRIPTION
from littlefoot.server.service import Service, bearer
from littlefoot.server.subtitles import subtitles
from littlefoot.server.transcriptions import transcribe

log = logging.getLogger("littlefoot.server")

STATIC = Path(__file__).parent / "static"

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def create_app(service: Service) -> FastAPI:
    """Create the application of a server."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        first = asyncio.create_task(_load_first(service))
        idle = asyncio.create_task(_unload_idle(service))
        await asyncio.to_thread(isolation.prepare)
        yield
        first.cancel()
        idle.cancel()
        service.close()

    app = FastAPI(
        title="littlefoot",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # the key protects the description as well
        redirect_slashes=False,  # a redirect would repeat whatever name the request gives the server
        lifespan=lifespan,
    )
    app.state.service = service
    _add_routes(app, service)
    app.mount("/static", StaticFiles(directory=STATIC))
    if service.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(service.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(_UnderItsName, service=service)
    app.add_middleware(_Observed, service=service)
    app.add_exception_handler(ApiError, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _failed)
    return app


async def _load_first(service: Service) -> None:
    with suppress(ApiError):  # the log has the error, and the next request tries again
        await service.models.ready(service.models.all()[0])


async def _unload_idle(service: Service) -> None:
    minutes = service.limits.idle_minutes
    while minutes is not None:
        await asyncio.sleep(min(30.0, 20 * minutes))
        service.models.unload_idle(60 * minutes)


def _add_routes(app: FastAPI, service: Service) -> None:
    async def allowed(request: Request) -> None:
        service.check_origin(request.headers)
        service.check_key(bearer(request.headers))

    rights = [Depends(allowed)]
    if service.needs_key:
        rights.append(Security(HTTPBearer(auto_error=False)))  # the description only repeats it
    guarded: dict[str, Any] = {"dependencies": rights, "response_model": None}
    app.post("/v1/audio/transcriptions", responses=ANSWERS, openapi_extra=TRANSCRIPTION, **guarded)(
        transcribe
    )
    app.post("/v1/subtitles", responses=REFUSALS, **guarded)(subtitles)
    app.websocket("/v1/live")(live)
    app.websocket("/v1/realtime")(realtime)

    @app.get("/v1/models", responses=REFUSALS, **guarded)
    async def models() -> dict[str, Any]:
        """List the models, the default first."""
        return {"object": "list", "data": [model.describe() for model in service.models.all()]}

    @app.get("/v1/models/{name:path}", responses=REFUSALS, **guarded)
    async def model(name: str) -> dict[str, Any]:
        """Describe one model."""
        return service.models.find(name).describe()

    @app.get("/openapi.json", include_in_schema=False, **guarded)
    async def openapi() -> Response:
        return JSONResponse(app.openapi())

    @app.get("/", include_in_schema=False, response_model=None)
    async def page() -> Response:
        return FileResponse(STATIC / "index.html")

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Report that the server answers."""
        return {"status": "ok", "version": __version__}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return the figures for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    refusal = ApiError(
        error.status_code,
        f"{request.method} {request.url.path[:100]}: {phrase}",
        phrase.lower().replace(" ", "_"),
    )
    return JSONResponse(refusal.body, error.status_code, dict(error.headers or {}))


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # for the log only


async def _failed(request: Request, error: Exception) -> Response:
    return ApiError(500, "the server failed: see its log", "server_error").response()


class _UnderItsName:
    """Middleware that accepts only requests to a name of the server."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                self._service.check_host(Headers(scope=scope))
            except ApiError as error:
                if scope["type"] == "http":
                    await error.response()(scope, receive, send)
                else:
                    await WebSocket(scope, receive, send).send_denial_response(error.response())
                return
        await self._app(scope, receive, send)


class _Observed:
    """Middleware that adds headers for safety, counts responses, and logs each one."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status, started = 500, False

        async def watched(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-cache" if _is_file(scope) else "no-store")
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            if not self._service.ending.is_set():
                raise
            if not started:
                error = ApiError(503, "the server stops: try again later", "stopping", retry_after=10)
                await error.response()(scope, receive, watched)
        finally:
            route = _route(scope)
            seconds = time.monotonic() - began
            self._service.metrics.requests.labels(route, status).inc()
            self._service.metrics.seconds.labels(route).observe(seconds)
            log.info("%s %s %d %.3f s", scope["method"], ascii(scope["path"][:100])[1:-1], status, seconds)


def _is_file(scope: Scope) -> bool:
    return bool(scope["path"] == "/" or scope["path"].startswith("/static/"))


def _route(scope: Scope) -> str:
    """Return a label with few values: the path of the route, never that of the request."""
    return getattr(scope.get("route"), "path", None) or ("/static" if _is_file(scope) else "none")
