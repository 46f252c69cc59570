"""A training like another one: what a student takes over of how its teacher was trained, scaled by stated rules."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from understudy.errors import InputError, listing, nearest
from understudy.recipe.document import Document
from understudy.recipe.problems import KeyPath, Problem
from understudy.sources.artifact_record import locate_artifact, read_record

KEYS = ("training", "views")
_USUAL_BATCH = 128
_LENGTHS = ("epochs", "steps")


def inherit(document: Document) -> list[Problem]:
    """Write out every ``training`` and ``views`` that is ``{like: STAGE, …}``.

    The settings are those of an earlier stage, or of the saved model that an earlier stage loads. Keys beside ``like``
    replace them. With another batch size the learning rate is scaled: in proportion for SGD, by the square root for
    optimizers that divide by the size of the gradient; one that is given stays.

    Args:
        document: changed in place.

    Returns:
        What could not be taken over.

    References:
        Goyal et al.: Accurate, Large Minibatch SGD, 2017 (arXiv:1706.02677), for the proportion; Malladi et al.: On the
        SDEs and Scaling Rules for Adaptive Gradient Algorithms, NeurIPS 2022 (arXiv:2205.10287), for the square root.
    """
    stages = document.data.get("stages")
    problems: list[Problem] = []
    known: dict[str, Mapping[str, Any]] = {}
    for index, stage in enumerate(stages if isinstance(stages, list) else []):
        if not isinstance(stage, dict):
            continue
        for path, holder, key in _holders(stage, ("stages", index)):
            value = holder.get(key)
            if isinstance(value, dict) and "like" in value:
                place = document.place(path)
                try:
                    document.put(path, _taken(key, value, known), place)
                except InputError as error:
                    problems.append(Problem(path, str(error), place))
        known[str(stage.get("name"))] = _settings(stage)
    return problems


def _holders(stage: dict[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, dict[str, Any], str]]:
    for key in KEYS:
        yield (*path, key), stage, key
    recovery = stage.get("recovery")
    if isinstance(recovery, dict):
        for key in KEYS:
            yield (*path, "recovery", key), recovery, key


def _taken(key: str, wanted: dict[str, Any], known: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    name, own = wanted["like"], {each: value for each, value in wanted.items() if each != "like"}
    able = [stage for stage, settings in known.items() if settings.get(key) is not None]
    if name not in able:
        there = f"{nearest(str(name), able)} (there are: {listing(able)})" if able else "; there is none before it"
        raise InputError(f"like: expected an earlier stage with {key}, got {name!r}{there}")
    base = copy.deepcopy(known[name][key])
    if key == "views":
        return {**base, **own}
    if any(length in own for length in _LENGTHS):
        base = {each: value for each, value in base.items() if each not in _LENGTHS}
    return _scaled(base, own)


def _scaled(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Another's training with one's own values, and the learning rate that goes with one's own batch size."""
    before, after = (each.get("batch_size", _USUAL_BATCH) for each in (base, {**base, **own}))
    optimizer, changed = base.get("optimizer"), own.get("optimizer") or {}
    if not isinstance(optimizer, dict) or not isinstance(changed, dict) or "kind" in changed:
        return {**base, **own}
    optimizer = {**optimizer, **changed}
    factor = after / before if isinstance(before, int) and isinstance(after, int) and before > 0 else 1.0
    if "lr" not in changed and isinstance(optimizer.get("lr"), int | float) and factor > 0:
        rule = factor if str(optimizer.get("kind", "sgd")).lower() == "sgd" else math.sqrt(factor)
        optimizer["lr"] = float(f"{optimizer['lr'] * rule:.6g}")
    return {**base, **own, "optimizer": optimizer}


def _settings(stage: dict[str, Any]) -> Mapping[str, Any]:
    """How a stage's model is trained: as the recipe says, or as the saved model that it loads says."""
    if isinstance(stage.get("training"), dict):
        return stage
    model = stage.get("model")
    if stage.get("kind") == "load" and isinstance(model, dict) and isinstance(model.get("path"), str):
        try:
            record = read_record(*locate_artifact(Path(model["path"])))
        except InputError:
            return {}  # which is told where models are looked for
        training = record.metadata.get("training")
        settings = training.get("settings") if isinstance(training, dict) else None
        return settings if isinstance(settings, dict) else {}
    return {}
