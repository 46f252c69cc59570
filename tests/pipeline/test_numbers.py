"""A recipe whose answers are numbers, from a table of texts to the server."""

import csv
import json
import random
from pathlib import Path

import pytest
import torch

from understudy import TextRegression
from understudy.cli.model_names import build_named
from understudy.engine import SilentProgress
from understudy.errors import InputError
from understudy.pipeline.run import run
from understudy.recipe.loading import parse_recipe
from understudy.recordings import Recording
from understudy.recordings.inspection import inspect_recording
from understudy.report import build_report, read_run, to_markdown
from understudy.serving import open_predictor
from understudy.sources import DataSpec, load_artifact, load_data
from understudy.sources.loader import Loader

RECIPE = """
version: 1
name: scores
task: {kind: text_regression, metric: METRIC}
data: {source: SOURCE, carve: 24, carve_test: 24}
stages:
  - kind: train
    name: teacher
    model: {source: understudy, name: bag, arguments: {embedding: 8}, preprocess: {kind: words, buckets: 300}}
    training: &training {epochs: 30, batch_size: 16, optimizer: {kind: adam, lr: 0.05}, execution: plain}
  - {kind: record, name: answers, teacher: teacher}
  - kind: distill
    name: student
    teacher: answers
    model: {source: understudy, name: bag, arguments: {embedding: 3}, preprocess: {kind: words, buckets: 300}}
    subset: {labels: 6}
    objective: [{kind: squared_error, weight: 0.2}, {kind: regression, weight: 0.5}, {kind: logit_mse, weight: 0.3}]
    training: *training
  - {kind: evaluate, name: comparison, models: [teacher, student], latency: false, memory: false}
  - {kind: export, name: files, models: [student], formats: [onnx]}
"""
WORTH = {"awful": -2.0, "dull": -1.0, "fine": 0.5, "good": 1.0, "great": 2.0}


def described(source: Path, *changes: str, metric: str = "rmse"):
    return parse_recipe(RECIPE.replace("SOURCE", str(source)).replace("METRIC", metric), changes)


