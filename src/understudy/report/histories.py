"""Training curves out of ``metrics.jsonl``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from understudy.report.evidence import Curve, CurvePoint
from understudy.report.records import Role, RunRecord, StageRecord, ValidationLine
from understudy.report.schema import Row

MOST_POINTS = 200


def curves(record: RunRecord, run: str, made: list[Row]) -> list[Curve]:
    """The trainings of a run, the control of a distill stage beside its student.

    Args:
        record: the run.
        run: its name in the report.
        made: its rows, which say what role a stage's model plays.
    """
    result = []
    for stage in record.stages:
        for history, control in ((stage.history, False), (stage.control_history, True)):
            if history:
                role = "control" if control else _role(stage, record, made)
                points = thinned([_point(line, place) for place, line in enumerate(history, start=1)])
                result.append(
                    Curve(run=run, stage=stage.name, control=control, role=role, seed=stage.seed, points=points)
                )
    return result


def thinned(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    """At most 200 points, evenly spaced, the first and the last among them."""
    if len(points) <= MOST_POINTS:
        return list(points)
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return [points[round(place * step)] for place in range(MOST_POINTS)]


def _point(line: ValidationLine, place: int) -> CurvePoint:
    epoch = line.epoch if line.epoch is not None else line.step
    loss = line.loss if line.loss is not None and math.isfinite(line.loss) else None
    return CurvePoint(
        step=line.step,
        epoch=float(place if epoch is None else epoch),
        loss=loss,
        terms=_finite(line.terms),
        weights=_finite(line.weights),
        validation=_finite(line.val),
    )


def _finite(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def _role(stage: StageRecord, record: RunRecord, made: list[Row]) -> Role:
    for row in made:
        if row.stage == stage.name and row.role != "control":
            return row.role
    if stage.stage and stage.stage.kind in ("distill", "data_free"):
        return "student"
    taught = {name for other in record.stages if other.stage for name in other.stage.teacher}
    return "teacher" if stage.name in taught else "model"
