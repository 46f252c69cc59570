"""What every method has to keep. A method's own test supplies the method, its inputs and a naive reference.

    class TestMine(MethodSuite):
        method = Mine(...)
        def case(self, seed, count, positions): ...        # a Case in float64
        def reference(self, term, case): ...               # loops over Python floats, from the paper's equation
        def known_values(self): ...                        # [(case, stated value), ...]
        sabotages = {"missing factor": lambda honest, case: ...}

and inherits the rest.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from conformance.case import Case
from conformance.scaled import eager_and_compiled, reduced, reduced_without_gathering, scaled_step
from conformance.two_processes import TwoProcesses
from understudy import Cosine, Method
from understudy.methods import METHODS, AnyMethod

Sabotage = Callable[[Callable[[Case], Tensor], Case], Tensor]

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on CPU needs g++")


class MethodSuite:
    method: ClassVar[Method]
    positions: ClassVar[tuple[tuple[int, ...], ...]] = ((), (3,))
    """Dimensions between batch and classes to try: none (one label per sample), tokens."""
    sabotages: ClassVar[Mapping[str, Sabotage]] = {}
    """Wrong versions of the loss that the comparison with the reference must notice, beside the suite's own."""
    symmetric: ClassVar[bool] = False
    """Whether the value stays when student and teacher are swapped, so that only the gradient tells them apart."""
    bf16_tolerance: ClassVar[float] = 1e-4
    """Relative; the sums are in float32, so that only a matrix product of the method's own loses more."""

    def case(self, seed: int, count: int, positions: tuple[int, ...]) -> Case:
        raise NotImplementedError

    def reference(self, term: nn.Module, case: Case) -> float:
        raise NotImplementedError

    def known_values(self) -> list[tuple[Case, float]]:
        raise NotImplementedError

    # What the tests below are made of.

    def term(self, case: Case, *, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return self.method.build(case.shapes).to(case.student.logits.dtype)

    def loss(self, case: Case) -> Tensor:
        return self.term(case)(case.student, case.teacher, case.batch)

    def cases(self) -> Iterator[Case]:
        """Plain, partly labelled, and masked, for each kind of positions."""
        for positions in self.positions:
            case = self.case(1, 6, positions)
            some = torch.rand(case.positions) < 0.6
            some.view(-1)[:2] = torch.tensor([True, False])
            yield case
            yield case.labelled(some)
            yield case.labelled(some).masked(torch.rand(case.positions) < 0.7)

    def check_reference(self, loss: Callable[[Case], Tensor]) -> None:
        for case in self.cases():
            expected = torch.tensor(self.reference(self.term(case), case), dtype=torch.float64)
            torch.testing.assert_close(loss(case), expected, rtol=1e-10, atol=1e-12)

    # The tests.

    def test_equals_the_reference(self) -> None:
        self.check_reference(self.loss)

    def test_a_wrong_loss_would_be_noticed(self) -> None:
        wrong: dict[str, Sabotage] = {
            "factor 1.01": lambda honest, case: 1.01 * honest(case),
            "swapped arguments": lambda _, case: self.term(case)(case.teacher, case.student, case.batch),
            **self.sabotages,
        }
        if self.symmetric:
            swapped = wrong.pop("swapped arguments")
            self.check_reference(lambda case: swapped(self.loss, case))
        for name, sabotage in wrong.items():
            noticed = False
            try:
                self.check_reference(lambda case, sabotage=sabotage: sabotage(self.loss, case))
            except (AssertionError, RuntimeError, KeyError):
                noticed = True
            assert noticed, f"the comparison with the reference does not notice: {name}"

    def test_has_the_stated_values(self) -> None:
        for case, expected in self.known_values():
            torch.testing.assert_close(self.loss(case).item(), expected, rtol=1e-9, atol=1e-12)

    def test_is_finite_where_nothing_counts(self) -> None:
        for positions in self.positions:
            case = self.case(1, 4, positions)
            nothing = torch.zeros(case.positions, dtype=torch.bool)
            case = case.labelled(nothing).masked(nothing).leaves()
            loss = self.loss(case)
            loss.backward()
            assert loss.item() == 0.0
            assert all(tensor.grad is None or tensor.grad.abs().max() == 0.0 for tensor in case.tensors())

    def test_is_finite_for_huge_inputs(self) -> None:
        for dtype in (torch.float32, torch.bfloat16):
            case = self.case(1, 4, ()).each(lambda t: t * 1e4 if t.is_floating_point() else t).to(dtype).leaves()
            loss = self.loss(case)
            loss.backward()
            assert loss.isfinite()
            assert all(tensor.grad is None or tensor.grad.isfinite().all() for tensor in case.tensors())

    def test_gives_no_gradient_to_the_teacher(self) -> None:
        case = self.case(1, 4, ()).leaves()
        answer = [case.teacher.logits, *case.teacher.features.values()]
        for tensor in answer:
            tensor.requires_grad_()
        self.loss(case).backward()
        assert all(tensor.grad is None for tensor in answer)
        assert any(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in case.tensors())

    def test_its_gradient_is_that_of_its_value(self) -> None:
        for positions in self.positions:
            case = self.case(1, 3, positions)
            term = self.term(case)
            names = [name for name, _ in term.named_parameters()]
            count = len(case.tensors())

            def value(*tensors: Tensor, case=case, term=term, names=names, count=count) -> Tensor:
                changed = case.with_tensors(tensors[:count])
                arguments = (changed.student, changed.teacher, changed.batch)
                parameters = dict(zip(names, tensors[count:], strict=True))
                return torch.func.functional_call(term, parameters, arguments)

            inputs = [*case.leaves().tensors(), *(p.detach().requires_grad_() for p in term.parameters())]
            assert torch.autograd.gradcheck(value, inputs)

    def test_bfloat16_is_summed_in_float32(self) -> None:
        rounded = self.case(1, 16, ()).to(torch.bfloat16)
        term = self.term(rounded)
        low = term(rounded.student, rounded.teacher, rounded.batch)
        exact = rounded.to(torch.float64)
        high = term.double()(exact.student, exact.teacher, exact.batch)
        assert low.dtype == torch.float32
        torch.testing.assert_close(low.double(), high, rtol=self.bf16_tolerance, atol=1e-7)

    def test_autocast_does_not_lower_its_precision(self) -> None:
        case = self.case(1, 16, ()).to(torch.float32)
        term = self.term(case)
        arguments = (case.student, case.teacher, case.batch)
        expected = term(*arguments)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(term(*arguments), expected, rtol=self.bf16_tolerance, atol=1e-7)

    def test_the_order_of_the_batch_does_not_matter(self) -> None:
        for case in self.cases():
            shuffled = case.select([3, 0, 5, 1, 4, 2])
            torch.testing.assert_close(self.loss(shuffled), self.loss(case), rtol=1e-12, atol=1e-12)

    def test_is_a_mean_over_the_batch(self) -> None:
        for case in self.cases():
            doubled = case.select([*range(6), *range(6)])
            torch.testing.assert_close(self.loss(doubled), self.loss(case), rtol=1e-12, atol=1e-12)

    def test_masking_equals_slicing(self) -> None:
        keep = [0, 2, 3]
        for positions in self.positions:
            case = self.case(1, 6, positions)
            mask = torch.zeros(case.positions, dtype=torch.bool)
            mask[keep] = True
            masked, sliced = case.masked(mask).leaves(), case.select(keep).leaves()
            losses = self.loss(masked), self.loss(sliced)
            torch.testing.assert_close(*losses, rtol=1e-12, atol=1e-12)
            torch.autograd.backward(losses)
            names = ["", *masked.student.features]
            for name, whole, part in zip(names, masked.tensors(), sliced.tensors(), strict=True):
                if part.grad is None:
                    assert whole.grad is None
                    continue
                if name in case.parameters:
                    torch.testing.assert_close(whole.grad, part.grad, rtol=1e-12, atol=1e-12)
                    continue
                torch.testing.assert_close(whole.grad[keep], part.grad, rtol=1e-12, atol=1e-12)
                assert whole.grad[~mask].abs().sum() == 0.0

    def test_survives_a_recipe(self) -> None:
        for method in (self.method, 0.25 * self.method, Cosine() * self.method):
            assert type(method).model_validate(method.model_dump(mode="json")) == method
            assert TypeAdapter(AnyMethod).validate_json(method.model_dump_json()) == method
        with pytest.raises(ValidationError):
            type(self.method).model_validate({**self.method.model_dump(mode="json"), "wieght": 1.0})
        assert type(self.method) in METHODS

    def test_survives_a_state_dict(self) -> None:
        case = self.case(1, 4, ())
        term, other = self.term(case, seed=1), self.term(case, seed=2)
        other.load_state_dict(term.state_dict())
        arguments = (case.student, case.teacher, case.batch)
        assert torch.equal(other(*arguments), term(*arguments))

    @needs_compiler
    @pytest.mark.e2e  # a second or two for each method
    def test_compiled_equals_eager(self, two_processes: TwoProcesses) -> None:
        eager, compiled = two_processes.alone(eager_and_compiled, self.method, self.case(1, 6, ()).to(torch.float32))
        self.compare(compiled, eager, rtol=1e-5, atol=1e-6)

    def test_two_processes_equal_one(self, two_processes: TwoProcesses) -> None:
        case = self.uneven()
        alone = scaled_step(self.method, case)
        for answer in two_processes.run(reduced, self.method, case, True):
            self.compare(answer, alone)

    def test_two_processes_without_totals_would_be_noticed(self, two_processes: TwoProcesses) -> None:
        case = self.uneven()
        alone = scaled_step(self.method, case)
        for answer in two_processes.run(reduced, self.method, case, False):
            with pytest.raises(AssertionError):
                self.compare(answer, alone)

    def uneven(self) -> Case:
        """Eight samples: one labelled, in the first half; four count in the first half, one in the second.

        One label on two processes: an average count of one half, which must not be taken for one.
        """
        case = self.case(1, 8, ())
        labelled = torch.arange(8) == 1
        valid = torch.arange(8) < 5
        return case.labelled(labelled).masked(valid)

    @staticmethod
    def compare(answer: dict[str, Any], expected: dict[str, Any], *, rtol: float = 1e-10, atol: float = 1e-12) -> None:
        assert answer.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(answer[name], value, rtol=rtol, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


class BatchCoupledSuite(MethodSuite):
    """The same for a method that compares the samples of a batch with each other, which is no mean over them."""

    test_is_a_mean_over_the_batch = None
    test_two_processes_without_totals_would_be_noticed = None
    fewest: ClassVar[int] = 2
    """With fewer samples there is nothing to compare."""

    def test_says_that_it_is_batch_coupled(self) -> None:
        assert self.method.batch_coupled

    def test_gives_a_connected_zero_for_too_few_samples(self) -> None:
        case = self.case(1, self.fewest - 1, ()).leaves()
        loss = self.loss(case)
        loss.backward()
        assert loss.item() == 0.0
        assert self.loss(self.case(1, self.fewest, ())).item() > 0.0

    def test_two_processes_that_keep_to_themselves_would_be_noticed(self, two_processes: TwoProcesses) -> None:
        case = self.uneven()
        alone = scaled_step(self.method, case)
        for answer in two_processes.run(reduced_without_gathering, self.method, case):
            with pytest.raises(AssertionError):
                self.compare(answer, alone)
