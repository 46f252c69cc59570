"""Our training loop: any number of devices, resumable at any step, and out of the way of everything else."""

from understudy.engine.fit import Fitted, fit
from understudy.engine.history import Record
from understudy.engine.loop import Callback, Moment
from understudy.engine.pace import Pace
from understudy.engine.plan import Choice, Execution, Plan
from understudy.engine.process import Process, process
from understudy.engine.progress import PlainProgress, Progress, RichProgress, SilentProgress, progress_for
from understudy.engine.training import Optimizer, Training

__all__ = [
    "Callback",
    "Choice",
    "Execution",
    "Fitted",
    "Moment",
    "Optimizer",
    "Pace",
    "PlainProgress",
    "Plan",
    "Process",
    "Progress",
    "Record",
    "RichProgress",
    "SilentProgress",
    "Training",
    "fit",
    "process",
    "progress_for",
]
