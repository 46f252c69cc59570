import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError
from sklearn.datasets import load_digits
from torch import Tensor, nn

from conformance.case import CLASSES, Case, features_case
from conformance.logit_rows import kullback_leibler, softmax
from conformance.method_suite import MethodSuite
from conformance.relations import dot
from understudy import (
    IGNORE_INDEX,
    Batch,
    CrossEntropy,
    Distiller,
    InputError,
    Knowledge,
    Objective,
    SelfDistillation,
    SoftTargets,
)
from understudy.knowledge import LayerPairs, Shapes

ALPHA, WEIGHT, TEMPERATURE = 0.4, 0.2, 2.0


def linear(layer: nn.Linear, row: list[float]) -> list[float]:
    bias = layer.bias.tolist() if layer.bias is not None else [0.0] * layer.out_features
    return [dot(line, row) + b for line, b in zip(layer.weight.tolist(), bias, strict=True)]


def predicted(own: nn.Module, row: list[float]) -> tuple[list[float], list[float]]:
    """Logits and feature of an exit for one vector: linear, normalised, rectified, linear; and a classifier."""
    first, norm, _, second = own.bottleneck
    hidden = linear(first, row)
    mean = sum(hidden) / len(hidden)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in hidden) / len(hidden) + norm.eps)
    normal = [
        (value - mean) / deviation * scale + shift
        for value, scale, shift in zip(hidden, norm.weight.tolist(), norm.bias.tolist(), strict=True)
    ]
    feature = linear(second, [max(value, 0.0) for value in normal])
    return linear(own.classifier, feature), feature


def taught(term: nn.Module, case: Case, *, square: bool = False) -> float:
    """Zhang et al. 2019, eq. 7, of the exits alone."""
    counts = torch.ones(case.positions, dtype=torch.bool) if case.batch.mask is None else case.batch.mask
    logits = case.student.logits[counts].tolist()
    targets = case.batch.targets[counts].tolist()
    last = case.student.features["deep"][counts].tolist()
    total = 0.0
    for own, path in zip(term.exits, ("narrow", "middle"), strict=True):
        about_labels, labelled, about_last = 0.0, 0, 0.0
        for row, z, y, g in zip(case.student.features[path][counts].tolist(), logits, targets, last, strict=True):
            guess, feature = predicted(own, row)
            if y != IGNORE_INDEX:
                about_labels -= math.log(softmax(guess)[y])
                labelled += 1
            divergence = kullback_leibler(softmax(z, TEMPERATURE), softmax(guess, TEMPERATURE))
            about_last += ALPHA * divergence * (TEMPERATURE**2 if square else 1.0)
            about_last += WEIGHT * sum((a - b) ** 2 for a, b in zip(feature, g, strict=True))
        total += (1 - ALPHA) * about_labels / max(labelled, 1) + about_last / max(len(logits), 1)
    return total


def call(term: nn.Module, case: Case) -> Tensor:
    return term(case.student, case.teacher, case.batch)


def instead(**fields):
    def loss(_honest, case: Case) -> Tensor:
        torch.manual_seed(0)
        return call(TestSelfDistillation.method.model_copy(update=fields).build(case.shapes).double(), case)

    return loss


def times_temperature_squared(_honest, case: Case) -> Tensor:
    return torch.tensor(taught(TestSelfDistillation().term(case), case, square=True), dtype=torch.float64)


def taught_by_another_stage(_honest, case: Case) -> Tensor:
    features = {**case.student.features, "deep": case.student.features["deep"].flip(-1)}
    changed = replace(case, student=replace(case.student, features=features))
    return call(TestSelfDistillation().term(case), changed)


