"""Receive multipart forms with limits on size and time; large ones are kept on the disk."""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import tempfile
from typing import IO, Any

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from starlette.requests import Request
from starlette.types import Message

from littlefoot.server.errors import ApiError
from littlefoot.server.limits import Limits
from littlefoot.server.service import is_unicode

log = logging.getLogger("littlefoot.server")

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_IN_MEMORY = MultiPartParser.spool_max_size
_FIELDS, _FIELD_BYTES = 100, 100_000
_DRAINED_BYTES, _DRAINED_SECONDS = 64_000_000, 5.0


async def read_form(request: Request, limits: Limits) -> FormData:
    """Read a form of at most one file.

    Raises:
        ApiError: 400 for a broken form, 408 for one that stalls, 413 for one that is too large (noticed
            while it arrives), 415 for anything else, 507 if the disk is full.
        ClientDisconnect: the client disconnected.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = request.headers.get("content-encoding", "identity").lower()
    if kind != "multipart/form-data" or encoding != "identity":
        found = ascii((kind if encoding == "identity" else f"{kind}, {encoding}")[:100])
        await _drain(request, limits)
        raise ApiError(
            415,
            f"send multipart/form-data with the recording as 'file', not {found}",
            "unsupported_media_type",
        )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.body_bytes:
        raise await _too_large(request, limits)
    received = 0

    async def receive() -> Message:
        nonlocal received
        try:
            message = await asyncio.wait_for(request.receive(), limits.idle_seconds)
        except TimeoutError:
            raise ApiError(
                408, f"no data was received for {limits.idle_seconds:g} s: send it again", "upload_timeout"
            ) from None
        received += len(message.get("body", b""))
        if received > limits.body_bytes:
            raise await _too_large(request, limits)
        return message

    counted = Request(request.scope, receive)
    try:
        form = await counted.form(max_files=1, max_fields=_FIELDS, max_part_size=_FIELD_BYTES)
    except HTTPException as error:
        raise ApiError(400, f"the form cannot be read: {error.detail}", "invalid_form") from error
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        log.error("an upload cannot be kept in %s: %s", tempfile.gettempdir(), error)
        message = "the server has no room for the recording: try again later, or send less at once"
        raise ApiError(507, message, "insufficient_storage", "file", retry_after=60) from error
    if not all(is_unicode(name, value) for name, value in form.multi_items() if isinstance(value, str)):
        await form.close()
        raise ApiError(400, "the form's fields must be Unicode: send them as UTF-8", "invalid_form")
    return form


def recording(form: FormData) -> Recording:
    """Return the file of a form. Raises ApiError 400 if it is missing or empty."""
    upload = form.get("file")
    if not isinstance(upload, UploadFile):
        raise ApiError(
            400, "the form has no file: send the recording as 'file', whole", "missing_file", "file"
        )
    if not upload.size:
        raise ApiError(400, "the file is empty", "empty_file", "file")
    return Recording(upload.file, upload.filename, upload.size)


class Recording(io.RawIOBase):
    """An uploaded file with the name that its sender gave it, for messages."""

    def __init__(self, file: IO[bytes], name: str | None, size: int) -> None:
        self._file = file
        self.raw = io.FileIO(file.fileno(), closefd=False) if size > _IN_MEMORY else None
        """File on the disk, if it is large enough to be kept there."""
        printable = "".join(letter for letter in name or "" if letter.isprintable())
        self.name = printable[-100:] or "the recording"

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()
        super().close()


async def _too_large(request: Request, limits: Limits) -> ApiError:
    await _drain(request, limits)
    megabytes = limits.body_bytes / 1e6
    return ApiError(
        413, f"the request is larger than {megabytes:g} MB: send it in parts", "file_too_large", "file"
    )


async def _drain(request: Request, limits: Limits) -> None:
    """Read more of a body that is refused.

    Many clients read a response only when they have sent everything. Otherwise they would see a broken
    connection instead.
    """
    if request.headers.get("expect", "").lower() == "100-continue":
        return  # such a client waits for permission
    left = _DRAINED_BYTES
    try:
        async with asyncio.timeout(min(_DRAINED_SECONDS, limits.idle_seconds)):
            while left > 0:
                message: dict[str, Any] = dict(await request.receive())
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return
