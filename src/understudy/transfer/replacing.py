"""A student that grows inside its teacher: its blocks stand in for the teacher's, some at first, in the end all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, final

import torch
from pydantic import Field
from torch import nn

from understudy.compress.graph import answers
from understudy.distiller import Distiller
from understudy.engine.pace import Pace
from understudy.errors import InputError
from understudy.sources.forward import device_of, moved, resized
from understudy.spec import Spec
from understudy.taps import unwrapped
from understudy.tasks.task import Task
from understudy.transfer.blocks import paired_blocks


@final
class Replacing(Spec):
    """Train each block of the student in the place of some of the teacher's, in random company of both.

    References:
        Xu et al.: BERT-of-Theseus: Compressing BERT by Progressive Module Replacing, EMNLP 2020 (arXiv:2002.02925),
        with its linear curriculum.
    """

    start: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """How likely, at first, a block is the student's in a step; it rises evenly to 1."""
    until: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.7
    """The part of the training after which all blocks are the student's. Until then only they train, and what is
    around them, such as embeddings and the head, stays as it begins."""

    def rate(self, progress: float) -> float:
        """How likely a block is the student's.

        Args:
            progress: part of the training that was made.

        Example:
            >>> [round(Replacing(start=0.5, until=0.5).rate(progress), 2) for progress in (0.0, 0.25, 0.5, 1.0)]
            [0.5, 0.75, 1.0, 1.0]
        """
        return min(1.0, self.start + (1.0 - self.start) * progress / self.until)


@dataclass
class _Draw:
    """Which blocks are the student's in this step."""

    own: list[bool]
    is_trial: bool = True
    """Whether the network is only called to see that the teacher's blocks fit."""

    def again(self, rate: float) -> None:
        """Draw; where none would be the student's, one is, since nothing could be learnt otherwise."""
        drawn = torch.rand(len(self.own)) < rate
        if not drawn.any():
            drawn[torch.randint(len(self.own), ())] = True
        self.own = drawn.tolist()


class _Either:
    """What a block of the student computes while it trains: itself, or the teacher's in its place.

    An object, not a function, so that a copy of the student (its moving average) has the copy of the block.
    """

    def __init__(self, block: nn.Module, stands_for: list[nn.Module], draw: _Draw, number: int) -> None:
        self.block, self.stands_for, self.draw, self.number = block, stands_for, draw, number

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if not self.draw.is_trial and (not self.block.training or self.draw.own[self.number]):
            return type(self.block).forward(self.block, *arguments, **named)
        output: Any = None
        for block in self.stands_for:
            output = block(*arguments, **named)
            arguments = (output[0] if isinstance(output, tuple) else output, *arguments[1:])
        return output


@final
class Replaced:
    """The blocks of a student that stand in for a teacher's until :meth:`remove` is called."""

    def __init__(self, blocks: list[nn.Module], hook: Any) -> None:
        self._blocks, self._hook = blocks, hook

    def remove(self) -> None:
        """Let every block be the student's own again."""
        self._hook.remove()
        for block in self._blocks:
            block.__dict__.pop("forward", None)


def replace_blocks(distiller: Distiller, teacher: nn.Module, replacing: Replacing, *, example: Any) -> Replaced:
    """Let the blocks of a distiller's student stand in for those of a teacher, as far as a training is.

    In eval mode the student is always itself. The teacher's blocks are frozen and in eval mode. Which block is whose is
    drawn at each step from torch's global generator; one at least is the student's.

    Args:
        distiller: whose student; it has to be called with ``progress``, as :func:`~understudy.fit` does.
        teacher: a network of the same kind, with as many blocks or more; on the student's device.
        replacing: how likely, and until when.
        example: a batch.

    Raises:
        InputError: when there are no blocks of one kind in both, or the student's others do not fit around the
            teacher's.
    """
    student, teacher = unwrapped(distiller.student), unwrapped(teacher)
    pairs = paired_blocks(student, teacher)
    teacher.eval().requires_grad_(False)
    draw = _Draw([False] * len(pairs))
    blocks = [student.get_submodule(path) for path in pairs]
    for number, (block, others) in enumerate(zip(blocks, pairs.values(), strict=True)):
        block.__dict__["forward"] = _Either(block, [teacher.get_submodule(path) for path in others], draw, number)

    def again(_: nn.Module, __: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        draw.again(replacing.rate(named.get("progress") or 0.0))

    replaced = Replaced(blocks, distiller.register_forward_pre_hook(again, with_kwargs=True))
    try:
        _check_fit(student, example, distiller.task)
    except InputError:
        replaced.remove()
        raise
    draw.is_trial = False
    return replaced


def pace_of_blocks(student: nn.Module, teacher: nn.Module, replacing: Replacing) -> Pace:
    """A pace at which nothing but the blocks trains until all of them are the student's.

    Args:
        student: whose blocks.
        teacher: whose places they take.
        replacing: until when.

    Raises:
        InputError: when there are no blocks of one kind in both.
    """
    student = unwrapped(student)
    inside = tuple(f"{path}." for path in paired_blocks(student, unwrapped(teacher)))
    around = [name for name, _ in student.named_parameters() if not name.startswith(inside)]
    return Pace(begins=dict.fromkeys(around, replacing.until))


def _check_fit(student: nn.Module, example: Any, task: Task) -> None:
    """See that the student can be called with all blocks of the teacher."""
    inputs = moved(resized(task.batch(example).inputs, 2), device_of(student))
    try:
        answers(student, inputs, task)
    except InputError as error:
        raise InputError(
            f"the teacher's blocks do not fit between the student's other layers: {error}. Expected a student that "
            "differs from its teacher only inside of its blocks or in their number, with as wide a stream between them"
        ) from error
