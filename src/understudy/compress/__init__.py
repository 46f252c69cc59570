"""Making a trained network smaller: each way is a function of a network and an example batch."""

from understudy.compress.low_rank import FactorisedLayer, FactorisedNetwork, factorise
from understudy.compress.quantization import QuantizedNetwork, quantize
from understudy.compress.sensitivity import BoundedNetwork, quantize_within, sensitivities

__all__ = [
    "BoundedNetwork",
    "FactorisedLayer",
    "FactorisedNetwork",
    "QuantizedNetwork",
    "factorise",
    "quantize",
    "quantize_within",
    "sensitivities",
]
