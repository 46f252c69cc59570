"""What is carried over before training: weights, blocks, widths, heads, and how what was carried over is trained on."""

from understudy.transfer.blocks import Depth
from understudy.transfer.lora import Lora, merge_factors, put_factors_beside
from understudy.transfer.replacing import Replaced, Replacing, pace_of_blocks, replace_blocks
from understudy.transfer.scaling import ScaledCopy, scaled_copy
from understudy.transfer.tuning import Tuning, pace_of
from understudy.transfer.units import Unit, units_of
from understudy.transfer.weights import Transferred, Width, transfer_weights

__all__ = [
    "Depth",
    "Lora",
    "Replaced",
    "Replacing",
    "ScaledCopy",
    "Transferred",
    "Tuning",
    "Unit",
    "Width",
    "merge_factors",
    "pace_of",
    "pace_of_blocks",
    "put_factors_beside",
    "replace_blocks",
    "scaled_copy",
    "transfer_weights",
    "units_of",
]
