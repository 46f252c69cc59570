import math
from dataclasses import replace
from typing import ClassVar

import pytest
import timm
import torch
import torchvision
from pydantic import ValidationError
from torch import nn

from conformance.case import Case, features_case
from conformance.method_suite import MethodSuite
from conformance.texts import LENGTHS, Texts, alone, encoder, padded, term_of
from understudy import CrossEntropy, Distiller, InputError, SelfRelations

HEADS, TOKENS = 2, 3
WIDTHS = 4, 6
LENGTH_OF = (3, 1, 2)
"""Real tokens of every third sample of a padded case."""

ATTENTION = "bert.encoder.layer.{}.attention.self"


def softmax(scores: list[float]) -> list[float]:
    highest = max(scores)
    exponentials = [math.exp(score - highest) for score in scores]
    return [value / sum(exponentials) for value in exponentials]


def relations(vectors: list[list[float]], head: int, of: list[int]) -> list[list[float]]:
    """Wang et al. 2021, section 3.1: softmax of the scaled inner products of one relation head."""
    size = len(vectors[0]) // HEADS
    cut = [vectors[t][head * size : (head + 1) * size] for t in of]
    return [softmax([sum(a * b for a, b in zip(x, y, strict=True)) / math.sqrt(size) for y in cut]) for x in cut]


def of_one_kind(own: list[list[float]], other: list[list[float]], real: list[int]) -> float:
    """For queries, keys or values: the mean over heads and tokens of KL(R^T || R^S)."""
    total = 0.0
    for head in range(HEADS):
        for p, q in zip(relations(other, head, real), relations(own, head, real), strict=True):
            total += sum(p[k] * (math.log(p[k]) - math.log(q[k])) for k in range(len(p)))
    return total / (HEADS * len(real))


def relation_divergence(case: Case) -> float:
    """Of the three, which are the thirds of one feature, summed; the mean over the samples that count."""
    counts = [True] * len(case.batch) if case.batch.mask is None else case.batch.mask.tolist()
    values = []
    for sample in range(len(case.batch)):
        if not counts[sample]:
            continue
        tokens = case.student.tokens
        real = list(range(TOKENS)) if tokens is None else [t for t in range(TOKENS) if tokens[sample, t]]
        own, other = case.student.features["narrow"][sample].tolist(), case.teacher.features["wide"][sample].tolist()
        value = 0.0
        for third in range(3):
            sides = [
                [row[third * width : (third + 1) * width] for row in rows]
                for rows, width in zip((own, other), WIDTHS, strict=True)
            ]
            value += of_one_kind(*sides, real)
        values.append(value)
    return sum(values) / len(values) if values else 0.0


class TestSelfRelations(MethodSuite):
    method = SelfRelations(student_layer="narrow", teacher_layer="wide", relation_heads=HEADS)
    positions = ((),)
    sabotages: ClassVar = {
        "mean of the three": lambda honest, case: honest(case) / 3,
        "sum over heads": lambda honest, case: honest(case) * HEADS,
        "mask forgotten": lambda honest, case: honest(case.masked(torch.ones(case.positions, dtype=torch.bool))),
        "the scale of one head": lambda honest, case: honest(
            case.each(lambda t: t * HEADS**-0.25 if t.ndim == 3 else t)
        ),
    }

    def case(self, seed, count, positions):
        student, teacher = ((TOKENS, 3 * width) for width in WIDTHS)
        return features_case(seed, count, positions, student=student, teacher=teacher)

    def reference(self, term, case):
        return relation_divergence(case)

    def known_values(self):
        """Two of three tokens are at zero; the third relates to itself with 3/5, where the student has 1/3."""
        case = self.case(1, 4, ())
        nothing = torch.zeros_like(case.student.features["narrow"])
        answer = torch.zeros_like(case.teacher.features["wide"])
        zero = replace(case, student=replace(case.student, features={"narrow": nothing}))
        equal = replace(zero, teacher=replace(case.teacher, features={"wide": answer}))
        answer = answer.clone()
        answer[:, 2, 0] = math.sqrt(math.log(3.0) * math.sqrt(3.0))  # a query, in the first of two heads of 3 channels
        p = (1 / 5, 1 / 5, 3 / 5)
        value = sum(share * math.log(3 * share) for share in p) / (HEADS * TOKENS)
        return [(equal, 0.0), (replace(zero, teacher=replace(case.teacher, features={"wide": answer})), value)]


class TestWithPadding(TestSelfRelations):
    sabotages: ClassVar = {
        **TestSelfRelations.sabotages,
        "padding counts": lambda honest, case: honest(replace(case, student=replace(case.student, tokens=None))),
    }
    test_has_the_stated_values = None

    def case(self, seed, count, positions):
        case = super().case(seed, count, positions)
        lengths = torch.tensor(LENGTH_OF).repeat(count)[:count]
        tokens = torch.arange(TOKENS) < lengths[:, None]
        return replace(case, student=replace(case.student, tokens=tokens), teacher=replace(case.teacher, tokens=tokens))


def resolved(student: nn.Module, teacher: nn.Module, method: SelfRelations) -> SelfRelations:
    distiller = Distiller(student, teacher, method, example=padded(), task=Texts())
    return distiller.objective.objective.terms[0]


