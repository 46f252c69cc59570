"""A student that begins with weights of its teacher, where it is the same network but narrower or shallower."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from understudy.compress.low_rank import put_factors
from understudy.compress.pruning import ranked_parts
from understudy.compress.structure import Part, widths, without
from understudy.edits.factorised import Ranks
from understudy.errors import InputError, nearest
from understudy.extras import imported
from understudy.sources.forward import device_of, moved, resized
from understudy.taps import unwrapped
from understudy.tasks.task import Task
from understudy.transfer.blocks import Depth, fit_rows
from understudy.transfer.units import units_of

Width = Literal["importance", "first"]
_THREE = ("in_proj_weight", "in_proj_bias")
"""Of ``nn.MultiheadAttention``: queries, keys and values in one."""


@dataclass(frozen=True)
class Transferred:
    """What a student got from its teacher; all names are those of its state dict.

    Attributes:
        copied: weights that are the teacher's as they are.
        selected: weights without the channels and heads that mattered least to the teacher.
        factorised: factors of a teacher's weight.
        sliced: the first channels of a wider weight.
        left: weights that stay as they were, and why, in words.
        blocks: for each row with another number of blocks, the student's and the teacher's that it began with.
        share: of all numbers among the student's parameters, those that came from the teacher.
        unfollowed: why the dependency graph could not choose channels, where it was asked to and could not.
    """

    copied: tuple[str, ...]
    selected: tuple[str, ...]
    factorised: tuple[str, ...]
    sliced: tuple[str, ...]
    left: dict[str, str]
    blocks: dict[str, dict[str, str]]
    share: float
    unfollowed: str | None = None

    def told(self) -> dict[str, Any]:
        """All of it as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        counts = {name: len(getattr(self, name)) for name in ("copied", "selected", "factorised", "sliced", "left")}
        many = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        why = f"; the first channels were taken, as {self.unfollowed}" if self.unfollowed else ""
        return f"{self.share:.0%} of the weights come from the teacher (tensors: {many}){why}"


@torch.inference_mode(mode=False)
def transfer_weights(
    student: nn.Module,
    teacher: nn.Module,
    *,
    example: Any,
    task: Task,
    depth: Depth = "even",
    width: Width = "importance",
    head: bool = True,
) -> Transferred:
    """Let a student begin with weights of its teacher.

    A copy of the teacher is made as the student is, step by step: with as many blocks; with as many channels and
    heads, of which the most important stay, along the dependency graph, so that all layers agree about which; with the
    same ranks where the student's layers are factors. What then has the name and the shape of a student's weight is
    copied. Of what is still wider (the stream between the blocks of a transformer, networks that the graph cannot
    follow) the first channels are taken, everywhere the same ones.

    Args:
        student: changed in place.
        teacher: the same kind of network, with the same names; left as it is.
        example: a batch, as a loader gives it.
        task: how both are called.
        depth: which blocks, where the student has fewer.
        width: which channels, where the student has fewer: the most important by the norm of all that belongs to
            them, or the first ones.
        head: whether the student's last layer begins with the teacher's, where both have as many classes.

    Raises:
        InputError: for another network, of which nothing can be taken; nothing was changed.

    References:
        Sanh et al.: DistilBERT, 2019 (arXiv:1910.01108), for evenly spaced layers; Xu et al.: Initializing Models with
        Larger Ones, ICLR 2024 (arXiv:2311.18823), for parts of wider weights.

    Example:
        >>> from understudy.tasks import Classification
        >>> wide, narrow = (nn.Sequential(nn.Linear(4, n), nn.ReLU(), nn.Linear(n, 2)) for n in (16, 8))
        >>> print(transfer_weights(narrow, wide, example=torch.rand(2, 4), task=Classification()))
        100% of the weights come from the teacher (tensors: 1 copied, 3 selected)
    """
    own, source = unwrapped(student), copy.deepcopy(unwrapped(teacher)).to(device_of(student))
    blocks = fit_rows(own, source, depth)
    shallow = {name: tensor.shape for name, tensor in source.state_dict().items()}
    mine = own.state_dict()
    unfollowed: str | None = None
    inputs = moved(resized(task.batch(example).inputs, 2), device_of(own))
    if width == "importance" and any(name in mine and mine[name].shape != shape for name, shape in shallow.items()):
        imported("torch_pruning", extra="compress", needed_by="width: importance")
        try:
            source = _narrowed(own, source, inputs, task)
        except InputError as error:
            unfollowed = str(error)  # the first channels are as consistent a choice
    ranks = _ranks(own, source)
    for path, each in ranks.items():
        put_factors(source, path, each)
    last = () if len(units := units_of(own)) < 2 else units[-1].parameters
    given = source.state_dict()
    problems = {
        name: _problem(tensor, given.get(name), is_head=name in last, head=head) for name, tensor in mine.items()
    }
    left = {name: problem for name, problem in problems.items() if problem is not None}
    if not any(problem is None and name not in last for name, problem in problems.items()):
        raise InputError(_strangers(left, shallow))
    found: dict[str, list[str]] = {"copied": [], "selected": [], "factorised": [], "sliced": []}
    with torch.no_grad():
        for name, tensor in mine.items():
            if name not in left:
                tensor.copy_(_first(name, given[name], tensor.shape))
                found[_how(name, given[name].shape, tensor.shape, shallow, ranks)].append(name)
    taken = {key: tuple(names) for key, names in found.items()}
    return Transferred(**taken, left=left, blocks=blocks, share=_share(own, left), unfollowed=unfollowed)


