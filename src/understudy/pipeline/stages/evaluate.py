"""Measure the models of earlier stages on data that nothing was trained or selected on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, final

from understudy.measure import Answered, Tally, compare_latency, cost, judge, peak_memory, throughput
from understudy.measure.candidates import SIMULATED, is_simulated
from understudy.pipeline.directory import write_json
from understudy.pipeline.stage import Context, Name, Stage
from understudy.pipeline.students import load_model
from understudy.pipeline.training import evaluation_loader
from understudy.sources.loader import Loader
from understudy.sources.model_specs import ArtifactModel
from understudy.sources.models import describe
from understudy.sources.splits import Split

EXAMPLES = 12
"""Disagreements that are kept with their pictures."""
MOST_CLASSES = 2_000
"""Of how many classes it is told which is taken for which: the table grows with their square."""
SECONDS = 0.5
"""How long each model is timed."""


@final
class Evaluate(Stage):
    """Quality, size, cost and speed of every model, its agreement with the teacher, and where they differ.

    Size and speed of an int8 model are those of its file (stages `export` and `deploy`): in PyTorch it is float.
    """

    kind: Literal["evaluate"] = "evaluate"
    models: tuple[Name, ...]
    """The stages whose models are measured, controls included."""
    split: Literal["test", "validation"] = "test"
    """What they are measured on."""
    latency: bool = True
    """Time single calls and full batches."""
    memory: bool = True
    """Measure the peak memory of loading and running each model, in a process of its own (some seconds)."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages whose models are measured."""
        return self.models

    def run(self, context: Context) -> dict[str, Any]:
        """Leave ``evaluation.json`` and the images of some disagreements."""
        context.progress.stage(self.name, f"measuring on the {self.split} split, seed {context.seed}")
        loader = evaluation_loader(context, self.split)
        measured = {
            name: _Measured(context, stage, name, role, place, loader, memory=self.memory and context.first)
            for stage, name, role, place in _models(context, self.models)
        }
        # Where nobody knows the true answers, those of the teacher are the measure, its own too.
        alone = {} if context.task.labelled else {name: name for name, each in measured.items() if each.teaches}
        taught = {name: teacher for name, model in measured.items() if (teacher := model.teacher_among(measured))}
        networks = {name: model.module for name, model in measured.items()}
        judged = judge(networks, loader, context.task, teachers=alone | taught, device=context.process.device)
        for name, tally in judged.items():
            measured[name].take(tally)
        if self.latency:
            per_sample = len(next(iter(measured.values())).answers.targets) / len(loader.split)
            _time(measured, next(iter(loader)).to(context.process.device).inputs, per_sample=per_sample)
        if context.process.is_main:
            write_json(context.directory.path / "evaluation.json", self._evaluation(context, list(measured.values())))
        context.process.wait()
        return {"data": f"measured on the {len(loader.split):,} samples of the {self.split} split"}

    def _evaluation(self, context: Context, measured: list[_Measured]) -> dict[str, Any]:
        classes = context.task.choices(context.data.classes)
        few = len(classes) <= MOST_CLASSES
        return {
            "schema": 1,
            "split": self.split,
            "samples": len(measured[0].answers.targets),
            "counted": context.task.counted,
            "classes": list(classes) if few else [],
            "metric": context.task.metric,
            "rows": [model.row for model in measured],
            "confusion": _confusions(measured, len(classes)) if few else {},
            "disagreements": _disagreements(context, measured, getattr(context.data, self.split)),
        }


