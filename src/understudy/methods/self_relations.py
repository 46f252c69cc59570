"""Distillation of the relations between a transformer's queries, between its keys, and between its values."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError
from understudy.feature_method import FeatureMethod, refuse_other_tokens, refuse_uncounted, tokens_of_samples
from understudy.functional.transformers import self_relation_loss
from understudy.knowledge import Knowledge, LayerPairs, Shapes
from understudy.objective import Method
from understudy.taps import layer_of


@final
class SelfRelations(FeatureMethod):
    r"""In one layer of each network, tokens relate to each other alike, by their queries, their keys and their values.

    .. math:: \sum_{X \in \{Q, K, V\}} \frac{1}{N} \sum_i \frac{1}{A T_i} \sum_{a, t}
        \mathrm{KL}(R^T_{Xiat} \| R^S_{Xiat}), \quad
        R_{Xia} = \mathrm{softmax}\left(\frac{X_{ia} X_{ia}^\top}{\sqrt{d}}\right)

    The channels of the queries, of the keys and of the values are cut into A relation heads of d channels, so that the
    networks may differ in width, depth and heads. A layer is an attention layer, or a block around one, in which what
    makes queries, keys and values goes by a usual name; or that layer itself, which may make all three at once
    (``blocks.11.attn.qkv``, cut into thirds); or three layers. torch's own ``nn.MultiheadAttention``, and so
    torchvision's transformers, has no such layers. ``auto`` is the last block of both, the paper's choice for teachers
    of 12 layers; of 24 it takes an upper one, the 21st of BERT. Padding is related to nothing.

    Scale: summed over the entries of a row, the mean over heads and real tokens of a sample, then over samples, summed
    over the three; 0 where the inner products are equal; in nats, unbounded. The gradient goes to the student only.

    Example:
        >>> SelfRelations(student_layer="encoder.layer.5", teacher_layer="encoder.layer.20", relation_heads=64)
        SelfRelations(kind='self_relations', weight=1.0, name=None, student_layer='encoder.layer.5',
            teacher_layer='encoder.layer.20', relation_heads=64)
    """

    paper: ClassVar[str] = (
        "Wang, Bao, Huang, Dong, Wei: MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing "
        "Pretrained Transformers, Findings of ACL 2021 (arXiv:2012.15828)"
    )
    pairing: ClassVar[Literal["stages", "last", "penultimate"]] = "last"

    kind: Literal["self_relations"] = "self_relations"
    relation_heads: Annotated[int, Field(ge=1)] = 48
    """A, which has to divide the widths of both networks; the paper's for a width of 768, for 1024 it takes 64."""

    @model_validator(mode="after")
    def _as_many_on_both_sides(self) -> SelfRelations:
        for whose, layers in (("student_layer", self.student_taps), ("teacher_layer", self.teacher_taps)):
            if len(layers) not in (0, 1, 3):
                raise ValueError(
                    f"{whose} names {len(layers)} layers; expected one attention layer, or three that make its "
                    "queries, keys and values"
                )
        return self

    @property
    def wants_pairs(self) -> bool:
        """Whether what makes queries, keys and values is still to be found."""
        return len(self.student_taps) < 3 or len(self.teacher_taps) < 3

    def paired(self, pairs: LayerPairs) -> Method:
        """The same method with the layers that make queries, keys and values.

        Raises:
            InputError: when there is no attention layer, or more than one, where there should be one.
        """
        asked = super().paired(pairs) if self.student_layer == "auto" else self
        sides = []
        for side, whose, layers in ((0, "student", asked.student_taps), (1, "teacher", asked.teacher_taps)):
            found = pairs.attention(side, layer_of(layers[0])) if len(layers) == 1 else None
            if found is None and len(layers) == 1:
                raise InputError(
                    f"{self.label}: {whose} layer {layers[0]!r} holds several attention layers, or none in which "
                    "layers called query, key and value, or q_proj, k_proj and v_proj, or qkv make the queries, keys "
                    "and values (torch's nn.MultiheadAttention has none); name one, or the three layers"
                )
            sides.append(found.projections if found is not None else layers)
        return self.model_copy(update={"student_layer": sides[0], "teacher_layer": sides[1]})

    def build(self, shapes: Shapes) -> nn.Module:
        """The relations of both.

        Raises:
            InputError: when the two do not fit, have other tokens, or cannot be cut into that many heads.
        """
        refuse_other_tokens(shapes)
        counts = []
        for whose, taps, given in (
            ("student", self.student_taps, shapes.student),
            ("teacher", self.teacher_taps, shapes.teacher),
        ):
            made = [given[tap] for tap in taps]
            refuse_uncounted(shapes, [size[1] for size in made if len(size) == 3])
            if any(len(shape) != 3 or shape[0] != shapes.student_logits[0] for shape in made):
                raise InputError(
                    f"{self.label}: expected layers of the {whose} that give ({shapes.student_logits[0]}, T, C), got "
                    f"{' and '.join(str(tuple(shape)) for shape in made)} from {taps}"
                )
            widths = [shape[2] / (3 if len(taps) == 1 else 1) for shape in made]
            if any(width % self.relation_heads for width in widths):
                raise InputError(
                    f"{self.label}: {self.relation_heads} relation heads do not divide the {widths[0]:g} channels of "
                    f"the {whose}'s {taps}; set relation_heads to a divisor of both networks' widths"
                )
            counts.append(made[0][1])
        if counts[0] != counts[1]:
            raise InputError(f"{self.label}: expected the same tokens in both, got {counts[0]} and {counts[1]} of them")
        return SelfRelationTerm(self)


class SelfRelationTerm(nn.Module):
    """The sum over queries, keys and values."""

    def __init__(self, method: SelfRelations) -> None:
        super().__init__()
        self.method = method

    def forward(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """The mean over what is real of each sample, and over the samples that count."""
        own, answers = _three(student, self.method.student_taps), _three(teacher, self.method.teacher_taps)
        tokens, mask, total = tokens_of_samples(student, batch, own[0].shape[1])
        heads = self.method.relation_heads
        losses = [
            self_relation_loss(one, other, heads=heads, tokens=tokens, mask=mask, total=total)
            for one, other in zip(own, answers, strict=True)
        ]
        return torch.stack(losses).sum()


def _three(shown: Knowledge, taps: tuple[str, ...]) -> tuple[Tensor, ...]:
    """Queries, keys and values; one feature is cut into thirds."""
    features = tuple(shown.features[tap] for tap in taps)
    return features if len(features) == 3 else features[0].chunk(3, dim=-1)
