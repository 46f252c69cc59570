"""What a model costs and how good it is, measured on the machine at hand."""

from understudy.measure.cost import Cost, cost
from understudy.measure.latency import Latency, compare_latency, latency, throughput
from understudy.measure.memory import peak_memory, peak_memory_of
from understudy.measure.quality import Predictions, agreement, confusion, predict, quality

__all__ = [
    "Cost",
    "Latency",
    "Predictions",
    "agreement",
    "compare_latency",
    "confusion",
    "cost",
    "latency",
    "peak_memory",
    "peak_memory_of",
    "predict",
    "quality",
    "throughput",
]