class _Measured:
    """One model with its answers and its row of the table."""

    answers: Answered

    def __init__(
        self, context: Context, stage: str, name: str, role: str, place: str, loader: Loader, *, memory: bool
    ) -> None:
        directory = context.upstream[stage].path / place
        self.name, self._task = name, context.task
        self.module = load_model(directory, context)
        inputs = next(iter(loader)).to(context.process.device).inputs
        costs = cost(self.module, context.task.example(inputs, 1))
        self.simulated = is_simulated(directory)
        self.row: dict[str, Any] = {
            "name": name,
            "role": role,
            "stage": stage,
            "seed": context.upstream[stage].record.get("seed"),
            "architecture": describe(ArtifactModel(path=str(directory)), self.module),
            "metrics": {},
            "last_metrics": _last_quality(directory, loader, context),
            "params": costs.parameters,
            "macs": costs.macs,
            **({"precision": SIMULATED} if self.simulated else {"bytes": costs.size_bytes}),
        }
        if memory and not self.simulated:
            self.row["peak_memory_bytes"] = peak_memory(directory, device=context.process.device.type)
        teachers = context.upstream[stage].record.get("teacher", [])
        if role == "control":
            self.row["control_of"] = stage
            self.row["lacks"] = context.upstream[stage].record.get("control_lacks")
        elif role == "student" and teachers:
            self.row["teacher"] = teachers[0]

    @property
    def teaches(self) -> bool:
        """Whether it is a teacher of others."""
        return self.row["role"] == "teacher"

    def teacher_among(self, models: Mapping[str, _Measured]) -> str | None:
        """The name of the teacher whose answers its own are compared with, where it was measured too."""
        student = models.get(self.row.get("control_of", self.name))
        teacher = None if student is None else student.row.get("teacher")
        return teacher if teacher in models else None

    def take(self, tally: Tally) -> None:
        """Keep what was seen of its answers."""
        self.answers = tally.answers()
        known = tally.quality() if tally.labelled or self._task.labelled else {}
        self.row["metrics"] = known | tally.agreement()


def _models(context: Context, stages: tuple[str, ...]) -> list[tuple[str, str, str, str]]:
    """(stage, row name, role, place in the stage's directory) of every model in the stages."""
    records = {stage: context.upstream[stage].record for stage in stages}
    teaching = {teacher for record in records.values() for teacher in record.get("teacher", [])}
    found = []
    for stage, record in records.items():
        for kind, place in record.get("models", {}).items():
            role = "teacher" if kind == "model" and stage in teaching else kind
            named = f"{stage} {kind}" if place != "." else stage
            found.append((stage, named, role if role in ("teacher", "student", "control") else "model", place))
    return found


def _confusions(measured: list[_Measured], classes: int) -> dict[str, list[list[int]]]:
    tables = {model.name: model.answers.confusion(classes) for model in measured}
    return {name: table for name, table in tables.items() if table is not None}


def _last_quality(directory: Path, loader: Loader, context: Context) -> dict[str, float] | None:
    """Quality of the last weights of the training, where they are not the ones that were selected."""
    if not (directory / "last.json").is_file() or not context.task.labelled:
        return None
    last = {"last": load_model(directory, context, name="last")}
    return judge(last, loader, context.task, device=context.process.device)["last"].quality()


def _time(measured: Mapping[str, _Measured], inputs: Any, *, per_sample: float) -> None:
    """Add the time of single calls, taken in turns, and the throughput in batches, of what is counted."""
    modules = [(name, model.module) for name, model in measured.items() if not model.simulated]
    timed = compare_latency(modules, inputs, seconds=SECONDS) if modules else {}
    for name, latency in timed.items():
        measured[name].row["latency_ms"] = {
            "median": latency.median_ms,
            "p90": latency.p90_ms,
            "p99": latency.p99_ms,
            "batch": latency.batch,
            "threads": latency.threads,
            "runtime": latency.runtime,
        }
        samples = throughput(measured[name].module, inputs, seconds=SECONDS)
        measured[name].row["throughput"] = per_sample * samples


def _disagreements(context: Context, measured: list[_Measured], split: Split) -> list[dict[str, Any]]:
    """Samples that the first student and its teacher see differently, the surest teacher answers first."""
    names = {model.name: model for model in measured}
    pairs = [(names[model.row["teacher"]], model) for model in measured if model.row.get("teacher") in names]
    if not pairs or context.task.counted != "samples":
        return []
    teacher, student = pairs[0]
    differ = teacher.answers.differing(student.answers)[:EXAMPLES]
    return [_example(context, split, teacher, student, int(index)) for index in differ]


def _example(context: Context, split: Split, teacher: _Measured, student: _Measured, index: int) -> dict[str, Any]:
    assert teacher.answers.ids is not None  # our loader gives ids
    identity = int(teacher.answers.ids[index])
    image = split.preview(identity)
    path = f"examples/{identity}.png"
    if image is not None and context.process.is_main:
        (context.directory.path / "examples").mkdir(parents=True, exist_ok=True)
        image.save(context.directory.path / path)
    names = context.data.classes
    return {
        "id": identity,
        "image": path if image is not None else None,
        "label": teacher.answers.label(index, names),
        "teacher": {"name": teacher.name, **teacher.answers.told(index, names)},
        "student": {"name": student.name, **student.answers.told(index, names)},
    }
