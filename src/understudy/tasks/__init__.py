"""What differs between image classification, text, detection …, one file per task."""

from typing import Annotated

from pydantic import Field

from understudy.knowledge import Answers
from understudy.tasks.classification import Classification, ImageClassification, TextClassification
from understudy.tasks.embedding import SentenceEmbedding
from understudy.tasks.language import CausalLanguageModel, LanguageModel
from understudy.tasks.multi_label import MultiLabelClassification
from understudy.tasks.numbers import NumberRegression, TextRegression
from understudy.tasks.sequence_to_sequence import SequenceToSequence
from understudy.tasks.task import Task

TASKS: tuple[type[Task], ...] = (
    Classification,
    ImageClassification,
    TextClassification,
    MultiLabelClassification,
    NumberRegression,
    TextRegression,
    SentenceEmbedding,
    CausalLanguageModel,
    SequenceToSequence,
)
"""All tasks that a recipe can name."""

AnyTask = Annotated[
    Classification
    | ImageClassification
    | TextClassification
    | MultiLabelClassification
    | NumberRegression
    | TextRegression
    | SentenceEmbedding
    | CausalLanguageModel
    | SequenceToSequence,
    Field(discriminator="kind"),
]


def task_of(kind: str | None, classes: int) -> Task:
    """The task that a saved model or an exported file says it is for; classification where it says none.

    Args:
        kind: of the task, as it is written there.
        classes: how many classes, labels or tokens it names.
    """
    found = next((task for task in TASKS if task.model_fields["kind"].default == kind), Classification)
    return found().of_classes(classes)  # pyright: ignore[reportCallIssue] - all that a recipe can name have defaults


__all__ = [
    "TASKS",
    "Answers",
    "AnyTask",
    "CausalLanguageModel",
    "Classification",
    "ImageClassification",
    "LanguageModel",
    "MultiLabelClassification",
    "NumberRegression",
    "SentenceEmbedding",
    "SequenceToSequence",
    "Task",
    "TextClassification",
    "TextRegression",
    "task_of",
]
