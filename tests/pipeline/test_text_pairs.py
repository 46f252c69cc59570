"""A recipe on pairs of texts: whether both are about the same thing, which neither of them says."""

import json
import random
from pathlib import Path

import pytest

from understudy.engine import SilentProgress
from understudy.pipeline.run import run
from understudy.recipe.loading import parse_recipe
from understudy.serving import open_predictor

RECIPE = """
version: 1
name: same
task: text_classification
data: {source: SOURCE, carve: 60, carve_test: 80}
stages:
  - kind: train
    name: teacher
    model:
      {source: understudy, name: gru, arguments: {embedding: 12, width: 24}, preprocess: {kind: words, buckets: 100}}
    training: &training
      {epochs: 30, batch_size: 16, optimizer: {kind: adam, lr: 0.01}, execution: plain}
  - {kind: record, name: answers, teacher: teacher}
  - kind: distill
    name: student
    teacher: answers
    model:
      {source: understudy, name: gru, arguments: {embedding: 8, width: 16}, preprocess: {kind: words, buckets: 100}}
    objective: [{kind: cross_entropy}, {kind: soft_targets, temperature: 2.0}]
    training: *training
    control: false
  - {kind: evaluate, name: comparison, models: [teacher, student], latency: false, memory: false}
  - {kind: export, name: files, models: [student], formats: [onnx]}
"""
TOPICS = (("match", "goal", "team"), ("song", "band", "choir"))
OTHERS = ("the", "a", "today")


def go(source: Path, out: Path, *changes: str, only: tuple[str, ...] | None = None) -> Path:
    run(parse_recipe(RECIPE.replace("SOURCE", str(source)), changes), out, progress=SilentProgress(), only=only)
    return out / "stages"


def accuracy(stages: Path) -> dict[str, float]:
    rows = json.loads((stages / "comparison" / "seed-0" / "evaluation.json").read_text())["rows"]
    return {row["name"]: row["metrics"]["accuracy"] for row in rows}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    drawing = random.Random(0)
    path = tmp_path_factory.mktemp("data") / "same.jsonl"
    rows = []
    for number in range(400):
        topics = (number % 2, number // 2 % 2)
        pair = [f"{drawing.choice(OTHERS)} {drawing.choice(TOPICS[topic])}" for topic in topics]
        rows.append({"sentence1": pair[0], "sentence2": pair[1], "label": ("other", "same")[topics[0] == topics[1]]})
    drawing.shuffle(rows)
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return go(source, tmp_path_factory.mktemp("runs") / "run")


def test_both_texts_are_read(source, finished, tmp_path) -> None:
    reached = accuracy(finished)
    assert min(reached.values()) > 0.95, reached
    changes = ("data.inputs=sentence1", "stages.comparison.models=[teacher]")
    assert accuracy(go(source, tmp_path / "one", *changes, only=("teacher", "comparison")))["teacher"] < 0.65


def test_the_model_and_its_file_are_asked_about_pairs(finished) -> None:
    file = next((finished / "files" / "seed-0").glob("*.onnx"))
    pairs = [["the match", "a team"], ["a song", "the team"], ["today band", "a choir"], ["the goal", "today choir"]]
    for place in (finished / "student" / "seed-0", file):
        predictor = open_predictor(place)
        answers = predictor.predict(predictor.form.of_json({"inputs": pairs}))
        assert [answer.label for answer in answers] == ["same", "other", "same", "other"]
