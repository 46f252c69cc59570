"""How to record again."""

from __future__ import annotations

from pathlib import Path

_STAGE = 3
"""A recording lies in `stages/NAME/seed-N/` of its run: how many folders below that of the run."""


def how_to_record(folder: str | Path) -> str:
    """The command that makes a recording, with its run's own recipe where it lies in the directory of a run.

    Args:
        folder: of the recording.
    """
    above = list(Path(folder).parents)
    run = above[_STAGE] if len(above) > _STAGE and above[_STAGE - 1].name == "stages" else None
    if run is None or not (run / "recipe.json").is_file():
        return "`understudy record RECIPE`, or the program that wrote it"
    return f"`understudy record {run / 'recipe.json'} --out {run}`"
