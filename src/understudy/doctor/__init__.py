"""The doctor: finds what makes a distillation fail silently, before the first step and during the run."""

from understudy.doctor.balance import term_balance
from understudy.doctor.diagnose import diagnose
from understudy.doctor.findings import Finding, raise_errors, render, to_json
from understudy.doctor.freezing import TeacherWatch
from understudy.doctor.gain import check_gain
from understudy.doctor.quality import check_teacher
from understudy.doctor.students import check_modes

__all__ = [
    "Finding",
    "TeacherWatch",
    "check_gain",
    "check_modes",
    "check_teacher",
    "diagnose",
    "raise_errors",
    "render",
    "term_balance",
    "to_json",
]