class TestSelfDistillation(MethodSuite):
    method = SelfDistillation(
        student_layer=("narrow", "middle", "deep"), alpha=ALPHA, feature_weight=WEIGHT, temperature=TEMPERATURE
    )
    bf16_tolerance = 5e-2
    sabotages: ClassVar = {
        "times the temperature squared": times_temperature_squared,
        "labels at full weight": instead(alpha=0.0),
        "no features": instead(feature_weight=0.0),
        "not softened": instead(temperature=1.0),
        "mean over exits": lambda honest, case: honest(case) / 2,
        "another feature": taught_by_another_stage,
    }

    def case(self, seed, count, positions):
        case = features_case(seed, count, positions, student=(3,), teacher=(5,))
        generator = torch.Generator().manual_seed(seed)
        middle = torch.randn(count, *positions, 4, generator=generator, dtype=torch.float64)
        features = {**case.student.features, "middle": middle, "deep": case.teacher.features["wide"].clone()}
        return replace(case, student=replace(case.student, features=features))

    def reference(self, term, case):
        return taught(term, case)

    def test_has_the_stated_values(self) -> None:
        """An exit that says what the last output says, from the same feature, has the labels' part left."""
        case = self.case(1, 4, ())
        term = self.term(case)
        with torch.no_grad():
            for parameter in term.parameters():
                parameter.zero_()
        logits = torch.zeros(4, CLASSES, dtype=torch.float64)
        features = {**case.student.features, "deep": torch.zeros(4, 5, dtype=torch.float64)}
        case = replace(case, student=Knowledge(logits=logits, features=features))
        torch.testing.assert_close(call(term, case).item(), 2 * (1 - ALPHA) * math.log(CLASSES))
        assert call(term, case.labelled(torch.zeros(4, dtype=torch.bool))) == 0.0

    def test_its_gradient_is_that_of_its_value(self) -> None:
        """Of the exits' stages and parameters; the last output and its feature are constants."""
        for positions in self.positions:
            case = self.case(1, 3, positions).leaves()
            term = self.term(case)
            names = [name for name, _ in term.named_parameters()]
            logits, narrow, middle, deep = case.tensors()

            def value(narrow, middle, *parameters, case=case, term=term, names=names, fixed=(logits, deep)) -> Tensor:
                changed = case.with_tensors([fixed[0].detach(), narrow, middle, fixed[1].detach()])
                arguments = (changed.student, changed.teacher, changed.batch)
                return torch.func.functional_call(term, dict(zip(names, parameters, strict=True)), arguments)

            assert torch.autograd.gradcheck(
                value, [narrow, middle, *(p.detach().requires_grad_() for p in term.parameters())]
            )
            call(term, case).backward()
            assert logits.grad is None
            assert deep.grad is None
            assert all(p.grad is not None and p.grad.abs().sum() > 0.0 for p in term.parameters())


def test_an_exit_of_a_map_comes_down_to_the_size_and_width_of_the_last_stage() -> None:
    shown = Knowledge(
        logits=torch.randn(2, 7),
        features={"a": torch.randn(2, 12, 16, 16), "b": torch.randn(2, 8, 4, 4), "c": torch.randn(2, 40, 4, 4)},
    )
    term = SelfDistillation(student_layer=("a", "b", "c")).build(Shapes.of(shown, None))
    strides = [[layer.stride[0] for layer in own.bottleneck if isinstance(layer, nn.Conv2d)] for own in term.exits]
    assert strides == [[1, 2, 2, 1], [1, 1]]
    assert [own.bottleneck[0].out_channels for own in term.exits] == [10, 8]  # at most a quarter of 40, at least 8
    reached = [own.bottleneck[:-2](shown.features[path]) for own, path in zip(term.exits, "ab", strict=True)]
    assert [tuple(feature.shape) for feature in reached] == [(2, 40, 4, 4)] * 2
    for own, path in zip(term.exits, "ab", strict=True):
        logits, feature = own(shown.features[path])
        assert (logits.shape, feature.shape) == ((2, 7), (2, 40))
    loss = term(shown, shown, Batch(inputs=torch.zeros(2, 1), targets=torch.tensor([0, 6])))
    assert loss.isfinite()


