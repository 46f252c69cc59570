"""Training on from a source with other classes, and students that begin with their teacher's weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from understudy import CrossEntropy, Distiller, Optimizer, SoftTargets, Training
from understudy.batch import Batch
from understudy.engine import SilentProgress, fit
from understudy.errors import InputError
from understudy.pipeline.run import run
from understudy.pipeline.stages import Distill, Load, Train, Transfer
from understudy.recipe.joining import joining_problems
from understudy.recipe.loading import load_recipe
from understudy.recipe.problems import RecipeError
from understudy.sources import BuiltinModel, build_model, load_artifact, save_artifact
from understudy.sources.artifact_record import read_record
from understudy.sources.data import DataSpec, load_data
from understudy.sources.loader import Loader
from understudy.sources.model_specs import ArtifactModel
from understudy.tasks import Classification
from understudy.transfer.sources import scratch_network, source_network

CLASSES = tuple(map(str, range(5)))
MODEL = "{source: understudy, name: mlp, arguments: {hidden: [32, 16]}}"
HEAD = """
version: 1
name: transfer
task: image_classification
data: {source: sklearn/digits}
stages:
"""
TRANSFER = """
  - kind: transfer
    name: tuned
    model: {source: artifact, path: SOURCE}
    subset: {labels: 50}
    training: {steps: 20, batch_size: 25, optimizer: {kind: adam, lr: 1e-3}, execution: plain, select: last}
