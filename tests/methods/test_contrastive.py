import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from conformance.case import Case, counted_rows
from conformance.memory import MEMORY, MemorySuite, call
from conformance.relations import Rows, dot
from understudy import Contrastive

DIMENSIONS, TEMPERATURE = 4, 0.5
Z = math.exp(1 / (2 * DIMENSIONS * TEMPERATURE**2))


def embeddings(projection: nn.Linear, rows: Rows) -> Rows:
    """Tian et al. 2020: linear, then of length one."""
    weight, bias = projection.weight.tolist(), projection.bias.tolist()
    raw = [[dot(line, row) + b for line, b in zip(weight, bias, strict=True)] for row in rows]
    return [[value / math.sqrt(dot(row, row)) for value in row] for row in raw]


def critic(u: list[float], v: list[float]) -> float:
    """The paper's h, with the normalisation of the authors' code."""
    score = math.exp(dot(u, v) / TEMPERATURE)
    return score / (score + MEMORY * Z)


def estimate(term: nn.Module, case: Case) -> float:
    """The paper's objective for both anchors: the pair of one sample, and the pairs with all that is remembered."""
    relation = term.joined[0].relation
    student, teacher = counted_rows(case)
    own, answers = embeddings(relation.student_projection, student), embeddings(relation.teacher_projection, teacher)
    total = 0.0
    for s, t in zip(own, answers, strict=True):
        total -= 2 * math.log(critic(s, t))
        for negative in relation.teacher_memory.tolist():
            total -= math.log(1 - critic(s, negative))
        for negative in relation.student_memory.tolist():
            total -= math.log(1 - critic(t, negative))
    return total / len(own) if own else 0.0


def memories_exchanged(_honest, case: Case) -> Tensor:
    term = TestContrastive().term(case)
    relation = term.joined[0].relation
    relation.student_memory, relation.teacher_memory = relation.teacher_memory, relation.student_memory
    return call(term, case)


class TestContrastive(MemorySuite):
    method = Contrastive(
        student_layer="narrow",
        teacher_layer="wide",
        dimensions=DIMENSIONS,
        memory=MEMORY,
        temperature=TEMPERATURE,
    )
    bf16_tolerance = 2e-2

    @property
    def sabotages(self):
        return {"memories exchanged": memories_exchanged, **self.memory_sabotages}

    def reference(self, term, case):
        return estimate(term, case)

    def test_has_the_stated_values(self) -> None:
        """Without any information every critic says 1 / (1 + N Z)."""
        case = self.case(1, 4, ())
        term = self.term(case)
        with torch.no_grad():
            for parameter in term.parameters():
                parameter.zero_()
        expected = 2 * math.log(1 + MEMORY * Z) + 2 * MEMORY * math.log(1 + 1 / (MEMORY * Z))
        torch.testing.assert_close(call(term, case).item(), expected, rtol=1e-9, atol=0.0)


def test_training_remembers_the_last_samples_in_turn_and_evaluation_does_not() -> None:
    term, case = TestContrastive().training(5)
    relation = term.joined[0].relation
    before = relation.student_memory.clone()
    call(term.eval(), case)
    assert torch.equal(relation.student_memory, before)
    call(term.train(), case)
    for side, rows in (("student", case.student.features["narrow"]), ("teacher", case.teacher.features["wide"])):
        embedded = getattr(relation, f"{side}_projection")(rows)
        embedded = embedded / embedded.norm(dim=1, keepdim=True)
        torch.testing.assert_close(getattr(relation, f"{side}_memory")[:5], embedded)
    assert torch.equal(relation.student_memory[5:], before[5:])
    first = relation.student_memory[:5].clone()
    call(term, case)  # places 5, 6, 0, 1, 2
    assert relation.place == 3
    torch.testing.assert_close(relation.student_memory, torch.cat([first[2:5], first[3:5], first[:2]]))


def test_of_more_samples_than_places_the_last_are_remembered() -> None:
    term, case = TestContrastive().training(20)
    call(term, case)
    relation = term.joined[0].relation
    embedded = relation.student_projection(case.student.features["narrow"][-MEMORY:])
    torch.testing.assert_close(relation.student_memory, embedded / embedded.norm(dim=1, keepdim=True))
    assert not relation.student_memory.requires_grad


@pytest.mark.parametrize("wrong", [{"memory": 0}, {"dimensions": 0}, {"temperature": 0.0}])
def test_sizes_and_temperature_are_positive(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Contrastive(**wrong)
