"""Whether a pruned network is what the dependency graph says that it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from understudy.compress.graph import answers
from understudy.compress.structure import Part, silenced, without
from understudy.errors import InputError
from understudy.foreign import reason
from understudy.sources.forward import resized
from understudy.tasks.task import Task

_SAME = 1e-3
"""By how much the logits of the pruned network may differ from those of the one that ignores what was taken out,
relative to the largest of them."""


def pruned_copy(
    network: nn.Module, inputs: Any, task: Task, parts: Sequence[Part], removed: Sequence[Sequence[int]]
) -> nn.Module:
    """The pruned network, once it is known to run.

    Raises:
        InputError: naming the layer whose channels cannot be taken out.
    """
    try:
        found = without(network, inputs, task, parts, removed)
        for count in (1, 3):
            answers(found, resized(inputs, count), task)
    except Exception as error:
        raise _not_followed(network, inputs, task, parts) or error from error
    return found


def check_pruned(
    network: nn.Module,
    pruned: nn.Module,
    inputs: Any,
    task: Task,
    parts: Sequence[Part],
    removed: Sequence[Sequence[int]],
) -> None:
    """See that the pruned network is the one that does not listen to what was taken out.

    Raises:
        InputError: naming the layer where it is not.
    """
    exact = [bundles if part.is_exact else [] for part, bundles in zip(parts, removed, strict=True)]
    other = pruned if exact == list(removed) else pruned_copy(network, inputs, task, parts, exact)
    if not _same(other, silenced(network, inputs, task, parts, exact), inputs, task):
        raise _not_followed(network, inputs, task, parts) or InputError(
            f"{type(network).__name__} answers otherwise without channels than when it ignores them: together they "
            "are used in a way that Torch-Pruning cannot follow. Keep some layers, or target: {sparsity: …}"
        )


def _not_followed(network: nn.Module, inputs: Any, task: Task, parts: Sequence[Part]) -> InputError | None:
    """What to say of the first layer that cannot lose a channel; None where each can lose one alone."""
    for number, part in enumerate(parts):
        removed = [[int(part.importance.argmin())] if each == number else [] for each in range(len(parts))]
        try:
            smaller = without(network, inputs, task, parts, removed)
            if not part.is_exact or _same(smaller, silenced(network, inputs, task, parts, removed), inputs, task):
                continue
            how = "answers otherwise than when it ignores them"
        except Exception as error:  # whatever a user's own layer raises
            how = f"fails: {reason(error)}"
        name = part.layer if part.heads is None else part.heads.layer
        owner = network.get_submodule(name.rpartition(".")[0])
        return InputError(
            f"the dependency graph cannot follow what {type(owner).__name__} does with the outputs of its layer "
            f"{name!r}: without some of them the network {how}. Leave that layer whole with keep: [{name}]"
        )
    return None


def _same(one: nn.Module, other: nn.Module, inputs: Any, task: Task) -> bool:
    first, second = (answers(each, inputs, task).detach() for each in (one, other))
    scale = max(float(second.abs().max()), 1e-6)
    return first.shape == second.shape and float((first - second).abs().max()) <= _SAME * scale
