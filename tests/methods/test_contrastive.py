import math
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import BatchCoupledSuite
from conformance.relations import Rows, dot, everything_counts, rows_that_count
from understudy import Contrastive

DIMENSIONS, MEMORY, TEMPERATURE = 4, 7, 0.5
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


def call(term: nn.Module, case: Case) -> Tensor:
    return term(case.student, case.teacher, case.batch)


def memories_exchanged(_honest, case: Case) -> Tensor:
    term = TestContrastive().term(case)
    relation = term.joined[0].relation
    relation.student_memory, relation.teacher_memory = relation.teacher_memory, relation.student_memory
    return call(term, case)


def remembered_before(_honest, case: Case) -> Tensor:
    term = TestContrastive().term(case)
    call(term.train(), case)
    return call(term.eval(), case)


class TestContrastive(BatchCoupledSuite):
    method = Contrastive(
        student_layer="narrow",
        teacher_layer="wide",
        dimensions=DIMENSIONS,
        memory=MEMORY,
        temperature=TEMPERATURE,
    )
    fewest = 1
    bf16_tolerance = 2e-2
    sabotages: ClassVar = {
        "memories exchanged": memories_exchanged,
        "samples remembered before the loss": remembered_before,
        "sum over samples": lambda honest, case: honest(case) * max(rows_that_count(case), 2),
        "mask forgotten": everything_counts,
    }

    def term(self, case, *, seed=0):
        """In eval mode, where it is a function of its arguments; what training changes is tested below."""
        return super().term(case, seed=seed).eval()

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(3,), teacher=(5,))

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


def training_term(count: int) -> tuple[nn.Module, Case]:
    case = TestContrastive().case(1, count, ())
    return TestContrastive().term(case).train(), case


def test_training_remembers_the_last_samples_in_turn_and_evaluation_does_not() -> None:
    term, case = training_term(5)
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
    term, case = training_term(20)
    call(term, case)
    relation = term.joined[0].relation
    embedded = relation.student_projection(case.student.features["narrow"][-MEMORY:])
    torch.testing.assert_close(relation.student_memory, embedded / embedded.norm(dim=1, keepdim=True))
    assert not relation.student_memory.requires_grad


def test_remembering_does_not_change_the_gradient() -> None:
    gradients = []
    for training in (True, False):
        term, case = training_term(5)
        case = case.leaves()
        call(term.train(training), case).backward()
        gradients.append([case.student.features["narrow"].grad, *(p.grad for p in term.parameters())])
    for with_memory, without in zip(*gradients, strict=True):
        assert torch.equal(with_memory, without)


def test_a_masked_sample_is_not_remembered() -> None:
    term, case = training_term(5)
    relation = term.joined[0].relation
    call(term, case.masked(torch.tensor([True, False, False, True, False])))
    assert relation.place == 2


def test_the_memory_goes_on_after_a_checkpoint() -> None:
    term, case = training_term(5)
    call(term, case)
    other = TestContrastive().term(case, seed=3).train()
    other.load_state_dict(term.state_dict())
    for _ in range(3):
        assert torch.equal(call(other, case), call(term, case))
    assert other.joined[0].relation.place == term.joined[0].relation.place == 20 % MEMORY


def test_a_batch_without_samples_reaches_the_projections() -> None:
    """Or data-parallel training would wait for their gradients."""
    term, case = training_term(3)
    call(term, case.masked(torch.zeros(3, dtype=torch.bool)).leaves()).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() == 0.0 for parameter in term.parameters())
    assert term.joined[0].relation.place == 0


@pytest.mark.parametrize("wrong", [{"memory": 0}, {"dimensions": 0}, {"temperature": 0.0}])
def test_sizes_and_temperature_are_positive(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Contrastive(**wrong)
