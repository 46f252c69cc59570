"""A network from tensors in a row to tensors in a row, as converters want it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as trees


@final
class Call:
    """How a network is called, seen once: which tensors go in, and what the answer is made of.

    Args:
        module: the network; a copy of it, in eval mode, is what becomes flat.
        ask: calls the network that it is given, as whoever uses it does.

    Attributes:
        tensors: what went in, in order.
        names: of these: keywords as they are, positions as ``input``, ``input_1``, ….
        answer: what its answer is made of.
        flat: the network as a function of these, to the tensors of its answer.
    """

    def __init__(self, module: nn.Module, ask: Callable[[nn.Module], Any]) -> None:
        module = copy.deepcopy(module).eval()
        seen = _Seen(module)
        with torch.no_grad():
            ask(seen)
        leaves, inputs = trees.tree_flatten(seen.arguments)
        self.tensors = tensors_in(leaves)
        self.names = _names(seen.arguments)
        self.answer = Answer(*trees.tree_flatten(seen.answer))
        self.flat: nn.Module = Flat(module, leaves, inputs).eval()


@final
class Answer:
    """What a network's answer is made of, beside tensors.

    Args:
        leaves: of one answer.
        structure: how they belong together.
    """

    def __init__(self, leaves: list[Any], structure: trees.TreeSpec) -> None:
        self._form, self._structure = _form(leaves), structure

    def of(self, tensors: Iterable[Tensor]) -> Any:
        """The same kind of answer, of other tensors."""
        return trees.tree_unflatten(_filled(self._form, tensors), self._structure)


class Flat(nn.Module):
    """A network whose arguments and answers are tensors in a row.

    Args:
        module: the network.
        arguments: the leaves of its arguments; what is no tensor stays as it is.
        structure: what the arguments are made of.
    """

    def __init__(self, module: nn.Module, arguments: list[Any], structure: trees.TreeSpec) -> None:
        super().__init__()
        self.module, self.arguments, self.structure = module, _form(arguments), structure

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors of the answer."""
        positional, named = trees.tree_unflatten(_filled(self.arguments, tensors), self.structure)
        return tuple(tensors_in(trees.tree_leaves(self.module(*positional, **named))))


class _Seen(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.arguments: Any = None
        self.answer: Any = None

    def forward(self, *positional: Any, **named: Any) -> Any:
        self.arguments = _ordered(positional, named)
        self.answer = self.module(*positional, **named)
        return self.answer


def arguments_in(positional: tuple[Any, ...], named: Mapping[str, Any]) -> list[Tensor]:
    """The tensors that a network is called with, in the order of :attr:`Call.tensors`."""
    return tensors_in(trees.tree_leaves(_ordered(positional, named)))


def tensors_in(leaves: Iterable[Any]) -> list[Tensor]:
    """Those of some values that are tensors."""
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def _names(arguments: Any) -> list[str]:
    names: list[str] = []
    for path, leaf in trees.tree_leaves_with_path(arguments):
        if isinstance(leaf, Tensor):
            key = path[1]
            named = isinstance(key, trees.MappingKey)
            own = str(key.key) if named else "input"
            names.append(own if own not in names else f"{own}_{len(names)}")
    return names


def _ordered(positional: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return positional, dict(sorted(named.items()))


def _form(leaves: list[Any]) -> list[Any]:
    """What stays the same from call to call, with ... where a tensor goes."""
    return [... if isinstance(leaf, Tensor) else leaf for leaf in leaves]


def _filled(form: list[Any], tensors: Iterable[Tensor]) -> list[Any]:
    following = iter(tensors)
    return [next(following) if leaf is ... else leaf for leaf in form]
