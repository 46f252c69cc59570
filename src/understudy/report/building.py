"""Makes the report, as data, of one run or of several side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from understudy.errors import InputError
from understudy.report.comparing import comparison_notes, comparisons
from understudy.report.deployed import Deployment
from understudy.report.deployments import advice, deployment_notes, deployments
from understudy.report.evidence import Confusion, Curve, Disagreement, Guess, Picture
from understudy.report.headline import report_headline
from understudy.report.histories import curves
from understudy.report.layers import layer_transfers
from understudy.report.missing import run_notes, run_status
from understudy.report.records import RunRecord, StageRecord
from understudy.report.rows import confusions, evaluated, evaluations, rows
from understudy.report.schema import Comparison, LayerTransfer, Note, Report, Row, Run, Stage
from understudy.report.wording import quality

MOST_DISAGREEMENTS = 24


def build_report(runs: Sequence[RunRecord]) -> Report:
    """Put runs into one report. Runs that are not finished are reported as far as they came.

    Args:
        runs: what :func:`read_run` gave, at least one.

    Raises:
        InputError: for no run at all, or for seeds of one stage that were evaluated differently.
    """
    if not runs:
        raise InputError("a report needs at least one run directory, got none")
    parts = [_read_parts(record, name) for record, name in zip(runs, _names(runs), strict=True)]
    compared = [comparison for part in parts for comparison in part.comparisons]
    made = [row for part in parts for row in part.rows]
    infos = [part.run for part in parts]
    deployed = [deployment for part in parts for deployment in part.deployments]
    layers = [each for part in parts for each in part.layers]
    names = [run.name for run in infos]
    return Report(
        understudy=version("understudy"),
        title=" and ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} more runs",
        headline=report_headline(
            compared,
            _reached(made, infos),
            infos,
            [advice(each) for each in deployed],
            [each.headline for each in layers],
        ),
        gain=compared[0].gain if compared else None,
        teacher_quality=compared[0].teacher_quality if compared else None,
        notes=_across(infos) + [note for part in parts for note in part.notes],
        rows=made,
        comparisons=compared,
        runs=infos,
        curves=[curve for part in parts for curve in part.curves],
        confusions=[confusion for part in parts for confusion in part.confusions],
        disagreements=[sample for part in parts for sample in part.disagreements],
        deployments=deployed,
        pictures=[picture for part in parts for picture in part.pictures],
        layers=layers,
    )


def _names(runs: Sequence[RunRecord]) -> list[str]:
    """A different name for each run: the recipe's, the directory's where two are equal, numbered as a last resort."""
    folders = [record.directory.resolve().name for record in runs]
    named = [(record.recipe or {}).get("name") for record in runs]
    names = [name if isinstance(name, str) and name else folder for name, folder in zip(named, folders, strict=True)]
    for better in (folders, [f"{folder} ({place})" for place, folder in enumerate(folders, start=1)]):
        doubles = Counter(names)
        names = [better[place] if doubles[name] > 1 else name for place, name in enumerate(names)]
    return names


@dataclass(frozen=True)
class _RunParts:
    """What one run gives to the report."""

    run: Run
    rows: list[Row]
    comparisons: list[Comparison]
    notes: list[Note]
    curves: list[Curve]
    confusions: list[Confusion]
    disagreements: list[Disagreement]
    deployments: list[Deployment]
    pictures: list[Picture]
    layers: list[LayerTransfer]


def _read_parts(record: RunRecord, name: str) -> _RunParts:
    found = evaluated(record)
    evaluated_as = evaluations(found)
    made = rows(name, found)
    compared = comparisons(made, evaluated_as)
    stages = [_stage(stage) for stage in record.stages]
    seconds = [stage.seconds for stage in stages if stage.seconds is not None]
    run = Run(
        name=name,
        status=run_status(record),
        seconds=sum(seconds) if seconds else None,
        seeds=sorted({stage.seed for stage in stages}),
        stages=stages,
        evaluations=evaluated_as,
        recipe=record.recipe_text,
        environment=record.environment,
        directory=record.directory,
    )
    return _RunParts(
        run=run,
        rows=made,
        comparisons=compared,
        notes=run_notes(record, name) + _comparison_notes(compared, made) + deployment_notes(record, name),
        curves=curves(record, name, made),
        confusions=confusions(name, found, made),
        disagreements=_disagreements(record, name),
        deployments=deployments(record, name),
        pictures=_pictures(record, name),
        layers=layer_transfers(record, name, found),
    )


def _comparison_notes(compared: list[Comparison], made: list[Row]) -> list[Note]:
    notes = [note for comparison in compared for note in comparison_notes(comparison, made)]
    return list({note.text: note for note in notes}.values())


def _stage(record: StageRecord) -> Stage:
    stage = record.stage
    return Stage(
        name=record.name,
        kind=stage.kind if stage else None,
        seed=record.seed,
        status=stage.status if stage else "unknown",
        seconds=stage.seconds if stage else None,
        description=stage.description if stage else None,
        data=stage.data if stage else None,
        teacher=stage.teacher if stage else [],
        error=stage.error if stage else None,
    )


def _disagreements(record: RunRecord, run: str) -> list[Disagreement]:
    """The samples of the first seed that has any, those where the teacher is right first."""
    made: dict[str, list[Disagreement]] = {}
    for stage in record.stages:
        if stage.evaluation is None or not stage.evaluation.disagreements or stage.name in made:
            continue
        folder = stage.directory.relative_to(record.directory)
        samples = [
            Disagreement(
                run=run,
                evaluation=stage.name,
                seed=stage.seed,
                id=sample.id,
                image=(folder / sample.image).as_posix() if sample.image else None,
                label=sample.label,
                teacher=Guess(**sample.teacher.model_dump()),
                student=Guess(**sample.student.model_dump()),
            )
            for sample in stage.evaluation.disagreements
        ]
        made[stage.name] = sorted(samples, key=lambda sample: sample.teacher.label != sample.label)
    return [sample for samples in made.values() for sample in samples][:MOST_DISAGREEMENTS]


def _pictures(record: RunRecord, run: str) -> list[Picture]:
    """What the first seed of each stage has to show."""
    shown: dict[str, list[Picture]] = {}
    for stage in record.stages:
        if stage.stage is None or not stage.stage.pictures or stage.name in shown:
            continue
        folder = stage.directory.relative_to(record.directory)
        shown[stage.name] = [
            Picture(run=run, stage=stage.name, seed=stage.seed, title=title, image=(folder / image).as_posix())
            for title, image in stage.stage.pictures.items()
        ]
    return [picture for pictures in shown.values() for picture in pictures]


def _reached(made: list[Row], runs: list[Run]) -> list[str]:
    metrics = {(run.name, evaluation.name): evaluation.metric for run in runs for evaluation in run.evaluations}
    pairs = [(row, row.metrics.get(metrics[row.run, row.evaluation])) for row in made]
    return [
        f"{row.name} reaches {quality(metrics[row.run, row.evaluation], summary.mean, decimals=1)}"
        for row, summary in pairs
        if summary
    ]


def _across(runs: list[Run]) -> list[Note]:
    """What keeps the runs from being compared."""
    tests = {
        (evaluation.split, evaluation.samples, tuple(evaluation.classes), evaluation.metric)
        for run in runs
        for evaluation in run.evaluations
    }
    if len(runs) > 1 and len(tests) > 1:
        text = "the runs were not all evaluated on the same samples, classes and metric; compare within a run only"
        return [Note(level="warning", run=None, text=text)]
    return []
