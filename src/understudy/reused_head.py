"""A student that keeps its teacher's classifier and only learns to feed it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.distiller import beside, pairs_of, undisturbed
from understudy.edits import ReusedHead
from understudy.errors import InputError
from understudy.functional.class_attention import class_activation_maps
from understudy.taps import Taps, unwrapped
from understudy.tasks.task import Task


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
    edit.replay(inner, batch.inputs)
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
