"""What every structural change of a network is."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from torch import nn

from understudy.errors import InputError
from understudy.spec import Spec


class Edit(Spec):
    """A change in what a network is made of, beside its weights. A saved model lists it, and loading replays it."""

    becomes: ClassVar[str]
    """What a network becomes by it, in a word or two, for reports."""
    kind: str

    @abstractmethod
    def replay(self, network: nn.Module, inputs: Any) -> nn.Module:
        """Change a network in the same way again; the weights that it then has mean nothing.

        Args:
            network: as it was before the edit, but for its weights; it may be changed in place.
            inputs: two samples of the right shapes and types, for edits that have to see a forward pass.

        Returns:
            The edited network.

        Raises:
            InputError: when it is another network.
        """

    def layer_of(self, network: nn.Module, path: str) -> nn.Module:
        """A layer that the edit is about.

        Raises:
            InputError: when the network does not have it.
        """
        try:
            return network.get_submodule(path)
        except AttributeError as error:
            raise InputError(
                f"the structural edit {self.kind!r} is about the layer {path!r}, which {type(network).__name__} does "
                f"not have ({error}); expected the network that was edited"
            ) from error
