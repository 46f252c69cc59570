"""What stands behind the numbers, as data: trainings, mistakes, samples."""

from __future__ import annotations

from pydantic import Field

from understudy.report.part import Part
from understudy.report.records import Role


class CurvePoint(Part):
    """One validation."""

    step: int | None
    """Optimizer steps done."""
    epoch: float
    """Epochs done (steps where epochs are unknown)."""
    loss: float | None
    """Training loss since the last validation."""
    terms: dict[str, float]
    """Unweighted terms of the loss."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Factors of the terms at this moment, by schedule and balance; empty for runs that did not record them."""
    validation: dict[str, float]
    """Quality on the validation split."""


class Curve(Part):
    """The training of one model with one seed; at most 200 points, evenly thinned."""

    run: str
    """Name of the run."""
    stage: str
    """Name of the stage."""
    control: bool
    """Whether this is the stage's control."""
    role: Role
    """What the trained model is in this run."""
    seed: int
    """The seed."""
    points: list[CurvePoint]
    """The validations."""


class ConfusedPair(Part):
    """One kind of mistake."""

    label: str
    """What it is."""
    predicted: str
    """What the model says."""
    count: int
    """How often, over all seeds."""


class Confusion(Part):
    """What one model takes for what, summed over the seeds."""

    run: str
    """Name of the run."""
    evaluation: str
    """Name of the evaluate stage."""
    name: str
    """Name of the model."""
    role: Role
    """What it is in this run."""
    classes: list[str]
    """Names of the classes, in order."""
    seeds: list[int]
    """The seeds summed."""
    counts: list[list[int]] | None
    """Samples by label (row) and prediction (column); null beyond 50 classes."""
    pairs: list[ConfusedPair]
    """The most frequent mistakes, at most 20."""


class Picture(Part):
    """What a stage has to show, such as images that it generated."""

    run: str
    """Name of the run."""
    stage: str
    """Name of the stage."""
    seed: int
    """The seed."""
    title: str
    """What it shows."""
    image: str
    """Path of the picture, relative to the run directory."""


class Guess(Part):
    """What one model says about one sample."""

    name: str
    """Name of the model."""
    label: str
    """The class that it names."""
    probability: float | None
    """Its probability for that class."""


class Disagreement(Part):
    """One sample that teacher and student see differently."""

    run: str
    """Name of the run."""
    evaluation: str
    """Name of the evaluate stage."""
    seed: int
    """The seed."""
    id: int | str
    """Stable id of the sample."""
    image: str | None
    """Path of its picture, relative to the run directory."""
    label: str | None
    """What it is."""
    teacher: Guess
    """What the teacher says."""
    student: Guess
    """What the student says."""
