"""A scaled-down copy of any network: fewer blocks, narrower layers, the same kind of network."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from understudy.compress.graph import answers
from understudy.compress.pruning import prune
from understudy.compress.target import Target
from understudy.edits import AnyEdit, Shallower
from understudy.errors import InputError
from understudy.measure.cost import Cost, cost
from understudy.sources.forward import device_of, evaluating, moved, resized
from understudy.taps import unwrapped
from understudy.tasks.task import Task
from understudy.transfer.blocks import evenly_spaced
from understudy.transfer.units import ROWS, below


@dataclass(frozen=True)
class ScaledCopy:
    """A network that was made shallower and narrower.

    Attributes:
        network: with the weights of the blocks, channels and heads that stayed.
        edits: what :func:`~understudy.sources.artifact.save_artifact` takes, so that the file can be loaded.
        blocks: how many blocks each row had and has, by its path, where it has fewer.
        widths: outputs and heads of each layer that has fewer now, before and after, by its new path.
        left: layers whose channels had to stay, and why, in words.
        before: what the network cost.
        after: what it costs now.
    """

    network: nn.Module
    edits: tuple[AnyEdit, ...]
    blocks: dict[str, tuple[int, int]]
    widths: dict[str, tuple[int, int]]
    left: dict[str, str]
    before: Cost
    after: Cost


@torch.inference_mode(mode=False)
def scaled_copy(
    model: nn.Module, example: Any, *, task: Task, width: float = 1.0, depth: float = 1.0, multiple: int = 1
) -> ScaledCopy:
    """Make a smaller network of the same kind, whatever it is.

    Blocks that give what they are given in the same shape can leave; of each run of them, with the block that leads
    into it, evenly spaced ones stay, the first one always. Then each layer keeps the channels, and each attention the
    heads, that matter most by the norm of their weights, along the dependency graph, so that groups and heads stay
    whole. The stream between the blocks of a transformer keeps its width: only a network built narrower changes that.

    Args:
        model: left as it is. Wrappers are looked through.
        example: a batch, as a loader gives it, or just its inputs if that is a tensor.
        task: how it is called.
        width: the share of channels and heads that each layer keeps, 0.1 to 1.
        depth: the share of blocks that each run keeps, above 0 to 1; at least one.
        multiple: channels of a layer stay a multiple of this, where it loses some.

    Raises:
        InputError: for other shares, for a depth below 1 without blocks that can leave, or a network that cannot be
            called without them; for a width below 1, when no channel can leave.

    Example:
        >>> from understudy.sources import BuiltinModel, build_model
        >>> from understudy.tasks import ImageClassification
        >>> images = torch.rand(2, 3, 8, 8)
        >>> spec = BuiltinModel(name="resnet", arguments={"widths": [8, 16], "blocks": 2})
        >>> network = build_model(spec, classes=3, inputs=images)
        >>> copied = scaled_copy(network, images, task=ImageClassification(), width=0.5, depth=0.5)
        >>> copied.blocks, copied.after.macs / copied.before.macs < 0.2
        ({'stage1': (2, 1), 'stage2': (2, 1)}, True)
    """
    if not 0.1 <= width <= 1.0 or not 0.0 < depth <= 1.0:
        raise InputError(f"expected a width of 0.1 to 1 and a depth above 0 to 1, got {width:g} and {depth:g}")
    network, task_inputs = unwrapped(model), task.batch(example).inputs
    inputs = moved(resized(task_inputs, 2), device_of(network))
    smaller, edits, blocks = network, (), {}
    if depth < 1.0:
        smaller, edit, blocks = _shallower(network, inputs, task, depth)
        edits = (edit,)
    widths: dict[str, tuple[int, int]] = {}
    left: dict[str, str] = {}
    if width < 1.0:
        found = prune(smaller, inputs, task=task, target=Target(channels=width), scope="layer", multiple=multiple)
        smaller, edits, widths, left = found.network, (*edits, found.edit), found.widths, found.left
    if smaller is network:
        smaller = copy.deepcopy(network)
    return ScaledCopy(smaller, edits, blocks, widths, left, cost(network, inputs), cost(smaller, inputs))


def _shallower(
    network: nn.Module, inputs: Any, task: Task, depth: float
) -> tuple[nn.Module, Shallower, dict[str, tuple[int, int]]]:
    keeping = _blocks_that_keep_shape(network, inputs, task)
    rows, blocks = {}, {}
    for path, row in network.named_modules():
        if not isinstance(row, ROWS):
            continue
        leaving = {name for run in _runs(row, path, keeping) for name in _leaving(run, depth)}
        if leaving:
            rows[path] = tuple(name for name, _ in row.named_children() if name not in leaving)
            count = sum(len(run) for run in _runs(row, path, keeping))
            blocks[path] = (count, count - len(leaving))
    name = type(network).__name__
    if not rows:
        runs = "none can leave at this depth" if keeping else "none gives what it is given in the same shape"
        raise InputError(
            f"depth {depth:g}: of the blocks of {name}, {runs}; expected rows (Sequential, ModuleList) of such blocks. "
            "Ask for a smaller depth, or for a width only"
        )
    edit = Shallower(rows=rows)
    smaller = edit.replay(copy.deepcopy(network), inputs)
    try:
        before, after = (_shape(each, inputs, task) for each in (network, smaller))
    except InputError as error:
        raise InputError(f"{name} cannot be called with fewer blocks: {error}; ask for a width only") from error
    if before != after:
        raise InputError(f"{name} gives {after} with fewer blocks, and {before} before; ask for a width only")
    return smaller, edit, blocks


def _shape(network: nn.Module, inputs: Any, task: Task) -> tuple[int, ...]:
    with torch.no_grad(), evaluating(network):
        return tuple(answers(network, inputs, task).shape)


def _runs(row: nn.Module, path: str, keeping: set[str]) -> Iterator[list[str]]:
    """Blocks of one class in a row that keep the shape, each run with the block of that class that leads into it."""
    for _, same in groupby(row.named_children(), key=lambda item: type(item[1])):
        run: list[str] = []
        for name, _ in same:
            if below(path, name) not in keeping:
                if len(run) > 1:
                    yield run
                run = [name]
            else:
                run.append(name)
        if len(run) > 1:
            yield run


def _leaving(run: list[str], depth: float) -> set[str]:
    staying = {run[place] for place in evenly_spaced(max(1, round(depth * len(run))), len(run))}
    return set(run) - staying


def _blocks_that_keep_shape(network: nn.Module, inputs: Any, task: Task) -> set[str]:
    """The blocks in rows, by path, that are called once and give what they are given in the same shape."""
    seen: dict[str, list[bool]] = {}

    def look(path: str) -> Any:
        def hook(_: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            given, gives = _first_tensor(arguments), _first_tensor(output)
            same = given is not None and gives is not None and given.shape == gives.shape
            seen.setdefault(path, []).append(same)

        return hook

    handles = [
        block.register_forward_hook(look(below(path, name)))
        for path, row in network.named_modules()
        if isinstance(row, ROWS)
        for name, block in row.named_children()
        if not isinstance(block, ROWS) and list(block.children()) and next(block.parameters(), None) is not None
    ]
    try:
        _shape(network, inputs, task)
    finally:
        for handle in handles:
            handle.remove()
    return {path for path, calls in seen.items() if calls == [True]}


def _first_tensor(value: Any) -> Tensor | None:
    if isinstance(value, tuple | list):
        return _first_tensor(value[0]) if value else None
    return value if isinstance(value, Tensor) else None
