"""The report as data: what ``report.json`` holds. ``docs/report.md`` explains every field."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from understudy.report.deployed import Deployment
from understudy.report.evidence import Confusion, Curve, Disagreement, Picture
from understudy.report.part import Part
from understudy.report.records import Role

Status = Literal["done", "partial", "running", "failed"]


class Summary(Part):
    """One number over the seeds."""

    mean: float
    """Mean over the seeds."""
    std: float | None
    """Sample standard deviation; null for one seed."""
    n: int
    """How many seeds gave a finite value."""
    values: list[float]
    """The value of each seed, in the order of `seeds`."""
    seeds: list[int]
    """The seeds."""


class Latency(Part):
    """Conditions and spread of a latency."""

    median_ms: float
    """Median time of one call in milliseconds; the median over the seeds."""
    p90_ms: float | None
    """The time that nine calls in ten stay below; the median over the seeds."""
    batch: int
    """Samples per call."""
    threads: int | None
    """CPU threads."""
    runtime: str | None
    """What ran the model."""


class Row(Part):
    """One model in one evaluation, over all seeds."""

    run: str
    """Name of the run."""
    evaluation: str
    """Name of the evaluate stage."""
    name: str
    """Name of the model."""
    role: Role
    """What the model is in this run."""
    stage: str | None
    """The stage that made it."""
    architecture: str | None
    """What it is built of."""
    precision: str | None = None
    """What it computes in where that is not float, and size and time are those of its files."""
    teacher: str | None
    """The model that a student learnt from."""
    control_of: str | None
    """The student that a control stands beside."""
    lacks: str | None = None
    """What a control does without; null where that is the teacher."""
    metrics: dict[str, Summary]
    """Quality of the selected weights (best on validation), by metric. Accuracies are fractions, 0 to 1."""
    last_metrics: dict[str, Summary]
    """Quality of the weights after the last step; empty when not measured."""
    params: int | None
    """Parameters."""
    macs: int | None
    """Multiply-accumulates for one sample."""
    bytes: int | None
    """Size on disk in bytes."""
    latency_ms: float | None
    """Median time of one call in milliseconds; the same as `latency.median_ms`."""
    latency: Latency | None
    """The latency with its conditions."""
    throughput: float | None
    """Samples per second, or of what is counted in their place, large batches."""
    counted: str = "samples"
    """What qualities and throughput are over, such as tokens."""
    peak_memory_bytes: int | None
    """Peak memory of inference in bytes."""


class Gain(Part):
    """What the teacher was worth: the student against its control."""

    of: str = "the teacher"
    """What the student had and the control lacked."""
    metric: str
    """The metric compared."""
    control: float
    """Mean of the control over the seeds compared."""
    student: float
    """Mean of the student over the seeds compared."""
    difference: float
    """Student minus control; above 0 the teacher helped."""
    ci95: tuple[float, float] | None
    """95 % t interval of the difference over the seeds; null for one seed."""
    seeds: list[int]
    """The seeds compared."""
    paired: bool
    """Whether student and control were compared seed by seed."""
    values: list[float]
    """The difference for each seed; empty when not paired."""
    shown: bool
    """Whether the interval lies wholly above 0."""


class TeacherQuality(Part):
    """How good the teacher is itself."""

    teacher: str
    """Name of the teacher."""
    metric: str
    """The metric."""
    mean: float
    """Mean over the seeds."""
    std: float | None
    """Sample standard deviation; null for one seed."""
    n: int
    """How many seeds."""
    above_control: float | None
    """By how much the teacher is better than the control; at or below 0 it has nothing to teach. Null without one."""


class Comparison(Part):
    """One student beside its teacher and its control."""

    run: str
    """Name of the run."""
    evaluation: str
    """Name of the evaluate stage."""
    student: str
    """Name of the student."""
    teacher: str | None
    """Name of the teacher; null when it was not evaluated."""
    control: str | None
    """Name of the control; null when none was evaluated."""
    headline: str
    """The result in one sentence."""
    smaller: float | None
    """Teacher's bytes over student's (parameters where bytes are unknown); below 1 the student is bigger."""
    fewer_macs: float | None
    """Teacher's multiply-accumulates over student's."""
    faster: float | None
    """Teacher's latency over student's; null when the two were measured under different conditions."""
    below_teacher: float | None
    """By how much the teacher is better in the headline metric; below 0 the student is better."""
    below_teacher_ci95: tuple[float, float] | None
    """95 % t interval of `below_teacher` over the seeds; null for one seed."""
    teacher_quality: TeacherQuality | None
    """How good the teacher is itself."""
    gain: Gain | None
    """What the teacher was worth; null without a control."""


class KeptUnits(Part):
    """What so many units of a source are worth to other data, frozen and tuned."""

    units: int
    """How many were kept, counted from the inputs; all behind them began at random."""
    name: str
    """The last of them."""
    frozen: Summary | None
    """The metric where they stayed as they are; null when that was not evaluated."""
    tuned: Summary | None
    """The metric where they were trained on; null when that was not evaluated."""
    cost: float | None
    """Tuned minus frozen; above 0 freezing them costs. Null unless both were evaluated."""
    cost_ci95: tuple[float, float] | None
    """95 % t interval of `cost` over the seeds; null for one seed."""


class LayerTransfer(Part):
    """Which layers of a source transfer: the same training with more and more of its units."""

    run: str
    """Name of the run."""
    evaluation: str
    """Name of the evaluate stage."""
    source: str
    """What the source is."""
    metric: str
    """The headline metric."""
    split: str
    """The split that the models were evaluated on."""
    units: list[str]
    """All units of the source in front of its head, from the inputs on."""
    headline: str
    """From where on freezing costs more than the seeds differ by, in one sentence."""
    scratch: Summary | None
    """The metric of the same network with no unit kept; null when it was not evaluated."""
    points: list[KeptUnits]
    """The trainings, by the number of units kept."""
    stages: list[str]
    """The stages that they are from."""


class Stage(Part):
    """One stage with one seed."""

    name: str
    """Name of the stage."""
    kind: str | None
    """Verb of the stage; null when it had not written it."""
    seed: int
    """The seed."""
    status: Literal["done", "running", "failed", "unknown"]
    """How far it came."""
    seconds: float | None
    """Wall time."""
    description: str | None
    """What it did, in words."""
    data: str | None
    """What data it saw and what of it was labelled, in words."""
    teacher: list[str]
    """The stages whose models it learnt from."""
    error: str | None
    """Why it failed."""


class Evaluation(Part):
    """One evaluate stage, over all seeds."""

    name: str
    """Name of the stage."""
    split: str
    """The split that the models were evaluated on."""
    samples: int
    """Samples in it, or what is counted in their place."""
    counted: str = "samples"
    """What qualities are over: samples, or such as tokens."""
    classes: list[str]
    """Names of the classes, in order."""
    metric: str
    """The headline metric."""
    seeds: list[int]
    """Seeds that have been evaluated."""


class Run(Part):
    """One run directory."""

    name: str
    """The recipe's name, or that of the directory."""
    status: Status
    """`partial`: something that the recipe asks for is missing."""
    seconds: float | None
    """Wall time of all stages together."""
    seeds: list[int]
    """All seeds seen."""
    stages: list[Stage]
    """Every stage and seed found."""
    evaluations: list[Evaluation]
    """Every evaluate stage with results."""
    recipe: str | None
    """The recipe's text."""
    environment: dict[str, Any] | None
    """`environment.json`: versions, machine, start."""
    directory: Path | None = Field(default=None, exclude=True)
    """Where the run lies; not in the JSON."""


