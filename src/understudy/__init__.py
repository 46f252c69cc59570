"""Understudy: turn a big trained network into a small one that stands in for it, and prove that it does.

Nothing heavy is imported until a name needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from understudy import functional
    from understudy.batch import IGNORE_INDEX, Batch
    from understudy.distiller import Distiller, Step
    from understudy.errors import InputError, RunError, UnderstudyError
    from understudy.knowledge import Knowledge
    from understudy.methods import CrossEntropy, Hint, SoftTargets
    from understudy.objective import Method, Objective
    from understudy.schedules import Cosine, Linear, OneCycle, Schedule
    from understudy.schedules import Step as StepSchedule
    from understudy.taps import Taps
    from understudy.tasks import Classification, ImageClassification, Task
    from understudy.teachers import ModuleTeacher, Teacher

_HOME = {
    "IGNORE_INDEX": "batch",
    "Batch": "batch",
    "Classification": "tasks",
    "Cosine": "schedules",
    "CrossEntropy": "methods",
    "Distiller": "distiller",
    "Hint": "methods",
    "ImageClassification": "tasks",
    "InputError": "errors",
    "Knowledge": "knowledge",
    "Linear": "schedules",
    "Method": "objective",
    "ModuleTeacher": "teachers",
    "Objective": "objective",
    "OneCycle": "schedules",
    "RunError": "errors",
    "Schedule": "schedules",
    "SoftTargets": "methods",
    "Step": "distiller",
    "Taps": "taps",
    "Task": "tasks",
    "Teacher": "teachers",
    "UnderstudyError": "errors",
}


def __getattr__(name: str) -> Any:
    if name == "functional":
        return importlib.import_module("understudy.functional")
    if name in _HOME:
        return getattr(importlib.import_module(f"understudy.{_HOME[name]}"), name)
    raise AttributeError(f"module 'understudy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return ["__version__", "functional", *sorted(_HOME)]
