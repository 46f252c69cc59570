"""The body of a request: received within limits, and taken apart by its content type."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import final

from anyio import fail_after
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from understudy.serving.limits import Limits
from understudy.serving.refusal import RefusedError
from understudy.serving.uploads import Kind, kind_of

Part = tuple[str, bytes, Kind]
"""What to call it, its bytes, and what they are."""

_CHUNK = 2**16
_TAKEN = "application/json, image/… (one image), application/x-npy, or multipart/form-data with files"


@final
class Inbox:
    """Receives bodies, each of a limited size, and all of them together.

    Args:
        limits: how much, and for how long.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held_bytes = 0

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The whole body, which counts as held until the block ends.

        Raises:
            RefusedError: 413 for one that is too large, 408 for one that is too slow, 503 when too much is held.
        """
        most = self._limits.max_body_bytes
        declared = request.headers.get("content-length", "0")
        if len(declared) > 15 or (declared.isdecimal() and int(declared) > most):
            raise _too_large(most)
        chunks: list[bytes] = []
        try:
            try:
                with fail_after(self._limits.timeout_s):
                    await self._receive(request, chunks)
            except TimeoutError as error:
                raise RefusedError(408, f"the body did not arrive within {self._limits.timeout_s:g} s") from error
            yield b"".join(chunks)
        finally:
            self.held_bytes -= sum(map(len, chunks))

    async def _receive(self, request: Request, chunks: list[bytes]) -> None:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self._limits.max_body_bytes:
                raise _too_large(self._limits.max_body_bytes)
            if self.held_bytes + len(chunk) > self._limits.max_held_bytes:
                raise RefusedError(503, "too many large requests at once; try again later", retry_after_s=1)
            self.held_bytes += len(chunk)
            chunks.append(chunk)


async def parts_of(body: bytes, headers: Headers, *, most: int) -> list[Part]:
    """What a body holds: one input, or the files of a form.

    Args:
        body: the whole of it.
        headers: of the request.
        most: how many files there may be.

    Raises:
        RefusedError: 415 for another content type, 400 for a form that is broken or holds no file.
    """
    if headers.get("content-encoding", "identity") != "identity":
        raise RefusedError(415, "the body is compressed; send it as it is")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _files(body, headers, most)
    if kind == "application/json" or kind.endswith("+json"):
        return [("input", body, "json")]
    if kind == "application/x-npy":
        return [("input", body, "array")]
    if kind == "application/octet-stream":
        return [("input", body, kind_of(body))]
    if kind.startswith("image/"):
        return [("input", body, "image")]
    given = repr(kind[:80]) if kind else "none"
    raise RefusedError(415, f"the Content-Type is {given}; expected {_TAKEN}")


async def _files(body: bytes, headers: Headers, most: int) -> list[Part]:
    parser = MultiPartParser(headers, _in_chunks(body), max_files=most, max_fields=most)
    parser.spool_max_size = len(body) + 1  # never onto a disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RefusedError(400, f"the form is broken: {error.message}") from error
    except Exception as error:  # of the parser, which checks some things as it goes
        raise RefusedError(400, "the form is broken") from error
    files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
    if not files:
        raise RefusedError(
            400, "the form holds no file; expected one for each image, such as curl -F image=@photo.jpg gives"
        )
    parts: list[Part] = []
    for name, file in files:
        data = await file.read()
        parts.append(((file.filename or name)[:80], data, kind_of(data)))
    await form.close()
    return parts


async def _in_chunks(body: bytes) -> AsyncGenerator[bytes, None]:
    """A large form is read by pieces, between which other requests are served."""
    for first in range(0, len(body), _CHUNK):
        yield body[first : first + _CHUNK]
        await asyncio.sleep(0)


def _too_large(most: int) -> RefusedError:
    return RefusedError(413, f"the body is too large; expected {most:,} bytes at most")
