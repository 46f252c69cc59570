"""Every way of passing knowledge, one file each. A new method adds its file, one line here, and its test."""

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from understudy.methods.cross_entropy import CrossEntropy as CrossEntropy
from understudy.methods.hint import Hint as Hint
from understudy.methods.soft_targets import SoftTargets as SoftTargets
from understudy.objective import Method

METHODS: tuple[type[Method], ...] = tuple(
    value
    for name, value in sorted(vars().items())
    if isinstance(value, type) and issubclass(value, Method) and name != "Method"
)
"""All methods that are imported above; the recipe schema, the command line and the docs pages are derived from them."""

if TYPE_CHECKING:
    AnyMethod = Method
else:
    AnyMethod = Annotated[Union[METHODS], Field(discriminator="kind")]  # noqa: UP007 - of a tuple
"""What a recipe may write in an objective."""
