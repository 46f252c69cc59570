"""``understudy serve``: a model behind HTTP."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from understudy.cli.failures import tell
from understudy.cli.predict import Artifact, FileSize, Runtime, opened
from understudy.errors import InputError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def serve_model(
    artifact: Artifact,
    host: Annotated[str, typer.Option("--host", help="0.0.0.0 lets other machines in; anybody may ask then.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 for any that is free.")] = 8000,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Copies of the model that compute at once.")] = 1,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads of each; a fair share.")] = None,
    max_batch: Annotated[
        int, typer.Option("--max-batch", min=1, help="Inputs computed together; 1: batching off.")
    ] = 16,
    batch_wait_ms: Annotated[
        float, typer.Option("--batch-wait-ms", min=0, help="How long an input waits for others to join it.")
    ] = 0.0,
    max_body: Annotated[str, typer.Option("--max-body", metavar="SIZE", help="Of a request, such as 10MiB.")] = "10MiB",
    timeout: Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds that a request may take.")] = 30.0,
    queue: Annotated[int, typer.Option("--queue", min=1, help="Inputs that may wait for the model.")] = 256,
    runtime: Runtime = None,
    size: FileSize = None,
) -> None:
    """Answer POST /predict with JSON or images, until Ctrl-C or SIGTERM.

    GET / says what the model is and how to ask it; there are GET /health and GET /metrics (Prometheus) too. When it is
    ended, requests in flight are answered and new ones refused.

    Example: [bold]understudy serve runs/demo#student --port 8000[/bold], then
    [bold]curl -F image=@photo.jpg http://127.0.0.1:8000/predict[/bold]
    """
    max_body_bytes = parsed_bytes(max_body)
    from understudy.serving.limits import Limits
    from understudy.serving.server import serve

    limits = Limits(
        workers=workers,
        max_batch=max_batch,
        batch_wait_ms=batch_wait_ms,
        queue=queue,
        max_body_bytes=max_body_bytes,
        timeout_s=timeout,
    )
    serve(lambda: opened(artifact, runtime, size), host=host, port=port, limits=limits, threads=threads, tell=tell)


def parsed_bytes(text: str) -> int:
    """``10MB`` or ``10 MiB`` as a number of bytes.

    Raises:
        InputError: for anything else.

    Example:
        >>> parsed_bytes("1.5kB"), parsed_bytes("2MiB")
        (1500, 2097152)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", text.strip().lower())
    size = int(float(found[1]) * _UNITS[found[2] or ""]) if found else 0
    if size < 1:
        raise InputError(f"{text!r} is no size; expected bytes such as 500kB, 10MB or 10MiB")
    return size
