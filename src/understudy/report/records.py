"""What the files of a run directory hold, as far as a report needs it.

Unknown fields are ignored, so that a stage may write more than a report reads; what a report reads is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Role = Literal["teacher", "student", "control", "model"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


def _as_list(value: object) -> object:
    """One name as a list of one, none as an empty list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


class RecordingFile(_Record):
    """What a `record` stage has kept of a teacher's answers."""

    path: str
    samples: int
    views: int
    """How many augmented ones of each training sample; 0: as they are."""
    bytes: int
    keep: dict[str, Any]


class KeptFile(_Record):
    """What a `transfer` stage has kept of its source, where that is not all."""

    units: int
    frozen: int
    """How many of them, from the inputs on, were not trained."""
    of: list[str]
    """All units in front of the head."""
    source: str
    experiment: str
    """Equal for stages that differ in nothing but what they keep and freeze."""


class StageFile(_Record):
    """``stage.json``: one stage with one seed."""

    schema_version: Literal[1] = Field(alias="schema")
    kind: str
    name: str
    seed: int
    status: Literal["done", "running", "failed"]
    seconds: float | None = None
    started: str | float | None = None
    description: str | None = None
    data: str | None = None
    teacher: Annotated[list[str], BeforeValidator(_as_list)] = []
    pictures: dict[str, str] = {}
    recording: RecordingFile | None = None
    kept: KeptFile | None = None
    error: str | None = None


class LatencyFile(_Record):
    """How long one call of a model took, and under which conditions."""

    median: float
    p90: float | None = None
    batch: int = 1
    threads: int | None = None
    runtime: str | None = None


class RowFile(_Record):
    """One evaluated model in ``evaluation.json``."""

    name: str
    role: Role
    stage: str | None = None
    seed: int | None = None
    """The seed that its stage ran with: one of its own where the stage runs once for all seeds of the recipe."""
    architecture: str | None = None
    precision: str | None = None
    metrics: dict[str, float | None]
    last_metrics: dict[str, float | None] | None = None
    params: int | None = None
    macs: int | None = None
    bytes: int | None = None
    latency_ms: LatencyFile | None = None
    throughput: float | None = None
    peak_memory_bytes: int | None = None
    control_of: str | None = None
    lacks: str | None = None
    teacher: str | None = None


class GuessFile(_Record):
    """What one model says about one sample."""

    name: str
    label: str = Field(alias="class")
    probability: float | None = None


class DisagreementFile(_Record):
    """One sample that teacher and student see differently."""

    id: int | str
    image: str | None = None
    label: str | None = None
    teacher: GuessFile
    student: GuessFile


class EvaluationFile(_Record):
    """``evaluation.json``: what one seed's models reach on one split."""

    schema_version: Literal[1] = Field(alias="schema")
    split: str
    samples: int
    counted: str = "samples"
    classes: list[str] = []
    metric: str
    rows: list[RowFile]
    confusion: dict[str, list[list[int]]] = {}
    disagreements: list[DisagreementFile] = []


class TimingFile(_Record):
    """How fast a file is, at one batch size and number of threads."""

    median_ms: float
    p90_ms: float
    p99_ms: float | None = None
    batch: int
    threads: int
    runs: int


class DeployedRow(_Record):
    """One file in one runtime in ``deployment.json``."""

    name: str
    runtime: str
    path: str
    """From where the record lies."""
    before: str | None = None
    proved: bool | None = None
    precision: str | None = None
    bytes: int | None = None
    macs: int | None = None
    peak_memory_bytes: int | None = None
    quality: dict[str, dict[str, float]] = {}
    timings: list[TimingFile] = []
    failed: str | None = None


class ChoiceFile(_Record):
    """The file that was chosen, and why."""

    name: str
    runtime: str
    kept: bool
    met: bool = True
    text: str
    notes: list[str] = []


class DeploymentFile(_Record):
    """``deployment.json``: exported files in their runtimes, and the one that was chosen."""

    schema_version: Literal[1] = Field(alias="schema")
    metric: str
    decided_on: str
    reference: str
    max_drop: float
    by: str
    target: str | None = None
    rows: list[DeployedRow]
    choice: ChoiceFile | None = None
    file: str | None = None


class ValidationLine(_Record):
    """One line of ``metrics.jsonl``."""

    step: int | None = None
    epoch: float | None = None
    loss: float | None = None
    terms: dict[str, float | None] = {}
    weights: dict[str, float | None] = {}
    val: dict[str, float | None] = {}


@dataclass(frozen=True)
class StageRecord:
    """One ``stages/<stage>/seed-<s>`` directory.

    Attributes:
        directory: where it is.
        stage: its ``stage.json``; None when the stage had not come so far.
        name: the stage's name, from the directory.
        seed: the seed, from the directory.
        history: the lines of ``metrics.jsonl``, empty when there are none.
        control_history: the same for the control that a distill stage trains.
        evaluation: ``evaluation.json`` of an evaluate stage.
        deployment: ``deployment.json`` of a deploy stage.
    """

    directory: Path
    stage: StageFile | None
    name: str
    seed: int
    history: tuple[ValidationLine, ...]
    control_history: tuple[ValidationLine, ...]
    evaluation: EvaluationFile | None
    deployment: DeploymentFile | None = None


@dataclass(frozen=True)
class ExpectedStage:
    """What the recipe says about one stage.

    Attributes:
        kind: its verb.
        seeds: the seeds that it is to run with; empty when the recipe does not say.
    """

    kind: str
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class RunRecord:
    """A run directory, read.

    Attributes:
        directory: where it is.
        recipe: ``recipe.json``, the resolved recipe; None when missing.
        recipe_text: ``recipe.yaml`` as the user wrote it, else the resolved recipe; None when both are missing.
        environment: ``environment.json``; None when missing.
        stages: every stage and seed of the recipe that was found, in its order; all, by name, where it is not known.
    """

    directory: Path
    recipe: dict[str, Any] | None
    recipe_text: str | None
    environment: dict[str, Any] | None
    stages: tuple[StageRecord, ...]

    @property
    def expected_stages(self) -> dict[str, ExpectedStage]:
        """The stages that the recipe lists, by name, in its order; empty when it does not say."""
        stages = (self.recipe or {}).get("stages")
        if isinstance(stages, dict):
            stages = [{"name": name, **stage} for name, stage in stages.items() if isinstance(stage, dict)]
        if not isinstance(stages, list):
            return {}
        listed = [stage for stage in stages if isinstance(stage, dict)]
        return {
            str(stage.get("name") or stage.get("kind")): ExpectedStage(str(stage.get("kind")), self._seeds(stage))
            for stage in listed
        }

    def _seeds(self, stage: dict[str, Any]) -> tuple[int, ...]:
        """The seeds that a stage is to run with: its own one, or all of the recipe's; empty when it does not say."""
        if isinstance(stage.get("seed"), int):
            return (stage["seed"],)
        seeds = (self.recipe or {}).get("seeds")
        return tuple(seed for seed in seeds if isinstance(seed, int)) if isinstance(seeds, list) else ()
