"""What differs between image classification, text, detection …, one file per task."""

from typing import Annotated

from pydantic import Field

from understudy.tasks.classification import Classification, ImageClassification, TextClassification
from understudy.tasks.language import CausalLanguageModel, LanguageModel
from understudy.tasks.sequence_to_sequence import SequenceToSequence
from understudy.tasks.task import Task

TASKS: tuple[type[Task], ...] = (
    Classification,
    ImageClassification,
    TextClassification,
    CausalLanguageModel,
    SequenceToSequence,
)
"""All tasks that a recipe can name."""

AnyTask = Annotated[
    Classification | ImageClassification | TextClassification | CausalLanguageModel | SequenceToSequence,
    Field(discriminator="kind"),
]

__all__ = [
    "TASKS",
    "AnyTask",
    "CausalLanguageModel",
    "Classification",
    "ImageClassification",
    "LanguageModel",
    "SequenceToSequence",
    "Task",
    "TextClassification",
]
