"""Which layers of a student and of a teacher belong together.

Convolutional networks are paired by stage: the last output of each spatial resolution, counted from the end, as that
is where both have drawn the same conclusions from the image. Transformers are paired by evenly spaced blocks. Of one
of each kind, the transformer's blocks are spread over the other's stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Size, Tensor, nn

from understudy.knowledge import Attention, LayerPairs
from understudy.taps import unwrapped

Layer = TypeVar("Layer")

MOST_STAGES = 4
"""Earlier ones are near the pixels, and large."""

_PROJECTIONS = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("q", "k", "v"),
    ("qkv",),
    ("c_attn",),
)
"""What transformers call the layers that make queries, keys and values, or the one that makes all three."""


@dataclass(frozen=True, slots=True)
class Output:
    """What one layer gave, once, in a forward pass.

    Attributes:
        path: how a tap reads it.
        shape: of its tensor, the batch first.
        identity: the same for layers that hand on the very same tensor, unchanged.
        entered: shape of the first tensor that the layer got; None when there was none.
        module: the layer.
        matrices: how a tap reads attention matrices, when the layer gave some beside its tensor.
        gives_logits: whether the network returned that tensor as its logits, as it is or in another shape.
    """

    path: str
    shape: Size
    identity: tuple[int, int]
    entered: Size | None
    module: nn.Module
    matrices: str | None = None
    gives_logits: bool = False


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The layers of one network that can be paired.

    Attributes:
        stages: ends of the stages of a convolutional network, or all blocks of a transformer, from the input on.
        are_blocks: whether they are a transformer's blocks.
        penultimate: the features that the last layer classifies; None when none were found.
        classifier: the linear layer, or 1×1 convolution, that alone gives the logits; None when there is none.
        attentions: its attention layers.
    """

    stages: tuple[Output, ...]
    are_blocks: bool
    penultimate: Output | None
    classifier: Output | None = None
    attentions: tuple[Attention, ...] = ()


def pair_layers(student: Anatomy, teacher: Anatomy) -> LayerPairs:
    """Pair the stages of two networks, and the features before their classifiers."""
    most = len(student.stages) if student.are_blocks and teacher.are_blocks else MOST_STAGES
    count = min(len(student.stages), len(teacher.stages), most)
    chosen = zip(_spread(student, count), _spread(teacher, count), strict=True)
    return LayerPairs(
        stages=tuple((own.path, other.path) for own, other in chosen),
        penultimate=_both(student.penultimate, teacher.penultimate),
        classifier=_both(student.classifier, teacher.classifier),
        attentions=(student.attentions, teacher.attentions),
    )


def _both(student: Output | None, teacher: Output | None) -> tuple[tuple[str, str], ...]:
    return ((student.path, teacher.path),) if student is not None and teacher is not None else ()


def anatomy(model: nn.Module, run: Callable[[nn.Module], Tensor]) -> Anatomy:
    """Find a network's stages and its penultimate features in one forward pass.

    Args:
        model: any network; wrappers such as ``torch.compile`` are looked through. Its modes are the caller's.
        run: calls the network with an example batch, and gives its logits.
    """
    inner = unwrapped(model)
    outputs, order, logits = _observed(inner, run)
    attentions = tuple(_attentions(inner, outputs))
    outputs, head = _before_the_classifier(outputs, logits.shape[-1])
    blocks = _blocks(inner, outputs)
    trunk = blocks or _ends_of_stages(_trunk(inner, "", outputs, order), outputs)
    penultimate = _penultimate(outputs, head) or (trunk[-1] if trunk else None)
    classifies = head is not None and head.gives_logits and _is_linear(head.module)
    return Anatomy(
        stages=tuple(trunk) or ((penultimate,) if penultimate else ()),
        are_blocks=bool(blocks),
        penultimate=penultimate,
        classifier=head if classifies else None,
        attentions=attentions,
    )


