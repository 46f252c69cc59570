"""What is carried over before training: weights, blocks, widths, heads, and how what was carried over is trained on."""

from understudy.transfer.blocks import Depth
from understudy.transfer.tuning import Tuning, pace_of
from understudy.transfer.units import Unit, units_of
from understudy.transfer.weights import Transferred, Width, transfer_weights

__all__ = ["Depth", "Transferred", "Tuning", "Unit", "Width", "pace_of", "transfer_weights", "units_of"]
