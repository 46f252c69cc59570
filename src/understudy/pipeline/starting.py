"""With which weights a student begins: an earlier model's, or as much of them as fits into it."""

from __future__ import annotations

from typing import final

from torch import nn

from understudy.batch import Batch
from understudy.errors import InputError, listing
from understudy.pipeline.directory import read_json, write_json
from understudy.pipeline.stage import Context, Reference
from understudy.spec import Spec
from understudy.taps import unwrapped
from understudy.tasks.task import Task
from understudy.transfer import Depth, Transferred, Width, transfer_weights

TRANSFERRED = "transferred.json"
"""In the stage's directory: what the student got."""


@final
class Start(Spec):
    """Weights of a larger model of the same kind, for a student that is narrower or shallower."""

    model: Reference
    """The earlier stage whose weights are taken, such as the teacher's."""
    depth: Depth = "even"
    """Which blocks, where the student has fewer: `even`ly spaced with the first and the last one, the `first` or the
    `last` ones, or the numbers of the teacher's blocks by the path of their row: `{encoder.layer: [0, 4, 8, 11]}`."""
    width: Width = "importance"
    """Which channels and heads, where the student has fewer: by `importance`, the ones with the largest weights, or
    the `first` ones."""
    head: bool = True
    """Whether the last layer begins with the teacher's, where both have as many classes."""

    def transfer(self, network: nn.Module, origin: nn.Module, *, example: Batch, task: Task) -> Transferred:
        """Put as much of the earlier model into a network as fits; see :func:`~understudy.transfer.transfer_weights`.

        Raises:
            InputError: when it is another kind of network.
        """
        return transfer_weights(
            network, origin, example=example, task=task, depth=self.depth, width=self.width, head=self.head
        )


def start_reads(start: Start | str | None) -> tuple[str, ...]:
    """The earlier model that somebody starts from, if any."""
    if start is None:
        return ()
    return (start.model if isinstance(start, Start) else start,)


def begin_with(network: nn.Module, origin: nn.Module, start: Start | str, example: Batch, context: Context) -> None:
    """Put an earlier model's weights into a network.

    Args:
        network: changed in place.
        origin: the earlier model.
        start: how the recipe has it.
        example: a batch.
        context: the run.

    Raises:
        InputError: when it is another network.
    """
    if not isinstance(start, Start):
        check_same_network(network, origin)
        unwrapped(network).load_state_dict(unwrapped(origin).state_dict())
        return
    found = start.transfer(network, origin, example=example, task=context.task)
    context.progress.message(f"{context.directory.path.parent.name}: {found}")
    if context.process.is_main:
        write_json(context.directory.path / TRANSFERRED, found.told())


def start_record(start: Start | str | None, context: Context) -> dict[str, object]:
    """What a stage records of how its student began.

    Args:
        start: how the recipe has it.
        context: the run.
    """
    if not isinstance(start, Start):
        return {"start": start}
    return {"start": start.model, "transferred": read_json(context.directory.path / TRANSFERRED)}


def check_same_network(network: nn.Module, start: nn.Module) -> None:
    """See that one network can begin with the weights of another.

    Raises:
        InputError: naming what is not in both, or not of one shape.
    """
    own, other = (unwrapped(each).state_dict() for each in (network, start))
    names = [name for name in own | other if name not in own or name not in other]
    shapes = [
        f"{name!r} has the shape {tuple(other[name].shape)} there and {tuple(own[name].shape)} here"
        for name in own
        if name in other and own[name].shape != other[name].shape
    ]
    problems = shapes[:3] + ([f"not in both: {listing(names, most=4)}"] if names else [])
    if problems:
        raise InputError(
            f"expected a model of the same network to start from; {'; '.join(problems)}. For a narrower or shallower "
            "network of the same kind, write start: {model: …}"
        )
