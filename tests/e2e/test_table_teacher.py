"""A run whose teacher is a table of pseudo-labels."""

import io
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from understudy import ImageClassification, InputError
from understudy.engine.progress import progress_for
from understudy.pipeline.directory import RunDirectory
from understudy.pipeline.run import run
from understudy.recipe.loading import load_recipe
from understudy.recipe.problems import RecipeError
from understudy.sources.data import DataSpec, load_data

pytestmark = pytest.mark.e2e

RECIPE = """
version: 1
name: pseudo_labels
task: image_classification
seeds: [0]
data: {source: sklearn/digits}
stages:
  - kind: distill
    name: student
    teacher: {kind: table, path: answers.csv}
    model: {source: understudy, name: cnn, arguments: {widths: [4, 8]}}
    objective: [{kind: cross_entropy, weight: 0.1}, {kind: soft_targets, temperature: 1.0}]
    subset: {labels: 50}
    views: {shift: 1}
    training: {epochs: 4, batch_size: 64, optimizer: {kind: adamw, lr: 0.01}}
  - kind: evaluate
    name: test
    models: [student]
"""


def said_by_a_run(out: str) -> str:
    """Run the recipe in the current folder, and give all that is told."""
    told = io.StringIO()
    run(load_recipe("r.yaml"), Path(out), progress=progress_for(told))
    return told.getvalue()


def write_labels(labels: np.ndarray, ids: np.ndarray) -> None:
    rows = [f"{sample},{label},0.9" for sample, label in zip(ids, labels, strict=True)]
    Path("answers.csv").write_text("\n".join(["id,label,confidence", *rows]) + "\n")


@pytest.fixture(autouse=True)
def _in_a_folder_with_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE)


def test_a_student_learns_from_pseudo_labels_and_again_when_they_change() -> None:
    _, truth = load_digits(return_X_y=True)
    ids = np.random.default_rng(0).permutation(len(truth))
    guessed = np.where(np.random.default_rng(1).random(len(truth)) < 0.05, (truth + 1) % 10, truth)
    with pytest.raises(
        RecipeError, match=r"r.yaml:10: stages.0.teacher.path: there is no file or folder 'answers.csv'"
    ):
        load_recipe("r.yaml")

    write_labels(guessed[ids], ids)
    assert "answers.csv: labels with a confidence, 10 classes" in said_by_a_run("run")
    record = RunDirectory(Path("run")).stage("student", 0).record
    assert [each for each in record["findings"] if each["severity"] != "note"] == []
    assert record["training"]["last_metric"] > record["control"]["last_metric"] + 0.05
    assert "student, seed 0: nothing has changed, skipped" in said_by_a_run("run")

    write_labels((guessed[ids] + 3) % 10, ids)
    with pytest.raises(InputError, match="class_order"):
        said_by_a_run("run")
    assert next(Path("run").rglob("replaced"))

    write_labels(guessed[:300], np.arange(300))
    with pytest.raises(InputError, match=r"answers.csv has no answer for 1,\d+ of 1,294 samples"):
        said_by_a_run("few")


def test_a_table_without_validation_samples_is_judged_on_the_labels_there_are() -> None:
    train = load_data(DataSpec(source="sklearn/digits"), task=ImageClassification()).train
    write_labels(train.targets.numpy(), train.ids.numpy())
    said_by_a_run("run")
    write_labels(np.zeros_like(train.targets.numpy()), train.ids.numpy())
    with pytest.raises(InputError, match=r"the teacher guesses.*\(training\)"):
        said_by_a_run("run")
