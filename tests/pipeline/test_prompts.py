"""Recipes of prompts with answers: models that read from left to right, and encoder–decoders."""

import json
import math
import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from understudy import CausalLanguageModel, InputError, SequenceToSequence
from understudy.cli.main import main
from understudy.engine import SilentProgress
from understudy.pipeline.check import deep_check
from understudy.pipeline.run import run
from understudy.recipe.loading import parse_recipe
from understudy.recordings import Recording
from understudy.recordings.inspection import inspect_recording
from understudy.report import build_report, read_run, to_markdown
from understudy.sources import DataSpec, load_artifact, load_data
from understudy.tokenizing import Bytes

RECIPE = """
version: 1
name: letters
task: {kind: KIND}
data: {source: SOURCE, tokens: {kind: bytes}, window: 12, carve: 40, carve_test: 60}
stages:
  - kind: train
    name: teacher
    model: &large
      source: transformers
      config: CONFIG
      arguments: &sizes SIZES
    training: &training
      {epochs: 6, batch_size: 32, optimizer: {kind: adam, lr: 0.01}, execution: plain}
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
    model: &small {<<: *large, arguments: {<<: *sizes, LESS}}
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
    objective: [{kind: jensen_shannon, weight: 0.5}, {kind: skew_kl}, {kind: reverse_kl}, {kind: cross_entropy}]
    subset: {labels: 50}
    training: *training
    control: false
  - kind: evaluate
    name: comparison
    models: [teacher, live, student, frugal]
    memory: false
"""
FORMS = {
    "causal_language_model": {
        "CONFIG": "llama",
        "SIZES": "{hidden_size: 32, intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 2}",
        "LESS": "num_hidden_layers: 1",
    },
    "sequence_to_sequence": {
        "CONFIG": "t5",
        "SIZES": "{d_model: 32, d_kv: 16, d_ff: 32, num_layers: 2, num_heads: 2}",
        "LESS": "num_layers: 1, num_decoder_layers: 1",
    },
}
TASKS = {"causal_language_model": CausalLanguageModel(), "sequence_to_sequence": SequenceToSequence()}


