"""A network as a row of units, from its inputs to its head: what is frozen, unfrozen and slowed down together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from understudy.engine.optimizers import NORMS
from understudy.errors import InputError
from understudy.taps import unwrapped

ROWS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
"""Modules that hold others in a row."""


@dataclass(frozen=True)
class Unit:
    """A stem, a block, or the head of a network.

    Attributes:
        name: path of its first layer.
        parameters: the names of all its parameters, those of normalisations behind it among them.
        buffers: the names of all its buffers, such as the running statistics of the same normalisations.
    """

    name: str
    parameters: tuple[str, ...]
    buffers: tuple[str, ...] = ()


def units_of(network: nn.Module) -> tuple[Unit, ...]:
    """The units of a network in the order in which it defines its layers, its head last.

    A unit is a repeated block, however deep it lies, or a layer beside such blocks. Normalisations, and parameters and
    buffers that stand alone (positions, a class token), belong to the unit before them. A parameter that several layers
    share belongs to the first one.

    Args:
        network: wrappers are looked through.

    Raises:
        InputError: for a network without parameters.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
        >>> [(unit.name, len(unit.parameters)) for unit in units_of(network)]
        [('0', 4), ('3', 2)]
    """
    network = unwrapped(network)
    known = {id(each): name for name, each in (*network.named_parameters(), *network.named_buffers())}
    units: list[tuple[str, list[str], list[str]]] = []
    loose: tuple[list[str], list[str]] = [], []
    for path, piece in _pieces(network, ""):
        names = [
            [known.pop(id(each)) for each in tensors if id(each) in known]
            for tensors in (_parameters(piece), _buffers(piece))
        ]
        if not names[0] or isinstance(piece, (Tensor, *NORMS)):
            before = units[-1][1:] if units else loose
            for own, found in zip(before, names, strict=True):
                own.extend(found)
        else:
            units.append((path, [*loose[0], *names[0]], [*loose[1], *names[1]]))
            loose = [], []
    if loose[0]:
        units.append((loose[0][0].rpartition(".")[0] or loose[0][0], *loose))
    if not units:
        raise InputError(f"{type(network).__name__} has no parameters, so there is nothing to train on or to freeze")
    return tuple(Unit(path, tuple(parameters), tuple(buffers)) for path, parameters, buffers in units)


def _parameters(piece: nn.Module | Tensor) -> list[Tensor]:
    if isinstance(piece, nn.Module):
        return list(piece.parameters())
    return [piece] if isinstance(piece, nn.Parameter) else []


def _buffers(piece: nn.Module | Tensor) -> list[Tensor]:
    if isinstance(piece, nn.Module):
        return list(piece.buffers())
    return [] if isinstance(piece, nn.Parameter) else [piece]


def _pieces(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module | Tensor]]:
    """Units, normalisations, single parameters and buffers, in order."""
    for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        yield below(path, name), tensor
    for name, child in module.named_children():
        inside = below(path, name)
        if isinstance(child, ROWS) or _holds_blocks(child):
            yield from _pieces(child, inside)
        else:
            yield inside, child


def _holds_blocks(module: nn.Module) -> bool:
    """Whether there is, in rows anywhere below, more than one block of a kind."""
    blocks = Counter(
        type(child)
        for row in module.modules()
        if isinstance(row, ROWS)
        for child in row.children()
        if not isinstance(child, ROWS) and list(child.children()) and next(child.parameters(), None) is not None
    )
    return any(count > 1 for count in blocks.values())


def below(path: str, name: str) -> str:
    """The path of a child.

    Args:
        path: of its parent; empty for the network itself.
        name: of the child.
    """
    return f"{path}.{name}" if path else name