def _strangers(left: Mapping[str, str], other: Mapping[str, torch.Size]) -> str:
    """That two networks have nothing in common, in words."""
    name, reason = next(iter(left.items()))
    return (
        f"0 % of the student's weights below its head can be taken from the teacher; of {name!r}: {reason}"
        f"{nearest(name, other)}. Weights can be taken only from the same kind of network with the same names; learn "
        "from this teacher by its outputs or its layers instead"
    )


def _narrowed(student: nn.Module, source: nn.Module, inputs: Any, task: Task) -> nn.Module:
    """A source without the channels and heads that a student has no place for."""
    parts, _ = ranked_parts(source, inputs, task, importance="magnitude")
    aims = widths(student)
    removed = [_removed(part, aims.get(part.layer)) for part in parts]
    return without(source, inputs, task, parts, removed) if any(removed) else source


def _removed(part: Part, aim: int | None) -> Sequence[int]:
    """The least important bundles, as many as have to go."""
    together, count = len(part.bundles[0]), len(part.bundles)
    if aim is None or aim % together or not 0 < aim // together < count:
        return ()
    return sorted(part.importance.argsort()[: count - aim // together].tolist())


def _ranks(student: nn.Module, source: nn.Module) -> dict[str, Ranks]:
    """The ranks of a student's factors, where the source has the layer whose factors they are."""
    found: dict[str, Ranks] = {}
    layers = dict(source.named_modules())
    for path, module in student.named_modules():
        factors = dict(module.named_children())
        layer = layers.get(path)
        if (
            not factors.keys()
            or factors.keys() - {"first", "core", "last"}
            or not isinstance(layer, nn.Linear | nn.Conv2d)
        ):
            continue
        core = factors.get("core")
        weight = (core if core is not None else factors["first"]).get_parameter("weight")
        outputs, inputs = weight.shape[:2]
        found[path] = (outputs, inputs) if core is not None else (outputs,)
    return found


def _problem(own: Tensor, other: Tensor | None, *, is_head: bool, head: bool) -> str | None:
    """Why a weight stays as it was, if it does."""
    if other is None:
        return "the teacher has none of this name"
    if is_head and not head:
        return "the head begins anew, as asked"
    if is_head and own.shape[:1] != other.shape[:1]:
        return f"it is for {own.shape[0]} classes, the teacher's for {other.shape[0]}"
    if own.ndim != other.ndim or any(size > more for size, more in zip(own.shape, other.shape, strict=False)):
        return f"its shape is {tuple(own.shape)}, the teacher's {tuple(other.shape)}"
    return None


def _first(name: str, whole: Tensor, shape: torch.Size) -> Tensor:
    if whole.shape == shape:
        return whole
    if name.endswith(_THREE):
        third = torch.Size([shape[0] // 3, *shape[1:]])
        return torch.cat([_first("", part, third) for part in whole.chunk(3)])
    return whole[tuple(slice(size) for size in shape)]


def _how(
    name: str,
    given: torch.Size,
    shape: torch.Size,
    shallow: Mapping[str, torch.Size],
    ranks: Mapping[str, Ranks],
) -> str:
    if given != shape:
        return "sliced"
    if name.rpartition(".")[0].rpartition(".")[0] in ranks and name not in shallow:
        return "factorised"
    return "copied" if shallow.get(name) == shape else "selected"


def _share(student: nn.Module, left: Mapping[str, str]) -> float:
    sizes = {name: parameter.numel() for name, parameter in student.named_parameters()}
    return 1 - sum(size for name, size in sizes.items() if name in left) / max(1, sum(sizes.values()))