def _observed(model: nn.Module, run: Callable[[nn.Module], Tensor]) -> tuple[dict[str, Output], dict[str, int], Tensor]:
    """What each layer that ran once gave, in the order of their ends; when each layer began; the logits."""
    outputs: dict[str, Output] = {}
    began: dict[str, int] = {}
    repeated: set[str] = set()
    kept: dict[str, Tensor] = {}  # held, so that no tensor's identity is given to another one

    def begin(path: str) -> Callable[..., None]:
        def note(*_: Any) -> None:
            began.setdefault(path, len(began))

        return note

    def end(path: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            selector, tensor = _first_tensor(output)
            if path in outputs:
                repeated.add(path)
            if tensor is not None:
                kept[path] = tensor
                entered = _first_tensor(inputs)[1]
                shape = None if entered is None else entered.shape
                same = id(tensor), tensor._version
                outputs[path] = Output(path + selector, tensor.shape, same, shape, module, _matrices(path, output))

        return note

    handles = []
    for path, module in model.named_modules():
        if path:
            handles += [module.register_forward_pre_hook(begin(path)), module.register_forward_hook(end(path))]
    try:
        with torch.no_grad():
            logits = run(model)
    finally:
        for handle in handles:
            handle.remove()
    address = logits.numel(), logits.data_ptr()
    for path, tensor in kept.items():
        if (tensor.numel(), tensor.data_ptr()) == address:
            outputs[path] = replace(outputs[path], gives_logits=True)
    overwritten = {path for path, output in outputs.items() if kept[path]._version != output.identity[1]}
    readable = {path: output for path, output in outputs.items() if path not in repeated | overwritten}
    return readable, began, logits


def _first_tensor(value: Any) -> tuple[str, Tensor | None]:
    """The first tensor in what a layer gave or got, and how a tap selects it."""
    if isinstance(value, Tensor):
        return "", value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple | list) else ()
    return next(((f":{key}", item) for key, item in items if isinstance(item, Tensor)), ("", None))


def _matrices(path: str, output: Any) -> str | None:
    """How a tap reads the (batch, heads, tokens, tokens) that a layer gave after something else."""
    rest = enumerate(output) if isinstance(output, tuple | list) else ()
    square = (i for i, item in rest if i > 0 and isinstance(item, Tensor) and item.ndim == 4)
    return next((f"{path}:{i}" for i in square if output[i].shape[2] == output[i].shape[3]), None)


def _attentions(model: nn.Module, outputs: dict[str, Output]) -> Iterator[Attention]:
    """The layers with children that make queries, keys and values."""
    for path, module in model.named_modules():
        children = dict(module.named_children())
        names = next((names for names in _PROJECTIONS if all(name in children for name in names)), None)
        if names is not None and path in outputs:
            yield Attention(path, tuple(f"{path}.{name}" for name in names), outputs[path].matrices)


def _before_the_classifier(outputs: dict[str, Output], classes: int) -> tuple[dict[str, Output], Output | None]:
    """What ended before the last layer that gives a score per class, and that layer."""
    head = None
    for path, output in outputs.items():
        module = output.module
        given = module.out_features if isinstance(module, nn.Linear) else getattr(module, "out_channels", None)
        if given == classes and isinstance(module, nn.Linear | nn.Conv2d):
            head = path
    if head is None:
        return outputs, None
    before = list(outputs)[: list(outputs).index(head)]
    return {path: outputs[path] for path in before}, outputs[head]


def _is_linear(module: nn.Module) -> bool:
    """Whether a layer multiplies each vector with one matrix: linear, or a convolution of single pixels."""
    return isinstance(module, nn.Linear) or (
        isinstance(module, nn.Conv2d) and tuple(module.kernel_size) == (1, 1) and module.groups == 1
    )


def _blocks(model: nn.Module, outputs: dict[str, Output]) -> list[Output]:
    """A transformer's blocks: the heaviest list of like layers with tokens as their output."""
    best: tuple[int, list[Output]] = (0, [])
    for path, module in model.named_modules():
        if not isinstance(module, nn.Sequential | nn.ModuleList) or len(module) == 0:
            continue
        prefix = f"{path}." if path else ""
        found = [outputs.get(f"{prefix}{name}") for name, _ in module.named_children()]
        like = len({type(child) for child in module}) == 1 and len({o.shape for o in found if o}) == 1
        if like and all(o is not None and len(o.shape) == 3 and any(True for _ in o.module.children()) for o in found):
            weight = sum(parameter.numel() for parameter in module.parameters())
            best = max(best, (weight, [o for o in found if o is not None]), key=lambda item: item[0])
    return best[1]


