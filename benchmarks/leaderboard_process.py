"""One row of leaderboard.py in a process of its own: is told its work as JSON, prints accuracies, time and memory."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from resident import resident_peak
from torch import nn

import understudy as us
from understudy.doctor import term_balance
from understudy.engine.progress import SilentProgress
from understudy.measure.quality import predict, quality
from understudy.methods import METHODS
from understudy.pipeline.control import same_budget
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


def student_split(setting: Setting, data: DataSet, name: str, seed: int) -> tuple[Split, us.Training]:
    """What a student sees, and how it is trained; the control only sees the labelled images, for as many steps."""
    whole = with_a_third_labelled(data.train.subset(Subset(labels=setting.labels), seed))
    plan = training(setting, steps=setting.steps)
    if name != "control":
        return whole, plan
    labelled = whole.select((whole.targets != us.IGNORE_INDEX).nonzero().flatten())
    return labelled, same_budget(plan, student=whole, control=labelled)


def joined(
    setting: Setting, data: DataSet, teacher: nn.Module, method: us.Method | None, loader: us.Loader, seed: int
) -> us.Distiller:
    """A fresh student with cross-entropy and, if given, a method."""
    student = network(setting.student, data, seed)
    terms = us.CrossEntropy() if method is None else us.CrossEntropy() + method
    asked = teacher if method is not None and method.needs_teacher else None
    return us.Distiller(student, asked, terms, example=next(iter(loader)), task=TASK)


def balanced(setting: Setting, data: DataSet, teacher: nn.Module, method: us.Method) -> us.Method:
    """The method with the weight at which its gradient is as long as that of cross-entropy, early in a training."""
    split, _ = student_split(setting, data, method.kind, seed=0)
    loader = us.Loader(split, batch_size=setting.batch, seed=0)
    begun = joined(setting, data, teacher, None, loader, seed=0)
    us.fit(begun, loader, training(setting, steps=max(setting.steps // 6, 1)), progress=SilentProgress())
    distiller = joined(setting, data, teacher, method, loader, seed=0)
    distiller.student.load_state_dict(begun.student.state_dict())
    norms = [term_balance(distiller, batch) for batch, _ in zip(loader, range(4), strict=False)]
    of_method, of_labels = (statistics.fmean(norm[label] for norm in norms) for label in (method.kind, "cross_entropy"))
    return method if of_method == 0.0 else float(f"{of_labels / of_method:.2g}") * method


def step_ratio(setting: Setting, data: DataSet, teacher: nn.Module, method: us.Method) -> float:
    """How long a step with the method takes, over one with cross-entropy alone: both in turns, the median."""
    split, plan = student_split(setting, data, method.kind, seed=0)
    batches = [batch for batch, _ in zip(us.Loader(split, batch_size=setting.batch), range(5), strict=False)]
    steps = [
        stepper(joined(setting, data, teacher, term, us.Loader(split, batch_size=setting.batch), seed=0), plan)
        for term in (method, None)
    ]
    ratios = []
    for number in range(6):
        mine, plain = (timed(step, batches) for step in (steps if number % 2 else steps[::-1]))
        if number:  # the first round warms up
            ratios.append(mine / plain if number % 2 else plain / mine)
    return statistics.median(ratios)


def stepper(distiller: us.Distiller, plan: us.Training) -> Callable[[us.Batch], None]:
    """One training step, written plainly."""
    optimizer = torch.optim.AdamW(distiller.parameters(), lr=plan.optimizer.lr)
    distiller.train()

    def step(batch: us.Batch) -> None:
        distiller(batch, progress=0.5).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def timed(step: Callable[[us.Batch], None], batches: list[us.Batch]) -> float:
    """Seconds for all batches."""
    begun = time.perf_counter()
    for batch in batches:
        step(batch)
    return time.perf_counter() - begun


def main(work: dict[str, Any]) -> dict[str, Any]:
    """One row: the accuracy of all seeds, the time of a step, the most memory."""
    setting = Setting(**{**work["setting"], **{k: tuple(work["setting"][k]) for k in ("teacher", "student")}})
    data, name = load_data(DataSpec(source=setting.data), task=TASK), work["name"]
    if name == "teacher":
        return {"name": name, "accuracies": [train_teacher(setting, data, Path(work["teacher"]))]}
    teacher = network(setting.teacher, data, seed=100)
    teacher.load_state_dict(torch.load(work["teacher"], weights_only=True))
    method = next((one() for one in METHODS if one.model_fields["kind"].default == name), None)
    row: dict[str, Any] = {"name": name}
    if method is not None:
        try:
            stated = work["weights"].get(name, 1.0) * method
            method = stated if method.compares_logits else balanced(setting, data, teacher, method)
        except us.InputError as error:
            return {**row, "refused": str(error)}
        row["weight"] = method.weight
    accuracies = []
    for seed in work["seeds"]:
        split, plan = student_split(setting, data, name, seed)
        loader = us.Loader(split, batch_size=setting.batch, seed=seed)
        distiller = joined(setting, data, teacher, method, loader, seed)
        us.fit(distiller, loader, plan, seed=seed, progress=SilentProgress())
        accuracies.append(accuracy(distiller.student, data))
    peak = resident_peak()
    ratio = step_ratio(setting, data, teacher, method) if method is not None else 1.0
    return {**row, "accuracies": accuracies, "step_ratio": ratio, "peak_bytes": peak}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
