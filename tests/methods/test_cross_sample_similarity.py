import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from conformance.case import Case, counted_rows, features_case
from conformance.coupled import buffers_after_a_step
from conformance.logit_rows import kullback_leibler, softmax
from conformance.method_suite import BatchCoupledSuite
from conformance.relations import Rows, dot, everything_counts, rows_that_count
from conformance.two_processes import TwoProcesses
from understudy import CrossSampleSimilarity

MEMORY, OWN, ANSWER = 7, 0.5, 0.3


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


def call(term: nn.Module, case: Case) -> Tensor:
    return term(case.student, case.teacher, case.batch)


def remembered_before(_honest, case: Case) -> Tensor:
    term = TestCrossSampleSimilarity().term(case)
    call(term.train(), case)
    return call(term.eval(), case)


def instead(**fields):
    def loss(_honest, case: Case) -> Tensor:
        torch.manual_seed(0)
        method = TestCrossSampleSimilarity.method.model_copy(update=fields)
        return call(method.build(case.shapes).double().eval(), case)

    return loss


class TestCrossSampleSimilarity(BatchCoupledSuite):
    method = CrossSampleSimilarity(
        student_layer="narrow",
        teacher_layer="wide",
        memory=MEMORY,
        student_temperature=OWN,
        teacher_temperature=ANSWER,
    )
    fewest = 1
    bf16_tolerance = 5e-2
    sabotages: ClassVar = {
        "temperatures exchanged": instead(student_temperature=ANSWER, teacher_temperature=OWN),
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


def training_term(count: int) -> tuple[nn.Module, Case]:
    case = TestCrossSampleSimilarity().case(1, count, ())
    return TestCrossSampleSimilarity().term(case).train(), case


def test_training_remembers_the_teachers_embeddings_in_turn_and_evaluation_does_not() -> None:
    term, case = training_term(5)
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
    call(term, case.masked(torch.tensor([True, False, False, True, False])))
    assert term.joined[0].relation.place == 2


def test_the_memory_goes_on_after_a_checkpoint() -> None:
    term, case = training_term(5)
    call(term, case)
    other = TestCrossSampleSimilarity().term(case, seed=3).train()
    other.load_state_dict(term.state_dict())
    for _ in range(3):
        assert torch.equal(call(other, case), call(term, case))
    assert other.joined[0].relation.place == term.joined[0].relation.place == 20 % MEMORY


def test_a_batch_without_samples_reaches_the_map() -> None:
    """Or data-parallel training would wait for its gradient."""
    term, case = training_term(3)
    call(term, case.masked(torch.zeros(3, dtype=torch.bool)).leaves()).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() == 0.0 for parameter in term.parameters())
    assert term.joined[0].relation.place == 0


def test_all_processes_keep_the_same_memory(two_processes: TwoProcesses) -> None:
    term, case = training_term(5)
    first, second = two_processes.run(buffers_after_a_step, TestCrossSampleSimilarity.method, case)
    assert first == second
    call(term, case)
    assert first == {name: buffer.tolist() for name, buffer in term.named_buffers()}


@pytest.mark.parametrize("wrong", [{"memory": 0}, {"student_temperature": 0.0}, {"teacher_temperature": -1.0}])
def test_size_and_temperatures_are_positive(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        CrossSampleSimilarity(**wrong)
