"""Structured pruning: channels and heads are really taken out, until the network costs what it may."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from understudy.compress.following import check_pruned
from understudy.compress.graph import answers, traced, working_copy
from understudy.compress.importance import Importance, scores_of
from understudy.compress.structure import Part, parts_of, widths
from understudy.compress.target import Target
from understudy.compress.trials import Measure, Scope, Trials, order_of
from understudy.edits import Resized
from understudy.errors import InputError
from understudy.measure.cost import Cost, cost
from understudy.measure.latency import latency
from understudy.sources.forward import device_of, evaluating, moved, resized
from understudy.sources.state import load_state
from understudy.taps import unreadable, unwrapped
from understudy.tasks.task import Task


@dataclass(frozen=True)
class Pruned:
    """A network from which channels and heads were taken out.

    Attributes:
        network: a smaller copy; it has its modes, its device and its frozen weights as before.
        edit: what :func:`~understudy.sources.artifact.save_artifact` takes, so that the file can be loaded.
        before: what the network cost.
        after: what it costs now.
        widths: outputs and heads of each layer that has fewer now, before and after.
        left: layers whose channels had to stay, and why, in words.
        channels: the share of all channels and heads that could be taken out and stayed.
        reached: the value that the target is about, before and after: a count, milliseconds, or a share of channels.
    """

    network: nn.Module
    edit: Resized
    before: Cost
    after: Cost
    widths: dict[str, tuple[int, int]]
    left: dict[str, str]
    channels: float
    reached: tuple[float, float]


@final
class UnmetTargetError(InputError):
    """A network cannot be pruned as far as asked.

    Attributes:
        closest: the smallest network that it can be made.
    """

    def __init__(self, message: str, closest: Pruned) -> None:
        super().__init__(message)
        self.closest = closest


@torch.inference_mode(mode=False)
@torch.enable_grad()
def prune(
    model: nn.Module,
    example: Any,
    *,
    task: Task,
    target: Target,
    importance: Importance = "magnitude",
    scope: Scope = "global",
    keep: Sequence[str] = (),
    loader: Iterable[Any] | None = None,
    measure: Measure | None = None,
    least: float = 0.1,
    multiple: int = 1,
    tolerance: float = 0.02,
) -> Pruned:
    """Take out the least important channels and heads of a copy, until it costs no more than the target.

    Channels leave with all that depends on them, which Torch-Pruning's dependency graph says. Where there is attention,
    heads and the inner width of the other layers shrink, and the stream between the blocks keeps its width. What the
    network returns keeps its shape. The result is checked: it answers as the network did when it ignores what was
    taken out, and the edit makes the same network again.

    Args:
        model: trained; it is left as it is. Wrappers are looked through.
        example: a batch, as a loader gives it, or just its inputs if that is a tensor; of one sample or more.
        task: how it is called.
        target: what it may cost.
        importance: what is least important; see :func:`~understudy.compress.importance.scores_of`.
        scope: ``global``: the least important of the whole network, so that layers shrink unequally; ``layer``: the
            same share of each layer.
        keep: layers whose outputs stay, with all layers below them.
        loader: labelled batches for ``taylor`` and ``hessian``, all of which are seen; a few hundred samples do.
        measure: the time of a network in ms, for a target of latency; the median of single calls of the first sample
            in PyTorch, when not given.
        least: the share of its channels that each layer keeps at least.
        multiple: channels of a layer stay a multiple of this, where it loses some.
        tolerance: how far below the target, relative to it, the cost may end.

    Raises:
        UnmetTargetError: when the target cannot be reached; it has the closest network.
        InputError: for an example or a layer that does not fit, when the network cannot be followed, or when nothing
            can be taken out.

    Example:
        >>> from understudy.tasks import Classification
        >>> network = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
        >>> pruned = prune(network, torch.rand(2, 8), task=Classification(), target=Target(macs=0.5))
        >>> pruned.before.macs, pruned.after.macs, pruned.widths
        (384, 192, {'0': (32, 16)})
    """
    network, example = unwrapped(model), task.batch(example).inputs
    inputs = moved(resized(example, 2), device_of(network))
    if target.sparsity is not None:
        raise InputError("single weights are made zeros by understudy.sparsify; prune takes out channels and heads")
    if problems := unreadable(network, keep, "the network"):
        raise InputError("\n".join(problems))
    parts, left = ranked_parts(network, inputs, task, importance=importance, keep=keep, loader=loader)
    order = order_of(parts, scope, least)
    if not order:
        raise InputError(f"{type(network).__name__} has nothing to prune{_reasons(left)}")
    measure = measure or (lambda each: latency(each, example).median_ms)
    trials = Trials(network, inputs, task, parts, order, target, measure, multiple)
    count = trials.smallest(tolerance)
    found = trials.network(count)
    check_pruned(network, found, inputs, task, parts, trials.removed(count))
    before, after = widths(network), widths(found)
    pruned = Pruned(
        network=found,
        edit=_edit(network, found, inputs, task),
        before=cost(network, inputs),
        after=cost(found, inputs),
        widths={layer: (width, after[layer]) for layer, width in before.items() if after[layer] != width},
        left=left,
        channels=1 - count / sum(len(part.bundles) for part in parts),
        reached=(trials.whole, trials.value(count)),
    )
    if trials.value(count) > trials.bound and count == trials.most:
        raise UnmetTargetError(_missed(target, trials, count, pruned), pruned)
    return pruned


def ranked_parts(
    network: nn.Module,
    inputs: Any,
    task: Task,
    *,
    importance: Importance,
    keep: Sequence[str] = (),
    loader: Iterable[Any] | None = None,
) -> tuple[list[Part], dict[str, str]]:
    """What can be taken out of a network, how important it is, and why the rest has to stay; see :func:`prune`."""
    network = working_copy(network)
    output = answers(network, inputs, task)
    graph = traced(network, inputs, task)
    scores = scores_of(importance, network, task, loader)
    return parts_of(network, graph, keep, scores, output=output)


def _edit(network: nn.Module, pruned: nn.Module, inputs: Any, task: Task) -> Resized:
    edit = Resized.between(network, pruned)
    again = edit.replay(copy.deepcopy(network), inputs)
    load_state(again, pruned.state_dict(), whose="the pruned network")
    with torch.no_grad(), evaluating(again):
        same = torch.equal(answers(again, inputs, task), answers(pruned, inputs, task))
    if not same:
        raise InputError(
            f"{type(network).__name__} keeps what depends on its sizes outside of its weights, buffers and numbers, so "
            "that a pruned copy could not be loaded again. Keep such values in saved buffers (persistent=True)"
        )
    return edit


def _missed(target: Target, trials: Trials, count: int, pruned: Pruned) -> str:
    reached = trials.value(count)
    if target.is_time:
        wanted, got = f"{trials.bound:.3g} ms", f"{reached:.3g} ms, of {trials.whole:.3g} ms"
    elif target.channels is not None:
        wanted, got = f"a share of {target.channels:g}", f"{reached:.3g}"
    else:
        wanted, got = f"{trials.bound:,.0f} {target.name}", f"{reached:,.0f}, of {trials.whole:,.0f}"
    share = math.ceil(1000 * reached / trials.whole) / 1000
    hint = f"latency_ms: {reached:.3g}" if target.latency_ms is not None else f"{target.name}: {share:g}"
    return (
        f"target {target.name} {target.value:g} cannot be met: expected at most {wanted}, the closest is {got} (with "
        f"all that every layer can spare taken out). Ask for {hint} or more, keep less, or begin with a smaller "
        f"network{_reasons(pruned.left)}"
    )


def _reasons(left: dict[str, str]) -> str:
    """Why layers had to stay, but for what is no surprise."""
    told: dict[str, list[str]] = {}
    for layer, reason in left.items():
        told.setdefault(reason, []).append(layer)
    lines = [
        f"{layers[0]!r}{f' and {len(layers) - 1} more' if len(layers) > 1 else ''}: {reason}"
        for reason, layers in told.items()
    ]
    return f"; what has to stay: {'; '.join(lines[:5])}" if lines else ""
