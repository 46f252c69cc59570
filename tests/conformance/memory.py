"""What every method that remembers earlier samples must do."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from conformance.case import Case, features_case
from conformance.coupled import buffers_after_a_step
from conformance.method_suite import BatchCoupledSuite
from conformance.relations import everything_counts, rows_that_count
from conformance.two_processes import TwoProcesses

MEMORY = 7
"""Places of the memory of the method under test; its features are ``narrow`` (N, 3) and ``wide`` (N, 5)."""


def call(term: nn.Module, case: Case) -> Tensor:
    return term(case.student, case.teacher, case.batch)


class MemorySuite(BatchCoupledSuite):
    """A method whose relation has a ``place``, and rows that it writes one after the other while it trains."""

    fewest = 1

    @property
    @abstractmethod
    def sabotages(self):
        """Faults of the method; those of all memories are in ``memory_sabotages``."""

    @property
    def memory_sabotages(self):
        return {
            "samples remembered before the loss": self.remembered_before,
            "sum over samples": lambda honest, case: honest(case) * max(rows_that_count(case), 2),
            "mask forgotten": everything_counts,
        }

    def remembered_before(self, _honest, case: Case) -> Tensor:
        term = self.term(case)
        call(term.train(), case)
        return call(term.eval(), case)

    def term(self, case, *, seed=0):
        """In eval mode, where it is a function of its arguments; what training changes is tested below."""
        return super().term(case, seed=seed).eval()

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(3,), teacher=(5,))

    def training(self, count: int) -> tuple[nn.Module, Case]:
        case = self.case(1, count, ())
        return self.term(case).train(), case

    def test_remembering_does_not_change_the_gradient(self) -> None:
        gradients = []
        for training in (True, False):
            term, case = self.training(5)
            case = case.leaves()
            call(term.train(training), case).backward()
            gradients.append([case.student.features["narrow"].grad, *(p.grad for p in term.parameters())])
        for with_memory, without in zip(*gradients, strict=True):
            assert torch.equal(with_memory, without)

    def test_a_masked_sample_is_not_remembered(self) -> None:
        term, case = self.training(5)
        call(term, case.masked(torch.tensor([True, False, False, True, False])))
        assert term.joined[0].relation.place == 2

    def test_the_memory_goes_on_after_a_checkpoint(self) -> None:
        term, case = self.training(5)
        call(term, case)
        other = self.term(case, seed=3).train()
        other.load_state_dict(term.state_dict())
        for _ in range(3):
            assert torch.equal(call(other, case), call(term, case))
        assert other.joined[0].relation.place == term.joined[0].relation.place == 20 % MEMORY

    def test_a_batch_without_samples_reaches_what_is_trained(self) -> None:
        """Or data-parallel training would wait for its gradients."""
        term, case = self.training(3)
        call(term, case.masked(torch.zeros(3, dtype=torch.bool)).leaves()).backward()
        assert all(parameter.grad is not None and parameter.grad.abs().sum() == 0.0 for parameter in term.parameters())
        assert term.joined[0].relation.place == 0

    def test_all_processes_keep_the_same_memory(self, two_processes: TwoProcesses) -> None:
        term, case = self.training(5)
        first, second = two_processes.run(buffers_after_a_step, self.method, case)
        assert first == second
        call(term, case)
        assert first == {name: buffer.tolist() for name, buffer in term.named_buffers()}
