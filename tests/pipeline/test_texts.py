"""A recipe on texts: a recurrent network of words teaches one of bytes, by answers that were recorded."""

import csv
import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from understudy import TextClassification
from understudy.engine import SilentProgress
from understudy.pipeline.run import run
from understudy.pipeline.training import cut_texts
from understudy.recipe.loading import parse_recipe
from understudy.report import build_report, read_run, to_markdown
from understudy.sources import DataSpec, Split, load_artifact, load_data
from understudy.sources.loader import Loader
from understudy.tokenizing import Bytes, Words, texts_of, tokenization_of

RECIPE = """
version: 1
name: opinions
task: text_classification
data: {source: SOURCE, carve: 12, carve_test: 12}
stages:
  - kind: train
    name: teacher
    model:
      source: understudy
      name: lstm
      arguments: {embedding: 8, width: 4, dropout: 0.1}
      preprocess: {kind: words, buckets: 500, max_length: 9}
    training: &training
      {epochs: 6, batch_size: 6, optimizer: {kind: adam, lr: 0.03}, execution: plain, checkpoint_every: 2}
  - kind: record
    name: answers
    teacher: teacher
  - kind: distill
    name: student
    teacher: answers
    model:
      {source: understudy, name: bag, arguments: {embedding: 4}, preprocess: {kind: bytes}}
    objective: [{kind: cross_entropy}, {kind: soft_targets, temperature: 2.0}]
    training: *training
  - kind: evaluate
    name: comparison
    models: [teacher, student]
    latency: false
    memory: false
"""
MOST = 9
OPINIONS = {"bad": ("awful", "dull", "boring"), "good": ("great", "lovely", "brilliant")}
OTHERS = ("the film", "it was", "a plot", "naïve", "and", "music, too")


class Heard(SilentProgress):
    """Keeps what is told, and how many trainings begin.

    Args:
        stop: after which measurement of the student a training is interrupted; never when not given.
    """

    def __init__(self, stop: int | None = None) -> None:
        self.lines: list[str] = []
        self.trainings = self.measured = 0
        self.stop = stop

    def begin(self, epochs: float, steps: int, samples: int) -> None:
        self.trainings += 1

    def validated(self, metrics) -> None:
        self.measured += 1
        if self.measured == self.stop:
            raise KeyboardInterrupt

    def message(self, text: str) -> None:
        self.lines.append(text)


def go(source: Path, out: Path, *, stop: int | None = None, only: tuple[str, ...] | None = None) -> Heard:
    heard = Heard(stop)
    run(parse_recipe(RECIPE.replace("SOURCE", str(source))), out, progress=heard, only=only)
    return heard


def train_split(source: Path) -> Split:
    return load_data(DataSpec(source=str(source), carve=12, carve_test=12), task=TextClassification()).train


def stage(out: Path, name: str) -> Path:
    return out / "stages" / name / "seed-0"


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("stages/**/*") if path.is_file()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty texts of which one word says what they are, some of them with more words than are read."""
    drawing = random.Random(0)
    path = tmp_path_factory.mktemp("data") / "opinions.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(60):
            label = ("bad", "good")[number % 2]
            others = drawing.choices(OTHERS, k=2)
            if number % 5 < 2:  # the most that is read, and more than that
                others = ["and"] * (MOST - number % 2)
            words = [drawing.choice(OPINIONS[label]), *others]
            writer.writerow([" ".join(words), label])
    return path


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Heard]:
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, go(source, out)


def test_the_teacher_learns_and_the_report_has_every_row(source, finished) -> None:
    out, _ = finished
    split = train_split(source)
    network = load_artifact(stage(out, "teacher")).module.eval()
    batch = next(iter(Loader(split, batch_size=len(split), shuffle=False)))
    with torch.no_grad():
        assert (network(batch.inputs).argmax(-1) == batch.targets).float().mean() > 0.9
    rows = json.loads((stage(out, "comparison") / "evaluation.json").read_text())["rows"]
    assert [(row["name"], row["role"]) for row in rows] == [
        ("teacher", "teacher"),
        ("student", "student"),
        ("student control", "control"),
    ]
    assert all(row["params"] > 0 and 0 <= row["metrics"]["accuracy"] <= 1 for row in rows)
    text = to_markdown(build_report([read_run(out)]))
    assert all(f"| {row['name']} |" in text for row in rows)


def test_each_model_comes_back_with_its_own_tokens(finished) -> None:
    out, _ = finished
    places = {"teacher": stage(out, "teacher"), "student": stage(out, "student")}
    specs = {name: tokenization_of(load_artifact(place).module).spec for name, place in places.items()}
    assert specs == {"teacher": Words(buckets=500, max_length=MOST), "student": Bytes()}
    student, control = (
        load_file(place / "model.safetensors") for place in (places["student"], places["student"] / "control")
    )
    assert student["embedding.weight"].shape == (258, 4)
    assert not torch.equal(student["embedding.weight"], control["embedding.weight"])


def test_what_is_not_read_is_said_once(source, finished) -> None:
    _, heard = finished
    split = train_split(source)
    texts = texts_of(split.gather(torch.arange(len(split))))
    lengths = [len(text.replace(",", " ,").split()) for text in texts]
    long = sum(length > MOST for length in lengths)
    assert 0 < long < len(lengths) == 36
    assert MOST in lengths
    told = [line for line in heard.lines if "longer" in line]
    assert told == [f"{long} of 36 texts are longer than the {MOST} tokens that are read of them; the rest is left out"]


def test_nothing_is_said_where_all_is_read(source, finished) -> None:
    out, _ = finished
    assert cut_texts(load_artifact(stage(out, "student")).module, train_split(source)) is None
    assert cut_texts(torch.nn.Linear(2, 2), train_split(source)) is None


def test_a_second_run_trains_nothing(source, finished) -> None:
    out, first = finished
    before = contents(out)
    again = go(source, out)
    assert (first.trainings, again.trainings) == (3, 0)
    assert all("nothing has changed, skipped" in line for line in again.lines)
    assert len(again.lines) == 4
    assert contents(out) == before


def test_interrupted_it_ends_with_the_same_weights(source, finished, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        go(source, tmp_path / "run", stop=2, only=("teacher",))
    place = stage(tmp_path / "run", "teacher")
    assert not (place / "model.safetensors").exists()
    go(source, tmp_path / "run", only=("teacher",))
    assert json.loads((place / "stage.json").read_text())["training"]["resumed_from"] > 0
    resumed, whole = (load_file(folder / "model.safetensors") for folder in (place, stage(finished[0], "teacher")))
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())