"""
EVALUATE = """
  - {kind: evaluate, name: comparison, models: [tuned], latency: false, memory: false}
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A network that tells the digits 0 to 4 apart."""
    data = load_data(DataSpec(source="sklearn/digits"), task=Classification())
    batch = next(iter(Loader(data.train, batch_size=len(data.train), shuffle=False)))
    known = batch.targets < 5
    torch.manual_seed(3)
    spec = BuiltinModel(name="mlp", arguments={"hidden": [32, 16]})
    network = build_model(spec, classes=CLASSES, inputs=batch.inputs[:2])
    batches = [Batch(batch.inputs[known], batch.targets[known])]
    distiller = Distiller(network, None, CrossEntropy(), example=batches[0])
    fit(distiller, batches, Training(steps=150, optimizer=Optimizer(kind="adam", lr=0.01)), progress=SilentProgress())
    folder = tmp_path_factory.mktemp("source")
    return save_artifact(folder, network, spec=spec, classes=CLASSES, inputs=batch.inputs[:1])


def recipe(text: str, source: Path, folder: Path):
    path = folder / "recipe.yaml"
    path.write_text((HEAD + text).replace("SOURCE", str(source)))
    return load_recipe(path)


def ran(text: str, source: Path, folder: Path) -> Path:
    run(recipe(text, source, folder), folder / "run", progress=SilentProgress())
    return folder / "run/stages"


def record(stage: Path) -> dict:
    return json.loads((stage / "seed-0/stage.json").read_text())


def test_the_source_goes_on_beside_itself_and_a_network_from_scratch(source, tmp_path) -> None:
    stages = ran(TRANSFER + EVALUATE, source, tmp_path)
    told = record(stages / "tuned")
    assert told["models"] == {"student": ".", "before": "before", "control": "control"}
    assert told["control_lacks"] == "the source's weights"
    assert "trained on from mlp 32-16" in told["description"]
    rows = json.loads((stages / "comparison/seed-0/evaluation.json").read_text())["rows"]
    figures = {row["name"]: row["metrics"]["accuracy"] for row in rows}
    assert list(figures) == ["tuned", "tuned before", "tuned control"]
    assert figures["tuned before"] > 0.6  # what it knows of ten digits, though it was shown five of them
    assert figures["tuned"] > figures["tuned control"]
    old, new = load_artifact(source), load_artifact(stages / "tuned/seed-0")
    assert (len(old.classes), len(new.classes)) == (5, 10)
    assert record(stages / "tuned")["training"]["samples"] == 50  # unlabelled ones are of no use here


def test_a_frozen_body_is_the_sources_in_every_bit(source, tmp_path) -> None:
    stages = ran(TRANSFER + "    tuning: {freeze: body}\n    control: false\n", source, tmp_path)
    assert record(stages / "tuned")["models"] == {"student": ".", "before": "before"}
    old, new = (load_artifact(place).module.state_dict() for place in (source, stages / "tuned/seed-0"))
    moved = {name for name in new if new[name].shape != old[name].shape or not torch.equal(new[name], old[name])}
    assert {name.rpartition(".")[2] for name in moved} == {"weight", "bias"}
    assert len(moved) == 2


@pytest.mark.parametrize("select", ["last", "best"])
def test_low_rank_factors_are_merged_before_the_model_is_kept(source, tmp_path, select) -> None:
    text = TRANSFER.replace("select: last", f"select: {select}, validate_every: 1")
    stages = ran(text + "    tuning: {lora: {rank: 2}}\n    control: false\n", source, tmp_path)
    old, new = (load_artifact(place).module.state_dict() for place in (source, stages / "tuned/seed-0"))
    assert list(new) == list(old)
    for layer in ("hidden1", "hidden2"):
        difference = new[f"{layer}.weight"] - old[f"{layer}.weight"]
        assert torch.linalg.matrix_rank(difference, rtol=1e-4) == 2
        assert torch.equal(new[f"{layer}.bias"], old[f"{layer}.bias"])


def test_features_are_held_near_the_sources(source, tmp_path) -> None:
    layer = next(
        name for name, each in load_artifact(source).module.named_modules() if getattr(each, "out_features", 0) == 16
    )
    away = []
    for weight, folder in ((0.0001, "loose"), (1000.0, "tight")):
        (tmp_path / folder).mkdir()
        hint = f"{{kind: hint, student_layer: '{layer}', teacher_layer: '{layer}', weight: {weight}}}"
        text = TRANSFER + f"    objective: [{{kind: cross_entropy}}, {hint}]\n    control: false\n"
        stages = ran(text, source, tmp_path / folder)
        assert record(stages / "tuned")["training"]["samples"] > 50  # without labels, features can still be held
        old, new = (load_artifact(place).module.state_dict() for place in (source, stages / "tuned/seed-0"))
        away.append(sum(float((new[name] - old[name]).square().sum()) for name in new if name.startswith("hidden")))
    assert away[1] < away[0]


def test_with_the_same_classes_the_head_stays_and_its_answers_can_be_asked_for(source, tmp_path) -> None:
    first = ran(TRANSFER + "    control: false\n", source, tmp_path)
    (tmp_path / "again").mkdir()
    objective = "    objective: [{kind: cross_entropy}, {kind: soft_targets}]\n    control: false\n"
    again = ran(TRANSFER + objective + EVALUATE, first / "tuned/seed-0", tmp_path / "again")
    kept, before = (
        load_artifact(place).module.state_dict() for place in (first / "tuned/seed-0", again / "tuned/seed-0/before")
    )
    assert all(torch.equal(kept[name], before[name]) for name in kept)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("    head: keep\n", "was made for 5 classes"),
        (
            "    objective: [{kind: cross_entropy}, {kind: soft_targets}]\n",
            "asks the source for its answers, and its head is new",
        ),
        ("    tuning: {freeze: [layr9]}\n", "'layr9' matches no parameter"),
        ("    tuning: {freeze: 9}\n", "has 3 units"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_trains(source, tmp_path, more, message) -> None:
    with pytest.raises(InputError, match=message):
        ran(TRANSFER + "    control: false\n" + more, source, tmp_path)


def test_a_check_finds_it_with_its_key(source, tmp_path) -> None:
    problems = joining_problems(recipe(TRANSFER + "    tuning: {freeze: [layr9]}\n", source, tmp_path))
    assert [(problem.path, "layr9" in problem.message) for problem in problems] == [(("stages", 0, "tuning"), True)]
    problems = joining_problems(recipe(TRANSFER + "    head: keep\n", source, tmp_path))
    assert problems[0].path == ("stages", 0, "model")


def test_another_source_at_the_same_place_is_noticed(source, tmp_path) -> None:
    place = tmp_path / "source"
    shutil.copytree(source, place)
    text = TRANSFER + "    control: false\n"
    stages = ran(text, place, tmp_path)
    first = load_artifact(stages / "tuned/seed-0").module.state_dict()
    loaded = load_artifact(place)
    for parameter in loaded.module.parameters():
        nn.init.constant_(parameter, 0.01)
    save_artifact(place, loaded.module, spec=loaded.spec, classes=loaded.classes, inputs=loaded.example())
    again = load_artifact(ran(text, place, tmp_path) / "tuned/seed-0").module.state_dict()
    assert any(not torch.equal(first[name], again[name]) for name in first)


def test_every_stage_with_a_saved_model_knows_its_weights(source, tmp_path) -> None:
    place = tmp_path / "source"
    shutil.copytree(source, place)
    model = ArtifactModel(path=str(place))
    training = Training(steps=1, optimizer=Optimizer(lr=0.1))
    stages = [
        Load(name="a", model=model),
        Train(name="b", model=model, training=training),
        Transfer(name="c", model=model, training=training),
        Distill(name="d", model=model, teacher="a", objective=(SoftTargets(),), training=training),
    ]
    sha256 = read_record(place).sha256
    assert [stage.outside for stage in stages] == [{str(place): sha256}] * 4
    (place / "model.json").unlink()
    assert [stage.outside for stage in stages] == [{str(place): None}] * 4
    own = BuiltinModel(name="mlp", arguments={"hidden": [4]})
    assert Train(name="e", model=own, training=training).outside == {}


def still(text: str) -> str:
    """A transfer stage whose training changes nothing, so that what it began with can be seen."""
    return TRANSFER.replace("kind: adam, lr: 1e-3", "kind: sgd, lr: 0.0") + text


def from_scratch(source: Path, *, seed: int) -> dict[str, torch.Tensor]:
    """The weights of the same network for ten classes, at random."""
    data, task = load_data(DataSpec(source="sklearn/digits"), task=Classification()), Classification()
    inputs = next(iter(Loader(data.train, batch_size=2, shuffle=False))).inputs
    model = ArtifactModel(path=str(source))
    known = source_network(model, classes=data.classes, inputs=inputs, task=task, head="new")
    torch.manual_seed(seed)
    return scratch_network(model, known, classes=data.classes, inputs=inputs).state_dict()


def test_only_the_first_units_keep_their_weights(source, tmp_path) -> None:
    stages = ran(still("    units: 1\n") + EVALUATE, source, tmp_path)
    told = record(stages / "tuned")
    assert told["models"] == {"student": ".", "control": "control"}  # of a source in part there is no before
    assert told["description"] == "1 of 2 units kept of mlp 32-16, the others begin at random"
    assert told["kept"]["of"] == ["hidden1", "hidden2"]
    assert (told["kept"]["units"], told["kept"]["frozen"], told["kept"]["source"]) == (1, 0, "mlp 32-16")
    old, new, control = (
        load_artifact(place).module.state_dict()
        for place in (source, stages / "tuned/seed-0", stages / "tuned/seed-0/control")
    )
    scratch = from_scratch(source, seed=0)
    for name in new:
        assert torch.equal(new[name], (old if name.startswith("hidden1") else scratch)[name]), name
        assert torch.equal(control[name], scratch[name]), name
    assert not torch.equal(old["hidden1.weight"], scratch["hidden1.weight"])


def test_stages_of_one_experiment_know_each_other_and_none_of_their_units_is_the_whole_control(
    source, tmp_path
) -> None:
    again = "    control: false\n"
    text = "".join(
        TRANSFER.replace("name: tuned", f"name: {name}") + f"    units: {units}\n    tuning: {{{tuning}}}\n{again}"
        for name, units, tuning in (
            ("scratch", 0, ""),
            ("frozen-2", 2, "freeze: 2"),
            ("some", 2, "freeze: 1"),
            ("patterns", 1, 'freeze: ["hidden1.*"]'),
            ("pulled", 2, "l2_sp: 0.1"),
        )
    )
    stages = ran(text.replace("steps: 20", "steps: 2"), source, tmp_path)
    told = {name: record(stages / name) for name in ("scratch", "frozen-2", "some", "patterns", "pulled")}
    kept = {name: (each["kept"]["units"], each["kept"]["frozen"]) for name, each in told.items()}
    assert kept == {"scratch": (0, 0), "frozen-2": (2, 2), "some": (2, 1), "patterns": (1, 1), "pulled": (2, 0)}
    experiments = [each["kept"]["experiment"] for each in told.values()]
    assert len(set(experiments[:4])) == 1
    assert experiments[4] != experiments[0]  # another training is another experiment
    assert told["scratch"]["models"] == {"model": "."}
    old, new = (load_artifact(place).module.state_dict() for place in (source, stages / "frozen-2/seed-0"))
    assert {name for name in new if new[name].shape == old[name].shape and torch.equal(new[name], old[name])} == {
        name for name in new if name.startswith("hidden")
    }


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("    units: 3\n", r"units is 3, and Sequential has 2 units in front of its head \('hidden1', 'hidden2'\)"),
        (
            "    units: 1\n    objective: [{kind: cross_entropy}, {kind: soft_targets}]\n    control: false\n",
            "asks the source for its answers, and its head is new",
        ),
    ],
)
def test_units_that_are_not_there_are_refused_before_anything_trains(source, tmp_path, more, message) -> None:
    with pytest.raises(InputError, match=message):
        ran(TRANSFER + more, source, tmp_path)
    assert not list(tmp_path.glob("run/**/*.safetensors"))


def test_a_check_finds_too_many_units_with_their_key(source, tmp_path) -> None:
    problems = joining_problems(recipe(TRANSFER + "    units: 3\n", source, tmp_path))
    assert [problem.path for problem in problems] == [("stages", 0, "units")]
    assert joining_problems(recipe(TRANSFER + "    units: 2\n", source, tmp_path)) == []


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ("    units: 1\n    head: keep\n", "head"),
        ("    units: 1\n    tuning: {freeze: 2}\n", "tuning.freeze"),
        ("    units: 1\n    tuning: {freeze: body}\n", "tuning.freeze"),
        ("    units: 1\n    tuning: {lora: {rank: 2}}\n", "tuning.lora"),
        ("    units: -1\n", "units"),
    ],
)
def test_what_makes_no_sense_with_units_is_refused_by_its_key(source, tmp_path, more, key) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(TRANSFER + more, source, tmp_path)
    assert [".".join(map(str, problem.path)) for problem in caught.value.problems] == [f"stages.0.{key}"]


STUDENT = """
  - kind: train
    name: teacher
    model: MODEL
    training: &training {steps: 60, batch_size: 100, optimizer: {kind: adam, lr: 5e-3}, execution: plain}
  - kind: distill
    name: student
    teacher: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [16, 8]}}
    start: {model: teacher}
    objective: [{kind: soft_targets}]
    training: {<<: *training, steps: 1, optimizer: {kind: sgd, lr: 0.0}}