class Heard(SilentProgress):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some letters, and the last of them twice; a few prompts are too long, or have no answer."""
    drawing = random.Random(0)
    words = ["".join(drawing.choices("abcd", k=drawing.randint(1, 6))) for _ in range(600)]
    rows = [{"question": f"{word}?", "answer": word[-1] * drawing.choice((2, 2, 2, 3))} for word in words]
    rows[3] |= {"question": "abcdabcdabcdabcdd?", "answer": "dd"}
    rows[5] |= {"answer": ""}
    rows[7] |= {"answer": "abcdabcdabcdabcd"}
    path = tmp_path_factory.mktemp("data") / "letters.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def described(kind: str, source: Path, *changes: str):
    text = RECIPE.replace("KIND", kind).replace("SOURCE", str(source))
    for name, value in FORMS[kind].items():
        text = text.replace(name, value)
    return parse_recipe(text, changes)


def data_of(kind: str, source: Path, window: int = 12):
    spec = DataSpec(source=str(source), tokens=Bytes(), window=window, carve=40, carve_test=60)
    return load_data(spec, task=TASKS[kind])


def stage(out: Path, name: str) -> Path:
    return out / "stages" / name / "seed-0"


def tokens_of(text: str) -> list[int]:
    return [2 + letter for letter in text.encode()]


def alone(kind: str, question: str, told: list[int], model) -> torch.Tensor:
    """The logits of each token of one answer and of what comes after it, without any padding."""
    asked = tokens_of(question)
    with torch.no_grad():
        if kind == "causal_language_model":
            row = torch.tensor([asked + told])
            return model(input_ids=row).logits[0, len(asked) - 1 :]
        return model(input_ids=torch.tensor([[*asked, 1]]), decoder_input_ids=torch.tensor([[0, *told]])).logits[0]


def is_likeliest(kind: str, question: str, answer: str, model, most: int) -> bool:
    """Whether each token of an answer, and its end, is as likely as any other there, or all but."""
    said = [*tokens_of(answer), 1][:most]
    logits = alone(kind, question, said[:-1], model)
    best, taken = logits.max(-1).values, logits[torch.arange(len(said)), said]
    return bool((best - taken < 0.15).all())


def weights(place: Path) -> torch.Tensor:
    return torch.cat([value.flatten() for _, value in sorted(load_file(place / "model.safetensors").items())])


def pairs_of(source: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in source.read_text().splitlines()]


@pytest.fixture(scope="module", params=sorted(FORMS))
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def finished(kind: str, source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Heard]:
    out, heard = tmp_path_factory.mktemp("runs") / kind, Heard()
    run(described(kind, source), out, progress=heard)
    return out, heard


@pytest.fixture(scope="module")
def rows(finished) -> dict[str, dict]:
    found = json.loads((stage(finished[0], "comparison") / "evaluation.json").read_text())
    assert (found["metric"], found["counted"]) == ("bits", "tokens")
    return {row["name"]: row for row in found["rows"]}


def test_what_was_cut_or_left_out_is_said(finished):
    assert [line for line in finished[1].lines if " of 600 " in line] == [
        "1 of 600 prompts are cut: a sample has at most `window: 12` tokens",
        "1 of 600 prompts have no answer and are left out",
        "1 of 600 answers have more than `window: 12` tokens and are left out",
    ]


def test_bits_are_of_the_answers_tokens_alone(kind, source, finished, rows):
    """Each answer measured by itself, without a batch and without padding."""
    test, texts = data_of(kind, source).test, pairs_of(source)
    for name in ("teacher", "student"):
        model, losses = load_artifact(stage(finished[0], name)).module.eval(), []
        for number in test.ids.tolist():
            answer = texts[number]["answer"]
            told = tokens_of(answer)
            targets, logits = torch.tensor([*told, 1]), alone(kind, texts[number]["question"], told, model)
            losses += F.cross_entropy(logits, targets, reduction="none").tolist()
        assert rows[name]["metrics"]["bits"] == pytest.approx(sum(losses) / len(losses) / math.log(2), rel=1e-4)
        assert rows[name]["metrics"]["samples"] == len(losses)
    assert rows["teacher"]["metrics"]["bits"] < 2.5, "far less than the 8 of a guess"
    assert rows["teacher"]["throughput"] > 0


def test_a_recorded_answer_teaches_what_a_live_one_teaches(finished):
    """But for what is rounded where more stands behind a text."""
    out, _ = finished
    ours = weights(stage(out, "student"))
    live, control = (
        float((ours - weights(place)).abs().mean()) for place in (stage(out, "live"), stage(out, "student") / "control")
    )
    assert live < control / 50


def test_the_recorded_answers_are_those_of_the_teacher(kind, source, finished):
    out, _ = finished
    train, texts = data_of(kind, source).train, pairs_of(source)
    recording = Recording(stage(out, "answers") / "recording")
    model = load_artifact(stage(out, "teacher")).module.eval()
    width = train.targets.shape[1]
    for place in (0, 9, 100):
        pair = texts[int(train.ids[place])]
        kept = recording.rows(train.ids[place : place + 1], None, ("logits",))["logits"][0]
        expected, counts = alone(kind, pair["question"], tokens_of(pair["answer"]), model), train.targets[place] != -100
        assert kept.shape == (width, 258)
        torch.testing.assert_close(kept[counts], expected)
        assert not kept[~counts].any(), "nothing is kept where nothing counts"
    few = Recording(stage(out, "likeliest") / "recording").rows(train.ids[:2], None, ("logits", "kept"))
    assert few["kept"].shape == few["logits"].shape == (2, width, 4)


def test_a_look_at_a_recording_counts_the_answers_tokens(kind, source, finished):
    data = data_of(kind, source)
    (train, validation) = inspect_recording(stage(finished[0], "answers") / "recording", verify=True).splits
    for split, found in ((data.train, train), (data.validation, validation)):
        assert sum(found.top1) == int((split.targets != -100).sum())
        assert (found.labelled, found.answers) == (len(split), len(split))
        assert 0 < found.accuracy <= 1
        assert found.entropy < 2


def test_the_report_tells_the_gain(finished, rows):
    report = build_report([read_run(finished[0])])
    (comparison,) = [each for each in report.comparisons if each.student == "student"]
    reached = {name: row["metrics"]["bits"] for name, row in rows.items()}
    assert comparison.gain.difference == pytest.approx(reached["student control"] - reached["student"])
    assert "Bits per token on the test split" in to_markdown(report)


def test_answers_to_other_prompts_are_refused(kind, source, finished, tmp_path):
    rows = pairs_of(source)
    rows[0]["question"] = "zzz?"
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = f"stages.student.teacher={{kind: recording, path: {stage(finished[0], 'answers') / 'recording'}}}"
    with pytest.raises(InputError, match="is a recording of something else: data"):
        run(described(kind, other, given), tmp_path / "run", progress=Heard(), only=("student",))


def test_it_is_checked_before_it_runs(kind, source):
    assert [finding for finding in deep_check(described(kind, source)) if finding.severity == "error"] == []


def test_a_student_of_its_own_answers_sees_no_labels(kind, source, finished, tmp_path):
    own = ("stages.live.on_policy={share: 1.0}", "stages.live.training.epochs=1")
    run(described(kind, source, *own), tmp_path / "run", progress=Heard(), only=("live",))
    lines = (stage(tmp_path / "run", "live") / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert records
    assert all(record["terms"]["cross_entropy"] == 0 < record["terms"]["soft_targets"] for record in records)


@pytest.mark.parametrize("asked", ["prompt: 4", "replay: 9"])
def test_a_prompt_of_windows_is_refused(kind, source, asked, tmp_path):
    changes = (f"stages.live.on_policy={{share: 1.0, {asked}}}", "stages.teacher.training.epochs=1")
    with pytest.raises(InputError, match=rf"`on_policy\.{asked[:6]}` is about windows of running texts; here the"):
        run(described(kind, source, *changes), tmp_path / "run", progress=Heard(), only=("live",))


def test_it_answers_prompts(kind, finished, capsys):
    place = str(stage(finished[0], "teacher"))
    assert main(["write", place, "bcda?", "--tokens", "9", "--temperature", "0.01"]) == 0
    said = capsys.readouterr().out.removesuffix("\n")
    assert said.startswith("bcda?") == (kind == "causal_language_model")
    assert is_likeliest(kind, "bcda?", said.removeprefix("bcda?"), load_artifact(place).module.eval(), 9)


def test_the_teachers_answers_are_a_data_set(kind, source, finished, tmp_path, capsys):
    place, out = str(stage(finished[0], "teacher")), tmp_path / "written"
    asked = ["--data", str(source), "--out", str(out), "--tokens", "6", "--temperature", "0.01", "--count", "100"]
    assert main(["write", place, *asked]) == 0
    assert f"{out / 'train'}.jsonl: 100 prompts with answers" in capsys.readouterr().out
    spec = DataSpec(source=str(out), tokens=Bytes(), window=40)
    data, before = load_data(spec, task=TASKS[kind]), pairs_of(source)
    train, test = (
        [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()] for name in ("train", "test")
    )
    assert len(data.test) == len(test) == 120  # a fifth of 600, as it is carved when nobody says otherwise
    assert all(row in before for row in test)
    true = {row["question"]: row["answer"] for row in before}
    assert all(row.keys() == {"question", "answer"} and row["question"] in true for row in train)
    model = load_artifact(place).module.eval()
    for row in train[:: 100 // 8]:
        assert is_likeliest(kind, row["question"], row["answer"], model, 6)


def test_a_saved_model_is_measured_on_prompts(kind, source, finished, rows, capsys):
    place = str(stage(finished[0], "teacher"))
    asked = ["measure", place, "--data", str(source), "--no-memory", "--seconds", "0.01", "--json"]
    assert main(asked) == 0
    found = json.loads(capsys.readouterr().out)["quality"]
    assert found["bits"] == pytest.approx(rows["teacher"]["metrics"]["bits"], abs=0.5)
