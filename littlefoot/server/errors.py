"""Define refusals in the form of OpenAI's API."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse


class ApiError(Exception):
    """Refusal of a request, with its status and body."""

    def __init__(
        self, status: int, message: str, code: str, param: str | None = None, retry_after: int | None = None
    ) -> None:
        """
        Args:
            status: HTTP status.
            message: the fault and the remedy.
            code: code for programs, such as ``model_not_found``.
            param: the wrong parameter.
            retry_after: seconds after which another try makes sense.
        """
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.param, self.retry_after = param, retry_after

    @property
    def body(self) -> dict[str, Any]:
        """Return the body, ``{"error": {...}}``."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        if self.status == 429:
            kind = "rate_limit_error"
        return {
            "error": {"message": self.message, "type": kind, "param": self.param, "code": self.code},
        }

    def response(self) -> JSONResponse:
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.status in (408, 413, 415):  # the rest of the request is not read
            headers["Connection"] = "close"
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers)


def invalid(message: str, param: str | None = None) -> ApiError:
    """Return the refusal of a wrong value, 400."""
    return ApiError(400, message, "invalid_value", param)
