"""The requests that a server answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from anyio import fail_after
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from understudy.errors import InputError, UnderstudyError
from understudy.serving.batching import Batcher, QueueFullError
from understudy.serving.bodies import Inbox, Part, parts_of
from understudy.serving.limits import Limits
from understudy.serving.metrics import CONTENT_TYPE, GONE, Meter
from understudy.serving.predictor import Answer
from understudy.serving.refusal import RefusedError
from understudy.serving.samples import Piece, Sample, SampleForm

Handler = Callable[[Request], Awaitable[Response]]
_LARGE_BYTES = 2**16
_SMALL_BYTES = 2**16
"""Of a body that is read in less time than a thread needs to begin."""
_FEW_PIXELS = 2**14
"""Of all images in a body that are decoded in as little."""


@dataclass
class Service:
    """What the requests share.

    Attributes:
        card: what the model is.
        form: what its samples are.
        batcher: answers samples.
        meter: counts.
        limits: of a request.
        readers: threads that decode what was sent.
        log: is told of what went wrong on this side, in one line.
        stopping: whether new requests are refused.
        in_flight: POST /predict that are being answered.
        answered: those that were given predictions.
    """

    card: dict[str, Any]
    form: SampleForm
    batcher: Batcher
    meter: Meter
    limits: Limits
    readers: ThreadPoolExecutor
    log: Callable[[str], None]
    stopping: bool = False
    in_flight: int = field(default=0, init=False)
    answered: int = field(default=0, init=False)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """While a request is in flight."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        self.in_flight += more
        self.meter.in_flight.set(self.in_flight)


def application(service: Service) -> ASGIApp:
    """``POST /predict``, ``GET /health``, ``GET /metrics`` and ``GET /``; every error is ``{"error": …}``.

    Each request is counted and timed; whatever goes wrong becomes an answer without a trace.
    """
    routes = _routes(service)

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        path = scope["path"] if scope["path"] in routes else "other"
        status, begun = GONE, time.monotonic()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if service.stopping:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            if len(message.get("body", b"")) > _LARGE_BYTES:  # a client that does not read must not wait for ever
                with fail_after(service.limits.timeout_s):
                    await send(message)
            else:
                await send(message)

        # What is refused as the server stops is not waited for: there may always be more of it.
        with service.counted() if path == "/predict" and not service.stopping else nullcontext():
            try:
                response = await _response(service, routes.get(path), Request(scope, receive))
                if response is not None:
                    await response(scope, receive, sending)
            finally:
                service.answered += path == "/predict" and status == 200
                service.meter.request(path, status, time.monotonic() - begun)

    return call


def _routes(service: Service) -> dict[str, tuple[str, Handler]]:
    inbox = Inbox(service.limits)

    async def predict(request: Request) -> Response:
        if service.stopping:
            raise RefusedError(503, "the server is stopping", retry_after_s=1)
        if len(service.batcher) >= service.limits.queue:
            raise _full("the queue is full; try again later")
        deadline = time.monotonic() + service.limits.timeout_s
        top = _top(request)
        async with inbox.body(request) as body:
            parts = await parts_of(body, request.headers, most=service.limits.queue)
            del body
            samples = await _read(service, parts)
        predictions = await _answered(service, request, samples, top, deadline)
        return JSONResponse({"predictions": [prediction.as_json() for prediction in predictions]})

    async def health(request: Request) -> Response:  # noqa: ARG001
        status = "stopping" if service.stopping else "ok"
        return JSONResponse({"status": status}, status_code=503 if service.stopping else 200)

    async def metrics(request: Request) -> Response:  # noqa: ARG001
        return Response(service.meter.text(), media_type=CONTENT_TYPE)

    async def index(request: Request) -> Response:
        curl = _curl(service.form, str(request.base_url))
        return JSONResponse({**service.card, "limits": service.limits.model_dump(), "try": curl})

    return {
        "/": ("GET", index),
        "/predict": ("POST", predict),
        "/health": ("GET", health),
        "/metrics": ("GET", metrics),
    }


