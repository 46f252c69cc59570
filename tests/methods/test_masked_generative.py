from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import MethodSuite
from understudy import MaskedGenerative

STUDENT, TEACHER = (2, 2, 3), (3, 2, 3)
HEIGHT, WIDTH = 2, 3
HIDDEN = {
    "channels": [[[c == 1] * WIDTH for _ in range(HEIGHT)] for c in range(3)],
    "pixels": [[[(y, x) in ((0, 0), (1, 2)) for x in range(WIDTH)] for y in range(HEIGHT)] for _ in range(3)],
}
"""For each channel and pixel of a sample, the same in all samples, whether it is hidden."""

Map = list[list[list[float]]]


def convolved(weight: list, bias: list[float] | None, feature: Map) -> Map:
    """A convolution whose kernel is 1 or 3 wide, with zeros beyond the border."""
    reach = len(weight[0][0]) // 2
    answer = []
    for o in range(len(weight)):
        plane = []
        for y in range(HEIGHT):
            line = []
            for x in range(WIDTH):
                value = bias[o] if bias else 0.0
                for c in range(len(feature)):
                    for dy in range(-reach, reach + 1):
                        for dx in range(-reach, reach + 1):
                            if 0 <= y + dy < HEIGHT and 0 <= x + dx < WIDTH:
                                value += weight[o][c][dy + reach][dx + reach] * feature[c][y + dy][x + dx]
                line.append(value)
            plane.append(line)
        answer.append(plane)
    return answer


def generated(term: nn.Module, feature: Map, hidden: Map | None) -> Map:
    """Yang et al. 2022: the projected feature times a mask, a convolution, a ReLU, a convolution."""
    parameters = {name: value.tolist() for name, value in term.joined[0].named_parameters()}
    feature = convolved(parameters["adapter.project.weight"], None, feature)
    if hidden:
        for c in range(len(feature)):
            for y in range(HEIGHT):
                for x in range(WIDTH):
                    feature[c][y][x] = 0.0 if hidden[c][y][x] else feature[c][y][x]
    feature = convolved(parameters["network.0.weight"], parameters["network.0.bias"], feature)
    feature = [[[max(0.0, value) for value in line] for line in plane] for plane in feature]
    return convolved(parameters["network.2.weight"], parameters["network.2.bias"], feature)


def squared_distance(term: nn.Module, case: Case, hidden: Map | None = None) -> float:
    """The mean over all elements of the samples that count."""
    total, count = 0.0, 0
    for narrow, wide in zip(*counted_rows(case), strict=True):
        mine = generated(term, narrow, hidden)
        for c in range(len(wide)):
            for y in range(HEIGHT):
                for x in range(WIDTH):
                    total += (mine[c][y][x] - wide[c][y][x]) ** 2
                    count += 1
    return total / count if count else 0.0


def without_the_relu(_honest, case: Case) -> torch.Tensor:
    term = TestMaskedGenerative().term(case)
    term.joined[0].network[1] = nn.Identity()
    return term(case.student, case.teacher, case.batch)


class TestMaskedGenerative(MethodSuite):
    """Nothing hidden: two processes, or a compiled graph and an eager one, do not draw the same numbers."""

    method = MaskedGenerative(student_layer="narrow", teacher_layer="wide", ratio=0.0)
    positions = ((),)
    sabotages: ClassVar = {
        "sum over the feature": lambda honest, case: honest(case) * 3 * HEIGHT * WIDTH,
        "without the ReLU": without_the_relu,
        "mask forgotten": lambda honest, case: honest(case.masked(torch.ones(case.positions, dtype=torch.bool))),
    }
    bf16_tolerance = 3e-2

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=STUDENT, teacher=TEACHER)

    def reference(self, term, case):
        return squared_distance(term, case)

    def known_values(self):
        case = self.case(1, 4, ())
        joined = self.term(case).joined[0]
        mine = joined.network(joined.adapter(case.student.features["narrow"])).detach()
        return [(replace(case, teacher=replace(case.teacher, features={"wide": mine + d})), d**2) for d in (0.0, 2.0)]


class TestMaskedGenerativeWithHiddenChannels(TestMaskedGenerative):
    method = MaskedGenerative(student_layer="narrow", teacher_layer="wide", hidden="channels", ratio=0.5)
    sabotages: ClassVar = {
        "nothing hidden": lambda _, case: TestMaskedGenerative().loss(case),
        "the rest is scaled up": lambda honest, case: honest(
            case.with_tensors([case.student.logits, 2.0 * case.student.features["narrow"]])
        ),
    }
    test_compiled_equals_eager = None
    test_two_processes_equal_one = None
    test_two_processes_without_totals_would_be_noticed = None
    test_has_the_stated_values = None

    def term(self, case, *, seed=0):
        """With a mask that is given instead of drawn."""
        term = super().term(case, seed=seed)
        hidden = torch.tensor(HIDDEN[self.method.hidden])
        term.joined[0].drawn = lambda feature: hidden.expand_as(feature)
        return term

    def reference(self, term, case):
        return squared_distance(term, case, HIDDEN[self.method.hidden])


class TestMaskedGenerativeWithHiddenPixels(TestMaskedGenerativeWithHiddenChannels):
    method = MaskedGenerative(student_layer="narrow", teacher_layer="wide", hidden="pixels", ratio=0.5)


@pytest.mark.parametrize(("hidden", "shape"), [("channels", (500, 3, 1, 1)), ("pixels", (500, 1, HEIGHT, WIDTH))])
def test_the_stated_share_is_hidden_at_random_in_training_only(hidden: str, shape: tuple[int, ...]) -> None:
    suite = TestMaskedGenerative()
    case = suite.case(1, 500, ())
    method = MaskedGenerative(student_layer="narrow", teacher_layer="wide", hidden=hidden, ratio=0.3)
    term = method.build(case.shapes).double()
    arguments = case.student, case.teacher, case.batch
    torch.manual_seed(3)
    drawn = term.joined[0].drawn(case.teacher.features["wide"])
    assert drawn.shape == shape
    assert abs(drawn.double().mean() - 0.3) < 0.05
    assert (drawn[0] != drawn).any()
    torch.manual_seed(3)
    first = term(*arguments)
    assert not torch.equal(term(*arguments), first)
    torch.manual_seed(3)
    assert torch.equal(term(*arguments), first)
    term.eval()
    whole = MaskedGenerative(student_layer="narrow", teacher_layer="wide", ratio=0.0).build(case.shapes).double()
    whole.load_state_dict(term.state_dict())
    assert torch.equal(term(*arguments), whole(*arguments))


@pytest.mark.parametrize("ratio", [-0.1, 1.0, float("nan")])
def test_the_ratio_is_a_probability_below_one(ratio: float) -> None:
    with pytest.raises(ValidationError, match="ratio"):
        MaskedGenerative(ratio=ratio)
