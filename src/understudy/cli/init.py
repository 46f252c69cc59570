"""``understudy init``: a recipe of one's own, by a few questions."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from understudy.cli.failures import tell
from understudy.cli.model_names import model_fields
from understudy.cli.output import write
from understudy.cli.recipes import save
from understudy.errors import InputError, listing, nearest

TASK_NAMES = ("image_classification", "classification", "text_classification", "multi_label_classification")
_OF_TEXTS = {"teacher": "understudy:lstm", "student": "understudy:bag"}
"""What `init` takes for texts when nobody answers."""


@dataclass(frozen=True)
class Answers:
    """What `init` needs to know, with what it takes when nobody answers."""

    data: str = "sklearn/digits"
    task: str = "image_classification"
    teacher: str = "understudy:mlp:400-400"
    student: str = "understudy:mlp:32"
    labels: str = "all"
    epochs: float = 20.0


QUESTIONS = {
    "data": "Data (a folder of images, a file, a hub id, or sklearn/digits)",
    "task": f"Task ({', '.join(TASK_NAMES)})",
    "teacher": "Teacher (torchvision:NAME, timm:NAME, python:MODULE:CALLABLE, understudy:mlp:400-400, a directory)",
    "student": "Student (the same ways)",
    "labels": "How many training samples have a label (a number, a fraction such as 0.1, or all)",
    "epochs": "Epochs",
}


def write_recipe(
    data: Annotated[str | None, typer.Option("--data", help="A folder, a file, a hub id, or sklearn/digits.")] = None,
    teacher: Annotated[str | None, typer.Option("--teacher", help="A model, as `understudy layers` takes it.")] = None,
    student: Annotated[str | None, typer.Option("--student", help="A model, likewise.")] = None,
    task: Annotated[str | None, typer.Option("--task", help=f"{', '.join(TASK_NAMES)}.")] = None,
    labels: Annotated[str | None, typer.Option("--labels", help="Labelled samples: 100, 0.1, or all.")] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", help="Epochs of each training.")] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write the recipe.")] = Path(
        "recipe.yaml"
    ),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take what was not given as it comes.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a recipe with comments, for your data and your models. Asks for what is not given.

    Example: [bold]understudy init --data photos/ --teacher torchvision:resnet50 --student torchvision:resnet18[/bold]
    """
    if out.exists() and not force:
        raise InputError(f"{out} is there already; choose another name with --out, or replace it with --force")
    given = {"data": data, "teacher": teacher, "student": student, "task": task, "labels": labels, "epochs": epochs}
    answers = _asked(given, ask=not yes and sys.stdin.isatty())
    text = recipe_text(answers, name=_slug(out.stem))
    # What is written must be accepted: anything wrong with an answer is said now.
    from understudy.recipe.loading import parse_recipe

    parse_recipe(text, name=str(out))
    save(out, text, force=force)
    write(str(out))
    tell(f"Next: understudy check {out} --deep, then understudy run {out}")


def recipe_text(answers: Answers, *, name: str) -> str:
    """The recipe, with a comment where one may want to change something.

    Args:
        answers: what was asked.
        name: of the recipe.

    Raises:
        InputError: for an answer that cannot be understood.
    """
    known_task(answers.task)
    if not answers.epochs > 0:
        raise InputError(f"--epochs {answers.epochs:g}: expected more than 0")
    teacher = _model("--teacher", answers.teacher)
    is_saved = model_fields(answers.teacher)["source"] == "artifact"
    training = TRAINING.format(epochs=f"{answers.epochs:g}")
    return TEMPLATE.format(
        name=name,
        data=json.dumps(answers.data, ensure_ascii=False),
        task=answers.task,
        teacher_stage=(LOADED if is_saved else TRAINED).format(teacher=teacher, training=training),
        student=_model("--student", answers.student),
        student_subset=_labels(answers.labels),
        student_training=training if is_saved else "*training",
    )


