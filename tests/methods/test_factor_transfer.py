import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from conformance.case import Case, counted_rows, features_case
from conformance.maps import Map, averaged, convolved, mean_square
from conformance.method_suite import MethodSuite
from understudy import FactorTransfer
from understudy.functional import factor_transfer_loss

STUDENT, TEACHER = (2, 2, 4), (4, 2, 3)
VALUES = 2 * 2 * 3
"""Of a factor, which has half of the teacher's channels."""


def flipped(weight: list) -> list:
    """The kernels of the convolution that a transposed one is."""
    return [[[line[::-1] for line in weight[i][o][::-1]] for i in range(len(weight))] for o in range(len(weight[0]))]


def through(layers: nn.Sequential, feature: Map) -> Map:
    """Convolutions of which each is followed by a leaky ReLU."""
    for layer in layers:
        if isinstance(layer, nn.LeakyReLU):
            feature = [[[max(0.1 * value, value) for value in line] for line in plane] for plane in feature]
        else:
            weight = layer.weight.tolist()
            transposed = isinstance(layer, nn.ConvTranspose2d)
            feature = convolved(flipped(weight) if transposed else weight, layer.bias.tolist(), feature)
    return feature


def direction(factor: Map) -> list[float]:
    values = [value for plane in factor for line in plane for value in line]
    length = math.sqrt(sum(value**2 for value in values))
    return [value / length for value in values]


def transferred(term: nn.Module, case: Case) -> float:
    """Kim et al. 2018, eq. 1 and 3, both as means."""
    joined, method = term.joined[0], term.method
    total, count = 0.0, 0
    for narrow, wide in zip(*counted_rows(case), strict=True):
        factor = through(joined.encoder, wide)
        own = direction(through(joined.translator, averaged(narrow, TEACHER[1:])))
        total += sum(abs(s - t) ** method.norm for s, t in zip(own, direction(factor), strict=True)) / VALUES
        total += method.reconstruction * mean_square(through(joined.decoder, factor), wide)
        count += 1
    return total / count if count else 0.0


class TestFactorTransfer(MethodSuite):
    method = FactorTransfer(student_layer="narrow", teacher_layer="wide", reconstruction=0.3)
    positions = ((),)
    sabotages: ClassVar = {
        "sum over the factor": lambda honest, case: honest(case) * VALUES,
        "without the reconstruction": lambda honest, case: honest(case) - 0.3 * reconstructed(case),
        "mask forgotten": lambda honest, case: honest(case.masked(torch.ones(case.positions, dtype=torch.bool))),
    }
    bf16_tolerance = 5e-2

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=STUDENT, teacher=TEACHER)

    def term(self, case, *, seed=0):
        """Without biases where the teacher shows nothing, so that nothing is paraphrased as nothing."""
        term = super().term(case, seed=seed)
        if not case.teacher.features["wide"].any():
            for name, parameter in term.named_parameters():
                if name.endswith("bias"):
                    nn.init.zeros_(parameter)
        return term

    def reference(self, term, case):
        return transferred(term, case)

    def known_values(self):
        case = self.case(1, 4, ())
        nothing = replace(case, teacher=replace(case.teacher, features={"wide": torch.zeros(4, *TEACHER).double()}))
        return [(nothing.with_tensors([case.student.logits, torch.zeros(4, *STUDENT).double()]), 0.0)]

    def test_its_gradient_is_that_of_its_value(self) -> None:
        """Of all but the encoder, whose factor is a constant for the student; that one's gradient is tested below."""
        case = self.case(1, 3, ())
        term = self.term(case)
        names = [name for name, _ in term.named_parameters() if "encoder" not in name]
        count = len(case.tensors())

        def value(*tensors):
            changed = case.with_tensors(tensors[:count])
            parameters = dict(zip(names, tensors[count:], strict=True))
            return torch.func.functional_call(term, parameters, (changed.student, changed.teacher, changed.batch))

        parameters = [term.get_parameter(name).detach().requires_grad_() for name in names]
        assert torch.autograd.gradcheck(value, [*case.leaves().tensors(), *parameters])


def reconstructed(case: Case) -> torch.Tensor:
    joined = TestFactorTransfer().term(case).joined[0]
    wide = case.teacher.features["wide"]
    squared = (joined.decoder(joined.encoder(wide)) - wide).square().flatten(1).mean(1)
    return squared.mean() if case.batch.mask is None else squared[case.batch.mask].mean()


class TestFactorTransferOfSquares(TestFactorTransfer):
    method = FactorTransfer(student_layer="narrow", teacher_layer="wide", norm=2.0, reconstruction=0.3)
    sabotages: ClassVar = {"power of one": lambda _, case: TestFactorTransfer().loss(case)}

    def known_values(self):
        """A student's factor of length 1 beside none."""
        nothing, _ = super().known_values()[0]
        return [(nothing, 0.0), (nothing.with_tensors(self.case(1, 4, ()).tensors()), 1.0 / VALUES)]


def test_the_paraphraser_learns_from_its_reconstruction_alone() -> None:
    suite = TestFactorTransfer()
    case = suite.case(1, 4, ())
    term = suite.term(case)
    joined, wide = term.joined[0], case.teacher.features["wide"]
    paraphraser = [*joined.encoder.parameters(), *joined.decoder.parameters()]
    expected = torch.autograd.grad(0.3 * (joined.decoder(joined.encoder(wide)) - wide).square().mean(), paraphraser)
    received = torch.autograd.grad(term(case.student, case.teacher, case.batch), paraphraser)
    for mine, other in zip(received, expected, strict=True):
        torch.testing.assert_close(mine, other)


def test_the_student_and_the_translator_learn_from_the_factors_alone() -> None:
    suite = TestFactorTransfer()
    case = suite.case(1, 4, ()).leaves()
    term = suite.term(case)
    joined, narrow = term.joined[0], case.student.features["narrow"]
    learning = [narrow, *joined.translator.parameters()]
    own = joined.translator(joined.adapter(narrow))
    factor = joined.encoder(case.teacher.features["wide"]).detach()
    expected = torch.autograd.grad(factor_transfer_loss(own, factor), learning)
    received = torch.autograd.grad(term(case.student, case.teacher, case.batch), learning)
    for mine, other in zip(received, expected, strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize(("rate", "channels"), [(0.5, 2), (0.1, 1), (2.0, 8)])
def test_the_rate_says_how_many_channels_a_factor_has(rate: float, channels: int) -> None:
    case = TestFactorTransfer().case(1, 2, ())
    term = FactorTransfer(student_layer="narrow", teacher_layer="wide", rate=rate).build(case.shapes)
    assert term.double().joined[0].encoder(case.teacher.features["wide"]).shape[1] == channels


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"norm": 0.5}, {"reconstruction": 0.0}])
def test_what_would_teach_nothing_is_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        FactorTransfer(**wrong)
