"""Sources of knowledge: whatever answers ``observe(batch)``."""

from understudy.teachers.average import AverageTeacher
from understudy.teachers.ensemble import Ensemble
from understudy.teachers.module import ModuleTeacher
from understudy.teachers.recorded import Recorded
from understudy.teachers.stateful import StatefulTeacher, stateful_teachers
from understudy.teachers.teacher import Teacher

__all__ = ["AverageTeacher", "Ensemble", "ModuleTeacher", "Recorded", "StatefulTeacher", "Teacher", "stateful_teachers"]