def test_queries_keys_and_values_are_found_in_the_last_block_or_in_the_one_that_is_named() -> None:
    student, teacher = encoder(width=4, layers=2), encoder(width=8, layers=3, heads=4)
    for layers, last in (
        ({}, 2),
        ({"student_layer": "bert.encoder.layer.1", "teacher_layer": "bert.encoder.layer.1"}, 1),
        ({"student_layer": ATTENTION.format(1), "teacher_layer": "bert.encoder.layer.1.attention"}, 1),
    ):
        found = resolved(student, teacher, SelfRelations(**layers, relation_heads=2))
        assert found.student_taps == tuple(f"{ATTENTION.format(1)}.{name}" for name in ("query", "key", "value"))
        assert found.teacher_taps == tuple(f"{ATTENTION.format(last)}.{name}" for name in ("query", "key", "value"))
        assert resolved(student, teacher, found) == found


def test_padding_changes_nothing() -> None:
    student, teacher, raw = encoder(width=4, layers=2), encoder(width=8, layers=3, heads=4), padded()
    method = SelfRelations(relation_heads=2)
    parts = [term_of(student, teacher, method, alone(raw, sample)) for sample in range(len(LENGTHS))]
    assert min(parts[0], parts[2]) > 0.0
    torch.testing.assert_close(term_of(student, teacher, method, raw), torch.stack(parts).mean())
    torch.testing.assert_close(term_of(student, teacher, method, padded(to=9)), torch.stack(parts).mean())


@pytest.mark.parametrize(
    "layers", [{}, {"student_layer": "blocks.1.attn.qkv", "teacher_layer": "blocks.1"}], ids=["auto", "named"]
)
def test_one_layer_that_makes_all_three_is_cut_into_thirds(layers: dict[str, str]) -> None:
    """timm's own queries, keys and values; and two steps of training."""
    options = {"img_size": 32, "num_classes": 3, "depth": 2}
    student = timm.create_model("vit_tiny_patch16_224", embed_dim=48, num_heads=3, **options)
    teacher = timm.create_model("vit_tiny_patch16_224", embed_dim=96, num_heads=4, **options)
    images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    method = SelfRelations(**layers, relation_heads=2)
    distiller = Distiller(student, teacher, CrossEntropy() + method, example=(images, labels))
    terms = distiller.objective.objective.terms
    assert terms[1].student_taps == terms[1].teacher_taps == ("blocks.1.attn.qkv",)
    sides = []
    for network, heads in ((student, 3), (teacher, 4)):
        given = []
        handle = network.blocks[1].attn.qkv.register_forward_hook(
            lambda _m, _i, output, given=given: given.append(output)
        )
        network(images)
        handle.remove()
        # As timm's Attention reads it: (batch, tokens, 3, heads, channels of a head).
        three = given[0].detach().reshape(4, 5, 3, heads, -1).permute(2, 0, 1, 3, 4).flatten(3)
        sides.append(three.double().tolist())
    expected = 0.0
    for kind in range(3):
        for sample in range(4):
            expected += of_one_kind(sides[0][kind][sample], sides[1][kind][sample], list(range(5))) / 4
    optimizer = torch.optim.SGD(distiller.parameters(), 0.01)
    first = distiller((images, labels)).terms["self_relations"].item()
    assert first == pytest.approx(expected, rel=1e-4)
    for _ in range(2):
        step = distiller((images, labels))
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
    assert step.loss.isfinite()


def test_torchvisions_attention_has_no_such_layers() -> None:
    networks = [torchvision.models.VisionTransformer(32, 16, 2, 2, 8, 16, num_classes=3) for _ in range(2)]
    block = "encoder.layers.encoder_layer_1"
    method = SelfRelations(student_layer=block, teacher_layer=block, relation_heads=2)
    with pytest.raises(
        InputError, match=rf"student layer '{block}' holds several.* or none in .*nn\.MultiheadAttention"
    ):
        Distiller(*networks, method, example=torch.rand(2, 3, 32, 32))


def test_more_than_one_attention_layer_is_not_chosen_from() -> None:
    student, teacher = encoder(width=4, layers=2), encoder(width=4, layers=2)
    with pytest.raises(InputError, match=r"student layer 'bert\.encoder' holds several attention layers"):
        resolved(student, teacher, SelfRelations(student_layer="bert.encoder", teacher_layer="bert.encoder"))


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ((4, 5, 12), (4, 5, 15), r"4 relation heads do not divide the 5 channels of the teacher"),
        ((4, 5, 12), (4, 6, 12), r"same tokens in both, got 5 and 6"),
        ((4, 12), (4, 5, 12), r"layers of the student that give \(4, T, C\), got \(4, 12\)"),
        ((12, 5, 12), (4, 5, 12), r"layers of the student that give \(4, T, C\), got \(12, 5, 12\)"),
    ],
)
def test_what_does_not_fit_is_named(student, teacher, message) -> None:
    case = features_case(1, 4, (), student=(1,), teacher=(1,))
    shapes = replace(case.shapes, student={"narrow": torch.Size(student)}, teacher={"wide": torch.Size(teacher)})
    with pytest.raises(InputError, match=rf"self_relations: .*{message}"):
        SelfRelations(student_layer="narrow", teacher_layer="wide", relation_heads=4).build(shapes)


def test_layers_are_one_or_three() -> None:
    mixed = SelfRelations(student_layer=["q", "k", "v"], teacher_layer="blocks.3.attn.qkv")
    assert len(mixed.student_taps) == 3
    with pytest.raises(ValidationError, match="student_layer names 2 layers; expected one attention layer, or three"):
        SelfRelations(student_layer=["q", "k"], teacher_layer=["q", "k"])
    with pytest.raises(ValidationError, match="name the layers of student and teacher both"):
        SelfRelations(student_layer="a")
