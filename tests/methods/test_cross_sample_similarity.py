import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from conformance.case import Case, counted_rows, features_case
from conformance.logit_rows import kullback_leibler, softmax
from conformance.memory import MEMORY, MemorySuite, call
from conformance.relations import Rows, dot
from understudy import CrossSampleSimilarity

OWN, ANSWER = 0.5, 0.3


def normalised(rows: Rows) -> Rows:
    return [[value / math.sqrt(dot(row, row)) for value in row] for row in rows]


def divergence(term: nn.Module, case: Case) -> float:
    """Fang et al. 2021: of the distributions over the teacher's embedding of the sample and all that is remembered."""
    relation = term.joined[0].relation
    student, teacher = counted_rows(case)
    mapped = [[dot(line, row) for line in relation.projection.weight.tolist()] for row in student]
    total = 0.0
    for s, t in zip(normalised(mapped), normalised(teacher), strict=True):
        others = [t, *relation.memory.tolist()]
        own = softmax([dot(s, other) for other in others], OWN)
        answer = softmax([dot(t, other) for other in others], ANSWER)
        total += kullback_leibler(answer, own)
    return total / len(student) if student else 0.0


def instead(**fields):
    def loss(_honest, case: Case) -> Tensor:
        torch.manual_seed(0)
        method = TestCrossSampleSimilarity.method.model_copy(update=fields)
        return call(method.build(case.shapes).double().eval(), case)

    return loss


class TestCrossSampleSimilarity(MemorySuite):
    method = CrossSampleSimilarity(
        student_layer="narrow",
        teacher_layer="wide",
        memory=MEMORY,
        student_temperature=OWN,
        teacher_temperature=ANSWER,
    )
    bf16_tolerance = 5e-2

    @property
    def sabotages(self):
        exchanged = instead(student_temperature=ANSWER, teacher_temperature=OWN)
        return {"temperatures exchanged": exchanged, **self.memory_sabotages}

    def reference(self, term, case):
        return divergence(term, case)

    def test_has_the_stated_values(self) -> None:
        """A student that knows nothing is as similar to all; the teacher's own distribution is left."""
        case = self.case(1, 1, ())
        term = self.term(case)
        relation = term.joined[0].relation
        with torch.no_grad():
            relation.projection.weight.zero_()
            relation.memory.zero_()
        sure = math.exp(1 / ANSWER)
        others = MEMORY + sure
        entropy = -(sure / others) * math.log(sure / others) + MEMORY / others * math.log(others)
        torch.testing.assert_close(call(term, case).item(), math.log(1 + MEMORY) - entropy, rtol=1e-9, atol=0.0)


def test_equal_embeddings_have_no_map_and_no_loss_at_equal_temperatures() -> None:
    case = features_case(1, 6, (), student=(5,), teacher=(5,))
    case = replace(case, student=replace(case.student, features={"narrow": 3.0 * case.teacher.features["wide"]}))
    for temperature, expected in ((0.2, True), (0.3, False)):
        method = CrossSampleSimilarity(
            student_layer="narrow", teacher_layer="wide", memory=MEMORY, teacher_temperature=temperature
        )
        term = method.build(case.shapes).double()
        assert not list(term.parameters())
        assert (call(term, case).abs().item() < 1e-12) == expected


def test_training_remembers_the_teachers_embeddings_in_turn_and_evaluation_does_not() -> None:
    term, case = TestCrossSampleSimilarity().training(5)
    relation = term.joined[0].relation
    before = relation.memory.clone()
    call(term.eval(), case)
    assert torch.equal(relation.memory, before)
    call(term.train(), case)
    wide = case.teacher.features["wide"]
    first = wide / wide.norm(dim=1, keepdim=True)
    torch.testing.assert_close(relation.memory, torch.cat([first, before[5:]]))
    call(term, case)  # places 5, 6, 0, 1, 2
    assert relation.place == 3
    torch.testing.assert_close(relation.memory, torch.cat([first[2:5], first[3:5], first[:2]]))
    assert not relation.memory.requires_grad


@pytest.mark.parametrize("wrong", [{"memory": 0}, {"student_temperature": 0.0}, {"teacher_temperature": -1.0}])
def test_size_and_temperatures_are_positive(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        CrossSampleSimilarity(**wrong)
