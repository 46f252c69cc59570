"""Running a recipe: every stage for every seed, each only when its inputs have changed."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from understudy.engine.process import Process, process
from understudy.engine.progress import Progress
from understudy.errors import InputError
from understudy.pipeline.directory import RunDirectory, write_json, write_text
from understudy.pipeline.environment import environment
from understudy.pipeline.stage import Context, Description, Stage
from understudy.sources.data import DataSet, load_data
from understudy.spec import digest


def run(
    recipe: Description,
    out: Path,
    *,
    progress: Progress,
    text: str | None = None,
    only: Collection[str] | None = None,
    extend: bool = False,
) -> Path:
    """Run all stages of a recipe, or some, and leave everything in a run directory.

    Finished stages whose inputs did not change are skipped; one that was interrupted goes on where its last
    checkpoint stands; one whose inputs changed is set aside under ``replaced/`` and run again.

    Args:
        recipe: what to do.
        out: the run directory, made when it does not exist.
        progress: where to tell what happens.
        text: the recipe as its author wrote it, kept beside the resolved one.
        only: names of the stages to run, with those that they need; all when not given.
        extend: let recordings that are there grow by what the recipe asks for now, instead of setting them aside.

    Returns:
        The run directory.

    Raises:
        InputError: when the recipe or the data cannot work; nothing was trained.
        RunError: when a stage could not go on, or another process holds the directory.
    """
    team = process()
    directory = RunDirectory(out)
    wanted = _with_needs(recipe.stages, only)
    with directory.held() if team.is_main else nullcontext():
        team.wait()
        data = load_data(recipe.data, task=recipe.task)
        if team.is_main:
            _describe(recipe, directory, text)
        for note in data.notes:
            progress.message(note)
        digests: dict[tuple[str, int], str] = {}
        for seed in recipe.seeds:
            for stage in wanted:
                _run_stage(recipe, stage, seed, data, directory, team, progress, digests, extend=extend)
    return out


def _with_needs(stages: Sequence[Stage], only: Collection[str] | None) -> list[Stage]:
    """Some stages and all that they read, in the order of the recipe."""
    wanted = {stage.name for stage in stages} if only is None else set(only)
    for stage in reversed(stages):  # a stage needs only earlier ones
        wanted |= set(stage.needs) if stage.name in wanted else set()
    return [stage for stage in stages if stage.name in wanted]


def _run_stage(
    recipe: Description,
    stage: Stage,
    seed: int,
    data: DataSet,
    directory: RunDirectory,
    team: Process,
    progress: Progress,
    digests: dict[tuple[str, int], str],
    *,
    extend: bool,
) -> None:
    """Run one stage for one of the recipe's seeds, unless it is done."""
    stages = {other.name: other for other in recipe.stages}
    needs = {name: _seed_of(stages[name], seed) for name in stage.needs}
    own_seed = _seed_of(stage, seed)
    if (stage.name, own_seed) in digests:
        return
    key = digest(
        {
            "stage": {**stage.asked(), "seed": own_seed},
            "task": recipe.task.asked(),
            "data": data.fingerprint,
            "needs": {name: digests[name, other] for name, other in needs.items()},
            **({"outside": stage.outside} if stage.outside else {}),
        }
    )
    digests[stage.name, own_seed] = key
    place = directory.stage(stage.name, own_seed)
    reason = None
    if place.is_done(key):
        try:
            if stage.is_whole(place):
                progress.message(f"{stage.name}, seed {own_seed}: nothing has changed, skipped")
                return
        except InputError as error:
            reason = str(error)
    grows = extend and stage.answers
    if not grows and place.record.get("digest", key) != key:
        reason = "its inputs have changed"
    if team.is_main and reason is not None:
        aside = directory.set_aside(place)
        progress.message(f"{stage.name}, seed {own_seed}: {reason}; the former one is in {aside}")
    team.wait()
    context = Context(
        task=recipe.task.of_classes(len(data.classes)),
        data=data,
        seed=own_seed,
        first=seed == recipe.seeds[0],
        directory=place,
        upstream={name: directory.stage(name, other) for name, other in needs.items()},
        process=team,
        progress=progress,
        trackers=recipe.trackers,
        extend=grows,
    )
    _execute(stage, context, key)


def _execute(stage: Stage, context: Context, key: str) -> None:
    """Run a stage and keep its record true: running, then done or failed; as it was, where it was refused to grow."""
    former = context.directory.record
    record: dict[str, Any] = {
        "schema": 1,
        "kind": stage.kind,
        "name": stage.name,
        "seed": context.seed,
        "digest": key,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    begun = time.perf_counter()

    def note(status: str, **more: Any) -> None:
        if context.process.is_main:
            seconds = round(time.perf_counter() - begun, 3)
            context.directory.write_record({**record, "status": status, "seconds": seconds, **more})

    note("running")
    try:
        result = stage.run(context)
    except Exception as error:
        if context.extend and former and isinstance(error, InputError):
            if context.process.is_main:
                context.directory.write_record(former)
        else:
            note("failed", error=str(error))
        raise
    note("done", **result)
    context.process.wait()


def _seed_of(stage: Stage, seed: int) -> int:
    return seed if stage.seed is None else stage.seed


def _describe(recipe: Description, directory: RunDirectory, text: str | None) -> None:
    """Write down what is run and where."""
    assert isinstance(recipe, BaseModel)  # every description is a frozen value that can be written down
    resolved = recipe.model_dump(mode="json")
    write_json(directory.path / "recipe.json", resolved)
    write_text(directory.path / "recipe.yaml", text if text is not None else json.dumps(resolved, indent=1) + "\n")
    write_json(directory.path / "environment.json", environment())
