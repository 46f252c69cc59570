"""The files that export stages of a run have left, and the models that they came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy.errors import InputError
from understudy.export.exporting import Format
from understudy.measure import Candidate, Cost, cost
from understudy.measure.picking import is_proved
from understudy.pipeline.directory import StageDirectory, read_json
from understudy.pipeline.stage import artifact_of, stage_of
from understudy.sources.artifact import load_artifact

RECORD = "export.json"
"""What an export stage says about its files."""


@dataclass(frozen=True)
class Exported:
    """One exported file of a run.

    Attributes:
        path: where it is.
        stage: the export stage.
        model: the model that it was made from, as the recipe names it.
        format: its kind.
    """

    path: Path
    stage: str
    model: str
    format: Format


def exported_files(directory: StageDirectory) -> list[Exported]:
    """The files of one export stage.

    Raises:
        InputError: when it is no export stage, or its record cannot be read.
    """
    name = directory.path.parent.name
    if not (directory.path / RECORD).is_file():
        raise InputError(f"stage {name!r} has left no exported files; expected one of the kind `export`")
    files = read_json(directory.path / RECORD)["files"]
    return [Exported(directory.path / file["path"], name, file["model"], file["format"]) for file in files]


def exported_candidates(exports: Sequence[StageDirectory], *, reference: str, seed: int) -> list[Candidate]:
    """What export stages have left, after the models that it was made from.

    Each names what it was made smaller from: the float file of a dynamic one, or else the file of the same kind of the
    model that its own began with or learnt from, through as many stages as left no file.

    Args:
        exports: their directories, in one run.
        reference: another model of the run that is to be measured beside them.
        seed: of the run's stages, where they have no seed of their own.

    Raises:
        InputError: when a stage has left no files.
    """
    files = [file for directory in exports for file in exported_files(directory)]
    stages = exports[0].path.parents[1]
    models = list(dict.fromkeys([reference, *(file.model for file in files)]))
    lineage = {model: _ancestors(model, stages, seed) for model in models}
    paths = {model: _directory(stages, model, seed) / f"{artifact_of(model)}.json" for model in models}
    costs = {model: _cost(path) for model, path in paths.items()}
    names = _names(files)
    by_kind = {(file.model, file.format): names[place] for place, file in enumerate(files)}
    return [
        *(
            Candidate(
                model,
                path,
                before=next((each for each in lineage[model] if each in paths), None),
                macs=costs[model].macs,
                params=costs[model].parameters,
                compiled=model == reference,
            )
            for model, path in paths.items()
        ),
        *(
            Candidate(
                name,
                file.path,
                before=next((by_kind[key] for key in _keys(file, lineage) if key in by_kind), None),
                proved=is_proved(file.path),
                macs=costs[file.model].macs,
                params=costs[file.model].parameters,
            )
            for name, file in zip(names, files, strict=True)
        ),
    ]


def _keys(file: Exported, lineage: dict[str, list[str]]) -> list[tuple[str, Format]]:
    """Model and format of the files that one may have been made smaller from, the likeliest first."""
    own: list[tuple[str, Format]] = [(file.model, "onnx")] if file.format == "onnx_dynamic" else []
    return [*own, *((model, file.format) for model in lineage[file.model])]


def _directory(stages: Path, model: str, seed: int) -> Path:
    """Where a model is: for this seed, or for the only one that its stage ran with."""
    folder = stages / stage_of(model)
    own = folder / f"seed-{seed}"
    return own if own.is_dir() else next(iter(sorted(folder.glob("seed-*"))), own)


def _ancestors(model: str, stages: Path, seed: int) -> list[str]:
    """What a model began with or learnt from, the nearest first."""
    found: list[str] = []
    while True:
        record = StageDirectory(_directory(stages, model, seed)).record
        earlier = record.get("start") or next(iter(record.get("teacher") or []), None)
        if earlier is None or earlier in found:
            return found
        found.append(earlier)
        model = earlier


def _cost(path: Path) -> Cost:
    loaded = load_artifact(path)
    return cost(loaded.module, loaded.example(1))


def _names(files: Sequence[Exported]) -> list[str]:
    often = Counter(file.path.name for file in files)
    return [file.path.name if often[file.path.name] == 1 else f"{file.stage}/{file.path.name}" for file in files]
