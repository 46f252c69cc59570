"""One row of leaderboard.py in a process of its own: is told its work as JSON, prints accuracies, time and memory."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from resident import resident_peak
from torch import nn

import understudy as us
from understudy.engine.progress import SilentProgress
from understudy.measure.quality import predict, quality
from understudy.methods import AnyMethod
from understudy.pipeline.stages.distill import same_budget
from understudy.sources.data import DataSet, DataSpec, load_data
from understudy.sources.model_specs import BuiltinModel
from understudy.sources.models import build_model
from understudy.sources.splits import Split, Subset

TASK = us.ImageClassification()


@dataclass(frozen=True)
class Setting:
    """What all rows of one table have in common."""

    data: str
    labels: int | None
    teacher: tuple[int, ...]
    student: tuple[int, ...]
    teacher_epochs: float
    steps: int
    batch: int
    lr: float


def network(widths: tuple[int, ...], data: DataSet, seed: int) -> nn.Module:
    """A plain convolutional network."""
    torch.manual_seed(seed)
    spec = BuiltinModel(name="cnn", arguments={"widths": list(widths)})
    example = us.Loader(data.train, batch_size=2, shuffle=False)
    return build_model(spec, classes=data.classes, inputs=next(iter(example)).inputs)


def training(setting: Setting, **length: Any) -> us.Training:
    """The same for every row."""
    optimizer = us.Optimizer(kind="adamw", lr=setting.lr, weight_decay=0.01)
    return us.Training(
        batch_size=setting.batch,
        optimizer=optimizer,
        schedule=us.Cosine(),
        warmup=0.05,
        execution="plain",
        select="last",
        **length,
    )


def accuracy(model: nn.Module, data: DataSet) -> float:
    """On the test images."""
    test = us.Loader(data.test, batch_size=1000, shuffle=False)
    return quality(predict(model, test, TASK), TASK)["accuracy"]


def train_teacher(setting: Setting, data: DataSet, target: Path) -> float:
    """Train on all labels, keep the weights, and give the accuracy."""
    teacher = network(setting.teacher, data, seed=100)
    loader = us.Loader(data.train, batch_size=setting.batch, seed=100)
    distiller = us.Distiller(teacher, None, us.CrossEntropy(), example=next(iter(loader)), task=TASK)
    us.fit(distiller, loader, training(setting, epochs=setting.teacher_epochs), progress=SilentProgress())
    torch.save(teacher.state_dict(), target)
    return accuracy(teacher, data)


def with_a_third_labelled(split: Split) -> Split:
    """The split with its labelled images repeated: few labels would leave one or none in a batch.

    With a mean over one image the cross-entropy is so noisy that it hides what the methods do.
    """
    labelled = (split.targets != us.IGNORE_INDEX).nonzero().flatten()
    unlabelled = len(split) - len(labelled)
    repeats = max(round(unlabelled / 2 / len(labelled)), 1)
    return split.select(torch.cat([torch.arange(len(split)), labelled.repeat(repeats - 1)]))


def train_student(setting: Setting, data: DataSet, teacher: nn.Module | None, method: Any, seed: int) -> dict[str, Any]:
    """One student with cross-entropy and, if given, one method; ``control`` trains on the labelled images alone."""
    whole = with_a_third_labelled(data.train.subset(Subset(labels=setting.labels), seed))
    plan, split = training(setting, steps=setting.steps), whole
    if method == "control":
        split = whole.select((whole.targets != us.IGNORE_INDEX).nonzero().flatten())
        plan = same_budget(plan, student=whole, control=split)
    terms = us.Objective.of(us.CrossEntropy())
    if isinstance(method, us.Method):
        terms = terms + method
    student = network(setting.student, data, seed)
    loader = us.Loader(split, batch_size=setting.batch, seed=seed)
    needs = teacher if isinstance(method, us.Method) else None
    distiller = us.Distiller(student, needs, terms, example=next(iter(loader)), task=TASK)
    fitted = us.fit(distiller, loader, plan, seed=seed, progress=SilentProgress())
    return {"accuracy": accuracy(student, data), "seconds_per_step": fitted.seconds / fitted.steps}


def main(work: dict[str, Any]) -> dict[str, Any]:
    """One row: all seeds, the fastest of their times, the most memory."""
    setting = Setting(**{**work["setting"], **{k: tuple(work["setting"][k]) for k in ("teacher", "student")}})
    data = load_data(DataSpec(source=setting.data), task=TASK)
    if work["method"] == "teacher":
        return {"accuracies": [train_teacher(setting, data, Path(work["teacher"]))]}
    teacher = network(setting.teacher, data, seed=100)
    teacher.load_state_dict(torch.load(work["teacher"], weights_only=True))
    named = work["method"] in ("control", "no distillation")
    method = work["method"] if named else TypeAdapter(AnyMethod).validate_python(work["method"])
    done = [train_student(setting, data, teacher, method, seed) for seed in work["seeds"]]
    return {
        "accuracies": [one["accuracy"] for one in done],
        "seconds_per_step": min(one["seconds_per_step"] for one in done),
        "peak_bytes": resident_peak(),
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
