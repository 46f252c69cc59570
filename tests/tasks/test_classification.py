from collections import UserDict, namedtuple

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from understudy import (
    IGNORE_INDEX,
    Batch,
    Classification,
    CrossEntropy,
    ImageClassification,
    InputError,
    Knowledge,
    SquaredError,
)
from understudy.tasks import TASKS, AnyTask

TASK = Classification()
INPUTS, TARGETS = torch.randn(4, 2), torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize(
    "raw",
    [
        (INPUTS, TARGETS),
        [INPUTS, TARGETS],
        (INPUTS, TARGETS.to(torch.uint8)),
        (INPUTS, TARGETS.to(torch.int32)),
        Batch(inputs=INPUTS, targets=TARGETS),
    ],
)
def test_pairs_are_inputs_and_targets(raw) -> None:
    batch = TASK.batch(raw)
    assert torch.equal(batch.inputs, INPUTS)
    assert torch.equal(batch.targets, TARGETS)
    assert batch.targets.dtype == torch.int64


@pytest.mark.parametrize("kind", [dict, UserDict])
@pytest.mark.parametrize("name", ["labels", "label"])
def test_mappings_keep_what_is_not_the_label(kind, name) -> None:
    batch = TASK.batch(kind({"values": INPUTS, name: TARGETS}))
    assert list(batch.inputs) == ["values"]
    assert torch.equal(batch.targets, TARGETS)


@pytest.mark.parametrize("raw", [INPUTS, (INPUTS,), [INPUTS], {"values": INPUTS}])
def test_inputs_alone_are_unlabelled(raw) -> None:
    assert TASK.batch(raw).targets is None


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ((INPUTS, TARGETS, TARGETS), "a tuple of 3"),
        ("text", "got str"),
        ((INPUTS, TARGETS.float()), "torch.float32"),
        ((INPUTS, nn.functional.one_hot(TARGETS)), r"shape \(4, 3\)"),
        ((INPUTS, [0, 1, 2, 0]), "targets are a list"),
    ],
)
def test_anything_else_is_refused(raw, message) -> None:
    with pytest.raises(InputError, match=message):
        TASK.batch(raw)


class Returns(nn.Module):
    def __init__(self, make) -> None:
        super().__init__()
        self.make = make

    def forward(self, inputs: torch.Tensor):
        return self.make(inputs)


Pair = namedtuple("Pair", ["logits", "auxiliary"])


@pytest.mark.parametrize(
    "make", [lambda x: x, lambda x: {"logits": x, "loss": None}, lambda x: (x, None), lambda x: Pair(x, -x)]
)
def test_logits_are_found_in_whatever_the_model_returns(make) -> None:
    mask = torch.tensor([True, True, False, True])
    knowledge = TASK.observe(Returns(make), Batch(inputs=INPUTS, mask=mask))
    assert torch.equal(knowledge.logits, INPUTS)
    assert knowledge.mask is mask


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: x[:, :, None], r"shape \(4, 2, 1\), expected \(batch, classes\)"),
        (lambda x: None, "returned NoneType"),
        (lambda x: {"scores": x}, "returned dict"),
        (lambda x: (), "returned tuple"),
    ],
)
def test_an_output_without_logits_is_explained(make, message) -> None:
    with pytest.raises(InputError, match=message):
        TASK.observe(Returns(make), Batch(inputs=INPUTS))


def test_metrics_are_those_that_one_counts_by_hand() -> None:
    logits = torch.tensor([[2.0, 1, 0], [0, 2, 1], [2, 0, 1], [0, 1, 2]])
    targets = torch.tensor([0, 1, 2, 2])  # three of four are right
    metrics = TASK.metrics(3)
    metrics.update(logits, targets)
    values = {name: value.item() for name, value in metrics.compute().items()}
    assert values["accuracy"] == pytest.approx(3 / 4)
    assert values["precision"] == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert values["recall"] == pytest.approx((1 + 1 + 1 / 2) / 3)
    assert values["f1"] == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert values["calibration_error"] == pytest.approx(0.75 - logits[0].softmax(-1).max().item())
    assert "top5" not in values
    assert "top5" in TASK.metrics(6)
    assert TASK.metric in values


def test_only_labelled_positions_are_measured() -> None:
    batch = Batch(
        inputs=INPUTS, targets=torch.tensor([0, IGNORE_INDEX, 2, 1]), mask=torch.tensor([True, True, False, True])
    )
    logits, targets = TASK.flat(Knowledge(logits=torch.arange(12.0).reshape(4, 3)), batch)
    assert targets.tolist() == [0, 1]
    assert logits.tolist() == [[0.0, 1.0, 2.0], [9.0, 10.0, 11.0]]


@pytest.mark.parametrize("inputs", [INPUTS, (INPUTS, TARGETS), {"a": INPUTS, "b": TARGETS}])
def test_an_example_has_the_first_samples(inputs) -> None:
    assert len(Batch(inputs=TASK.example(inputs, 2))) == 2
    assert type(TASK.example(inputs, 2)) is type(inputs)


@pytest.mark.parametrize("task", [task() for task in TASKS])
def test_survives_a_recipe(task) -> None:
    assert TypeAdapter(AnyTask).validate_json(task.model_dump_json()) == task
    if task.labelled:
        assert task.supervised == (CrossEntropy() if task.answers == "classes" else SquaredError())
    assert task != (ImageClassification() if isinstance(task, Classification) else Classification())


def test_the_headline_may_be_the_mean_over_the_classes() -> None:
    task = TypeAdapter(AnyTask).validate_python({"kind": "image_classification", "metric": "recall"})
    metrics = task.metrics(2)
    logits = torch.tensor([[1.0, 0.0]] * 10)  # everything is called the frequent class
    metrics.update(logits, torch.tensor([0] * 9 + [1]))
    assert float(metrics.compute()[task.metric]) == 0.5
    assert float(metrics.compute()["accuracy"]) == pytest.approx(0.9)