def _asked(given: dict[str, Any], *, ask: bool) -> Answers:
    answers = {}
    for field in fields(Answers):
        value, default = given[field.name], field.default
        if answers.get("task") == "text_classification":
            default = _OF_TEXTS.get(field.name, default)
        if value is None and ask:
            value = typer.prompt(QUESTIONS[field.name], default=default, err=True)
        answers[field.name] = default if value is None else value
    return Answers(**answers)


def _model(option: str, text: str) -> str:
    try:
        found = model_fields(text)
    except InputError as error:
        raise InputError(f"{option} {error}") from error
    lines = [f"{key}: {_flow(value)}" for key, value in found.items()]
    if found["source"] == "torchvision":
        lines.append("small_images: false # true: a first layer for images of some 32 pixels; not with weights")
        lines.append("weights: null # DEFAULT: pretrained, needs a download")
    elif found["source"] == "timm":
        lines.append("pretrained: false # true: needs a download")
    return "\n      ".join(lines)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str) and value.replace("_", "").isalnum() and not value[0].isdigit():
        return value
    return json.dumps(value, ensure_ascii=False)


def _labels(text: str) -> str:
    amount = label_amount(text)
    if amount is None:
        return "# subset: {labels: 100} # only so many have a label; the teacher labels the others"
    return f"subset: {{labels: {amount}}} # only so many have a label; the teacher labels the others"


def label_amount(text: str) -> int | float | None:
    """What ``--labels`` says: a number of samples, a part of them, or None for all.

    Raises:
        InputError: for anything else.
    """
    if text.strip().lower() in ("all", "none", ""):
        return None
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if number > 0 and (number < 1 or number.is_integer()):
        return number if number < 1 else int(number)
    raise InputError(f"--labels {text!r}: expected a whole number such as 100, a fraction such as 0.1, or all")


def known_task(name: str) -> str:
    """What ``--task`` says.

    Raises:
        InputError: for a task that there is not, with the nearest one.
    """
    if name not in TASK_NAMES:
        raise InputError(f"--task {name!r}: expected one of {listing(TASK_NAMES)}{nearest(name, TASK_NAMES)}")
    return name


def _slug(text: str) -> str:
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_.-") else "-" for letter in text)
    return kept.strip("-._")[:80] or "recipe"


TEMPLATE = """\
# A recipe for Understudy. Check it: understudy check FILE --deep     Run it: understudy run FILE
# Every key is explained by: understudy recipes reference
version: 1
name: {name}
description: "" # what the run is for; shown in the report
task: {task}
seeds: [0, 1, 2] # everything runs once for each; three give the gain an interval

data:
  source: {data} # a folder of images, a .parquet, .csv or .npz file, a hub id, or sklearn/digits
  carve: 0.1 # part of the training split that validation is carved from, where the data have no validation split

stages:
{teacher_stage}
  # The student learns from the teacher; beside it the control, the same student without the teacher.
  - kind: distill
    name: student
    teacher: teacher # several: [teacher, other]
    model:
      {student}
    {student_subset}
    objective: # all methods: understudy methods
      - {{kind: cross_entropy, weight: 0.1}}
      - {{kind: soft_targets, weight: 0.9, temperature: 4.0}}
    training: {student_training}

  # All of them, on data that nothing was trained or selected on.
  - kind: evaluate
    name: results
    models: [teacher, student]
"""

TRAINED = """\
  # The teacher learns from labels.
  - kind: train
    name: teacher
    model:
      {teacher}
    # subset: {{labels: 100}} # only so many have a label
    # views: {{shift: 2, flip: false}} # augmentation of images
    training: &training{training}
"""

LOADED = """\
  # The teacher is taken as it is.
  - kind: load
    name: teacher
    model:
      {teacher}
"""

TRAINING = """
      epochs: {epochs}
      batch_size: 128
      optimizer: {{kind: adamw, lr: 1e-3, weight_decay: 1e-2}}
      schedule: {{kind: cosine}}
      warmup: 0.05 # part of the training in which the learning rate rises"""
