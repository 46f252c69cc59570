"""Mixed samples from the loader to the loss: what student, teacher, methods, doctor and recipe make of them."""

import json
import os
import subprocess
import sys

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import understudy as us
from understudy import IGNORE_INDEX, Batch, CrossEntropy, Distiller, InputError, Knowledge, SoftTargets, Views
from understudy.doctor import diagnose
from understudy.engine.training import Optimizer, Training
from understudy.functional import cross_entropy_loss, mixed_cross_entropy_loss
from understudy.knowledge import Shapes
from understudy.methods import METHODS
from understudy.recipe import RecipeError, parse_recipe
from understudy.sources.loader import Loader
from understudy.sources.splits import Split

MIXUP, CUTMIX = Views(mixup=1.0), Views(cutmix=1.0)
TASK = us.ImageClassification()


def digits(count: int = 640, *, labels: int | None = None) -> Split:
    images, targets = load_digits(return_X_y=True)
    inputs = (torch.tensor(images[:count]) * 15).to(torch.uint8).reshape(-1, 1, 8, 8)
    targets = torch.tensor(targets[:count])
    if labels is not None:
        targets[labels:] = IGNORE_INDEX
    return Split(inputs, targets, torch.arange(count), tuple("0123456789"), "train")


def mlp(width: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def seen_by(module: nn.Module) -> list[torch.Tensor]:
    seen = []
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    return seen


@pytest.mark.parametrize("views", [MIXUP, CUTMIX])
def test_teacher_and_student_see_the_same_mixed_images(views):
    split = digits(96)
    student, teacher = mlp(8), mlp(32, seed=1)
    loader, plain = Loader(split, batch_size=32, views=views), Loader(split, batch_size=32)
    distiller = Distiller(student, teacher, SoftTargets(temperature=2.0), example=next(iter(loader)), task=TASK)
    by_student, by_teacher = seen_by(student), seen_by(teacher)
    for batch, pure in zip(loader, plain, strict=True):
        assert torch.equal(batch.ids, pure.ids)
        assert not torch.allclose(batch.inputs, pure.inputs, atol=0.1)
        step = distiller(batch)
        assert torch.equal(by_student.pop(), batch.inputs)
        assert torch.equal(by_teacher.pop(), batch.inputs)
        answers = teacher(batch.inputs)
        torch.testing.assert_close(step.teacher.logits, answers)
        assert not torch.allclose(answers, teacher(pure.inputs), atol=1e-3)
        expected = us.functional.soft_target_loss(step.student.logits, answers, temperature=2.0)
        torch.testing.assert_close(step.loss, expected)


def test_halves_of_a_batch_train_as_the_whole():
    """Few labels, spread unevenly over the micro-batches: their mean has to be that of the whole."""
    weights = []
    for size, accumulate in ((64, 1), (32, 2), (16, 4)):
        loader = Loader(digits(256, labels=60), batch_size=size, views=MIXUP)
        student = mlp(8)
        distiller = Distiller(
            student,
            mlp(32, seed=1),
            CrossEntropy() + SoftTargets() + SoftTargets(rows="labelled", name="some"),
            example=next(iter(loader)),
            task=TASK,
        )
        us.fit(distiller, loader, Training(epochs=2, accumulate=accumulate, optimizer=Optimizer(kind="sgd", lr=0.5)))
        weights.append(torch.cat([parameter.detach().flatten() for parameter in student.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weights[2], weights[0], rtol=1e-4, atol=1e-6)


def test_metrics_count_no_mixed_sample_as_labelled():
    batch = next(iter(Loader(digits(), batch_size=64, views=MIXUP)))
    logits, targets = TASK.flat(Knowledge(logits=torch.randn(64, 10)), batch)
    assert len(logits) == len(targets) == 0


def constructible():
    for method in METHODS:
        try:
            term = method()
        except ValueError:
            continue  # its layers have no defaults
        if "classes" in term.answers and not (term.wants_pairs or term.student_taps or term.teacher_taps):
            yield term


@pytest.mark.parametrize("term", list(constructible()), ids=lambda term: term.kind)
def test_terms_that_are_about_the_true_class_say_so(term):
    """One that learns nothing without labels would be silent for mixed samples; only the cross-entropy reads both."""
    torch.manual_seed(0)
    student, teacher = (Knowledge(logits=3.0 * torch.randn(16, 10)) for _ in range(2))
    unlabelled = Batch(inputs=torch.zeros(16, 1), targets=torch.full((16,), IGNORE_INDEX))
    loss = term.build(Shapes.of(student, teacher))(student, teacher, unlabelled)
    assert term.needs_one_label == (loss.item() == 0.0 and term.kind != "cross_entropy")


@pytest.mark.parametrize("term", [term for term in constructible() if term.needs_one_label], ids=lambda term: term.kind)
def test_terms_about_the_true_class_are_refused_before_anything_is_trained(term):
    example = next(iter(Loader(digits(), batch_size=32, views=MIXUP)))
    arguments = (mlp(8), mlp(8, seed=1), CrossEntropy() + term)
    with pytest.raises(InputError, match=f"{term.kind} needs the one true class of each sample.*leave the mixing out"):
        Distiller(*arguments, example=example, task=TASK)
    Distiller(*arguments, example=next(iter(Loader(digits(), batch_size=32))), task=TASK)


def trained(split: Split) -> nn.Module:
    teacher = mlp(64, seed=1)
    loader = Loader(split, batch_size=64)
    distiller = Distiller(teacher, None, CrossEntropy(), example=next(iter(loader)), task=TASK)
    us.fit(distiller, loader, Training(epochs=15, optimizer=Optimizer(kind="adam", lr=5e-3)))
    return teacher


def test_the_doctor_finds_nothing_wrong_with_mixing():
    split = digits(1280)
    train, val = Loader(split, batch_size=128, views=MIXUP), Loader(split, batch_size=256, shuffle=False)
    objective = 0.1 * CrossEntropy() + 0.9 * SoftTargets(temperature=4.0)
    distiller = Distiller(mlp(16), trained(split), objective, example=next(iter(train)), task=TASK)
    assert diagnose(distiller, train, val=val) == []
    alone = Distiller(mlp(16), None, CrossEntropy(), example=next(iter(train)), task=TASK)
    assert diagnose(alone, train, val=val) == []


def test_the_doctor_finds_a_wrong_label_of_either_sample():
    split = digits(128)
    split.targets[17] = 10
    train = Loader(split, batch_size=64, views=MIXUP)
    distiller = Distiller(mlp(16), None, CrossEntropy(), example=next(iter(train)), task=TASK)
    findings = [finding for finding in diagnose(distiller, train) if finding.check == "labels"]
    assert len(findings) == 1
    assert "10 in batch" in findings[0].seen


def test_mixing_by_the_first_alone_is_the_ordinary_loss():
    torch.manual_seed(0)
    logits, pairs = torch.randn(6, 4), torch.randint(4, (6, 2))
    for share, column in ((1.0, 0), (0.0, 1)):
        mixed = mixed_cross_entropy_loss(logits, pairs, shares=torch.full((6,), share), label_smoothing=0.2)
        torch.testing.assert_close(mixed, cross_entropy_loss(logits, pairs[:, column], label_smoothing=0.2))
    twice = pairs[:, :1].expand(6, 2)
    torch.testing.assert_close(
        mixed_cross_entropy_loss(logits, twice, shares=torch.rand(6)), cross_entropy_loss(logits, pairs[:, 0])
    )


RECIPE = """\
version: 1
name: small
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [64]}}
    views: {shift: 1, mixup: 1.0}
    training: {epochs: 12, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}}
  - kind: distill
    name: student
    teacher: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [16]}}
    subset: {labels: 200}
    views: {cutmix: 1.0}
    objective:
      - {kind: cross_entropy, weight: 0.1}
      - {kind: soft_targets, temperature: 1.0, weight: 0.9}
    training: {epochs: 12, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}}
"""


def test_a_recipe_is_refused_where_its_terms_cannot_learn_from_mixes():
    stages = parse_recipe(RECIPE).stages
    assert stages[0].views == Views(shift=1, mixup=1.0)
    text = RECIPE.replace("{kind: soft_targets, temperature: 1.0, weight: 0.9}", "{kind: decoupled}")
    with pytest.raises(RecipeError, match=r"stages\.1\.objective\.1: decoupled needs the one true class"):
        parse_recipe(text, name="r.yaml")
    parse_recipe(text.replace("cutmix: 1.0", "shift: 1"))
    with pytest.raises(RecipeError, match="mixup"):
        parse_recipe(RECIPE.replace("mixup: 1.0", "mixup: -1.0"))


@pytest.mark.e2e
def test_a_recipe_trains_teacher_student_and_control_on_mixed_views(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    done = subprocess.run(
        [sys.executable, "-m", "understudy", "run", str(path), "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    histories = sorted((tmp_path / "run").rglob("metrics.jsonl"))
    assert len(histories) == 3
    for history in histories:
        last = json.loads(history.read_text().splitlines()[-1])
        assert last["terms"]["cross_entropy"] > 0.0
        assert last["val"]["accuracy"] > 0.3
