"""Stages are known by their names, and read only stages that come before them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from understudy.errors import listing, nearest
from understudy.pipeline.stage import Stage, stage_of
from understudy.recipe.problems import KeyPath, dotted


def misplaced(stages: Mapping[KeyPath, Stage | str]) -> list[tuple[KeyPath, str]]:
    """All names given twice and all references that lead nowhere, each with its path and what to do.

    Args:
        stages: in their order, by path. A stage that is not valid in itself may be given by its name alone, so
            that references to it are still understood.
    """
    problems: list[tuple[KeyPath, str]] = []
    names = [stage if isinstance(stage, str) else stage.name for stage in stages.values()]
    earlier: dict[str, KeyPath] = {}
    without_model: dict[str, str] = {}
    snapshots: dict[str, int] = {}
    answering: dict[str, str] = {}
    without_files: dict[str, str] = {}
    for (path, stage), name in zip(stages.items(), names, strict=True):
        if isinstance(stage, Stage):
            for reference in dict.fromkeys(stage.reads):
                needed = stage_of(reference)
                where = (*path, *next(_mentions(stage, reference), ()))
                if needed not in earlier:
                    message = _dangling(stage, needed, earlier=list(earlier), all_names=names)
                elif needed in without_model and not (reference in stage.asks and needed in answering):
                    message = f"stage {needed!r} ({without_model[needed]}) leaves no model; name one that does"
                    message += f", such as {answering[needed]!r}, which it records" if needed in answering else ""
                else:
                    message = _no_snapshot(reference, snapshots.get(needed))
                if message:
                    problems.append((where, message))
            for needed in dict.fromkeys(stage.opens):
                message = (
                    _dangling(stage, needed, earlier=list(earlier), all_names=names) if needed not in earlier else ""
                )
                if needed in without_files:
                    message = (
                        f"stage {needed!r} ({without_files[needed]}) exports no files; name one of the kind `export`"
                    )
                if message:
                    problems.append(((*path, *next(_mentions(stage, needed), ())), message))
            without_files |= {} if stage.exports else {name: stage.kind}
            snapshots[name] = stage.snapshot_count
            answering |= {name: ", ".join(stage.reads)} if stage.answers else {}
            if type(stage).network is Stage.network:  # asked of the kind: a stage that is not valid may have no model
                without_model[name] = stage.kind
        if name in earlier:
            problems.append(
                ((*path, "name"), f"{name!r} is the name of {dotted(earlier[name])} already; choose another")
            )
        earlier.setdefault(name, path)
    return problems


def _dangling(stage: Stage, needed: str, *, earlier: list[str], all_names: list[str]) -> str:
    if needed == stage.name:
        return f"stage {needed!r} refers to itself; expected an earlier stage"
    if needed in all_names:
        return f"stage {needed!r} comes later; move it before {stage.name!r}"
    known = f"; earlier stages: {listing(earlier)}" if earlier else "; no stage comes before this one"
    return f"there is no stage {needed!r}{nearest(needed, earlier) or known}"


def _no_snapshot(reference: str, count: int | None) -> str:
    """What is wrong with a reference to a snapshot, if anything."""
    stage, _, number = reference.partition("@")
    if not number.isdecimal() or count is None or int(number) <= count:
        return ""
    if count == 0:
        return f"stage {stage!r} leaves no snapshots; a train stage with `snapshots: {number}` does"
    there = listing([f"{stage}@{each}" for each in range(1, count + 1)])
    return f"there is no {reference!r}; the snapshots of {stage!r} are {there}"


def _mentions(value: Any, name: str) -> Iterator[KeyPath]:
    """Where a stage mentions another by name, its own name apart."""
    if isinstance(value, BaseModel):
        items: Any = ((key, getattr(value, key, None)) for key in type(value).model_fields if key != "name")
    elif isinstance(value, Mapping):
        items = ((key, key) for key in value)
    elif isinstance(value, tuple | list):
        items = enumerate(value)
    else:
        if value == name:
            yield ()
        return
    for key, item in items:
        yield from ((key, *rest) for rest in _mentions(item, name))
