"""Distillation of a transformer's attention matrices."""

from __future__ import annotations

from typing import ClassVar, Literal, final

import torch
from torch import Size, Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError
from understudy.feature_method import FeatureMethod, refuse_other_tokens, refuse_uncounted, tokens_of_samples
from understudy.functional.transformers import attention_map_loss
from understudy.knowledge import Knowledge, LayerPairs, Shapes
from understudy.objective import Method
from understudy.taps import layer_of


@final
class AttentionMaps(FeatureMethod):
    r"""Each head of the student attends to the tokens that the same head of the teacher attends to.

    .. math:: \sum_l \frac{1}{N H} \sum_i \frac{1}{T_i^2} \sum_h \sum_{t, u} (A^S_{lihtu} - A^T_{lihtu})^2

    A layer is what gives matrices (N, H, T, T): the second output of the attention layer of a Hugging Face transformer
    that was loaded with ``attn_implementation="eager"``, such as ``encoder.layer.3.attention.self:1``; with faster
    kernels it gives none. ``auto`` finds them in evenly spaced blocks. Both networks need the same tokens and as many
    heads, which are matched by their number; ``self_relations`` does without either matrices or equal heads. Rows and
    columns of padding are left out.

    Scale: the mean over heads and pairs of real tokens of a sample, then over samples, summed over layers; 0 at
    equality, at most 2 / T for each layer. TinyBERT fits the scores before the softmax, which no layer gives, instead
    of the probabilities after it, as here. While the student trains with dropout on its attention, so are the matrices
    that it gives: set that to 0. The gradient goes to the student only.

    Example:
        >>> AttentionMaps(student_layer="layer.1.attention:1", teacher_layer="layer.3.attention:1")
        AttentionMaps(kind='attention_maps', weight=1.0, name=None, student_layer='layer.1.attention:1',
            teacher_layer='layer.3.attention:1')
    """

    paper: ClassVar[str] = (
        "Jiao et al.: TinyBERT: Distilling BERT for Natural Language Understanding, Findings of EMNLP 2020 "
        "(arXiv:1909.10351)"
    )

    kind: Literal["attention_maps"] = "attention_maps"

    def paired(self, pairs: LayerPairs) -> Method:
        """The same method with the attention matrices of paired blocks for ``auto``.

        Raises:
            InputError: when the blocks give none.
        """
        if not self.wants_pairs:
            return self
        found = super().paired(pairs)
        sides = []
        for side, whose, layers in ((0, "student", found.student_taps), (1, "teacher", found.teacher_taps)):
            attentions = [pairs.attention(side, layer_of(layer)) for layer in layers]
            matrices = [attention.matrices if attention is not None else None for attention in attentions]
            if None in matrices:
                raise InputError(
                    f"{self.label}: found no attention matrices in {whose} layer {layers[matrices.index(None)]!r}; "
                    'load a Hugging Face transformer with attn_implementation="eager", name what gives matrices '
                    "(N, heads, T, T) with student_layer and teacher_layer, or take self_relations, which needs none"
                )
            sides.append(tuple(matrices))
        return self.model_copy(update={"student_layer": sides[0], "teacher_layer": sides[1]})

    def build(self, shapes: Shapes) -> nn.Module:
        """All pairs of layers.

        Raises:
            InputError: naming every pair that does not fit, or when the two have other tokens.
        """
        refuse_other_tokens(shapes)
        problems = []
        for student, teacher in self.layers:
            size = shapes.of_student(student)
            refuse_uncounted(shapes, size[-2:] if len(size) == 4 else ())
            problem = _misfit(shapes.student_logits[0], size, shapes.of_teacher(teacher))
            problems += [f"{self.label} ({student!r} to {teacher!r}): {problem}"] if problem else []
        if problems:
            raise InputError("\n".join(problems))
        return AttentionTerm(self)


class AttentionTerm(nn.Module):
    """The sum over the pairs of layers."""

    def __init__(self, method: AttentionMaps) -> None:
        super().__init__()
        self.method = method

    def forward(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """The mean over what is real of each sample, and over the samples that count."""
        losses = []
        for path, other in self.method.layers:
            own, answer = student.layer(path), teacher.layer(other)
            tokens, mask, total = tokens_of_samples(student, batch, own.shape[-1])
            losses.append(attention_map_loss(own, answer, tokens=tokens, mask=mask, total=total))
        return torch.stack(losses).sum()


def _misfit(count: int, student: Size, teacher: Size) -> str | None:
    for shape in (student, teacher):
        if len(shape) != 4 or shape[2] != shape[3] or shape[0] != count:
            return (
                f"expected attention matrices ({count}, heads, T, T), got {tuple(shape)}; tap the second output of an "
                'attention layer (path:1) of a network loaded with attn_implementation="eager"'
            )
    if student[1] != teacher[1]:
        return (
            f"the student has {student[1]} heads and the teacher {teacher[1]}, and heads are matched one to one; take "
            "self_relations, which is independent of their number"
        )
    same = student[2] == teacher[2]
    return None if same else f"expected the same tokens in both, got {student[2]} and {teacher[2]} of them"
