"""A recipe on texts with any number of labels each: trained, recorded, distilled, measured, exported and asked."""

import json
import random
from pathlib import Path

import pytest
import torch

from understudy import InputError, MultiLabelClassification
from understudy.cli.model_names import build_named
from understudy.engine import SilentProgress
from understudy.measure import judge
from understudy.pipeline.check import deep_check
from understudy.pipeline.run import run
from understudy.recipe.loading import parse_recipe
from understudy.recordings import Recording
from understudy.recordings.inspection import inspect_recording
from understudy.report import build_report, read_run, to_markdown
from understudy.serving import open_predictor
from understudy.sources import DataSpec, Split, load_artifact, load_data
from understudy.sources.loader import Loader

RECIPE = """
version: 1
name: topics
task: {kind: multi_label_classification, metric: micro_f1}
data: {source: SOURCE, label: topics, carve: 40, carve_test: 40}
stages:
  - kind: train
    name: teacher
    model: &large
      {source: understudy, name: lstm, arguments: {embedding: 8, width: 8}, preprocess: {kind: words, buckets: 200}}
    training: &training
      {epochs: 12, batch_size: 16, optimizer: {kind: adam, lr: 0.03}, execution: plain}
  - kind: record
    name: answers
    teacher: teacher
    keep: {dtype: float32}
  - kind: distill
    name: student
    teacher: answers
    model: &small {source: understudy, name: bag, arguments: {embedding: 8}, preprocess: {kind: words, buckets: 200}}
    objective: &objective [{kind: cross_entropy, weight: 0.5}, {kind: soft_targets, temperature: 2.0, weight: 0.5}]
    subset: {labels: 12}
    training: *training
  - kind: distill
    name: live
    teacher: teacher
    model: *small
    objective: [{kind: cross_entropy, weight: 0.5}, {kind: sigmoid_targets, temperature: 2.0, weight: 0.5}]
    subset: {labels: 12}
    training: *training
    control: false
  - kind: evaluate
    name: comparison
    models: [teacher, student, live]
    latency: false
    memory: false
  - kind: export
    name: files
    models: [student]
    formats: [onnx]
"""
TOPICS = {"sport": ("match", "goal", "team"), "music": ("song", "band", "choir"), "money": ("bank", "price", "tax")}
NAMES = ("money", "music", "sport")
OTHERS = ("the", "a", "is", "of", "today", "and")


def described(source: Path, *changes: str):
    return parse_recipe(RECIPE.replace("SOURCE", str(source)), changes)


def stage(out: Path, name: str) -> Path:
    return out / "stages" / name / "seed-0"


def data_of(source: Path, name: str) -> Split:
    spec = DataSpec(source=str(source), label="topics", carve=40, carve_test=40)
    return getattr(load_data(spec, task=MultiLabelClassification()), name)


