"""What a recipe is: the frozen, strict, versioned description of a run."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal, final

from pydantic import BeforeValidator, Field, NonNegativeInt, model_validator

from understudy.objective import Objective
from understudy.pipeline.stages import AnyStage, Deploy, Distill, Stage, Train, Transfer
from understudy.recipe.problems import KeyPath
from understudy.recipe.quantized import misused_quantized
from understudy.recipe.recorded import unfit_recordings
from understudy.recipe.references import misplaced
from understudy.sources.data import DataSpec
from understudy.spec import Spec, refuse
from understudy.tasks import AnyTask, LanguageModel, MultiLabelClassification

VERSION = 1
"""The version of recipes that this Understudy reads."""


def _spelt_out(task: Any) -> Any:
    return {"kind": task} if isinstance(task, str) else task


@final
class Recipe(Spec):
    """One run: the data, the stages in their order, and the seeds to repeat them with."""

    version: Literal[1]
    """Version of this format; 1 is the only one so far."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
    """Short name, also of the run directory."""
    description: str = ""
    """What the run is for; shown by `understudy recipes list` and in the report."""
    task: Annotated[AnyTask, BeforeValidator(_spelt_out, json_schema_input_type=str | AnyTask)]
    """The kind of problem: its name alone, such as `image_classification`, or a mapping with its `kind`."""
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    """Every stage runs once for each of them; three or more give the gain an interval."""
    data: DataSpec
    """What is learnt from."""
    stages: Annotated[tuple[AnyStage, ...], Field(min_length=1)]
    """What is done, in this order."""
    trackers: tuple[str, ...] = ()
    """Experiment trackers to log to beside the run directory, such as `tensorboard`, `mlflow` or `wandb`."""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        problems = misplaced({("stages", index): stage for index, stage in enumerate(self.stages)})
        problems += _unmixable(self.stages) + unfit_recordings(self.stages, self.seeds, self.task)
        problems += misused_quantized(self.stages) + _without_texts(self.task, self.stages)
        problems += _refused(self.task, self.stages) + _without_points(self.task, self.stages)
        doubles = [seed for seed, count in Counter(self.seeds).items() if count > 1]
        if doubles:
            problems.append((("seeds",), f"given twice: {', '.join(map(str, doubles))}; every seed counts once"))
        refuse(problems)
        return self


def _without_texts(task: AnyTask, stages: tuple[Stage, ...]) -> list[tuple[KeyPath, str]]:
    """Students that are to write texts, and are no language models."""
    if isinstance(task, LanguageModel):
        return []
    message = f"lets the student write texts, for task: causal_language_model; this is {task.kind}. Leave it out"
    return [
        (("stages", index, "on_policy"), message)
        for index, stage in enumerate(stages)
        if isinstance(stage, Distill) and stage.on_policy is not None
    ]


def _refused(task: AnyTask, stages: tuple[Stage, ...]) -> list[tuple[KeyPath, str]]:
    """Terms and stages that say nothing in this task."""
    has = "any number of labels" if task.answers == "classes" else task.answers
    alone = f"is about classes of which each sample has one, and here it has {has}; leave the stage out"
    unfit: list[tuple[KeyPath, str]] = [
        (("stages", index, "kind"), f"{stage.kind} {alone}")
        for index, stage in enumerate(stages)
        if stage.among_classes and (task.answers != "classes" or isinstance(task, MultiLabelClassification))
    ]
    return unfit + [
        (("stages", index, "objective", number), problem)
        for index, stage in enumerate(stages)
        if isinstance(stage, Train | Transfer | Distill)
        for number, term in enumerate(stage.objective or ())
        if (problem := task.refuses(term)) is not None
    ]


def _without_points(task: AnyTask, stages: tuple[Stage, ...]) -> list[tuple[KeyPath, str]]:
    """Files that cannot be chosen by quality."""
    if task.answers == "classes" or (task.labelled and not task.lower_is_better):
        return []
    message = "chooses by how many points of the headline metric a file may lose, and this one has none; " + (
        "set `metric: r2` or a correlation in `task`" if task.labelled else "leave it out, `export` proves files"
    )
    return [(("stages", index), message) for index, stage in enumerate(stages) if isinstance(stage, Deploy)]


def _unmixable(stages: tuple[Stage, ...]) -> list[tuple[KeyPath, str]]:
    """Terms that cannot learn from mixed samples, where the views of their stage mix them."""
    return [
        (("stages", index, "objective", number), problem)
        for index, stage in enumerate(stages)
        if isinstance(stage, Train | Transfer | Distill) and stage.views is not None and stage.views.mixes
        for number, term in enumerate(stage.objective or ())
        for problem in Objective((term,)).unmixable
    ]