class Note(Part):
    """Something that a reader must know before believing the numbers."""

    level: Literal["warning", "info"]
    """`warning`: the result is incomplete or not what one hoped for."""
    run: str | None
    """Name of the run; null when it concerns them all."""
    text: str
    """What it is."""


class Report(Part):
    """Everything that a report shows."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    """Version of this schema."""
    understudy: str
    """Version of Understudy that made the report."""
    title: str
    """Names of the runs."""
    headline: str
    """The result in words."""
    gain: Gain | None
    """The gain of the first comparison."""
    teacher_quality: TeacherQuality | None
    """The teacher's quality in the first comparison."""
    notes: list[Note]
    """What is missing, and what did not go as hoped."""
    rows: list[Row]
    """Every model, run by run."""
    comparisons: list[Comparison]
    """Every student beside its teacher and its control."""
    runs: list[Run]
    """The runs."""
    curves: list[Curve]
    """The trainings."""
    confusions: list[Confusion]
    """Who takes what for what."""
    disagreements: list[Disagreement]
    """Samples that teacher and student see differently, at most 24 for each run."""
    deployments: list[Deployment] = Field(default_factory=list)
    """Exported files where they are to run, and the one that was chosen."""
    pictures: list[Picture] = Field(default_factory=list)
    """What stages have to show, of their first seed."""
    layers: list[LayerTransfer] = Field(default_factory=list)
    """Which layers of a source transfer, where only some were kept."""

    def to_json(self) -> str:
        """The report as JSON, as ``report.json`` holds it."""
        return self.model_dump_json(by_alias=True, indent=2)
