"""A server process: from binding the port to the last answer."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import torch

from understudy.errors import InputError, RunError
from understudy.extras import imported
from understudy.serving.limits import Limits
from understudy.serving.predictor import Predictor

if TYPE_CHECKING:
    import uvicorn

    from understudy.serving.application import Service

LIBRARIES = ("starlette", "uvicorn", "prometheus_client", "python_multipart")
_SETTLE_S = 0.2
"""How long a server that stops still answers that it does, so that nobody who was just let in is cut off."""
_SPARE_FILES = 128


def serve(
    load: Callable[[], Predictor],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    threads: int | None = None,
    tell: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> None:
    """Answer HTTP requests until SIGTERM or SIGINT; then answer those that are in flight, and return.

    Nothing is reached over the network but by who connects.

    Args:
        load: gives a model; called once for each of the ``workers``.
        host: a name or address of this machine; ``0.0.0.0`` lets other machines in.
        port: 0 for any that is free.
        limits: on sizes, times and numbers.
        threads: of the CPU for each worker; all cores shared out when not given.
        tell: is told where the server is, how it ended, and what failed.

    Raises:
        InputError: when a library is missing, or the address cannot be had.
        RunError: when the HTTP server ends by itself.
    """
    for library in LIBRARIES:
        imported(library, extra="serve", needed_by="understudy serve")
    limits = limits or Limits()
    with closing(_bound(host, port)) as listening:
        torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // limits.workers))
        predictors = [load() for _ in range(limits.workers)]
        service = _service(predictors, limits, tell)
        server = _server(service, limits)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="http")
        stop = threading.Event()
        asked = {number: signal.signal(number, lambda *_: _stopping(stop, server)) for number in _signals()}
        try:
            listening.listen(server.config.backlog)
            thread.start()
            tell(f"{predictors[0].name} is served on {_url(listening)} (Ctrl-C or SIGTERM ends it)")
            while thread.is_alive() and not stop.wait(0.5):
                pass
            if not stop.is_set():
                raise RunError("the HTTP server ended by itself; what it said is above")
            _drain(service, server, thread)
        finally:
            for number, handler in asked.items():
                signal.signal(number, handler)
            service.batcher.close()
            service.readers.shutdown(wait=False, cancel_futures=True)
    tell(f"stopped: {service.answered:,} requests were answered, {service.in_flight:,} were not")


def _service(predictors: list[Predictor], limits: Limits, tell: Callable[[str], None]) -> Service:
    from understudy.serving.application import Service
    from understudy.serving.batching import Batcher
    from understudy.serving.metrics import Meter

    meter = Meter(lambda: len(batcher))
    batcher = Batcher(predictors, limits, observe=meter.batch)
    return Service(
        card=predictors[0].card(),
        form=predictors[0].form,
        batcher=batcher,
        meter=meter,
        limits=limits,
        readers=ThreadPoolExecutor(max(2, os.cpu_count() or 1), thread_name_prefix="reader"),
        log=lambda text: tell(f"Error: {text}"),
    )


def _server(service: Service, limits: Limits) -> uvicorn.Server:
    import uvicorn

    from understudy.serving.application import application
    from understudy.serving.connections import guarded

    most = min(limits.connections, _open_files(limits.connections + _SPARE_FILES) - _SPARE_FILES)
    config = uvicorn.Config(
        application(service),
        http=cast(Any, guarded(service.meter, most=max(1, most))),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


def _drain(service: Service, server: uvicorn.Server, thread: threading.Thread) -> None:
    """Refuse new requests, wait for those in flight, and close the port."""
    service.stopping = True
    begun = time.monotonic()
    while thread.is_alive() and not server.force_exit:
        waited = time.monotonic() - begun
        if waited > service.limits.timeout_s + _SETTLE_S or (service.in_flight == 0 and waited > _SETTLE_S):
            break
        time.sleep(0.02)
    server.should_exit = True
    thread.join(service.limits.timeout_s)


def _stopping(stop: threading.Event, server: uvicorn.Server) -> None:
    """The first signal asks to stop, the second one to stop at once."""
    if stop.is_set():
        server.force_exit = True
    stop.set()


def _signals() -> list[signal.Signals]:
    """Those that end a server; none where another thread than the main one serves, since Python forbids it."""
    return [signal.SIGTERM, signal.SIGINT] if threading.current_thread() is threading.main_thread() else []


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise InputError(f"{host!r} is no address of this machine: {error}") from error
    if sys.platform != "win32":  # there it would let two servers share a port
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise InputError(
            f"port {port} of {host} cannot be had ({error.strerror}); give another one with --port, or 0 for any"
        ) from error
    return listening


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _open_files(wanted: int) -> int:
    """Let this process open as many files as it wants, or as many as it may; how many that is."""
    if sys.platform == "win32":
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    able = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (able, hard))
    return able
