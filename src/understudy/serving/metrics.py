"""What a server counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

GONE = 499
"""The status of a request whose client went away before its answer; nothing was sent."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

Refusal = Literal["no_http", "too_many", "silent"]


@final
class Meter:
    """Counters and histograms of one server; every method may be called from any thread.

    Args:
        waiting: samples in the queue, asked when the metrics are read.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        disable_created_metrics()  # a second number for each one, of no use here
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "understudy_requests",
            "Requests that were answered; status 499 are those whose client went away.",
            ["path", "status"],
            registry=self._registry,
        )
        self._refused = Counter(
            "understudy_connections_refused",
            "Connections that were closed before any request was understood.",
            ["reason"],
            registry=self._registry,
        )
        self._seconds = self._histogram("request_seconds", "Of POST /predict, from headers to answer.", _SECONDS)
        self._model_seconds = self._histogram("model_seconds", "That the model took for a batch.", _SECONDS)
        self._sizes = self._histogram("batch_size", "Samples that the model answered together.", _SIZES)
        self.in_flight = Gauge(
            "understudy_requests_in_flight", "POST /predict that are being answered.", registry=self._registry
        )
        queue = Gauge("understudy_queue_length", "Samples that wait for the model.", registry=self._registry)
        queue.set_function(waiting)

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request has been answered."""
        self._requests.labels(path, str(status)).inc()
        if path == "/predict":
            self._seconds.observe(seconds)

    def batch(self, samples: int, seconds: float) -> None:
        """The model has answered."""
        self._sizes.observe(samples)
        self._model_seconds.observe(seconds)

    def refused(self, reason: Refusal) -> None:
        """A connection was closed: its bytes were no HTTP, there were too many, or nothing came."""
        self._refused.labels(reason).inc()

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"understudy_{name}", meaning, buckets=buckets, registry=self._registry)
