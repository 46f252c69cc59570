"""What a server allows."""

from __future__ import annotations

from typing import Annotated, final

from pydantic import Field

from understudy.spec import Spec

Count = Annotated[int, Field(ge=1)]


@final
class Limits(Spec):
    """How much a server takes on at once, and for how long it waits.

    Example:
        >>> Limits(max_batch=1).queue
        256
    """

    workers: Count = 1
    """Batches that are computed at the same time, each on a copy of the model."""
    max_batch: Count = 16
    """Samples that are computed together at most; 1 switches batching off."""
    batch_wait_ms: Annotated[float, Field(ge=0.0)] = 0.0
    """How long a sample waits for others to join it. With 0 a batch is what came in while the last one was computed."""
    queue: Count = 256
    """Samples that wait for the model at most; those beyond are refused with 503."""
    max_body_bytes: Count = 10 * 2**20
    """Size of a request's body; larger ones are refused with 413."""
    timeout_s: Annotated[float, Field(gt=0.0)] = 30.0
    """How long a request may take: 408 when its body has not come by then, 504 when its answer is not there."""
    connections: Count = 1000
    """Clients that may be connected at once; those beyond are refused with 503."""

    @property
    def max_held_bytes(self) -> int:
        """Of all bodies that are being received or read at the same time."""
        return 16 * self.max_body_bytes
