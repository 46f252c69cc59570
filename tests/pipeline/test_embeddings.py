"""A recipe of sentence embeddings: texts alone, two widths, live and recorded."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from understudy import SentenceEmbedding
from understudy.engine import SilentProgress
from understudy.errors import InputError
from understudy.functional import similarity_agreement
from understudy.pipeline.check import deep_check
from understudy.pipeline.run import run
from understudy.recipe.loading import parse_recipe
from understudy.recordings import Recording
from understudy.report import build_report, read_run, to_markdown
from understudy.serving import open_predictor
from understudy.sources import DataSpec, TransformersModel, build_model, load_artifact, load_data, save_artifact
from understudy.sources.embedding import Embedding
from understudy.sources.loader import Loader
from understudy.tokenizing import Words, bytes_of

RECIPE = """
version: 1
name: meanings
task: sentence_embedding
data: {source: SOURCE, carve: 20, carve_test: 20}
stages:
  - {kind: load, name: teacher, model: {source: artifact, path: TEACHER}}
  - {kind: record, name: answers, teacher: teacher}
  - kind: distill
    name: student
    teacher: answers
    model: &bag
      source: understudy
      name: bag
      arguments: {embedding: 8}
      preprocess: {kind: words, buckets: 300}
      embedding: {width: 6}
    objective: [{kind: cosine_features}, {kind: embedding_similarity}, {kind: similarity_margins, weight: 0.5}]
    training: &training {epochs: 30, batch_size: 16, optimizer: {kind: adam, lr: 0.05}, execution: plain}
  - kind: distill
    name: same
    teacher: teacher
    model: {<<: *bag, embedding: {width: 16, normalise: true}}
    objective: [{kind: regression, norm: l2}]
    training: {epochs: 2, batch_size: 16, optimizer: {kind: adam, lr: 0.05}, execution: plain}
  - {kind: evaluate, name: comparison, models: [teacher, student, same], latency: false, memory: false}
  - {kind: export, name: files, models: [teacher, student], formats: [onnx]}
"""
WORDS = ("sea", "ship", "sail", "wind", "tree", "leaf", "wood", "root", "bread", "salt")


def described(source: Path, teacher: Path, *changes: str):
    return parse_recipe(RECIPE.replace("SOURCE", str(source)).replace("TEACHER", str(teacher)), changes)


def stage(out: Path, name: str) -> Path:
    return out / "stages" / name / "seed-0"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    drawing = random.Random(0)
    path = tmp_path_factory.mktemp("data") / "texts.txt"
    path.write_text("".join(" ".join(drawing.choices(WORDS, k=drawing.randint(2, 6))) + "\n" for _ in range(140)))
    return path


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder with random weights, whose words are far apart."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    spec = TransformersModel(
        config="bert", arguments=sizes, preprocess=Words(buckets=300), embedding=Embedding(normalise=True)
    )
    model = build_model(spec, classes=(), inputs=bytes_of(WORDS))
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(50.0)
    folder = tmp_path_factory.mktemp("models") / "teacher"
    return save_artifact(folder, model, spec=spec, classes=(), inputs=bytes_of(WORDS), task="sentence_embedding")


@pytest.fixture(scope="module")
def finished(source: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    run(described(source, teacher), out, progress=SilentProgress())
    return out


def test_students_are_measured_by_their_teacher(source, finished) -> None:
    found = json.loads((stage(finished, "comparison") / "evaluation.json").read_text())
    rows = {row["name"]: row for row in found["rows"]}
    assert set(rows) == {"teacher", "student", "same"}, "there is nothing to train a control on"
    data = load_data(DataSpec(source=str(source), carve=20, carve_test=20), task=SentenceEmbedding())
    inputs = next(iter(Loader(data.test, batch_size=20, shuffle=False))).inputs
    with torch.no_grad():
        teacher, student = (
            load_artifact(stage(finished, name)).module.eval()(inputs) for name in ("teacher", "student")
        )
    assert (teacher.shape, student.shape) == ((20, 16), (20, 6))
    expected = float(similarity_agreement(student, teacher))
    assert rows["student"]["metrics"]["similarity"] == pytest.approx(expected, abs=1e-4)
    assert rows["student"]["metrics"]["similarity"] > 0.8
    assert rows["teacher"]["metrics"]["similarity"] == 1.0
    assert rows["student"]["metrics"]["nearest10"] >= rows["student"]["metrics"]["nearest"] > 0.3
    assert found["disagreements"] == []


def test_what_is_selected_is_what_is_nearest_to_the_teacher(finished) -> None:
    lines = (stage(finished, "student") / "metrics.jsonl").read_text().splitlines()
    seen = [json.loads(line)["val"]["similarity"] for line in lines]
    record = json.loads((stage(finished, "student") / "training.json").read_text())
    assert record["best_metric"] == max(seen) > seen[0]


def test_no_projection_is_left_in_the_student(finished) -> None:
    saved = load_file(stage(finished, "student") / "model.safetensors")
    assert set(saved) == {"embedding.weight", "head.weight", "head.bias"}
    assert saved["head.weight"].shape == (6, 8)


def test_the_report_says_what_its_numbers_mean(finished) -> None:
    report = build_report([read_run(finished)])
    assert all(comparison.gain is None for comparison in report.comparisons)
    assert "similarity correlation with teacher 0." in report.headline
    assert "there are no labels that a control could learn from" in report.headline
    text = to_markdown(report)
    assert "how near it comes to its teacher, not what that was worth" in text
    assert "Teacher's nearest among 10" in text


def test_the_recording_holds_the_vectors(finished) -> None:
    recording = Recording(stage(finished, "answers") / "recording")
    assert (recording.manifest.task, len(recording.manifest.classes)) == ("sentence_embedding", 16)
    rows = recording.rows(recording.samples.ids[:3], None, ("logits",))
    torch.testing.assert_close(rows["logits"].float().norm(dim=1), torch.ones(3), rtol=1e-2, atol=0)


def test_files_of_any_length_are_proved_and_answer_vectors(finished) -> None:
    for name, width in (("teacher", 16), ("student", 6)):
        place = stage(finished, "files") / f"{name}.onnx"
        proof = json.loads((place.parent / f"{name}.onnx.proof.json").read_text())
        assert proof["proved"]
        assert len({shape[1] for shape in proof["runtimes"][0]["shapes"]}) > 1
        answers = []
        for path in (stage(finished, name), place):
            predictor = open_predictor(path)
            (piece,) = predictor.form.pieces(b'{"input": "a ship at sea"}', "json", whose="text")
            (found,) = predictor.predict([piece.make()])
            assert list(found.as_json()) == ["vector"]
            assert str(found).startswith("[")
            assert predictor.card()["width"] == width
            answers.append(torch.tensor(found.values))
        assert answers[0].shape == (width,)
        torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-5)


def test_training_without_a_teacher_is_refused(source, teacher, tmp_path) -> None:
    change = (
        "stages.0={kind: train, name: teacher, model: {source: understudy, name: bag, preprocess: {kind: words}, "
        "embedding: {width: 4}}, training: {epochs: 1, batch_size: 8, optimizer: {kind: adam, lr: 0.01}}}"
    )
    with pytest.raises(InputError, match="no true answers to train on without a teacher"):
        run(described(source, teacher, change), tmp_path / "run", progress=SilentProgress(), only=["teacher"])


def test_the_doctor_finds_nothing_wrong(source, teacher) -> None:
    found = deep_check(described(source, teacher))
    assert [str(finding) for finding in found if finding.severity in ("error", "warning")] == []
