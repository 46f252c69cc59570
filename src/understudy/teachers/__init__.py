"""Sources of knowledge: whatever answers ``observe(batch)``."""

from understudy.teachers.ensemble import Ensemble
from understudy.teachers.module import ModuleTeacher
from understudy.teachers.teacher import Teacher

__all__ = ["Ensemble", "ModuleTeacher", "Teacher"]
