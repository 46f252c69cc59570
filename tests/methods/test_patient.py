import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import MethodSuite
from conformance.texts import Texts, encoder, padded, term_of
from understudy import CrossEntropy, Distiller, InputError, Patient
from understudy.knowledge import LayerPairs

WIDTHS = 3, 5


def directions(term: nn.Module, case: Case) -> float:
    """Sun et al. 2019: squared distance of what the class tokens are, each divided by its length; a mean of squares."""
    weight = term.joined[0].adapter.weight.tolist()
    total, count = 0.0, 0
    for narrow, wide in zip(*counted_rows(case), strict=True):
        if isinstance(narrow[0], list):  # tokens of a sample
            narrow, wide = narrow[0], wide[0]
        mine = [sum(w * value for w, value in zip(row, narrow, strict=True)) for row in weight]
        lengths = [math.sqrt(sum(value**2 for value in side)) for side in (mine, wide)]
        for own, other in zip(mine, wide, strict=True):
            total += (own / lengths[0] - other / lengths[1]) ** 2
            count += 1
    return total / count if count else 0.0


class TestPatient(MethodSuite):
    method = Patient(student_layer="narrow", teacher_layer="wide")
    sabotages: ClassVar = {
        "sum over the channels": lambda honest, case: honest(case) * WIDTHS[1],
        "mask forgotten": lambda honest, case: honest(case.masked(torch.ones(case.positions, dtype=torch.bool))),
    }
    bf16_tolerance = 2e-2

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(WIDTHS[0],), teacher=(WIDTHS[1],))

    def reference(self, term, case):
        return directions(term, case)

    def known_values(self):
        case = self.case(1, 4, ())
        adapted = self.term(case).joined[0].adapter(case.student.features["narrow"]).detach()
        answers = [(3.0 * adapted, 0.0), (-adapted, 4.0 / WIDTHS[1])]
        return [(_answered(case, answer), value) for answer, value in answers]


class TestOnTokens(TestPatient):
    positions = ((),)
    sabotages: ClassVar = {
        **TestPatient.sabotages,
        "another token": lambda honest, case: honest(case.each(lambda t: t.flip(1) if t.ndim == 3 else t)),
    }
    test_has_the_stated_values = None
    test_compiled_equals_eager = None

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(4, WIDTHS[0]), teacher=(4, WIDTHS[1]))


def _answered(case: Case, answer: torch.Tensor) -> Case:
    return replace(case, teacher=replace(case.teacher, features={"wide": answer}))


def test_auto_is_every_layer_but_the_last() -> None:
    """PKD-Skip of twelve layers to six: 2, 4, 6, 8, 10, counted from one."""
    student, teacher = encoder(width=4, layers=6), encoder(width=4, layers=12)
    distiller = Distiller(student, teacher, Patient(), example=padded(), task=Texts())
    method = distiller.objective.objective.terms[0]
    assert method.teacher_taps == tuple(f"bert.encoder.layer.{layer - 1}" for layer in (2, 4, 6, 8, 10))
    assert method.student_taps == tuple(f"bert.encoder.layer.{layer}" for layer in range(5))
    assert not list(distiller.objective.parameters())


def test_takes_two_steps_between_encoders_of_other_widths() -> None:
    student, raw = encoder(width=4, layers=2), padded()
    distiller = Distiller(student, encoder(width=6, layers=4), CrossEntropy() + Patient(), example=raw, task=Texts())
    optimizer = torch.optim.SGD(distiller.parameters(), 0.1)
    losses = []
    for _ in range(2):
        step = distiller(raw)
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
        losses.append(step.terms["patient"].item())
    assert losses[1] < losses[0]


def test_of_a_single_pair_none_is_left_out() -> None:
    only = Patient().paired(LayerPairs(stages=(("a", "b"),)))
    assert only.student_taps == ("a",)


def test_padding_is_no_matter_of_the_class_token() -> None:
    networks = encoder(width=8, layers=2), encoder(width=8, layers=2)
    torch.testing.assert_close(*(term_of(*networks, Patient(), padded(to=to)) for to in (5, 9)))


def test_a_map_has_no_class_token() -> None:
    case = features_case(1, 2, (), student=(3, 2, 2), teacher=(3, 2, 2))
    with pytest.raises(InputError, match=r"patient \('narrow' to 'wide'\).*\(N, 3, 2, 2\) has no first token"):
        TestPatient.method.build(case.shapes)
