"""Fewer blocks: which of a teacher's blocks a shallower student begins with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Literal

from torch import nn

from understudy.errors import InputError, listing, nearest
from understudy.transfer.units import ROWS, below

Depth = Literal["even", "first", "last"] | dict[str, tuple[int, ...]]
"""Blocks evenly spaced with the first and the last one, the first ones, the last ones, or by the path of a row the
numbers of the teacher's blocks."""


def fit_rows(student: nn.Module, teacher: nn.Module, depth: Depth) -> dict[str, dict[str, str]]:
    """Leave in a teacher's rows of blocks as many as a student's have, under the student's names.

    A row is a ``Sequential``, a ``ModuleList`` or a ``ModuleDict``. Its blocks are paired within runs of one class,
    so that a stem in front of them and a layer behind them stay what they are; rows whose runs are of other classes
    are left alone. Rows within rows (stages) are paired by name.

    Args:
        student: left as it is.
        teacher: changed in place; its other layers are left as they are.
        depth: which blocks stay.

    Returns:
        For each row that has another number of blocks: the student's blocks and those of the teacher, by name.

    Raises:
        InputError: for a map about a row that is none, or with blocks that the teacher does not have.

    Example:
        >>> deep = nn.Sequential(*[nn.Linear(4, 4) for _ in range(12)])
        >>> list(fit_rows(nn.Sequential(*[nn.Linear(4, 4) for _ in range(6)]), deep, "even")[""].values())
        ['0', '2', '4', '7', '9', '11']
    """
    if isinstance(depth, Mapping):
        rows = {path for path, module in student.named_modules() if isinstance(module, ROWS)}
        if strange := sorted(depth.keys() - rows):
            raise InputError(
                f"depth is about {strange[0]!r}, which is no row of blocks{nearest(strange[0], rows)} "
                f"(rows: {listing(sorted(rows), most=8)})"
            )
    told: dict[str, dict[str, str]] = {}
    _fit(student, teacher, "", depth, told)
    return told


def paired_blocks(student: nn.Module, teacher: nn.Module) -> dict[str, tuple[str, ...]]:
    """Which blocks of a teacher each block of a student stands for, by path: as many, one after another.

    Args:
        student: with as many blocks of each kind, or fewer.
        teacher: the same kind of network.

    Raises:
        InputError: when the student has more blocks somewhere, or there are none of one kind in both.

    Example:
        >>> deep, shallow = (nn.Sequential(*[nn.TransformerEncoderLayer(8, 2) for _ in range(n)]) for n in (4, 2))
        >>> paired_blocks(shallow, deep)
        {'0': ('0', '1'), '1': ('2', '3')}
    """
    found = dict(_paired(student, teacher, ""))
    if not found:
        raise InputError(
            f"{type(student).__name__} and its teacher {type(teacher).__name__} have no blocks of one kind in rows "
            "(Sequential, ModuleList) of one name, so that none can stand for others"
        )
    return found


def _paired(student: nn.Module, teacher: nn.Module, path: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    taken: set[str] = set()
    if isinstance(student, ROWS) and isinstance(teacher, ROWS):
        own, others = _runs(student), _runs(teacher)
        same = [kind for kind, _ in own] == [kind for kind, _ in others]
        for (kind, few), (_, many) in zip(own, others, strict=False) if same else ():
            if issubclass(kind, ROWS) or not any(True for _ in student._modules[few[0]].children()):
                continue
            if len(few) > len(many):
                raise InputError(
                    f"the student has {len(few)} blocks in {path!r}, its teacher {len(many)}; expected no more"
                )
            cuts = [round(place * len(many) / len(few)) for place in range(len(few) + 1)]
            for name, begin, end in zip(few, cuts, cuts[1:], strict=False):
                taken.add(name)
                yield below(path, name), tuple(below(path, other) for other in many[begin:end])
    for name, child in student.named_children():
        other = teacher._modules.get(name)
        if name not in taken and other is not None:
            yield from _paired(child, other, below(path, name))


def _fit(student: nn.Module, teacher: nn.Module, path: str, depth: Depth, told: dict[str, dict[str, str]]) -> None:
    if isinstance(student, ROWS) and isinstance(teacher, ROWS):
        taken = _by_map(student, teacher, path, depth) if isinstance(depth, Mapping) else None
        taken = taken if taken is not None else _by_runs(student, teacher, depth)
        if taken is not None and taken != {name: name for name in teacher._modules}:
            told[path] = taken
            blocks = OrderedDict((own, teacher._modules[other]) for own, other in taken.items())
            teacher._modules.clear()
            teacher._modules.update(blocks)
    for name, child in student.named_children():
        if (other := teacher._modules.get(name)) is not None:
            _fit(child, other, below(path, name), depth, told)


def _by_map(student: nn.Module, teacher: nn.Module, path: str, depth: Mapping[str, tuple[int, ...]]) -> dict | None:
    if path not in depth:
        return None
    own, others, chosen = list(student._modules), list(teacher._modules), depth[path]
    if len(chosen) != len(own) or not all(0 <= number < len(others) for number in chosen):
        raise InputError(
            f"depth gives {path!r} the teacher's blocks {list(chosen)}; expected {len(own)} numbers, one for each "
            f"block of the student, from 0 to {len(others) - 1}"
        )
    return {name: others[number] for name, number in zip(own, chosen, strict=True)}


def _by_runs(student: nn.Module, teacher: nn.Module, depth: Depth) -> dict[str, str] | None:
    own, others = _runs(student), _runs(teacher)
    if [kind for kind, _ in own] != [kind for kind, _ in others]:
        return None
    way = depth if isinstance(depth, str) else "even"
    taken: dict[str, str] = {}
    for (kind, few), (_, names) in zip(own, others, strict=True):
        if issubclass(kind, ROWS):  # stages, which are rows themselves
            taken |= {name: name for name in few if name in names}
        else:
            taken |= {name: names[at] for name, at in zip(few, _numbers(len(few), len(names), way), strict=False)}
    return taken


def _runs(row: nn.Module) -> list[tuple[type, list[str]]]:
    runs = groupby(row.named_children(), key=lambda item: type(item[1]))
    return [(kind, [name for name, _ in items]) for kind, items in runs]


def _numbers(few: int, many: int, way: str) -> list[int]:
    """Which of many blocks become few; all of them, where there are no more."""
    if few >= many or way == "first":
        return list(range(min(few, many)))
    if way == "last":
        return list(range(many - few, many))
    return evenly_spaced(few, many)


def evenly_spaced(few: int, many: int) -> list[int]:
    """Which of many stay, with the first and the last one; of one, the first.

    Args:
        few: how many stay.
        many: of how many.

    Example:
        >>> evenly_spaced(6, 12), evenly_spaced(1, 3)
        ([0, 2, 4, 7, 9, 11], [0])
    """
    return [round(place * (many - 1) / max(1, few - 1)) for place in range(few)]
