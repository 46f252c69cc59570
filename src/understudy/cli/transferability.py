"""``understudy transferability``: which trained model to begin with."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated

import typer

from understudy.cli.failures import tell
from understudy.cli.model_names import trained_model
from understudy.cli.output import AsJson, columns, write, write_json
from understudy.errors import InputError


def rank_sources(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL…", help="Trained models: directories of saved ones, RUN#STAGE, torchvision:NAME, timm:NAME."
        ),
    ],
    data: Annotated[str, typer.Option("--data", metavar="SOURCE", help="The set that is to be learnt.")],
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", metavar="MODEL", help="Say also how alike each one's features are to this one's."),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=10, help="Labelled training samples to look at, and as many to test on.")
    ] = 2000,
    seed: Annotated[int, typer.Option("--seed", help="Which samples.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Rank trained models as sources for a task, without training any: by what their frozen features tell of it.

    LogME is the evidence of the labels under the features; the probe is the quality of a linear classifier on them,
    seen on samples of the validation split; CKA with a teacher says how alike two networks see the samples.

    Example: [bold]understudy transferability runs/a#teacher runs/b#teacher --data folder/of/images[/bold]
    """
    from understudy.sources.data import DataSpec, load_data
    from understudy.sources.loader import Loader
    from understudy.sources.splits import Subset
    from understudy.tasks import Classification
    from understudy.transfer.scores import penultimate, score_source

    task = Classification()
    loaded = load_data(DataSpec(source=data), task=task)
    train, val = (
        Loader(
            split.subset(Subset(samples=min(samples, len(split))), seed),
            batch_size=250,
            shuffle=False,
        )
        for split in (loaded.train, loaded.validation)
    )
    built = partial(trained_model, inputs=next(iter(train)).inputs[:2], classes=len(loaded.classes))
    features = penultimate(built(teacher), train, task)[0] if teacher is not None else None
    found, failed = {}, {}
    for name in models:
        tell(f"looking at {name}")
        try:
            found[name] = score_source(
                built(name), train, val, task=task, classes=len(loaded.classes), teacher=features
            )
        except InputError as error:
            failed[name] = str(error)
    if not found:
        raise InputError("\n".join(f"{name}: {reason}" for name, reason in failed.items()))
    ranked = sorted(found.items(), key=lambda item: -item[1].evidence)
    if as_json:
        rows = [{"model": name, **asdict(score)} for name, score in ranked]
        write_json({"schema": 1, "data": data, "metric": task.metric, "sources": rows, "failed": failed})
        return
    cells = [
        (
            name,
            f"{score.evidence:.3f}",
            f"{100 * score.probe:.1f} %",
            "–" if score.alignment is None else f"{score.alignment:.2f}",
            f"{score.features:,}",
            f"{score.seconds:.1f} s",
        )
        for name, score in ranked
    ]
    heads = ("source", "LogME", f"probe, {task.metric}", "CKA", "features", "took")
    write(columns(cells, headers=heads, right=(1, 2, 3, 4, 5)))
    for name, reason in failed.items():
        write(f"{name} was left out: {reason}")
