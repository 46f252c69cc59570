"""A recipe of language models: bits of the next byte, taught live and by answers that were recorded."""

import json
import math
import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from understudy import CausalLanguageModel, InputError
from understudy.engine import SilentProgress
from understudy.pipeline.check import deep_check
from understudy.pipeline.run import run
from understudy.recipe.loading import parse_recipe
from understudy.recordings import Recording
from understudy.recordings.inspection import inspect_recording
from understudy.report import build_report, read_run, to_markdown
from understudy.sources import DataSet, DataSpec, load_artifact, load_data
from understudy.tokenizing import Bytes

RECIPE = """
version: 1
name: verses
task: {kind: causal_language_model, metric: METRIC}
data: {source: SOURCE, tokens: {kind: bytes}, window: 16, carve: 16, carve_test: 24}
stages:
  - kind: train
    name: teacher
    model: &llama
      source: transformers
      config: llama
      arguments: &sizes
        {hidden_size: 16, intermediate_size: 16, num_hidden_layers: 2, num_attention_heads: 2,
         tie_word_embeddings: true}
    training: &training
      {epochs: 4, batch_size: 32, optimizer: {kind: adam, lr: 0.03}, execution: plain, checkpoint_every: 2}
  - kind: record
    name: answers
    teacher: teacher
    keep: {dtype: float32}
  - kind: record
    name: likeliest
    teacher: teacher
    keep: {top: 4, temperatures: [2.0]}
  - kind: distill
    name: live
    teacher: teacher
    model: &small {<<: *llama, arguments: {<<: *sizes, num_hidden_layers: 1}}
    objective: &objective [{kind: cross_entropy, weight: 0.5}, {kind: soft_targets, temperature: 2.0, weight: 0.5}]
    training: *training
    control: false
  - kind: distill
    name: student
    teacher: answers
    model: *small
    objective: *objective
    training: *training
  - kind: distill
    name: frugal
    teacher: likeliest
    model: *small
    objective: *objective
    subset: {labels: 20}
    training: *training
  - kind: evaluate
    name: comparison
    models: [teacher, live, student, frugal]
    latency: false
    memory: false
"""
STAGES = ("teacher", "answers", "likeliest", "live", "student", "frugal", "comparison")
WORDS = ("the sea", "a bell", "and then", "it rang", "slowly", "under the hill", "twice;", "she said.\n")


class Heard(SilentProgress):
    """Keeps what is told, and what each training measured.

    Args:
        stop: after how many measurements the run is interrupted; never when not given.
    """

    def __init__(self, stop: int | None = None) -> None:
        self.lines: list[str] = []
        self.trainings: list[list[float]] = []
        self.stop = stop

    def begin(self, epochs: float, steps: int, samples: int) -> None:
        self.trainings.append([])

    def validated(self, metrics) -> None:
        self.trainings[-1].append(metrics["bits"])
        if self.stop is not None and sum(map(len, self.trainings)) == self.stop:
            raise KeyboardInterrupt

    def message(self, text: str) -> None:
        self.lines.append(text)


def described(source: Path, changes: tuple[str, ...] = (), *, metric: str = "bits"):
    return parse_recipe(RECIPE.replace("SOURCE", str(source)).replace("METRIC", metric), changes)


def go(source: Path, out: Path, *changes: str, only=None, stop: int | None = None) -> Heard:
    heard = Heard(stop)
    run(described(source, changes), out, progress=heard, only=only)
    return heard


def data_of(source: Path) -> DataSet:
    spec = DataSpec(source=str(source), tokens=Bytes(), window=16, carve=16, carve_test=24)
    return load_data(spec, task=CausalLanguageModel())


def stage(out: Path, name: str) -> Path:
    return out / "stages" / name / "seed-0"


def told(out: Path, name: str) -> dict:
    return json.loads((stage(out, name) / "stage.json").read_text())


