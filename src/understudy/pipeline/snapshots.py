"""Snapshots: what a model was on the way to what it became."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, final

from pydantic import Field
from torch import nn

from understudy.engine.history import Record
from understudy.engine.loop import Moment
from understudy.pipeline.stage import snapshot_name

Part = Annotated[float, Field(gt=0.0, le=1.0)]
Parts = Annotated[tuple[Part, ...], Field(min_length=1)]
Count = Annotated[int, Field(ge=1, le=999)]
Snapshots = Count | Parts
"""At which parts of a training its weights are kept: a list of them, or into how many equal parts it is divided."""


def parts_of(snapshots: Snapshots | None) -> tuple[float, ...]:
    """The parts of the training, above 0 and up to 1, in the order of the snapshots.

    Example:
        >>> parts_of(4)
        (0.25, 0.5, 0.75, 1.0)
    """
    if isinstance(snapshots, int):
        return tuple(number / snapshots for number in range(1, snapshots + 1))
    return snapshots or ()


def snapshot_steps(parts: Sequence[float], total: int) -> tuple[int, ...]:
    """After how many of ``total`` steps each snapshot is taken, 1 at least."""
    return tuple(max(round(part * total), 1) for part in parts)


@final
class SnapshotTaker:
    """A callback that leaves the student's weights at some parts of its training.

    When a training is taken up again, the snapshots before its checkpoint are there already, and those after it are
    made once more, from the same weights.

    Args:
        parts: of the training, above 0 and up to 1.
        save: called with the snapshot's name and the student; at the end of the step, and before its checkpoint.
    """

    def __init__(self, parts: Sequence[float], save: Callable[[str, nn.Module], None]) -> None:
        self._parts, self._save = parts, save

    def stepped(self, moment: Moment) -> None:
        """Save what is due after this step."""
        steps = snapshot_steps(self._parts, round(moment.step / moment.progress))
        for number, step in enumerate(steps, start=1):
            if step == moment.step:
                self._save(snapshot_name(number), moment.student)

    def recorded(self, moment: Moment, record: Record) -> None:
        """Nothing is due after a validation."""
