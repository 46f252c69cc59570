"""``understudy deploy``: which of several exported files to deploy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.failures import tell
from understudy.cli.model_names import Size, parsed_size
from understudy.cli.output import AsJson, columns, write, write_json
from understudy.errors import InputError

if TYPE_CHECKING:
    from understudy.measure import Candidate, Deployment, Measured
    from understudy.sources.data import DataSet
    from understudy.tasks.task import Task

AIMS = ("latency", "throughput", "bytes")


Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE…|RUN",
        help="Exported files (.onnx, .xml, .pte, .pt2) and saved models to compare with, each step after the one "
        "that it began with; or a run that has exported some.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="SOURCE", help="Labelled data: a folder, a file, a hub id; a RUN has its own."),
]
ReferenceName = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="FILE|STAGE",
        help="Whose quality counts: one of the files, or a stage of the RUN; the first one when not given.",
    ),
]
MaxDrop = Annotated[
    float, typer.Option("--max-drop", min=0, metavar="POINTS", help="How many points of quality may be lost.")
]
By = Annotated[str, typer.Option("--by", help="What the best file has: latency, throughput or bytes.")]
Target = Annotated[
    str | None, typer.Option("--target", help="What the file may cost, such as 'latency<2ms, size<4MB'.")
]
Runtimes = Annotated[
    list[str] | None, typer.Option("--runtime", help="Try this runtime only; may be given several times.")
]
Batches = Annotated[
    list[int] | None, typer.Option("--batch", min=1, help="A batch size that is timed: 1, 8 and 32 by default.")
]
Threads = Annotated[
    list[int] | None, typer.Option("--threads", min=1, help="CPU threads: one, and all there are, by default.")
]
Seconds = Annotated[float, typer.Option("--seconds", min=0.01, help="How long each file is timed in each setting.")]
Compiled = Annotated[
    bool, typer.Option("--compile/--no-compile", help="Run saved models with torch.compile too (slow to start).")
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Where the chosen file goes; RUN/deployed or deployed.")
]


def deploy_files(
    files: Files,
    data: Data = None,
    reference: ReferenceName = None,
    max_drop: MaxDrop = 1.0,
    by: By = "latency",
    target: Target = None,
    runtime: Runtimes = None,
    batch: Batches = None,
    threads: Threads = None,
    seconds: Seconds = 1.0,
    compiled: Compiled = True,
    size: Size = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure exported files in every runtime installed, and copy out the best one that is as good.

    The bound on quality is judged on the validation split, the test split is reported. Each file runs in a process of
    its own, and all are timed in turns.

    Example: [bold]understudy deploy student.onnx student-int8.onnx --data sklearn/digits --max-drop 1.0[/bold]
    """
    run = _run(files)
    if run and (data or size):
        raise InputError("a run is measured on its own data; leave out --data and --size, or name its files")
    if by not in AIMS:
        raise InputError(f"--by {by!r}: expected one of {', '.join(map(repr, AIMS))}")
    from understudy.measure import deploy
    from understudy.sources.loader import Loader

    if run:
        candidates, loaded, task = _of_run(run, reference)
    else:
        candidates, (loaded, task) = _candidates(files), _data(data, size)
        reference = _named(reference, candidates)
    folder = out or (run or Path()) / "deployed"
    found = deploy(
        candidates,
        folder,
        reference=reference or candidates[0].name,
        loaders={name: Loader(getattr(loaded, name), batch_size=500, shuffle=False) for name in ("validation", "test")},
        task=task,
        classes=loaded.classes,
        max_drop=max_drop,
        by=by,  # pyright: ignore[reportArgumentType] - it is one of AIMS
        target=target,
        runtimes=runtime,
        compiled=compiled,
        batch_sizes=batch or (1, 8, 32),
        threads=threads,
        seconds=seconds,
        tell=tell,
    )
    if as_json:
        write_json(found.model_dump(mode="json", by_alias=True))
    else:
        write(_shown(found, folder))


