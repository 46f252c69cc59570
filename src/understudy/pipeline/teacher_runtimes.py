"""What executes the live teachers of a stage, chosen once for each and kept in the stage's directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from understudy.batch import Batch
from understudy.engine.teacher_runtime import Chosen, Runtime, choose_runtime, teacher_by
from understudy.errors import InputError, listing
from understudy.pipeline.directory import read_json, write_json
from understudy.pipeline.elsewhere import Elsewhere
from understudy.pipeline.stage import Context
from understudy.pipeline.teaching import Average, Teaching
from understudy.teachers import ModuleTeacher, RuntimeTeacher, Teacher

NAME = "runtime.json"


def runtime_problems(
    runtime: Runtime, teaching: Teaching | None, readers: Sequence[str]
) -> list[tuple[tuple[str | int, ...], str]]:
    """A runtime where there is no live network, or one that cannot give what is asked, each with its key.

    Args:
        runtime: as the recipe says it.
        teaching: who teaches.
        readers: what reads layers of the teacher, by name.
    """
    if runtime == "pytorch":
        return []
    if teaching is None or isinstance(teaching, Average | Elsewhere):
        return [
            (("runtime",), "is about a network that an earlier stage leaves, and none of those teaches; leave it out")
        ]
    if runtime != "auto" and readers:
        return [
            (
                ("runtime",),
                f"{runtime} gives no layers, and {listing(readers)} reads some of the teacher's; use pytorch",
            )
        ]
    return []


def on_runtime(
    members: Mapping[str, Teacher], runtime: Runtime, context: Context, example: Callable[[], Batch], *, layers: bool
) -> tuple[dict[str, Teacher], dict[str, Any]]:
    """Let a runtime execute the teachers of a stage.

    A stage that is taken up again keeps to what it had chosen, so that its answers go on as they began.

    Args:
        members: the teachers by name.
        runtime: as the recipe says it.
        context: the run.
        example: gives a batch as the teachers will see them.
        layers: whether layers are read; PyTorch answers then.

    Returns:
        The teachers, and what there is to record about what was chosen, as JSON.

    Raises:
        InputError: for a teacher that is no live network, or a runtime that cannot execute it.
    """
    if runtime == "pytorch" or not members:
        return dict(members), {}
    if layers:
        if context.process.is_main:
            context.progress.message("execution: teacher pytorch, since its layers are read")
        return dict(members), {}
    batch = example().to(context.process.device)
    path = context.directory.path / NAME
    former = read_json(path) if context.process.is_main and path.is_file() else {}
    former = former.get("chosen", {}) if former.get("asked") == runtime else {}
    made = dict(members)
    record: dict[str, Any] = {}
    live = {name: teacher for name, teacher in members.items() if isinstance(teacher, ModuleTeacher)}
    if not live:
        raise InputError(
            f"the answers of {listing(list(members))} are there already, so `runtime: {runtime}` has nothing to "
            "execute; leave it out, or give it to the stage that records"
        )
    for name, teacher in live.items():
        made[name], chosen = _executed(teacher, runtime, context, batch, former.get(name))
        record[name] = chosen.model_dump(mode="json")
        if context.process.is_main:
            context.progress.message(f"execution: teacher {name} by {chosen.describe()}")
    if context.process.is_main:
        write_json(path, {"asked": runtime, "chosen": record})
    return made, {"runtime": record}


def _executed(
    teacher: ModuleTeacher, runtime: Runtime, context: Context, batch: Batch, former: dict[str, Any] | None
) -> tuple[RuntimeTeacher, Chosen]:
    """One teacher, executed alike in all processes: the main one chooses."""
    said: dict[str, Any] = {}
    found: RuntimeTeacher | None = None
    if context.process.is_main:
        try:
            if former is not None:
                chosen = Chosen.model_validate(former)
                found = teacher_by(teacher, batch, chosen)
            else:
                found, chosen = choose_runtime(teacher, batch, runtime)
            said = {"chosen": chosen.model_dump(mode="json")}
        except InputError as error:
            said = {"problem": str(error)}
    said = context.process.told(said)
    if "problem" in said:
        raise InputError(said["problem"])
    chosen = Chosen.model_validate(said["chosen"])
    return found if found is not None else teacher_by(teacher, batch, chosen), chosen
