"""What a run has not (yet) done."""

from __future__ import annotations

from understudy.report.records import RunRecord, StageRecord
from understudy.report.schema import Note, Status
from understudy.report.wording import seed_list


def run_status(record: RunRecord) -> Status:
    """How far a run came: ``failed`` and ``running`` if any of its stages are, ``partial`` if anything is missing."""
    states = {_state(stage) for stage in record.stages}
    if "failed" in states:
        return "failed"
    if states & {"running", "unknown"}:
        return "running"
    evaluated = any(stage.evaluation or stage.deployment for stage in record.stages)
    return "done" if states and evaluated and not _absent(record) else "partial"


def run_notes(record: RunRecord, run: str) -> list[Note]:
    """One note for everything that a reader would look for in vain."""
    texts = [_stage_text(stage) for stage in record.stages]
    texts += [
        f"stage {name!r} has not run {f'for {seed_list(seeds)}' if seeds else 'yet'}"
        for name, seeds in _absent(record).items()
    ]
    if not any(stage.evaluation or stage.deployment for stage in record.stages):
        texts.append("nothing has been evaluated, so there are no results to show yet")
    texts += _missing_files(record)
    return [Note(level="warning", run=run, text=text) for text in texts if text]


def _state(stage: StageRecord) -> str:
    return stage.stage.status if stage.stage else "unknown"


def _stage_text(stage: StageRecord) -> str | None:
    where = f"stage {stage.name!r} with seed {stage.seed}"
    if stage.stage is None:
        return f"{where} has begun but not written its stage.json"
    if stage.stage.status == "failed":
        return f"{where} failed{f': {stage.stage.error}' if stage.stage.error else ''}"
    if stage.stage.status == "running":
        return f"{where} is still running, or was interrupted; the same command resumes it"
    if stage.stage.kind == "evaluate" and stage.evaluation is None:
        return f"{where} is done but its evaluation.json is missing"
    if stage.stage.kind == "deploy" and stage.deployment is None:
        return f"{where} is done but its deployment.json is missing"
    return None


def _absent(record: RunRecord) -> dict[str, tuple[int, ...]]:
    """Stages that the recipe lists without a directory, with the seeds that lack; no seeds when all do."""
    absent: dict[str, tuple[int, ...]] = {}
    for name, expected in record.expected_stages.items():
        seen = {stage.seed for stage in record.stages if stage.name == name}
        missing = tuple(seed for seed in expected.seeds if seed not in seen)
        if not seen:
            absent[name] = ()
        elif missing:
            absent[name] = missing
    return absent


def _missing_files(record: RunRecord) -> list[str]:
    texts = []
    if record.recipe_text is None:
        texts.append("the recipe is missing (recipe.yaml, recipe.json)")
    if record.environment is None:
        texts.append("environment.json is missing, so nothing says on which machine these numbers were taken")
    return texts
