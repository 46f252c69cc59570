"""What a `data_free` stage refuses: whatever would learn from, or select on, labelled images."""

import pytest
from pydantic import ValidationError

from understudy.pipeline.stages import DataFree

MODEL = {"source": "understudy", "name": "mlp", "arguments": {"hidden": [4]}}
TRAINING = {"steps": 10, "optimizer": {"lr": 0.1}, "select": "last"}


def stage(training: dict[str, object] | None = None, **fields: object) -> DataFree:
    given = {"name": "student", "teacher": "cnn@2", "model": MODEL, "training": TRAINING | (training or {})}
    return DataFree.model_validate(given | fields)


def test_it_reads_one_teacher_and_distills_soft_targets() -> None:
    made = stage()
    assert (made.needs, made.reads) == (("cnn",), ("cnn@2",))
    assert [term.kind for term in made.objective] == ["soft_targets"]
    assert made.network == made.model


@pytest.mark.parametrize(
    ("training", "fields", "message"),
    [
        ({"select": "best"}, {}, "training.select: write select: last"),
        ({"patience": 2}, {}, "training.patience: stopping by the quality on labelled images"),
        ({"execution": {"compile": True}}, {}, "training.execution.compile: the generator reads layers"),
        ({}, {"objective": [{"kind": "cross_entropy"}]}, "objective.0: cross_entropy learns from labels"),
        ({}, {"objective": []}, "at least 1 item"),
        ({}, {"generator": {"adversarial": 0, "one_hot": 0, "balance": 0, "statistics": 0}}, "all weights are 0"),
    ],
)
def test_what_needs_data_is_refused_at_its_key(training, fields, message) -> None:
    with pytest.raises(ValidationError, match=message):
        stage(training, **fields)


def test_the_default_selection_is_refused_too() -> None:
    with pytest.raises(ValidationError, match="would not be data-free"):
        DataFree.model_validate(
            {"name": "s", "teacher": "t", "model": MODEL, "training": {"steps": 1, "optimizer": {"lr": 0.1}}}
        )