def _trunk(model: nn.Module, path: str, outputs: dict[str, Output], order: dict[str, int]) -> list[Output]:
    """The layers that a map goes through one after the other, each as whole as it can be taken."""
    found = []
    for child in _running_children(model, path, order):
        inner = model.get_submodule(child[len(path) + 1 :] if path else child)
        sizes = _resolutions(inner, child, outputs, order)
        if child in outputs and sizes is not None and len(sizes) <= 2:
            found.append(outputs[child])
        else:
            found += _trunk(inner, child, outputs, order)
    return found


def _running_children(model: nn.Module, path: str, order: dict[str, int]) -> list[str]:
    """The nearest layers below this one that ran, as they began; lists of layers do not run themselves."""
    found = []
    for name, child in model.named_children():
        full = f"{path}.{name}" if path else name
        found += [full] if full in order else _running_children(child, full, order)
    return sorted(found, key=lambda name: order[name])


def _resolutions(
    module: nn.Module, path: str, outputs: dict[str, Output], order: dict[str, int]
) -> set[tuple[int, ...]] | None:
    """The resolutions that a map goes through in a layer; None when it is more than a layer for maps.

    Only a sequence, or a layer that leaves less than half of the height, is looked into: what a residual block does
    inside is its own affair.
    """
    children = _running_children(module, path, order)
    output = outputs.get(path)
    if output is None or output.entered is None or len(output.entered) != 4 or len(output.shape) != 4:
        return None if children else set()
    sizes = {tuple(output.entered[2:]), tuple(output.shape[2:])}
    if isinstance(module, nn.Sequential) or output.entered[2] > 2 * output.shape[2] + 1:
        for child in children:
            inner = module.get_submodule(child[len(path) + 1 :])
            sizes |= _resolutions(inner, child, outputs, order) or set()
    return sizes


def _ends_of_stages(trunk: list[Output], outputs: dict[str, Output]) -> list[Output]:
    """The last output of each resolution, by the shortest name of that tensor."""
    last: dict[tuple[int, ...], Output] = {}
    for output in trunk:
        size = tuple(output.shape[2:])
        if len(output.shape) == 4:
            if size not in last and ((size == (1, 1) and _pools(output)) or _grows(output)):
                break
            last.pop(size, None)
            last[size] = output
    return [min((o for o in outputs.values() if o.identity == end.identity), key=_brevity) for end in last.values()]


def _pools(output: Output) -> bool:
    """Whether a layer that leaves one pixel is a pooling, or a classifier's first convolution over the whole map."""
    learns = next(output.module.parameters(), None) is not None
    return not learns or output.entered is None or max(output.entered[2:]) > 2


def _grows(output: Output) -> bool:
    """Whether a layer enlarges the map: what follows is no stage of an encoder."""
    return output.entered is not None and len(output.entered) == 4 and output.shape[-1] > output.entered[-1]


def _brevity(output: Output) -> tuple[int, int]:
    return output.path.count("."), len(output.path)


def _penultimate(outputs: dict[str, Output], head: Output | None) -> Output | None:
    """The last output before the classifier with as many values per sample as the classifier takes."""
    if head is None or not isinstance(head.module, nn.Linear):
        return None
    for output in reversed(outputs.values()):
        one_each = output.shape[1] == output.shape[1:].numel() == head.module.in_features
        if one_each and not isinstance(output.module, nn.Dropout):
            return output
    return None


def evenly(layers: Sequence[Layer], count: int) -> list[Layer]:
    """So many layers at even distances, the last one among them; all of them where there are not as many."""
    count = min(count, len(layers))
    return [layers[round((index + 1) * len(layers) / count) - 1] for index in range(count)]


def _spread(side: Anatomy, count: int) -> list[Output]:
    """So many of a network's stages: the last ones, or evenly spaced blocks of a transformer."""
    if not side.are_blocks:
        return list(side.stages[len(side.stages) - count :])
    return evenly(side.stages, count)
