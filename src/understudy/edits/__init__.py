"""What was changed in a network after it was built, so that a saved model can be built and changed again."""

from typing import Annotated

from pydantic import Field

from understudy.edits.edit import Edit
from understudy.edits.factorised import Factorised
from understudy.edits.new_head import NewHead
from understudy.edits.quantized import Quantized, QuantizedWeights
from understudy.edits.resized import Resized
from understudy.edits.reused_head import ReusedHead
from understudy.edits.shallower import Shallower

EDITS: tuple[type[Edit], ...] = (ReusedHead, NewHead, Shallower, Resized, Factorised, Quantized, QuantizedWeights)

AnyEdit = Annotated[
    ReusedHead | NewHead | Shallower | Resized | Factorised | Quantized | QuantizedWeights, Field(discriminator="kind")
]
"""What a saved model's record may list under `edits`."""

__all__ = [
    "EDITS",
    "AnyEdit",
    "Edit",
    "Factorised",
    "NewHead",
    "Quantized",
    "QuantizedWeights",
    "Resized",
    "ReusedHead",
    "Shallower",
]