def same(first: Path, second: Path) -> bool:
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (first, second))
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def bits(place: Path, split) -> float:
    """Of the next byte, by hand."""
    model = load_artifact(place).module.eval()
    with torch.no_grad():
        logits = model(split.inputs).logits
    return float(F.cross_entropy(logits.flatten(0, 1), split.targets.flatten())) / math.log(2)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 3,000 characters of a few phrases."""
    drawing = random.Random(0)
    path = tmp_path_factory.mktemp("data") / "verses.txt"
    path.write_text(" ".join(drawing.choices(WORDS, k=330)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Heard]:
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, go(source, out)


@pytest.fixture(scope="module")
def rows(finished) -> dict[str, dict]:
    found = json.loads((stage(finished[0], "comparison") / "evaluation.json").read_text())
    assert (found["metric"], found["counted"], found["samples"]) == ("bits", "tokens", 24 * 16)
    assert len(found["classes"]) == 258
    return {row["name"]: row for row in found["rows"]}


def test_every_model_is_measured_in_bits_of_the_next_byte(source, finished, rows) -> None:
    test = data_of(source).test
    places = {name: stage(finished[0], name) for name in ("teacher", "live", "student", "frugal")}
    places |= {f"{name} control": places[name] / "control" for name in ("student", "frugal")}
    assert rows.keys() == places.keys()
    for name, place in places.items():
        found = rows[name]["metrics"]
        assert found["bits"] == pytest.approx(bits(place, test), rel=1e-5)
        assert found["perplexity"] == pytest.approx(2 ** found["bits"], rel=1e-5)
        assert found["samples"] == 24 * 16
    assert rows["teacher"]["metrics"]["bits"] < 5, "far less than the 8 of a guess"


def test_a_student_agrees_with_its_teacher_more_than_its_control_does(rows) -> None:
    for measure in ("kl_from_teacher", "kl_to_teacher"):
        ours, controls = (rows[name]["metrics"][measure] for name in ("student", "student control"))
        assert 0 < ours < controls


def test_the_report_counts_a_gain_where_the_bits_fell(finished, rows) -> None:
    report = build_report([read_run(finished[0])])
    found = {comparison.student: comparison for comparison in report.comparisons}
    reached = {name: row["metrics"]["bits"] for name, row in rows.items()}
    for name in ("student", "frugal"):
        assert found[name].gain.difference == pytest.approx(reached[f"{name} control"] - reached[name])
        assert found[name].below_teacher == pytest.approx(reached[name] - reached["teacher"])
        assert found[name].teacher_quality.above_control == pytest.approx(
            reached[f"{name} control"] - reached["teacher"]
        )
    assert found["live"].gain is None
    text = to_markdown(report)
    assert "Bits per token on the test split, 384 tokens, seed 0" in text
    assert f"| {reached['student']:.3f} bits |" in text
    assert "bits behind the teacher" in text
    assert "points" not in text


def test_an_answer_that_was_recorded_teaches_what_a_live_one_teaches(finished) -> None:
    out, _ = finished
    assert same(stage(out, "student"), stage(out, "live"))
    assert not same(stage(out, "student"), stage(out, "student") / "control")


def test_the_answers_are_those_of_the_teacher(source, finished) -> None:
    out, _ = finished
    train = data_of(source).train
    model = load_artifact(stage(out, "teacher")).module.eval()
    with torch.no_grad():
        logits = model(train.inputs).logits
    dense, few = (Recording(stage(out, name) / "recording") for name in ("answers", "likeliest"))
    assert torch.equal(dense.samples.targets[: len(train)], train.targets)
    kept = dense.rows(train.ids, None, ("logits",))["logits"]
    assert (kept.shape, kept.dtype) == ((len(train), 16, 258), torch.float32)
    torch.testing.assert_close(kept, logits)
    part = few.rows(train.ids, None, ("logits", "kept", "tails"))
    assert {name: (tuple(each.shape[1:]), each.dtype) for name, each in part.items()} == {
        "logits": ((16, 4), torch.float16),
        "kept": ((16, 4), torch.int16),
        "tails": ((16, 2), torch.float32),
    }
    likeliest = logits.topk(4, dim=-1)
    torch.testing.assert_close(part["logits"].float(), likeliest.values, rtol=1e-3, atol=1e-3)
    others = logits.scatter(-1, likeliest.indices, -math.inf)
    rest = torch.stack([others.logsumexp(-1), 2 * (others / 2).logsumexp(-1)], -1)
    torch.testing.assert_close(part["tails"], rest, rtol=1e-4, atol=1e-4)


def test_a_look_at_a_recording_counts_tokens(source, finished) -> None:
    out, _ = finished
    data = data_of(source)
    model = load_artifact(stage(out, "teacher")).module.eval()
    with torch.no_grad():
        right = (model(data.train.inputs).logits.argmax(-1) == data.train.targets).float().mean()
    for name in ("answers", "likeliest"):
        train, validation = inspect_recording(stage(out, name) / "recording", verify=True).splits
        assert (train.samples, train.labelled, train.answers) == (len(data.train),) * 3
        assert (validation.samples, validation.labelled) == (16, 16)
        assert sum(train.top1) == len(data.train) * 16
        assert train.accuracy == pytest.approx(float(right), abs=1e-3)
        assert (train.outside_top is None) == (name == "answers")


def test_in_half_the_room_the_answers_keep_their_shape(source, finished, tmp_path) -> None:
    out, _ = finished
    for dtype in ("float16", "int8"):
        go(source, tmp_path / dtype, f"stages.answers.keep.dtype={dtype}", only=("answers",))
        kept = Recording(stage(tmp_path / dtype, "answers") / "recording")
        ids = kept.samples.ids[:5]
        found = kept.rows(ids, None, kept.manifest.keep.names(()))
        assert (tuple(found["logits"].shape), found["logits"].dtype) == ((5, 16, 258), getattr(torch, dtype))
        exact = Recording(stage(out, "answers") / "recording").rows(ids, None, ("logits",))["logits"]
        answer = kept.manifest.keep.decode(found, classes=258, layers=()).logits
        torch.testing.assert_close(answer, exact, rtol=1e-2, atol=float(exact.abs().max()) / 127)


def test_windows_without_a_label_still_teach(source, finished, tmp_path) -> None:
    """Soft targets ask for no label, so that it makes no difference how many there are."""
    out, _ = finished
    count = len(data_of(source).train)
    assert told(out, "frugal")["data"] == f"20 of {count} windows are labelled"
    soft = "stages.student.objective=[{kind: soft_targets}]"
    for name, subset in (("all", "{labels: 0.99}"), ("few", "{labels: 3}"), ("gone", "{samples: 60}")):
        changes = (soft, "stages.student.control=false", f"stages.student.subset={subset}")
        go(source, tmp_path / name, *changes, only=("student",))
    assert same(stage(tmp_path / "all", "student"), stage(tmp_path / "few", "student"))
    assert not same(stage(tmp_path / "all", "student"), stage(tmp_path / "gone", "student"))


def test_the_weights_that_are_kept_are_those_of_the_fewest_bits(source, tmp_path) -> None:
    """With steps so large that it goes up and down."""
    heard = go(source, tmp_path / "run", "stages.teacher.training.optimizer.lr=1.0", only=("teacher",))
    (seen,) = heard.trainings
    assert max(seen) > min(seen) + 1
    assert bits(stage(tmp_path / "run", "teacher"), data_of(source).validation) == pytest.approx(min(seen), rel=1e-5)
    found = told(tmp_path / "run", "teacher")["training"]
    assert (found["best_metric"], found["best_epoch"]) == (min(seen), 1 + seen.index(min(seen)))


def test_accuracy_selects_the_other_way(source, tmp_path) -> None:
    measured = []
    heard = Heard()
    heard.validated = lambda metrics: measured.append(metrics["accuracy"])
    recipe = described(source, ("stages.teacher.training.optimizer.lr=1.0",), metric="accuracy")
    run(recipe, tmp_path / "run", progress=heard, only=("teacher",))
    found = told(tmp_path / "run", "teacher")["training"]
    assert found["best_metric"] == max(measured)
    assert found["best_epoch"] == 1 + measured.index(max(measured))


def test_interrupted_it_ends_with_the_same_weights(source, finished, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        go(source, tmp_path / "run", stop=3, only=("teacher",))
    place = stage(tmp_path / "run", "teacher")
    assert not (place / "model.safetensors").exists()
    go(source, tmp_path / "run", only=("teacher",))
    assert told(tmp_path / "run", "teacher")["training"]["resumed_from"] > 0
    assert same(place, stage(finished[0], "teacher"))


def test_a_second_run_trains_nothing(source, finished) -> None:
    out, first = finished
    again = go(source, out)
    assert (len(first.trainings), len(again.trainings)) == (6, 0)
    assert [line for line in again.lines if "nothing has changed, skipped" in line] == again.lines
    assert len(again.lines) == len(STAGES)


def test_answers_to_other_windows_are_refused(source, finished, tmp_path) -> None:
    given = f"stages.student.teacher={{kind: recording, path: {stage(finished[0], 'answers') / 'recording'}}}"
    go(source, tmp_path / "same", given, only=("student",))
    assert same(stage(tmp_path / "same", "student"), stage(finished[0], "student"))
    for change in ("data.window=8", "data.carve_test=8"):
        with pytest.raises(InputError, match=r'is a recording of something else: data: ".* `understudy record'):
            go(source, tmp_path / change, given, change, only=("student",))


def test_a_recipe_of_language_models_is_checked_before_it_runs(source) -> None:
    assert [finding for finding in deep_check(described(source)) if finding.severity == "error"] == []
    with pytest.raises(InputError, match=r"resnet does not predict the next token"):
        run(
            described(source, ("stages.teacher.model={source: understudy, name: resnet}",)),
            source.parent / "never",
            progress=Heard(),
        )


# On the student's own texts

OWN = "stages.3.on_policy={share: 1.0, prompt: 4}"


def test_a_student_of_its_own_texts_sees_no_labels_and_its_control_sees_all(source, tmp_path):
    go(source, tmp_path / "run", OWN, "stages.3.control=true", only=["live"])
    place = tmp_path / "run/stages/live/seed-0"
    student, control = (
        [json.loads(line) for line in (place / name / "metrics.jsonl").read_text().splitlines()]
        for name in (".", "control")
    )
    assert all(record["terms"]["cross_entropy"] == 0 for record in student)
    assert all(record["terms"]["soft_targets"] > 0 for record in student)
    assert all(record["terms"]["cross_entropy"] > 1 for record in control)


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        (("stages.4.on_policy={share: 0.5}",), "stages.4.on_policy", "'answers' holds answers to the data's own texts"),
        ((OWN, "stages.3.objective=[{kind: cross_entropy}]"), "stages.3.on_policy", "and no term asks one"),
        ((OWN, "task=classification"), "stages.3.on_policy", "for task: causal_language_model; this is classification"),
    ],
)
def test_own_texts_that_nobody_can_judge(tmp_path, changes, place, message):
    with pytest.raises(InputError, match=message) as caught:
        described(tmp_path, changes)
    assert place in str(caught.value)


def test_a_prompt_as_long_as_the_window_is_refused(source, tmp_path):
    with pytest.raises(InputError, match=r"`on_policy.prompt: 16` is the whole window of 16 tokens"):
        go(source, tmp_path / "run", "stages.3.on_policy={prompt: 16}", only=["live"])


def test_a_training_in_chunks_of_logits_is_the_same(source, finished, tmp_path) -> None:
    heard = go(source, tmp_path / "run", "stages.3.training.head_chunk=5", only=("live",))
    whole = finished[1].trainings[1]  # the teacher's is the first
    assert heard.trainings[1] == pytest.approx(whole, abs=0.01)
