"""An exported file, called like the network that it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as trees

from understudy.errors import InputError
from understudy.runtimes.card import Card
from understudy.runtimes.session import Session


@final
class DeployedModel(nn.Module):
    """A file in the runtime that executes it. It has no parameters, and lives on the CPU.

    Whatever takes a network takes it: a task calls it, quality and latency are measured of it.

    Args:
        path: the file.
        runtime: what executes it, such as ``onnxruntime``.
        session: the loaded file.
        card: what the file says about itself; None for a file from elsewhere.
    """

    def __init__(self, path: Path, *, runtime: str, session: Session, card: Card | None) -> None:
        super().__init__()
        self.path, self.runtime, self.session, self.card = path, runtime, session, card

    @property
    def batch_size(self) -> int | None:
        """How many samples the file takes at once; None where it takes any number."""
        sizes = [port.shape[0] for port in self.session.inputs if port.shape]
        return sizes[0] if sizes else None

    def forward(self, *positional: Any, **named: Any) -> Tensor:
        """The first output, for inputs in the order of the file's, or by their names.

        Raises:
            InputError: for other inputs than the file takes.
        """
        return self.session.call(self._ordered(positional, named))[0]

    def _ordered(self, positional: tuple[Any, ...], named: dict[str, Any]) -> list[Tensor]:
        names = [port.name for port in self.session.inputs]
        if named and set(named) == set(names):
            return [named[name] for name in names]
        tensors = [leaf for leaf in trees.tree_leaves((positional, named)) if isinstance(leaf, torch.Tensor)]
        if named or len(tensors) != len(names):
            given = [*named] or [f"{len(tensors)} tensors"]
            raise InputError(f"{self.path} takes {', '.join(map(repr, names))}, it was given {', '.join(given)}")
        return tensors
