"""Reads run directories. Nothing but files is looked at: no model is loaded, no torch is imported."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from understudy.errors import InputError, listing
from understudy.report.records import (
    DeploymentFile,
    EvaluationFile,
    ExpectedStage,
    RunRecord,
    StageFile,
    StageRecord,
    ValidationLine,
)

_Model = TypeVar("_Model", bound=BaseModel)
_SEED = re.compile(r"seed-(\d+)")


def read_run(path: str | Path) -> RunRecord:
    """Read a run directory, finished or not.

    Args:
        path: the directory that ``understudy run`` wrote: ``recipe.json``, ``environment.json``, ``stages/``. Stages
            and seeds that its recipe does not have, left by a former one, are not read.

    Raises:
        InputError: when ``path`` is not a run directory, or naming the file in it that cannot be read.
    """
    directory = Path(path)
    _check_is_run(directory)
    recipe = _read_object(directory / "recipe.json")
    record = RunRecord(
        directory=directory,
        recipe=recipe,
        recipe_text=_recipe_text(directory, recipe),
        environment=_read_object(directory / "environment.json"),
        stages=(),
    )
    expected = record.expected_stages
    stages = [_read_stage(seed) for seed in _seed_directories(directory) if _belongs(seed, expected)]
    order = list(expected)
    stages.sort(key=lambda stage: (order.index(stage.name) if stage.name in order else 0, stage.name, stage.seed))
    return RunRecord(directory, record.recipe, record.recipe_text, record.environment, tuple(stages))


def _check_is_run(directory: Path) -> None:
    if not directory.exists():
        raise InputError(f"{directory} does not exist; expected a run directory, as `understudy run` writes it")
    if not directory.is_dir():
        raise InputError(f"{directory} is a file; expected the run directory that it lies in")
    if _looks_like_run(directory):
        return
    inside = sorted(str(child) for child in directory.iterdir() if child.is_dir() and _looks_like_run(child))
    remedy = f"; runs inside it: {listing(inside)}" if inside else ""
    raise InputError(
        f"{directory} is not a run directory; expected a recipe.json or a stages folder in it, "
        f"as `understudy run` writes them{remedy}"
    )


def _looks_like_run(directory: Path) -> bool:
    return (directory / "stages").is_dir() or (directory / "recipe.json").is_file()


def _recipe_text(directory: Path, recipe: dict[str, Any] | None) -> str | None:
    written = directory / "recipe.yaml"
    if written.is_file():
        return _text(written)
    return None if recipe is None else json.dumps(recipe, indent=2, ensure_ascii=False)


def _seed_directories(directory: Path) -> list[Path]:
    found = (directory / "stages").glob("*/seed-*")
    return sorted(path for path in found if path.is_dir() and _SEED.fullmatch(path.name))


def _belongs(directory: Path, expected: Mapping[str, ExpectedStage]) -> bool:
    """Whether a stage's directory is of the recipe, or left by a former one that was run in the same place."""
    if not expected:
        return True  # the recipe does not say what it has
    stage = expected.get(directory.parent.name)
    return stage is not None and (not stage.seeds or _seed(directory) in stage.seeds)


def _seed(directory: Path) -> int:
    return int(directory.name.removeprefix("seed-"))


def _read_stage(directory: Path) -> StageRecord:
    return StageRecord(
        directory=directory,
        stage=_read_model(directory / "stage.json", StageFile),
        name=directory.parent.name,
        seed=_seed(directory),
        history=_read_history(directory / "metrics.jsonl"),
        control_history=_read_history(directory / "control" / "metrics.jsonl"),
        evaluation=_read_evaluation(directory / "evaluation.json"),
        deployment=_read_model(directory / "deployment.json", DeploymentFile),
    )


def _read_evaluation(path: Path) -> EvaluationFile | None:
    evaluation = _read_model(path, EvaluationFile)
    for row in evaluation.rows if evaluation else ():
        if evaluation is not None and evaluation.metric not in row.metrics:
            raise InputError(
                f"{path}: row {row.name!r} has no {evaluation.metric!r}, the metric of this evaluation; "
                f"it has {listing(list(row.metrics))}"
            )
    return evaluation


def _read_history(path: Path) -> tuple[ValidationLine, ...]:
    """Read a history; a last line without its end is one that is just being written, and is left out."""
    if not path.is_file():
        return ()
    text = _text(path)
    lines = text.splitlines()
    if lines and not text.endswith("\n"):
        lines.pop()
    return tuple(
        _validated(ValidationLine, _parsed(line, path, number), path, number)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    )


def _read_model(path: Path, model: type[_Model]) -> _Model | None:
    value = _read_object(path)
    return None if value is None else _validated(model, value, path)


def _read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, None when there is no such file."""
    if not path.is_file():
        return None
    value = _parsed(_text(path), path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None


def _parsed(text: str, path: Path, line: int | None = None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}:{line or error.lineno}: not valid JSON ({error.msg}); the file is torn or was edited. "
            "Run the recipe again on this directory to write it anew"
        ) from None


def _validated(model: type[_Model], value: Any, path: Path, line: int | None = None) -> _Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        where = str(path) if line is None else f"{path}:{line}"
        problems = [f"{'.'.join(map(str, item['loc'])) or 'content'}: {item['msg']}" for item in error.errors()[:5]]
        raise InputError(
            f"{where} does not hold what a report reads (written by another version of Understudy?): "
            + "; ".join(problems)
        ) from None
