"""Teachers that run a network which others may look at."""

from __future__ import annotations

from torch import nn

from understudy.teachers.average import AverageTeacher
from understudy.teachers.converted import RuntimeTeacher
from understudy.teachers.module import ModuleTeacher
from understudy.teachers.teacher import Teacher


def live_network(teacher: Teacher | nn.Module | None) -> nn.Module | None:
    """The network behind a teacher: its weights, layers and buffers. None where there is none to look at.

    Args:
        teacher: any teacher; a network by itself is none.
    """
    return teacher.module if isinstance(teacher, ModuleTeacher | AverageTeacher | RuntimeTeacher) else None
