"""What may connect: how many at once, for how long in silence, and only HTTP."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, final

from uvicorn.protocols.http.h11_impl import H11Protocol

from understudy.serving.metrics import Meter, Refusal

SILENCE_S = 10.0
"""After which a connection is closed that has not sent the whole head of a request."""


def guarded(meter: Meter, *, most: int, silence_s: float = SILENCE_S) -> Callable[..., asyncio.Protocol]:
    """What makes uvicorn's protocol for each connection, with bounds that uvicorn does not have.

    h11 is the parser, as it alone bounds the head of a request (64 KiB).

    Args:
        meter: counts what is refused.
        most: connections at once.
        silence_s: between connecting, or an answer, and the next request.
    """

    def made(**given: Any) -> asyncio.Protocol:
        if len(given["server_state"].connections) >= most:
            return _Refusing(meter)
        protocol = H11Protocol(**given)
        watched = weakref.ref(protocol)
        protocol.send_400_response = partial(_refuse_garbage, watched, meter)
        _watch(watched, None, meter, silence_s)
        return protocol

    return made


@final
class _Refusing(asyncio.Protocol):
    """Says that there are too many connections, once the client has said something."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        asyncio.get_running_loop().call_later(1.0, transport.close)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002
        _answer(self._transport, 503, "too many connections at once; try again later", self._meter, "too_many")


def _refuse_garbage(watched: weakref.ref[H11Protocol], meter: Meter, msg: str) -> None:  # noqa: ARG001
    protocol = watched()
    if protocol is not None:
        _answer(protocol.transport, 400, "this is no HTTP/1.1 request, or its head is too large", meter, "no_http")


def _watch(watched: weakref.ref[H11Protocol], seen: Any, meter: Meter, silence_s: float) -> None:
    """Close a connection on which no request was begun since the last look; a weak reference lets closed ones go."""

    def look() -> None:
        protocol = watched()
        if protocol is None or protocol not in protocol.connections:
            return
        idle = protocol.cycle is None or protocol.cycle.response_complete
        if idle and protocol.cycle is seen:
            meter.refused("silent")
            protocol.transport.abort()
        else:
            _watch(watched, protocol.cycle if idle else _BUSY, meter, silence_s)

    asyncio.get_running_loop().call_later(silence_s, look)


def _answer(transport: Any, status: int, words: str, meter: Meter, reason: Refusal) -> None:
    if transport.is_closing():
        return
    meter.refused(reason)
    body = json.dumps({"error": words}).encode()
    head = f"HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    retry = "retry-after: 1\r\n" if status == 503 else ""
    transport.write(f"{head}{retry}connection: close\r\n\r\n".encode() + body)
    transport.close()


_BUSY = object()
