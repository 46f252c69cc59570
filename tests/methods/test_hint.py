from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import MethodSuite
from conformance.texts import LENGTHS, Texts, encoder, padded
from understudy import Batch, Distiller, Hint, InputError, Knowledge
from understudy.knowledge import Shapes

WIDTHS = 3, 5


def squared_distance(term: nn.Module, case: Case) -> float:
    """Romero et al. 2015, eq. 3, as a mean: the squared difference after the regressor r, here a matrix."""
    weight = term.joined[0].adapter.weight.tolist()
    total, count = 0.0, 0
    for narrow, wide in zip(*counted_rows(case), strict=True):
        for row, target in zip(weight, wide, strict=True):
            count += 1
            total += (sum(w * value for w, value in zip(row, narrow, strict=True)) - target) ** 2
    return total / count if count else 0.0


class TestHint(MethodSuite):
    method = Hint(student_layer="narrow", teacher_layer="wide")
    sabotages: ClassVar = {
        "sum over the feature": lambda honest, case: honest(case) * WIDTHS[1],
        "half": lambda honest, case: honest(case) / 2,
        "mask forgotten": lambda honest, case: honest(case.masked(torch.ones(case.positions, dtype=torch.bool))),
    }
    bf16_tolerance = 2e-2

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(WIDTHS[0],), teacher=(WIDTHS[1],))

    def reference(self, term, case):
        return squared_distance(term, case)

    def known_values(self):
        case = self.case(1, 4, ())
        adapted = self.term(case).joined[0].adapter(case.student.features["narrow"]).detach()
        return [
            (replace(case, teacher=replace(case.teacher, features={"wide": adapted})), 0.0),
            (replace(case, teacher=replace(case.teacher, features={"wide": adapted + 2.0})), 4.0),
        ]


def test_a_feature_of_another_resolution_than_the_logits_counts_wholly() -> None:
    """Pixel-wise logits (N, H, W, K) with a mask per pixel, and features of a quarter of the resolution."""
    student, teacher = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    mask = torch.rand(2, 4, 4) < 0.5
    shown = Knowledge(logits=torch.randn(2, 4, 4, 5), features={"a": student}, mask=mask)
    answer = Knowledge(logits=torch.randn(2, 4, 4, 5), features={"b": teacher}, mask=mask)
    term = Hint(student_layer="a", teacher_layer="b").build(Shapes.of(shown, answer))
    loss = term(shown, answer, Batch(inputs=torch.zeros(2, 1), valid_total=torch.tensor(7.0)))
    torch.testing.assert_close(loss, (student - teacher).square().mean())


def test_the_adapter_belongs_to_the_term_and_an_error_names_the_layers() -> None:
    shapes = Shapes(
        student={"a": torch.Size([2, 3])},
        teacher={"b": torch.Size([2, 4, 8, 8])},
        student_logits=torch.Size([2, 5]),
        teacher_logits=torch.Size([2, 5]),
    )
    with pytest.raises(InputError, match=r"hint \('a' to 'b'\).*\(N, 3\).*\(N, 4, 8, 8\)"):
        Hint(student_layer="a", teacher_layer="b").build(shapes)
    fitting = replace(shapes, student={"a": torch.Size([2, 6, 4, 4])})
    term = Hint(student_layer="a", teacher_layer="b").build(fitting)
    assert [tuple(p.shape) for p in term.parameters()] == [(4, 6, 1, 1)]


@pytest.mark.parametrize(
    "layers",
    [
        {},
        {
            "student_layer": ["bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1"],
            "teacher_layer": ["bert.embeddings", "bert.encoder.layer.1", "bert.encoder.layer.3"],
        },
    ],
    ids=["auto", "named"],
)
def test_is_the_hidden_state_loss_of_tinybert(layers: dict[str, list[str]]) -> None:
    """Jiao et al. 2020, with the layer mapping g(m) = 2 m: the sum over layers of MSE(H^S W, H^T), of real tokens."""
    student, teacher, raw = encoder(width=4, layers=2), encoder(width=6, layers=4), padded()
    distiller = Distiller(student, teacher, Hint(**layers), example=raw, task=Texts())
    adapters = [joined.adapter.weight.tolist() for joined in distiller.objective.terms["hint"].joined]
    inputs = {name: raw[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        of_student, of_teacher = (
            [states.tolist() for states in network(**inputs, output_hidden_states=True).hidden_states]
            for network in (student, teacher)
        )
    expected = 0.0
    for m, weight in zip(range(3) if layers else range(1, 3), adapters, strict=True):
        squares = []
        for sample, length in enumerate(LENGTHS):
            for token in range(length):
                own, other = of_student[m][sample][token], of_teacher[2 * m][sample][token]
                for row, target in zip(weight, other, strict=True):
                    squares.append((sum(w * value for w, value in zip(row, own, strict=True)) - target) ** 2)
        expected += sum(squares) / len(squares)
    assert distiller(raw).loss.item() == pytest.approx(expected, rel=1e-10)