async def _response(service: Service, route: tuple[str, Handler] | None, request: Request) -> Response | None:
    """The answer to a request; None when there is nobody any more who waits for it."""
    try:
        if route is None:
            raise RefusedError(404, "there is POST /predict, GET /health, GET /metrics and GET / here, nothing else")
        method, handler = route
        if request.method != method and (request.method, method) != ("HEAD", "GET"):
            raise RefusedError(405, f"the method is {request.method[:20]}; expected {method}")
        return await handler(request)
    except ClientDisconnect:
        return None
    except RefusedError as error:
        headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        if error.status == 405 and route is not None:
            headers["Allow"] = route[0]
        return JSONResponse({"error": str(error)}, status_code=error.status, headers=headers)
    except Exception as error:  # nobody outside is shown a trace
        service.log(f"{type(error).__name__}: {error}")
        return JSONResponse({"error": "the server failed; its log says why"}, status_code=500)


async def _read(service: Service, parts: list[Part]) -> list[Sample]:
    """Decode what is small here and all else in a thread, so that other requests are served meanwhile."""

    def pieces() -> list[Piece]:
        found = [piece for name, data, kind in parts for piece in service.form.pieces(data, kind, whose=name)]
        if len(found) > service.limits.queue:
            raise RefusedError(413, f"{len(found):,} inputs at once; expected {service.limits.queue:,} at most")
        return found

    def read(found: list[Piece]) -> list[Sample]:
        return [piece.make() for piece in found]

    elsewhere = partial(asyncio.get_running_loop().run_in_executor, service.readers)
    small = sum(len(data) for _, data, _ in parts) <= _SMALL_BYTES
    try:
        found = pieces() if small else await elsewhere(pieces)
        if small and sum(piece.pixels for piece in found) <= _FEW_PIXELS:
            return read(found)
        return await elsewhere(read, found)
    except InputError as error:
        raise RefusedError(422, str(error)) from error


async def _answered(
    service: Service, request: Request, samples: list[Sample], top: int, deadline: float
) -> list[Answer]:
    """Wait for the model, until it has answered, the time is over, or the client is gone."""
    loop = asyncio.get_running_loop()
    try:
        futures = service.batcher.submit(samples, top=top, call=loop.call_soon_threadsafe)
    except QueueFullError as error:
        raise _full(str(error)) from error
    gone = asyncio.ensure_future(_disconnected(request))
    waited_for: set[Any] = set(futures)
    over = loop.create_future()

    def ended(future: Any) -> None:
        waited_for.discard(future)
        if not over.done() and (not waited_for or future is gone):
            over.set_result(None)

    for future in (gone, *futures):
        future.add_done_callback(ended)
    try:
        if waited_for:
            with fail_after(deadline - time.monotonic()):
                await over
        if waited_for:
            raise ClientDisconnect
        return [future.result() for future in futures]
    except TimeoutError as error:
        waited = f"there was no answer within {service.limits.timeout_s:g} s"
        raise RefusedError(504, waited, retry_after_s=1) from error
    except UnderstudyError as error:
        if error.__cause__ is not None:
            service.log(f"{error}: {error.__cause__}")
        raise RefusedError(422 if isinstance(error, InputError) else 500, str(error)) from error
    finally:
        for future in (gone, *futures):
            future.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _top(request: Request) -> int:
    text = request.query_params.get("top", "3")
    if not (text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= 1000):
        raise RefusedError(422, f"top is {text[:20]!r}; expected a whole number from 1 to 1000")
    return int(text)


def _full(words: str) -> RefusedError:
    return RefusedError(503, words, retry_after_s=1)


def _curl(form: SampleForm, url: str) -> str:
    if form.layout == "tensor" and form.tensors[0].form is not None:
        return f"curl -F image=@photo.jpg {url}predict"
    value = '"a text"' if form.tensors[0].text else "…"
    return f"curl -H 'Content-Type: application/json' -d '{{\"input\": {value}}}' {url}predict"