def logits(place: Path, split: Split) -> torch.Tensor:
    batch = next(iter(Loader(split, batch_size=len(split), shuffle=False)))
    with torch.no_grad():
        return load_artifact(place).module.eval()(batch.inputs)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of which some words say what they are about, none to three topics; of every fifteenth nobody knows."""
    drawing = random.Random(0)
    path = tmp_path_factory.mktemp("data") / "topics.jsonl"
    rows = []
    for number in range(240):
        topics = [topic for topic in TOPICS if drawing.random() < 0.4]
        words = [drawing.choice(TOPICS[topic]) for topic in topics] + drawing.choices(OTHERS, k=3)
        drawing.shuffle(words)
        rows.append({"text": " ".join(words), "topics": None if number % 15 == 7 else topics})
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    run(described(source), out, progress=SilentProgress())
    return out


@pytest.fixture(scope="module")
def evaluation(finished: Path) -> dict:
    return json.loads((stage(finished, "comparison") / "evaluation.json").read_text())


def test_every_label_is_measured_by_itself(source, finished, evaluation) -> None:
    test = data_of(source, "test")
    assert (evaluation["metric"], evaluation["counted"]) == ("micro_f1", "labels")
    assert (evaluation["samples"], evaluation["classes"], evaluation["disagreements"]) == (40 * 3, ["no", "yes"], [])
    rows = {row["name"]: row["metrics"] for row in evaluation["rows"]}
    places = {name: stage(finished, name) for name in ("teacher", "student", "live")}
    places["student control"] = stage(finished, "student") / "control"
    assert rows.keys() == places.keys()
    for name, place in places.items():
        said, true = logits(place, test) > 0, test.targets == 1
        hits, of_each = (said & true).sum(0), (said.sum(0) + true.sum(0)).clamp(min=1)
        found = rows[name]
        assert found["accuracy"] == pytest.approx(float((said == true).float().mean()), abs=1e-6)
        assert found["exact_match"] == pytest.approx(float((said == true).all(1).float().mean()), abs=1e-6)
        assert found["micro_f1"] == pytest.approx(float(2 * hits.sum() / (said.sum() + true.sum())), abs=1e-6)
        assert found["f1"] == pytest.approx(float((2 * hits / of_each).mean()), abs=1e-6)
    assert rows["teacher"]["micro_f1"] > 0.95, "far above what saying yes to all gives, about 0.57"


def test_a_student_with_few_labels_learns_from_the_answers_to_all_texts(finished, evaluation) -> None:
    rows = {row["name"]: row["metrics"] for row in evaluation["rows"]}
    for name in ("student", "live"):
        assert rows[name]["kl_from_teacher"] < 0.5 * rows["student control"]["kl_from_teacher"]
        assert rows[name]["micro_f1"] > rows["student control"]["micro_f1"]
    told = json.loads((stage(finished, "student") / "stage.json").read_text())
    assert told["data"] == "12 of 160 texts are labelled"
    assert (told["training"]["labelled"], told["training"]["samples"]) == (12, 160)
    assert told["control"]["samples"] == 12


def test_the_recording_is_of_no_and_yes(source, finished) -> None:
    train = data_of(source, "train")
    folder = stage(finished, "answers") / "recording"
    recording = Recording(folder)
    assert recording.manifest.classes == ("no", "yes")
    kept = recording.rows(train.ids, None, ("logits",))["logits"]
    torch.testing.assert_close(kept[..., 1], logits(stage(finished, "teacher"), train), rtol=1e-5, atol=1e-5)
    assert not kept[..., 0].any()
    seen = inspect_recording(folder, verify=True)
    assert seen.sound
    assert (seen.splits[0].samples, sum(seen.splits[0].top1)) == (160, 160 * 3)
    assert seen.splits[0].labelled == train.labelled < 160


def test_the_report_speaks_of_labels(finished, evaluation) -> None:
    report = build_report([read_run(finished)])
    rows = {row["name"]: row["metrics"]["micro_f1"] for row in evaluation["rows"]}
    found = {comparison.student: comparison for comparison in report.comparisons}
    assert found["student"].gain.difference == pytest.approx(rows["student"] - rows["student control"])
    text = to_markdown(report)
    assert "F1 of all labels together on the test split, 120 labels, seed 0" in text
    assert "120 samples" not in text


def test_a_saved_model_and_its_file_answer_with_labels(finished) -> None:
    file = next(stage(finished, "files").glob("*.onnx"))
    proof = json.loads(file.with_name(f"{file.name}.proof.json").read_text())
    assert (proof["proved"], proof["samples"]) == (True, 40)
    texts = ["the band is a team", "a song", "today and today"]
    asked = open_predictor(stage(finished, "student"))
    with torch.no_grad():
        likely = asked.model(asked.form.batch([asked.form.sample(text) for text in texts])).sigmoid()
    for predictor in (asked, open_predictor(file)):
        answers = predictor.predict([predictor.form.sample(text) for text in texts], top=3)
        for answer, row in zip(answers, likely, strict=True):
            assert dict(answer.top) == pytest.approx(dict(zip(NAMES, row.tolist(), strict=True)), abs=1e-5)
            assert {name for name, _ in answer.labels} == {name for name, p in zip(NAMES, row, strict=True) if p > 0.5}
            told = answer.as_json()
            assert told["labels"] == [{"class": name, "probability": p} for name, p in answer.labels]
            assert "class" not in told
        assert [{name for name, _ in answer.labels} for answer in answers] == [{"music", "sport"}, {"music"}, set()]
        assert str(answers[2]).startswith("none (likeliest: ")


def test_a_saved_model_is_measured_as_what_it_is(source, finished, tmp_path) -> None:
    """By what is saved with it, without a recipe: on a table with a column of 0 and 1 for each of its labels."""
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    table = tmp_path / "test.jsonl"
    told = [
        {
            name: row["text"] if name == "text" else int(name in row["topics"])
            for name in ("sport", "text", "money", "music")
        }
        for row in rows
        if row["topics"] is not None
    ]
    table.write_text("\n".join(map(json.dumps, told)), encoding="utf-8")
    built = build_named(str(stage(finished, "student")), size=None, classes=None)
    assert built.task == MultiLabelClassification(labels=3)
    loader = built.loader(str(table), "test")
    assert loader.split.classes == NAMES
    found = judge({"model": built.module}, loader, built.task)["model"].quality()
    right = (logits(stage(finished, "student"), loader.split) > 0) == (loader.split.targets == 1)
    assert found["exact_match"] == pytest.approx(float(right.all(1).float().mean()))
    assert found["exact_match"] > 0.5


def test_the_doctor_has_nothing_to_say_against_it(source) -> None:
    assert [finding for finding in deep_check(described(source)) if finding.severity == "error"] == []


def test_what_is_about_one_class_of_each_sample_is_refused(source) -> None:
    bias = "{kind: fit_bias, name: bias, student: student, teacher: teacher, classes: [music]}"
    with pytest.raises(InputError, match=r"stages.0.kind: fit_bias is about classes of which each sample has one"):
        described(source, f"stages=[{bias}]")
    table = source.parent / "answers.csv"
    table.write_text("id,label\n0,music\n")
    with pytest.raises(InputError, match="a table of answers tells one class of each sample"):
        run(
            described(source, f"stages.student.teacher={{kind: table, path: {table}}}"),
            source.parent / "never",
            progress=SilentProgress(),
            only=("student",),
        )


@pytest.mark.parametrize("kind", ["dist", "decoupled", "logit_standardisation"])
def test_terms_about_the_classes_among_each_other_are_refused(source, kind) -> None:
    with pytest.raises(InputError, match=rf"stages.2.objective.1: {kind} compares the classes .* use soft_targets"):
        described(source, f"stages.student.objective=[{{kind: cross_entropy}}, {{kind: {kind}}}]")