"""


def test_a_narrower_student_and_its_control_begin_with_the_teachers_weights(source, tmp_path) -> None:
    stages = ran(STUDENT.replace("MODEL", MODEL), source, tmp_path)
    told = record(stages / "student")
    assert told["start"] == "teacher"
    assert told["transferred"]["share"] == 1.0
    teacher = load_artifact(stages / "teacher/seed-0").module.state_dict()
    for place in (".", "control"):
        student = load_artifact(stages / "student/seed-0" / place).module.state_dict()
        rows = {tuple(row.tolist()) for row in next(iter(teacher.values()))}
        assert all(tuple(row.tolist()) in rows for row in next(iter(student.values())))


def test_a_student_may_keep_its_teachers_stem_as_it_is(source, tmp_path) -> None:
    text = STUDENT.replace("MODEL", MODEL).replace("hidden: [16, 8]", "hidden: [32, 16]")
    text = text.replace("    start: {model: teacher}", "    start: teacher\n    tuning: {freeze: 1}")
    text = text.replace("[{kind: soft_targets}]", "[{kind: cross_entropy}, {kind: soft_targets}]")
    stages = ran(text.replace("lr: 0.0", "lr: 0.1"), source, tmp_path)
    teacher = load_artifact(stages / "teacher/seed-0").module.state_dict()
    for place in (".", "control"):
        student = load_artifact(stages / "student/seed-0" / place).module.state_dict()
        same = {name for name in teacher if torch.equal(student[name], teacher[name])}
        assert same == {"hidden1.weight", "hidden1.bias"}


def test_a_start_from_another_kind_of_network_is_found_by_the_check(source, tmp_path) -> None:
    text = STUDENT.replace("MODEL", "{source: understudy, name: resnet, arguments: {widths: [8]}}")
    problems = joining_problems(recipe(text, source, tmp_path))
    assert [problem.path for problem in problems] == [("stages", 1, "start")]
