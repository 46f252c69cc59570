"""Students whose blocks grow inside their teacher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from understudy.batch import Batch
from understudy.distiller import Distiller
from understudy.errors import InputError
from understudy.pipeline.stage import Context
from understudy.pipeline.students import Beginning, Student
from understudy.pipeline.training import evaluation_loader
from understudy.transfer.replacing import Replacing, pace_of_blocks, replace_blocks


def inside_of(teacher: nn.Module, replacing: Replacing, begin: Beginning, context: Context) -> Beginning:
    """The same student, of which nothing but the blocks trains until none of them is the teacher's.

    Args:
        teacher: a network of the same kind.
        replacing: until when.
        begin: makes the student.
        context: the run.

    Raises:
        InputError: where several processes train together; once it is made, when it has no such blocks.
    """
    if context.process.world > 1:
        raise InputError(
            f"replacing draws in each process which blocks train, and {context.process.world} processes have to "
            "compute the same gradients; train with one"
        )

    def begin_inside(example: Batch) -> Student:
        student = begin(example)
        return replace(student, pace=pace_of_blocks(student.network, teacher, replacing))

    return begin_inside


def putting_inside(
    teacher: nn.Module, replacing: Replacing, before: Callable[[Distiller], None], context: Context
) -> Callable[[Distiller], None]:
    """What puts the student's blocks in the teacher's place before the first step.

    Args:
        teacher: the same.
        replacing: how likely each is the student's.
        before: what else is done then, and first.
        context: the run.
    """

    def put(distiller: Distiller) -> None:
        before(distiller)
        replace_blocks(distiller, teacher, replacing, example=next(iter(evaluation_loader(context, "validation"))))

    return put
