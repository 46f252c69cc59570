"""What differs between image classification, text, detection …, one file per task."""

from typing import Annotated

from pydantic import Field

from understudy.knowledge import Answers
from understudy.tasks.classification import Classification, ImageClassification, TextClassification
from understudy.tasks.embedding import SentenceEmbedding
from understudy.tasks.language import CausalLanguageModel
from understudy.tasks.numbers import NumberRegression, TextRegression
from understudy.tasks.task import Task

_MAKERS = (
    Classification,
    ImageClassification,
    TextClassification,
    CausalLanguageModel,
    NumberRegression,
    TextRegression,
    SentenceEmbedding,
)
TASKS: tuple[type[Task], ...] = _MAKERS
"""All tasks that a recipe can name."""

AnyTask = Annotated[
    Classification
    | ImageClassification
    | TextClassification
    | CausalLanguageModel
    | NumberRegression
    | TextRegression
    | SentenceEmbedding,
    Field(discriminator="kind"),
]


def answers_of(kind: str | None) -> Answers:
    """What networks of a task answer, by the task's name.

    Args:
        kind: of a task; None, and one that is not known: classes.
    """
    named = task_named(kind)
    return "classes" if named is None else named.answers


def task_named(kind: str | None) -> Task | None:
    """The task of a name, with nothing else said of it; None where it is not known.

    Args:
        kind: such as ``text_regression``.
    """
    return next((task() for task in _MAKERS if task.model_fields["kind"].default == kind), None)


__all__ = [
    "TASKS",
    "Answers",
    "AnyTask",
    "CausalLanguageModel",
    "Classification",
    "ImageClassification",
    "NumberRegression",
    "SentenceEmbedding",
    "Task",
    "TextClassification",
    "TextRegression",
    "answers_of",
    "task_named",
]
