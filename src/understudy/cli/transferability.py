"""``understudy transferability``: which trained model to begin with, and which of its layers."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.failures import tell
from understudy.cli.init import TASK_NAMES, known_task, label_amount
from understudy.cli.model_names import trained_fields, trained_model
from understudy.cli.output import AsJson, columns, write, write_json
from understudy.cli.results import show_table
from understudy.cli.run import RunFolder, is_main_process, leave_recipe, run_file
from understudy.errors import InputError

if TYPE_CHECKING:
    from understudy.recipe.layering import LayerExperiment

OF_RANKING = ("teacher", "samples", "seed")
OF_LAYERS = ("units", "epochs", "labels", "seeds", "task", "out", "plan")
"""Options that only one of the two forms has."""


def show_transferability(
    context: typer.Context,
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
    layers: Annotated[
        bool, typer.Option("--layers", help="Train instead with more and more units of one model, frozen and tuned.")
    ] = False,
    units: Annotated[
        str | None,
        typer.Option("--units", metavar="N,N,…", help="With --layers: how many units to keep; all, or eight numbers."),
    ] = None,
    epochs: Annotated[float, typer.Option("--epochs", help="With --layers: epochs of each training.")] = 10.0,
    labels: Annotated[
        str, typer.Option("--labels", help="With --layers: labelled training samples: 100, 0.1, or all.")
    ] = "all",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="With --layers: how often everything is trained.")] = 3,
    task: Annotated[
        str, typer.Option("--task", help="With --layers: image_classification or classification.")
    ] = TASK_NAMES[0],
    out: RunFolder = None,
    plan: Annotated[bool, typer.Option("--plan", help="With --layers: print the recipe, and run nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rank trained models as sources for a task, without training any; or say which layers of one transfer to it.

    LogME is the evidence of the labels under a model's frozen features; the probe is the quality of a linear
    classifier on them, seen on samples of the validation split; CKA with a teacher says how alike two networks see the
    samples.

    With --layers, one model is trained on with its first n units kept, frozen and tuned, n from 1 to all but the head,
    and once with none (Yosinski et al. 2014). It is a recipe like any other; the same command goes on where it was
    interrupted.

    Example: [bold]understudy transferability runs/a#teacher runs/b#teacher --data folder/of/images[/bold]
    """
    _refuse_strangers(context, layers=layers)
    if not layers:
        _rank(models, data, teacher=teacher, samples=samples, seed=seed, as_json=as_json)
        return
    if len(models) != 1:
        raise InputError(f"--layers is about one model, and {len(models)} are named; give each a run of its own")
    from understudy.recipe.layering import LayerExperiment

    asked = LayerExperiment(
        model=trained_fields(models[0]),
        data=data,
        task=known_task(task),
        units=_numbers(units) if units is not None else (),
        epochs=epochs,
        labels=label_amount(labels),
        seeds=seeds,
    )
    _try_layers(asked, models[0], out=out, plan=plan, as_json=as_json)


def _refuse_strangers(context: typer.Context, *, layers: bool) -> None:
    """Refuse options that the other form has."""
    flags = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    for name in OF_RANKING if layers else OF_LAYERS:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            other = "is about ranking models, and --layers trains one; leave one of the two out"
            raise InputError(f"{flags[name]} {other if layers else 'says how --layers trains; give --layers with it'}")


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(
            f"--units {text!r}: expected how many units to keep, such as 1,2,5; from random weights (0) is always tried"
        )
    return tuple(sorted({int(part) for part in parts}))


def _try_layers(asked: LayerExperiment, model: str, *, out: Path | None, plan: bool, as_json: bool) -> None:
    """Run the experiment, and show what came out."""
    from understudy.recipe.layering import layer_recipe

    text = layer_recipe(_with_units(asked), name="layers")
    if plan:
        write(text)
        return
    directory = out if out is not None else Path("runs") / "layers"
    directory = run_file(leave_recipe(text, directory), [], directory)
    if not is_main_process():
        return
    from understudy.report import build_report, read_run
    from understudy.report.terminal import layer_table
    from understudy.report.writing import write_report

    report = build_report([read_run(directory)])
    paths, (found,) = write_report(directory, report=report), report.layers
    if as_json:
        told = {"schema": 1, "model": model, "data": asked.data, **found.model_dump(mode="json")}
        write_json({**told, "report": str(paths.html)})
        return
    show_table(layer_table(found))
    write(f"\nReport: {paths.html}")


def _with_units(asked: LayerExperiment) -> LayerExperiment:
    """The experiment with the numbers of units that it tries.

    Raises:
        InputError: for a source that cannot be had, or more units than it has.
    """
    from understudy.pipeline.stages import Transfer
    from understudy.recipe.layering import layer_recipe, spread_units
    from understudy.recipe.loading import parse_recipe
    from understudy.sources.data import load_data
    from understudy.sources.loader import Loader
    from understudy.transfer.sources import body_of, kept_units, source_network

    # What is written must be accepted: anything wrong with an option is said now.
    recipe = parse_recipe(layer_recipe(asked, name="layers"), name="the recipe of these options")
    first = recipe.stages[0]
    assert isinstance(first, Transfer)
    loaded = load_data(recipe.data, task=recipe.task)
    inputs = next(iter(Loader(loaded.validation, batch_size=2, shuffle=False))).inputs
    source = source_network(first.model, classes=loaded.classes, inputs=inputs, task=recipe.task, head="new")
    body = body_of(source)
    if not body:
        raise InputError("the source has no unit in front of its head, so there is nothing to keep of it")
    if asked.units:
        kept_units(source, asked.units[-1])
        return asked
    units = spread_units(len(body))
    if len(units) < len(body):
        tell(f"the source has {len(body)} units; {', '.join(map(str, units))} of them are tried (--units says others)")
    return replace(asked, units=units)


def _rank(models: list[str], data: str, *, teacher: str | None, samples: int, seed: int, as_json: bool) -> None:
    """Score each model, and show them, the best one first."""
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