def stage(out: Path, name: str) -> Path:
    return out / "stages" / name / "seed-0"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts worth what their words are worth together; of every eighth nobody knows it."""
    drawing = random.Random(0)
    path = tmp_path_factory.mktemp("data") / "scores.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "score"])
        for number in range(160):
            words = drawing.choices(list(WORTH), k=3)
            mean = sum(WORTH[word] for word in words) / 3
            writer.writerow([" ".join(words), "" if number % 8 == 3 else f"{mean:.4f}"])
    return path


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    run(described(source), out, progress=SilentProgress())
    return out


@pytest.fixture(scope="module")
def rows(finished: Path) -> dict[str, dict]:
    found = json.loads((stage(finished, "comparison") / "evaluation.json").read_text())
    assert (found["classes"], found["confusion"]) == (["score"], {})
    return {row["name"]: row for row in found["rows"]}


def test_every_model_learns_and_is_measured_as_by_hand(source, finished, rows) -> None:
    spec = DataSpec(source=str(source), carve=24, carve_test=24)
    test = load_data(spec, task=TextRegression()).test
    batch = next(iter(Loader(test, batch_size=len(test), shuffle=False)))
    answers = {}
    for name, place in (("teacher", "teacher"), ("student", "student"), ("student control", "student/seed-0/control")):
        folder = stage(finished, place) if "/" not in place else finished / "stages" / place
        with torch.no_grad():
            answers[name] = load_artifact(folder).module.eval()(batch.inputs)
        rmse = float((answers[name] - batch.targets).square().mean().sqrt())
        assert rows[name]["metrics"]["rmse"] == pytest.approx(rmse, rel=1e-4)
    assert rows["teacher"]["metrics"]["r2"] > 0.8
    assert rows["student"]["metrics"]["r2"] > 0.5
    apart = float((answers["student"] - answers["teacher"]).square().mean().sqrt())
    assert rows["student"]["metrics"]["rmse_to_teacher"] == pytest.approx(apart, rel=1e-4)
    assert "rmse_to_teacher" not in rows["teacher"]["metrics"]


def test_the_teacher_was_worth_something_where_six_are_labelled(finished, rows) -> None:
    report = build_report([read_run(finished)])
    (comparison,) = report.comparisons
    expected = rows["student control"]["metrics"]["rmse"] - rows["student"]["metrics"]["rmse"]
    assert comparison.gain is not None
    assert comparison.gain.difference == pytest.approx(expected)
    assert comparison.gain.difference > 0
    text = to_markdown(report)
    assert "control − student" in text
    assert "RMSE behind the teacher" in text or "RMSE ahead of the teacher" in text
    assert "| RMSE |" in text
    assert "Rank correlation with teacher" in text
    shown = report.disagreements
    assert shown
    assert {guess.probability for sample in shown for guess in (sample.teacher, sample.student)} == {None}


def test_the_recording_holds_numbers_and_what_is_known(source, finished) -> None:
    folder = stage(finished, "answers") / "recording"
    recording = Recording(folder)
    assert (recording.manifest.task, recording.manifest.classes) == ("text_regression", ("score",))
    assert recording.samples.targets.dtype == torch.float32
    found = inspect_recording(folder)
    (train, validation) = found.splits
    assert train.labelled < train.samples
    assert validation.labelled == validation.samples
    assert (train.accuracy, train.entropy) == (None, None)
    with pytest.raises(InputError, match="keep some of the classes, and these answers are numbers"):
        run(
            described(source, "stages.1.keep={top: 1}", "stages.2.teacher=teacher"),
            finished.parent / "top",
            progress=SilentProgress(),
            only=["answers"],
        )


def test_other_numbers_are_refused_by_the_recording(source, finished, tmp_path) -> None:
    lines = source.read_text().splitlines()
    (tmp_path / "other.csv").write_text("\n".join(line.replace("0.5000", "0.7500") for line in lines) + "\n")
    given = f"stages.2.teacher={{kind: recording, path: {stage(finished, 'answers') / 'recording'}}}"
    with pytest.raises(InputError, match="is a recording of something else: data"):
        run(described(tmp_path / "other.csv", given), tmp_path / "run", progress=SilentProgress(), only=["student"])


def test_the_best_is_the_one_with_the_least_error_or_the_greatest_correlation(source, tmp_path) -> None:
    for metric, better in (("rmse", min), ("spearman", max)):
        run(
            described(source, "stages.0.training.optimizer.lr=1.0", "stages.0.training.epochs=5", metric=metric),
            tmp_path / metric,
            progress=SilentProgress(),
            only=["teacher"],
        )
        place = stage(tmp_path / metric, "teacher")
        seen = [json.loads(line)["val"][metric] for line in (place / "metrics.jsonl").read_text().splitlines()]
        assert len(set(seen)) > 1
        assert json.loads((place / "training.json").read_text())["best_metric"] == better(seen)


def test_a_teacher_that_knows_nothing_stops_the_run(source, tmp_path) -> None:
    untrained = ("stages.0.training.epochs=1", "stages.0.training.optimizer.lr=1e-7", "stages.2.teacher=teacher")
    with pytest.raises(InputError, match="knows no more than the mean of the data"):
        run(described(source, *untrained), tmp_path / "run", progress=SilentProgress(), only=["student"])


def test_the_file_is_proved_and_both_answer_numbers(source, finished) -> None:
    place = stage(finished, "files") / "student.onnx"
    proof = json.loads((place.parent / "student.onnx.proof.json").read_text())
    assert proof["proved"]
    assert proof["quality"]["rmse"] == pytest.approx(proof["runtimes"][0]["quality"]["rmse"], rel=1e-3)
    answers = []
    for path in (stage(finished, "student"), place):
        predictor = open_predictor(path)
        read = [
            piece.make()
            for text in (b'{"input": "great great good"}', b'{"input": "awful"}')
            for piece in predictor.form.pieces(text, "json", whose="text")
        ]
        found = predictor.predict(read, top=3)
        assert found[0].values[0] > 0.5 > 0 > found[1].values[0]
        assert found[0].as_json() == {"numbers": {"score": found[0].values[0]}}
        assert str(found[0]).startswith("score ")
        assert found[0].first(1) is found[0]
        assert predictor.card()["numbers"] == ["score"]
        answers.append([each.values[0] for each in found])
    assert answers[0] == pytest.approx(answers[1], abs=1e-4)


def test_the_verbs_know_what_a_saved_model_answers(source, finished) -> None:
    built = build_named(f"{finished}#student", size=None, classes=None)
    assert built.task == TextRegression()
    batch = next(iter(built.loader(str(source), "test")))
    assert batch.targets.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stages.2.objective=[{kind: soft_targets}]", "soft_targets is not about numbers"),
        ("stages.0.objective=[{kind: cross_entropy}]", "cross_entropy is not about numbers"),
        (
            "stages.1={kind: fit_bias, name: answers, student: teacher, teacher: teacher, classes: [a]}",
            "fit_bias is about classes of which each sample has one, and here it has numbers",
        ),
    ],
)
def test_terms_about_classes_are_refused_before_anything_runs(source, change, message) -> None:
    with pytest.raises(InputError, match=message):
        described(source, change)
