"""A network with fewer blocks."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import Field
from torch import nn

from understudy.edits.edit import Edit
from understudy.errors import InputError


@final
class Shallower(Edit):
    """Which blocks of rows stay. In a sequence or a list the ones behind move up, names and all.

    Example:
        >>> deep = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 4))
        >>> Shallower(rows={"": ("0", "2")}).replay(deep, None)
        Sequential(
          (0): Linear(in_features=2, out_features=4, bias=True)
          (1): Linear(in_features=4, out_features=4, bias=True)
        )
    """

    becomes: ClassVar[str] = "with fewer blocks"
    kind: Literal["shallower"] = "shallower"
    rows: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]]
    """By the path of a row the names of its children that stay, in order; the empty path is the network itself."""

    def replay(self, network: nn.Module, inputs: Any) -> nn.Module:  # noqa: ARG002
        """Take the other blocks out.

        Args:
            network: changed in place.
            inputs: not needed.

        Raises:
            InputError: when it does not have these rows and blocks.
        """
        for path, staying in self.rows.items():
            row = self.layer_of(network, path)
            blocks = dict(row.named_children())
            if missing := [name for name in staying if name not in blocks]:
                raise InputError(
                    f"the structural edit {self.kind!r} is about the block {missing[0]!r} of {path!r}, which "
                    f"{type(network).__name__} does not have; expected the network that was edited"
                )
            names = staying if isinstance(row, nn.ModuleDict) else list(blocks)[: len(staying)]
            row._modules.clear()
            row._modules.update({new: blocks[name] for new, name in zip(names, staying, strict=True)})
        return network
