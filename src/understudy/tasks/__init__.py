"""What differs between image classification, text, detection …, one file per task."""

from typing import Annotated

from pydantic import Field

from understudy.knowledge import Answers
from understudy.tasks.classification import Classification, ImageClassification, TextClassification
from understudy.tasks.embedding import SentenceEmbedding
from understudy.tasks.language import CausalLanguageModel
from understudy.tasks.numbers import NumberRegression, TextRegression
from understudy.tasks.task import Task

TASKS: tuple[type[Task], ...] = (
    Classification,
    ImageClassification,
    TextClassification,
    CausalLanguageModel,
    NumberRegression,
    TextRegression,
    SentenceEmbedding,
)
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
    return next((task.answers for task in TASKS if task.model_fields["kind"].default == kind), "classes")


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
]