def _run(files: list[Path]) -> Path | None:
    runs = [path for path in files if (path / "stages").is_dir()]
    if runs and len(files) > 1:
        raise InputError(f"{runs[0]} is a run; expected one run alone, or exported files")
    return runs[0] if runs else None


def _of_run(run: Path, reference: str | None) -> tuple[list[Candidate], DataSet, Task]:
    from understudy.pipeline.directory import RunDirectory
    from understudy.pipeline.exported import RECORD, exported_candidates, exported_files
    from understudy.recipe.loading import load_recipe
    from understudy.sources.data import load_data

    recipe = load_recipe(run / "recipe.json", files=False)
    exports = [
        RunDirectory(run).stage(stage.name, recipe.seeds[0] if stage.seed is None else stage.seed)
        for stage in recipe.stages
    ]
    exports = [directory for directory in exports if (directory.path / RECORD).is_file()]
    if not exports:
        raise InputError(f"{run} has exported no files; add a stage of the kind `export` to its recipe, or name files")
    first = exported_files(exports[0])[0].model
    candidates = exported_candidates(exports, reference=reference or first, seed=recipe.seeds[0])
    return candidates, load_data(recipe.data, task=recipe.task), recipe.task


def _candidates(files: list[Path]) -> list[Candidate]:
    from understudy.measure import Candidate
    from understudy.measure.picking import is_proved

    several = len({path.name for path in files}) < len(files)
    names = [str(path) if several else path.name for path in files]
    former: dict[str, str] = {}
    candidates = []
    for name, path in zip(names, files, strict=True):
        proved = is_proved(path) if path.suffix else None
        candidates.append(Candidate(name, path, before=former.get(path.suffix), proved=proved))
        former[path.suffix] = name
    return candidates


def _data(source: str | None, size: str | None) -> tuple[DataSet, Task]:
    from understudy.sources.data import DataSpec, load_data
    from understudy.tasks import Classification

    if source is None:
        raise InputError("files are judged on labelled data; name some with --data, such as --data sklearn/digits")
    shape = parsed_size(size) if size else ()
    settings = {"channels": shape[0], "size": shape[1:]} if len(shape) == 3 else {}
    task = Classification()
    return load_data(DataSpec(source=source, **settings), task=task), task


def _named(reference: str | None, candidates: list[Candidate]) -> str | None:
    if reference is None:
        return None
    return next((each.name for each in candidates if reference in (each.name, str(each.path))), reference)


def _shown(found: Deployment, folder: Path) -> str:
    rows = [_cells(row, found) for row in found.rows]
    right = tuple(range(2, 9))
    heads = ("file", "runtime", found.decided_on, "test", "bytes", "latency", "p99", "per second", "memory")
    lines = [columns([row for row in rows if row], headers=heads, right=right)]
    if found.choice is not None:
        lines += ["", f"{found.choice.text}.", f"It is in {folder / (found.file or '')}."]
        lines += [*(f"! {note}." for note in found.choice.notes)]
    return "\n".join(lines)


def _cells(row: Measured, found: Deployment) -> tuple[str, ...]:
    def quality(split: str) -> str:
        value = row.quality.get(split, {}).get(found.metric)
        return "–" if value is None else f"{value:.4f}"

    timed = row.latency
    return (
        row.name,
        row.runtime if row.failed is None else f"{row.runtime}: failed",
        quality(found.decided_on),
        quality("test"),
        f"{row.bytes:,}" if row.bytes is not None else "–",
        f"{timed.median_ms:.3g} ms" if timed is not None else "–",
        f"{timed.p99_ms:.3g} ms" if timed is not None and timed.p99_ms is not None else "–",
        f"{row.throughput:,.0f}" if row.throughput is not None else "–",
        f"{row.peak_memory_bytes / 2**20:,.1f} MiB" if row.peak_memory_bytes is not None else "–",
    )
