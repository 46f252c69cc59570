"""What a model costs and how good it is, measured on the machine at hand."""

from understudy.measure.answered import Answered
from understudy.measure.candidates import Candidate, Measured
from understudy.measure.cost import Cost, cost, macs
from understudy.measure.deployment import Deployment, deploy
from understudy.measure.files import measure_files
from understudy.measure.latency import Latency, compare_latency, latency, throughput
from understudy.measure.memory import peak_memory, peak_memory_of
from understudy.measure.quality import Predictions, Tally, agreement, judge, predict, quality

__all__ = [
    "Answered",
    "Candidate",
    "Cost",
    "Deployment",
    "Latency",
    "Measured",
    "Predictions",
    "Tally",
    "agreement",
    "compare_latency",
    "cost",
    "deploy",
    "judge",
    "latency",
    "macs",
    "measure_files",
    "peak_memory",
    "peak_memory_of",
    "predict",
    "quality",
    "throughput",
]
