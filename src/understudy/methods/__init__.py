"""Every way of passing knowledge, one file each. A new method adds its file, one line here, and its test."""

from typing import Annotated

from pydantic import Field

from understudy.methods.cross_entropy import CrossEntropy
from understudy.methods.hint import Hint
from understudy.methods.soft_targets import SoftTargets
from understudy.objective import Method

METHODS: tuple[type[Method], ...] = (
    CrossEntropy,
    Hint,
    SoftTargets,
)
"""All methods; the recipe schema, the command line and the docs pages are derived from this tuple."""

AnyMethod = Annotated[CrossEntropy | Hint | SoftTargets, Field(discriminator="kind")]
"""What a recipe may write in an objective."""

__all__ = ["METHODS", "AnyMethod", "CrossEntropy", "Hint", "Method", "SoftTargets"]
