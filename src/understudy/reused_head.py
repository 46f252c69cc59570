"""A student that keeps its teacher's classifier and only learns to feed it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.distiller import beside, pairs_of, undisturbed
from understudy.errors import InputError
from understudy.functional.class_attention import class_activation_maps
from understudy.spec import Spec
from understudy.taps import Taps, unwrapped
from understudy.tasks.task import Task

Count = Annotated[int, Field(gt=0)]


@final
class ReusedHead(Spec):
    """What was changed in a student that :func:`reuse_head` was given; a saved model's record keeps it.

    Example:
        >>> edit = ReusedHead(layer="0", classifier="3", channels=(4, 8), size=(2, 2), classes=3, bias=True)
        >>> student = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
        >>> edit.replay(student)
        >>> student(torch.rand(2, 3, 4, 4)).shape
        torch.Size([2, 3])
    """

    kind: Literal["reused_head"] = "reused_head"
    layer: str
    """Path of the student's last map, behind which the projector was put."""
    classifier: str
    """Path of the student's last layer, in whose place the teacher's was put."""
    channels: tuple[Count, Count]
    """Of the student's last map and of the teacher's."""
    size: tuple[Count, Count]
    """Height and width of the teacher's last map; a larger one of the student is averaged down to it."""
    factor: Count = 2
    """By how much the projector's inner channels are fewer than the teacher's."""
    classes: Count
    """Outputs of the classifier."""
    bias: bool
    """Whether the classifier has one."""

    @property
    def projector(self) -> str:
        """Path of the projector in the changed student: the layer to compare with the teacher's last map."""
        return f"{self.layer}.projector"

    def replay(self, student: nn.Module) -> None:
        """Change a fresh student in the same way; its projector and its frozen classifier start at random.

        Args:
            student: changed in place.

        Raises:
            InputError: when it does not have these layers.
        """
        try:
            layer, old = student.get_submodule(self.layer), student.get_submodule(self.classifier)
        except AttributeError as error:
            raise InputError(
                f"the structural edit {self.kind!r} is about the layers {self.layer!r} and {self.classifier!r}, which "
                f"{type(student).__name__} does not have ({error}); expected the network that was edited"
            ) from error
        first = next(student.parameters())
        new = (
            nn.Linear(self.channels[1], self.classes, bias=self.bias)
            if isinstance(old, nn.Linear)
            else nn.Conv2d(self.channels[1], self.classes, kernel_size=1, bias=self.bias)
        )
        student.set_submodule(self.layer, Projected(layer, self).to(first.device, first.dtype))
        student.set_submodule(self.classifier, new.requires_grad_(False).to(first.device, first.dtype))