def test_padding_has_no_part_in_a_samples_vector() -> None:
    tokens = torch.tensor([[True, True, False], [True, False, False]])
    features = {"a": torch.randn(2, 3, 4), "b": torch.randn(2, 3, 6)}
    values = []
    term = SelfDistillation(student_layer=("a", "b")).build(
        Shapes.of(Knowledge(logits=torch.randn(2, 5), features=features), None)
    )
    logits, batch = torch.randn(2, 5), Batch(inputs=torch.zeros(2, 1), targets=torch.tensor([0, 1]))
    for padding in (0.0, 100.0):
        padded = {path: torch.where(tokens[..., None], feature, padding) for path, feature in features.items()}
        shown = Knowledge(logits=logits, features=padded, tokens=tokens)
        values.append(term(shown, shown, batch))
    assert torch.equal(*values)
    whole = Knowledge(logits=logits, features=features)
    assert term(whole, whole, batch) != values[0]


def test_pixels_with_logits_of_their_own_are_refused_and_named() -> None:
    shown = Knowledge(
        logits=torch.randn(2, 8, 8, 3), features={"a": torch.randn(2, 4, 4, 4), "b": torch.randn(2, 8, 8, 5)}
    )
    with pytest.raises(InputError, match=r"self_distillation \('a'\).*\(2, 4, 4, 4\).*\(2, 8, 8, C\)"):
        SelfDistillation(student_layer=("a", "b")).build(Shapes.of(shown, None))


def test_auto_is_the_students_own_stages_or_four_of_its_blocks() -> None:
    blocks = LayerPairs(stages=tuple((f"block{i}", "x") for i in range(12)))
    assert SelfDistillation().paired(blocks).student_taps == ("block2", "block5", "block8", "block11")
    with pytest.raises(InputError, match="no two stages"):
        SelfDistillation().paired(LayerPairs(stages=(("a", "x"),)))


@pytest.mark.parametrize(
    "wrong", [{"alpha": 1.1}, {"feature_weight": -1.0}, {"temperature": 0.0}, {"student_layer": "layer4"}]
)
def test_what_cannot_be_is_refused(wrong) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SelfDistillation(**wrong)


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def test_a_network_teaches_its_own_stages() -> None:
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    targets = torch.tensor(labels)
    student = convolutional()
    alone = set(student.state_dict())
    distiller = Distiller(student, None, 1.0 * CrossEntropy() + SelfDistillation(), example=(images[:4], targets[:4]))
    assert distiller.objective.objective.student_taps == ("0", "1", "2")
    assert set(student.state_dict()) == alone
    exits = distiller.objective.terms["self_distillation"].exits
    assert len(exits) == 2
    optimizer = torch.optim.Adam(distiller.parameters(), lr=5e-3)
    first = None
    for step in range(60):
        rows = torch.arange(64 * step, 64 * (step + 1)) % 1500
        loss = distiller((images[rows], targets[rows])).loss
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.9 * first
    with torch.no_grad():
        shown = student[0](images[1500:])
        for own, stage in zip(exits, (student[0], student[1]), strict=True):
            shown = shown if stage is student[0] else stage(shown)
            accuracy = (own(shown)[0].argmax(-1) == targets[1500:]).float().mean()
            assert accuracy > 0.5  # chance is 0.1


def test_beside_a_teacher_the_stages_are_still_the_students_own() -> None:
    """A teacher of one stage would leave one pair of stages."""
    teacher = nn.Sequential(nn.Conv2d(1, 4, 8), nn.Flatten(), nn.Linear(4, 10))
    example = torch.zeros(2, 1, 8, 8), torch.tensor([0, 1])
    distiller = Distiller(convolutional(), teacher, SoftTargets() + SelfDistillation(), example=example)
    assert distiller.objective.objective.student_taps == ("0", "1", "2")


def test_the_control_does_without_it() -> None:
    objective = CrossEntropy() + SelfDistillation(student_layer=("a", "b"))
    assert not objective.needs_teacher
    assert [term.distils for term in (*objective.terms, SoftTargets())] == [False, True, True]
    assert objective.without_teacher(CrossEntropy(label_smoothing=0.1)) == Objective.of(CrossEntropy())
