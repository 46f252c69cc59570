"""Teachers that change while the student trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from understudy.batch import Batch
from understudy.knowledge import Knowledge
from understudy.teachers.ensemble import Ensemble
from understudy.teachers.teacher import Teacher


@runtime_checkable
class StatefulTeacher(Protocol):
    """A teacher that changes during a training by a rule of its own, so that a checkpoint must hold its state."""

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        """As every teacher."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that a training needs to go on with this teacher."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state_dict` gave; the student has its weights of that moment already.

        Raises:
            InputError: when the state is that of another teacher.
        """
        ...


def stateful_teachers(teacher: Teacher | None) -> dict[str, StatefulTeacher]:
    """Those of a teacher, or of an ensemble's members by name, that change while the student trains.

    A teacher that is an ``nn.Module`` has a ``state_dict`` too, but is frozen: it is none of them.

    Args:
        teacher: any teacher, or None.
    """
    members = teacher.members if isinstance(teacher, Ensemble) else {"teacher": teacher}
    return {
        name: member
        for name, member in members.items()
        if isinstance(member, StatefulTeacher) and not isinstance(member, nn.Module)
    }
