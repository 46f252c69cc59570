"""How far a network is pruned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, final

from pydantic import Field, model_validator

from understudy.spec import Spec

Share = Annotated[float, Field(gt=0.0, lt=1.0)]


@final
class Target(Spec):
    """What a pruned network may cost at most; one of these.

    Example:
        >>> Target(macs=0.5)
        Target(macs=0.5)
    """

    macs: Share | None = None
    """Share of the multiply-accumulates."""
    params: Share | None = None
    """Share of the parameters."""
    latency: Share | None = None
    """Share of the time of one call on this machine."""
    latency_ms: Annotated[float, Field(gt=0.0)] | None = None
    """Milliseconds of one call on this machine."""
    channels: Share | None = None
    """Share of all channels and heads that can be taken out; nothing is counted or measured to find it."""
    sparsity: Share | None = None
    """Share of the weights that become zeros, single ones anywhere: unstructured, so that nothing becomes smaller."""

    @model_validator(mode="after")
    def _one(self) -> Target:
        if len(self.model_fields_set) != 1 or self.value is None:
            raise ValueError(f"expected one of {', '.join(type(self).model_fields)}, such as macs: 0.5")
        return self

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [(self.name, self.value)]

    @property
    def name(self) -> str:
        """Which of them it is."""
        return next(iter(self.model_fields_set))

    @property
    def value(self) -> float:
        """Its value."""
        return getattr(self, self.name)

    @property
    def is_time(self) -> bool:
        """Whether it is measured on this machine."""
        return self.name in ("latency", "latency_ms")
