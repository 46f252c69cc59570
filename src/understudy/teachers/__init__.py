"""Sources of knowledge: whatever answers ``observe(batch)``."""

from understudy.teachers.average import AverageTeacher
from understudy.teachers.converted import RuntimeTeacher
from understudy.teachers.ensemble import Ensemble
from understudy.teachers.module import ModuleTeacher
from understudy.teachers.onnx import OnnxTeacher
from understudy.teachers.recorded import Recorded
from understudy.teachers.stateful import StatefulTeacher, stateful_teachers
from understudy.teachers.teacher import Teacher
from understudy.teachers.told import Told

__all__ = [
    "AverageTeacher",
    "Ensemble",
    "ModuleTeacher",
    "OnnxTeacher",
    "Recorded",
    "RuntimeTeacher",
    "StatefulTeacher",
    "Teacher",
    "Told",
    "stateful_teachers",
]
