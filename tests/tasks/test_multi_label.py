"""Labels that are a yes or no each, against plain formulas on the network's own outputs."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy import (
    Batch,
    CrossEntropy,
    Dist,
    Distiller,
    Ensemble,
    Hint,
    InputError,
    ModuleTeacher,
    MultiLabelClassification,
    SigmoidTargets,
    SoftTargets,
)
from understudy.measure import predict, quality
from understudy.methods import METHODS
from understudy.tasks import task_of

TASK = MultiLabelClassification(labels=3)
UNKNOWN = -100


def setting(count: int = 40) -> tuple[nn.Module, nn.Module, Tensor, Tensor]:
    """Student, teacher, inputs, and targets of which every seventh is not known."""
    student, teacher = nn.Linear(5, 3), nn.Linear(5, 3)
    nn.init.normal_(teacher.weight)
    inputs = torch.randn(count, 5)
    targets = (torch.rand(count, 3) < 0.4).long()
    targets.view(-1)[::7] = UNKNOWN
    return student, teacher, inputs, targets


def test_cross_entropy_is_the_binary_one_of_every_label_that_is_known() -> None:
    student, _, inputs, targets = setting()
    loss = Distiller(student, None, CrossEntropy(), example=(inputs, targets), task=TASK)((inputs, targets)).loss
    known = targets != UNKNOWN
    expected = F.binary_cross_entropy_with_logits(student(inputs)[known], targets[known].float())
    torch.testing.assert_close(loss, expected)
    ours, theirs = (torch.autograd.grad(each, student.weight)[0] for each in (loss, expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("method", [SoftTargets, SigmoidTargets])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_soft_targets_are_the_binary_divergence_over_all_labels(method, temperature) -> None:
    student, teacher, inputs, targets = setting()
    objective = method(temperature=temperature)
    loss = Distiller(student, teacher, objective, example=(inputs, targets), task=TASK)((inputs, targets)).loss
    ours, theirs = ((network(inputs) / temperature).double().sigmoid() for network in (student, teacher))
    of_each = theirs * (theirs / ours).log() + (1 - theirs) * ((1 - theirs) / (1 - ours)).log()
    expected = temperature**2 * of_each.mean()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-6)
    assert float(loss.detach()) > 0.01


def test_sigmoid_targets_learn_the_same_from_an_ensemble() -> None:
    """Which answers with logarithms of probabilities, not with (0, z)."""
    student, teacher, inputs, targets = setting()
    objective = SigmoidTargets(temperature=1.0)
    found = []
    for each in (teacher, Ensemble([asked(teacher), asked(teacher)])):
        loss = Distiller(student, each, objective, example=(inputs, targets), task=TASK)((inputs, targets)).loss
        found.append(torch.autograd.grad(loss, student.weight)[0])
    torch.testing.assert_close(*found)


def asked(network: nn.Module) -> ModuleTeacher:
    return ModuleTeacher(network, task=TASK)


def test_metrics_know_which_label_is_which() -> None:
    """Also with labels that are not known, and batches of any size."""
    _, teacher, inputs, targets = setting(100)
    batches = [Batch(inputs=inputs[part], targets=targets[part]) for part in torch.arange(100).split(33)]
    found = quality(predict(teacher, batches, TASK), TASK)
    said, true, known = teacher(inputs) > 0, targets == 1, targets != UNKNOWN
    right = (said == true)[known].float().mean()
    f1, average = [], []
    for label in range(3):
        here = known[:, label]
        guess, truth = said[here, label], true[here, label]
        f1.append(2 * float((guess & truth).sum()) / float(guess.sum() + truth.sum()))
        order = teacher(inputs)[here, label].argsort(descending=True)
        hits = truth[order].float()
        precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
        average.append(float((precision * hits).sum() / hits.sum()))
    assert found["samples"] == float(known.sum())
    assert found["accuracy"] == pytest.approx(float(right))
    assert found["errors"] == float((said != true)[known].sum())
    assert found["f1"] == pytest.approx(sum(f1) / 3, abs=1e-6)
    assert found["mean_average_precision"] == pytest.approx(sum(average) / 3, abs=1e-6)
    assert found["exact_match"] == pytest.approx(float(((said == true) | ~known).all(1).float().mean()))
    assert max(f1) - min(f1) > 0.01, "labels that are mixed up would not be seen otherwise"


def test_labels_that_nobody_has_are_left_out_of_the_average_precision() -> None:
    targets = torch.tensor([[1, 0, 0], [0, 0, UNKNOWN], [1, 0, 0]])
    right = Batch(inputs=torch.tensor([[3.0, -1, -1], [-3.0, -1, -1], [3.0, -1, -1]]), targets=targets)
    found = quality(predict(nn.Identity(), [right], TASK), TASK)
    assert (found["mean_average_precision"], found["accuracy"], found["f1"]) == (1.0, 1.0, pytest.approx(1 / 3))


def test_a_layer_is_compared_sample_by_sample() -> None:
    """As with one label: there is no row of a feature for each label, not even where the numbers are the same."""
    networks = [
        nn.Sequential(nn.Linear(5, 3), nn.Unflatten(1, (3, 1)), nn.Flatten(), nn.Linear(3, 3)) for _ in range(2)
    ]
    inputs, targets = torch.randn(8, 5), (torch.rand(8, 3) < 0.5).long()
    term = Hint(student_layer="1", teacher_layer="1")
    several = Distiller(*networks, term, example=(inputs, targets), task=TASK)
    one = Distiller(*networks, term, example=(inputs, targets[:, 0]))
    one.objective.load_state_dict(several.objective.state_dict())
    loss, expected = several((inputs, targets)).loss, one((inputs, targets[:, 0])).loss
    torch.testing.assert_close(loss, expected)
    counted = Batch(inputs=inputs, targets=targets, valid_total=torch.tensor(24.0))
    torch.testing.assert_close(several(counted).loss, expected)


def test_terms_that_compare_classes_are_refused_and_all_others_are_not() -> None:
    student, teacher, inputs, targets = setting()
    refused = {method.model_fields["kind"].default for method in METHODS if method.among_classes}
    assert refused == {
        "decoupled",
        "dist",
        "dynamic_temperature",
        "logit_standardisation",
        "multilevel_logits",
        "normalised_kd",
        "self_distillation",
    }
    with pytest.raises(InputError, match="dist compares the classes of a sample among each other"):
        Distiller(student, teacher, Dist(), example=(inputs, targets), task=TASK)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([1, 0]), r"targets are \(2,\); expected a tensor \(batch, labels\)"),
        (torch.tensor([[1, 0, 2]]), "targets hold 2; expected 0, 1, or -100"),
        (torch.tensor([[0.5, 0, 1]]), "targets hold 0.5; expected"),
        (torch.tensor([[1, 0]]), r"have the shape \(1, 2\), expected \(batch, 3\)"),
    ],
)
def test_other_targets_are_refused(targets, message) -> None:
    with pytest.raises(InputError, match=message):
        TASK.batch((torch.rand(len(targets), 5), targets))


def test_floats_of_yes_and_no_will_do() -> None:
    read = TASK.batch({"x": torch.rand(1, 5), "labels": torch.tensor([[1.0, 0.0, float("nan")]])})
    assert read.targets.tolist() == [[1, 0, UNKNOWN]]


def test_a_mask_is_refused() -> None:
    with pytest.raises(InputError, match="has no mask; expected -100 in the targets"):
        TASK.batch(Batch(inputs=torch.rand(2, 5), mask=torch.ones(2, 3, dtype=torch.bool)))


def test_a_network_of_other_labels_is_refused() -> None:
    with pytest.raises(InputError, match="the model has 4 outputs, expected one for each of 3 labels"):
        TASK.observe(nn.Linear(5, 4), Batch(inputs=torch.rand(2, 5)))


def test_quality_needs_to_know_how_many_labels_there_are() -> None:
    with pytest.raises(InputError, match=r"MultiLabelClassification\(labels="):
        MultiLabelClassification().metrics(2)


def test_what_a_file_says_it_is_for_becomes_a_task() -> None:
    assert task_of("multi_label_classification", 3) == TASK
    assert task_of(None, 3).kind == task_of("unheard_of", 3).kind == "classification"
