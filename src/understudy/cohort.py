"""Several students that train together and teach each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from torch import nn

from understudy.errors import InputError


@final
class Cohort(nn.Module):
    """Students that train at the same time, on the same batches.

    A term of the objective names the student that learns from it, and may name another student as its teacher:
    ``SoftTargets(student="wide", teacher="narrow")``. Called by itself a cohort is its first student, so that
    validation, selection and export are about that one.

    Args:
        members: at least one network by name; the first is the one that is shipped.

    Raises:
        InputError: for no network, a name that a module cannot have, or one network under two names.

    Example:
        >>> pair = Cohort({"wide": nn.Linear(4, 3), "narrow": nn.Linear(4, 3)})
        >>> pair.first is pair.members["wide"]
        True

    References:
        Zhang, Xiang, Hospedales, Lu: Deep Mutual Learning, CVPR 2018 (arXiv:1706.00384).
    """

    def __init__(self, members: Mapping[str, nn.Module]) -> None:
        super().__init__()
        if not members:
            raise InputError("a cohort needs at least one student, got none")
        if len(set(members.values())) < len(members):
            raise InputError("two students of the cohort are the same network; expected one network for each name")
        for name in members:
            if not name or "." in name or "/" in name or name in dir(nn.ModuleDict):
                raise InputError(f"a student cannot be called {name!r}; expected a name such as 'wide' or 'a1'")
        self.members = nn.ModuleDict(dict(members))

    @property
    def first(self) -> nn.Module:
        """The student that is shipped."""
        return next(iter(self.members.values()))

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the first student answers."""
        return self.first(*inputs, **named)
