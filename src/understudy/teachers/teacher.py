"""What every teacher can do."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from understudy.batch import Batch
from understudy.knowledge import Knowledge


@runtime_checkable
class Teacher(Protocol):
    """A source of knowledge. It is never a submodule of anything, so it cannot get into a checkpoint."""

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        """What the teacher knows about the batch, detached.

        Args:
            batch: the samples, on the device that the student uses.
            taps: the layers to read, the same ones at every call.

        Raises:
            InputError: when the teacher cannot answer, such as for a layer it does not have.
        """
        ...
