"""A network whose layers became smaller: channels, heads or columns were taken out."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from understudy.edits.edit import Edit
from understudy.errors import InputError, listing

Size = int | float | tuple[int, ...]


@final
class Resized(Edit):
    """The new shapes of weights, and the numbers in layers that say so, whatever took the rest out.

    Nothing but torch is needed to replay it.

    Example:
        >>> before, after = nn.Sequential(nn.Linear(3, 8)), nn.Sequential(nn.Linear(3, 2))
        >>> edit = Resized.between(before, after)
        >>> edit.shapes, edit.attributes
        ({'0.weight': (2, 3), '0.bias': (2,)}, {'0': {'out_features': 2}})
        >>> edit.replay(before, None)
        Sequential(
          (0): Linear(in_features=3, out_features=2, bias=True)
        )
    """

    becomes: ClassVar[str] = "pruned"
    kind: Literal["resized"] = "resized"
    shapes: dict[str, tuple[int, ...]]
    """Of the parameters and buffers whose shape changed, by name."""
    attributes: dict[str, dict[str, Size]]
    """What layers say of their sizes, where it changed, such as ``out_channels`` or ``num_heads``, by layer. Lists are
    written as tuples."""

    @classmethod
    def between(cls, before: nn.Module, after: nn.Module) -> Resized:
        """What makes the layers of one network as large as those of another.

        Args:
            before: a network.
            after: the same with other sizes.

        Raises:
            InputError: when one has layers or weights that the other does not have, or weights shared otherwise.
        """
        old, new = _tensors(before), _tensors(after)
        layers, resized = dict(before.named_modules()), dict(after.named_modules())
        strange = sorted((old.keys() ^ new.keys()) | (layers.keys() ^ resized.keys()))
        if strange:
            raise InputError(f"expected two networks with the same layers; not in both: {listing(strange)}")
        if untied := sorted(name for name, other in _sharing(old).items() if new[name] is not new[other]):
            raise InputError(
                f"expected two networks that share the same weights; no longer shared: {listing(untied)}. A copy that "
                "is loaded again would share them"
            )
        sizes = {path: _changed(_sizes(layers[path]), _sizes(layer)) for path, layer in resized.items()}
        return cls(
            shapes={name: tuple(tensor.shape) for name, tensor in new.items() if tensor.shape != old[name].shape},
            attributes={path: found for path, found in sizes.items() if found},
        )

    def replay(self, network: nn.Module, inputs: Any) -> nn.Module:  # noqa: ARG002
        """Give the layers these sizes; weights of other shapes than before become zeros, shared ones stay shared.

        Args:
            network: changed in place.
            inputs: not needed.

        Raises:
            InputError: when it does not have these layers and weights.
        """
        zeros: dict[int, Tensor] = {}
        for name, shape in self.shapes.items():
            path, _, own = name.rpartition(".")
            layer = self.layer_of(network, path)
            old = layer._parameters.get(own, layer._buffers.get(own))
            if old is None:
                raise InputError(
                    f"the structural edit {self.kind!r} is about {name!r}, which the network does not have"
                )
            new = zeros.setdefault(id(old), _smaller(old, shape))
            if isinstance(new, nn.Parameter):
                layer._parameters[own] = new
            else:
                layer._buffers[own] = new
        for path, attributes in self.attributes.items():
            layer = self.layer_of(network, path)
            for name, value in attributes.items():
                keeps_list = isinstance(vars(layer).get(name), list)
                setattr(layer, name, list(value) if keeps_list and isinstance(value, tuple) else value)
        return network


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.named_parameters(remove_duplicate=False)) | dict(network.named_buffers(remove_duplicate=False))


def _sharing(tensors: dict[str, Tensor]) -> dict[str, str]:
    """The names of tensors that have been there before, and the first name of each."""
    first: dict[int, str] = {}
    names = {name: first.setdefault(id(tensor), name) for name, tensor in tensors.items()}
    return {name: other for name, other in names.items() if name != other}


def _sizes(layer: nn.Module) -> dict[str, Size]:
    return {
        name: tuple(value) if isinstance(value, list | tuple) else value
        for name, value in vars(layer).items()
        if _is_size(value) and not name.startswith("_")
    }


def _is_size(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(isinstance(each, int) for each in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _changed(before: dict[str, Size], after: dict[str, Size]) -> dict[str, Size]:
    return {name: value for name, value in after.items() if before.get(name) != value}


def _smaller(old: Tensor, shape: tuple[int, ...]) -> Tensor:
    new = torch.zeros(shape, dtype=old.dtype, device=old.device)
    return nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new