class Projected(nn.Module):
    """A student's last map, brought to the channels of the teacher's: averaged down to its size, then three layers.

    Args:
        layer: gives the map.
        edit: the channels and sizes.
    """

    def __init__(self, layer: nn.Module, edit: ReusedHead) -> None:
        super().__init__()
        self.layer = layer
        self.size = edit.size
        own, other = edit.channels
        inner = max(1, other // edit.factor)
        self.projector = nn.Sequential(
            *_step(own, inner, kernel=1), *_step(inner, inner, kernel=3), *_step(inner, other, kernel=1)
        )

    def forward(self, *inputs: Any) -> Tensor:
        """(batch, student's channels, h, w) of the layer to (batch, teacher's channels, ≤ height, ≤ width)."""
        feature = self.layer(*inputs)
        smaller = min(feature.shape[-2], self.size[0]), min(feature.shape[-1], self.size[1])
        if smaller != tuple(feature.shape[-2:]):
            feature = F.adaptive_avg_pool2d(feature, smaller)
        return self.projector(feature)


def _step(before: int, after: int, *, kernel: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(before, after, kernel_size=kernel, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=False)


def reuse_head(student: nn.Module, teacher: nn.Module, *, example: Any, task: Task, factor: int = 2) -> ReusedHead:
    r"""Give a student its teacher's own frozen classifier, and a projector that feeds it; nothing else is to be learnt.

    .. math:: z = W^T \, \mathrm{mean}\big(p(f^S)\big) + b^T

    The projector p behind the student's last map has a 1×1, a 3×3 and a 1×1 convolution, each with a batch
    normalisation and a ReLU, the inner ones with fewer channels than the teacher's map. The student then trains by the
    mean squared difference of p's map and the teacher's last map alone: ``Hint(student_layer=edit.projector,
    teacher_layer=...)``. Where the student's map is larger it is averaged down; where it is smaller, the hint enlarges
    it, while the authors average the teacher's down.

    Args:
        student: a network that classifies the mean over its last map with one linear layer; changed in place.
        teacher: the same; it is left as it is, and shares nothing with the student afterwards.
        example: one batch as the loader yields it.
        task: how both are called.
        factor: by how much the projector's inner channels are fewer than the teacher's; the authors use 2.

    Returns:
        What was changed, for :func:`~understudy.sources.save_artifact`.

    Raises:
        InputError: for a network that does something else between its last map and its logits.

    References:
        Chen, Mei, Zhang, Wang, Feng, Chen: Knowledge Distillation with the Reused Teacher Classifier, CVPR 2022
        (arXiv:2203.14001). The layers of the projector are those of the authors' code.
    """
    batch = task.batch(example)
    inner, other = unwrapped(student), unwrapped(teacher)
    pairs = pairs_of(inner, other, batch, task)
    if not pairs.stages or not pairs.classifier:
        raise InputError(
            "reusing a teacher's head needs, in student and teacher, a last map and one linear layer that gives the "
            "logits; found none in one of them. Use the methods on layers instead, such as hint"
        )
    (own_map, other_map), (own_head, other_head) = pairs.stages[-1], pairs.classifier[0]
    own = _last_map(inner, own_map, own_head, batch, task, "student")
    given = _last_map(other, other_map, other_head, batch, task, "teacher")
    head = other.get_submodule(other_head)
    edit = ReusedHead(
        layer=own_map,
        classifier=own_head,
        channels=(own.shape[1], given.shape[1]),
        size=(given.shape[2], given.shape[3]),
        factor=factor,
        classes=head.get_parameter("weight").shape[0],
        bias=getattr(head, "bias", None) is not None,
    )
    edit.replay(inner)
    with torch.no_grad():
        for name, parameter in inner.get_submodule(own_head).named_parameters():
            parameter.copy_(head.get_parameter(name).reshape(parameter.shape))
    return edit


def _last_map(network: nn.Module, layer: str, head: str, batch: Batch, task: Task, whose: str) -> Tensor:
    """The map (N, C, H, W) whose mean is classified; refused where that is not what the network does."""
    batch, weight, bias = beside(batch, network), f"{head}.weight", f"{head}.bias"
    has_bias = getattr(network.get_submodule(head), "bias", None) is not None
    taps = Taps(network, (layer, weight, bias) if has_bias else (layer, weight))
    try:
        with torch.no_grad(), undisturbed(network, batch.device), taps.reading() as features:
            logits = task.observe(network, batch).logits
    finally:
        taps.remove()
    feature = features[layer]
    if feature.ndim == 4 and features[weight].shape[1] == feature.shape[1] and ":" not in layer:
        expected = class_activation_maps(feature, features[weight]).mean((2, 3))
        expected = expected + features[bias] if has_bias else expected
        if logits.shape == expected.shape and torch.allclose(logits.to(expected.dtype), expected, rtol=1e-2, atol=1e-3):
            return feature
    raise InputError(
        f"the {whose}'s logits are not its last layer {head!r} of the mean over its last map {layer!r}; only such a "
        "classifier can be reused. Take another network, or methods on layers such as hint"
    )
