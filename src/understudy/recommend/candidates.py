"""What could be a student: pruned teachers, smaller copies, and architectures of the libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from understudy.batch import Batch
from understudy.compress.pruning import Target, prune
from understudy.extras import imported
from understudy.measure.cost import Cost
from understudy.recommend.catalogue import (
    Published,
    catalogue,
    described_for,
    expected_macs,
    family_of,
    published_for,
)
from understudy.recommend.copies import SHARES, smaller_copies
from understudy.sources.architecture import describe_source
from understudy.sources.model_specs import ModelSpec, TimmModel, TorchvisionModel, TransformersModel
from understudy.sources.models import build_model
from understudy.targets import Limit
from understudy.tasks import Classification

BYTES_PER_PARAMETER = 4

_SLACK = 1.3
"""How far above a limit an expected cost may be, since it is for other inputs and classes than the real one."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network that was not built yet.

    Attributes:
        name: in a few words.
        build: makes it.
        model: what a recipe writes under ``model``; None for a teacher that is pruned.
        channels: the share of channels that a pruned teacher keeps.
        top1: published accuracy on ImageNet in percent, where there is one.
        same_family: whether it is built like the teacher.
    """

    name: str
    build: Callable[[], nn.Module]
    model: Mapping[str, Any] | None = None
    channels: float | None = None
    top1: float | None = None
    same_family: bool = True

    @property
    def is_copy(self) -> bool:
        """Whether it comes from the teacher itself."""
        return self.top1 is None


def candidates(
    teacher: nn.Module, spec: ModelSpec, cost: Cost, *, inputs: Any, classes: int, limits: Sequence[Limit], rate: float
) -> tuple[list[Candidate], int]:
    """All candidates whose expected costs are not far above the limits, the most promising of each kind first.

    Args:
        teacher: the network.
        spec: its architecture.
        cost: of the teacher.
        inputs: an example batch's inputs.
        classes: how many.
        limits: what a student may cost.
        rate: milliseconds that the teacher takes for each multiply-accumulate.

    Returns:
        The candidates, and how many more were left out because they would cost too much.
    """
    found = [*_copies(spec, inputs, classes), *_pruned(teacher, inputs)]
    library = [each for each in catalogue() if described_for(each, inputs) is not None]
    family = _family(spec)
    fit = [each for each in library if _fits(each, inputs, cost, limits, rate)]
    for each in sorted(fit, key=lambda each: -each.top1):
        described = described_for(each, inputs)
        assert described is not None
        found.append(
            Candidate(
                name=f"{each.source} {each.name}",
                build=partial(build_model, described, classes=classes, inputs=inputs),
                model=_written(described),
                top1=each.top1,
                same_family=each.family == family,
            )
        )
    return found, len(library) - len(fit)


def teacher_error(spec: ModelSpec) -> float | None:
    """Published errors of the teacher's architecture on ImageNet, in percent."""
    known = published_for(spec)
    return None if known is None else 100.0 - known.top1


def _copies(spec: ModelSpec, inputs: Any, classes: int) -> Iterator[Candidate]:
    for each, words in smaller_copies(spec):
        yield Candidate(
            name=f"{describe_source(each)}, {words}",
            build=partial(build_model, each, classes=classes, inputs=inputs),
            model=_written(each),
        )


def _pruned(teacher: nn.Module, inputs: Any) -> Iterator[Candidate]:
    def build(share: float) -> nn.Module:
        example, target = Batch(inputs=inputs), Target(channels=share)
        return prune(teacher, example, task=Classification(), target=target, scope="layer").network

    for share in SHARES:
        yield Candidate(f"the teacher, pruned to {share:.0%} of its channels", partial(build, share), channels=share)


def _fits(each: Published, inputs: Any, cost: Cost, limits: Sequence[Limit], rate: float) -> bool:
    """Whether it may be within the limits and is smaller than the teacher, from what was published."""
    macs = expected_macs(each, inputs)
    expected = {
        "params": each.parameters,
        "bytes": BYTES_PER_PARAMETER * each.parameters,
        "macs": macs,
        "latency": macs * rate / 2,
    }
    smaller = macs < cost.macs and each.parameters < 2 * cost.parameters
    return smaller and all(limit.excess(expected[limit.measure]) <= _SLACK for limit in limits)


def _family(spec: ModelSpec) -> str | None:
    return family_of(spec.name) if isinstance(spec, TorchvisionModel | TimmModel) else None


def _written(spec: ModelSpec) -> dict[str, Any]:
    """As a recipe would have it: its source, and what is not as it would be anyway."""
    written = spec.model_dump(mode="json", exclude_defaults=True)
    if isinstance(spec, TransformersModel) and spec.config is not None:
        usual = imported("transformers", extra="text").CONFIG_MAPPING[spec.config]().to_dict()
        written["arguments"] = {key: value for key, value in spec.arguments.items() if value != usual.get(key)}
    first = {key: getattr(spec, key) for key in ("source", "name", "config", "target") if key in (*written, "source")}
    return first | written
