"""What differs between image classification, text, detection …, one file per task."""

from typing import Annotated

from pydantic import Field

from understudy.tasks.classification import Classification, ImageClassification, TextClassification
from understudy.tasks.language import CausalLanguageModel
from understudy.tasks.task import Task

TASKS: tuple[type[Task], ...] = (Classification, ImageClassification, TextClassification, CausalLanguageModel)
"""All tasks that a recipe can name."""

AnyTask = Annotated[
    Classification | ImageClassification | TextClassification | CausalLanguageModel, Field(discriminator="kind")
]

__all__ = [
    "TASKS",
    "AnyTask",
    "CausalLanguageModel",
    "Classification",
    "ImageClassification",
    "Task",
    "TextClassification",
]
