"""How a network that was trained before is trained on: what is frozen, what is slow, what begins later."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Literal, final

from pydantic import Field, model_validator
from torch import Tensor, nn

from understudy.engine.pace import BatchNorms, Pace
from understudy.errors import InputError, listing, nearest
from understudy.spec import Spec
from understudy.taps import unwrapped
from understudy.transfer.lora import Lora, is_factor
from understudy.transfer.units import Unit, units_of

Begun = Annotated[float, Field(ge=0.0, lt=1.0)]


@final
class Tuning(Spec):
    """How the parts of a network that was trained before are trained on; by default all alike."""

    freeze: Literal["body"] | Annotated[int, Field(ge=0)] | tuple[str, ...] = 0
    """What never trains: so many units counted from the inputs, everything but the head (`body`), or the parameters
    whose names match one of several patterns, such as `layer1.*`. `understudy layers --units` lists units and names."""
    decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Factor of the learning rate from each unit to the one before it; the head has the whole rate. ULMFiT takes 0.38
    for the few layers of a language model, vision transformers of twelve blocks usually 0.65 to 0.85."""
    probe: Begun = 0.0
    """Part of the training in which the head trains alone, before everything else begins."""
    gradual: Begun = 0.0
    """Part of the training over which the units begin to train one after another, from the head to the inputs."""
    l2_sp: Annotated[float, Field(ge=0.0)] = 0.0
    """α of the pull α/2 · ‖w − w⁰‖² towards the weights that were there before, on everything but a new head. The
    authors search 0.001 to 1; take the optimizer's weight decay out beside it."""
    lora: Lora | None = None
    """Train low-rank factors beside the layers, and the head; nothing else. They are merged before the model is saved,
    which is then the network that it was."""
    batch_norms: BatchNorms = "trained"
    """Whose running statistics move: those of the layers that train at the time, `all`, or `none`."""

    @model_validator(mode="after")
    def _one_order(self) -> Tuning:
        if self.probe and self.gradual:
            raise ValueError("probe and gradual are two answers to when the units begin; give one of them")
        if self.freeze == "body" and (self.probe or self.gradual or self.decay < 1.0):
            raise ValueError("with freeze: body only the head trains, so that probe, gradual and decay mean nothing")
        if self.lora is not None and (self.freeze or self.decay < 1.0 or self.gradual or self.l2_sp):
            raise ValueError(
                "with lora the weights stay as they are, so that freeze, decay, gradual and l2_sp mean nothing; to "
                "leave layers out, name the others as lora: {layers: [...]}"
            )
        return self


def pace_of(tuning: Tuning, network: nn.Module, *, fresh: tuple[str, ...] = ()) -> Pace:
    """The pace of every parameter of one network.

    Args:
        tuning: what is wanted.
        network: with the weights from which it is trained on, and with ``lora`` the factors beside them.
        fresh: parameters that start at random, such as a new head's; nothing pulls at them.

    Raises:
        InputError: for more units than there are, or a pattern that matches nothing.

    References:
        Howard, Ruder: Universal Language Model Fine-tuning for Text Classification, ACL 2018 (arXiv:1801.06146),
        sections 3.2 and 3.3, for rates by depth and gradual unfreezing; Kumar et al.: Fine-Tuning can Distort
        Pretrained Features and Underperform Out-of-Distribution, ICLR 2022 (arXiv:2202.10054), for a probe first.
    """
    network = unwrapped(network)
    if tuning.lora is not None:
        return _beside(tuning, network)
    units = units_of(network)
    frozen = frozen_names(tuning.freeze, network, units)
    factors, begins = {}, {}
    for behind, unit in enumerate(reversed(units)):
        for name in unit.parameters:
            factors[name] = 0.0 if name in frozen else tuning.decay**behind
            if behind and name not in frozen:
                begins[name] = tuning.probe or tuning.gradual * behind / (len(units) - 1)
    return Pace(
        factors={name: factor for name, factor in factors.items() if factor != 1.0},
        begins={name: begin for name, begin in begins.items() if begin},
        anchors=_anchors(network, {*frozen, *fresh}) if tuning.l2_sp else {},
        pull=tuning.l2_sp,
        batch_norms=tuning.batch_norms,
    )


def _beside(tuning: Tuning, network: nn.Module) -> Pace:
    """Of factors that stand beside layers."""
    factors = [name for name, _ in network.named_parameters() if is_factor(name)]
    trained = {*factors, *units_of(network)[-1].parameters}
    return Pace(
        factors={name: 0.0 for name, _ in network.named_parameters() if name not in trained},
        begins=dict.fromkeys(factors, tuning.probe) if tuning.probe else {},
        batch_norms=tuning.batch_norms,
    )


def frozen_names(freeze: str | int | tuple[str, ...], network: nn.Module, units: tuple[Unit, ...]) -> set[str]:
    """The parameters that are never trained.

    Args:
        freeze: see :class:`Tuning`.
        network: whose parameters.
        units: its units.

    Raises:
        InputError: for more units than there are, or a pattern that matches nothing.
    """
    if isinstance(freeze, tuple):
        return _matching(freeze, dict(network.named_parameters()))
    count = len(units) - 1 if isinstance(freeze, str) else freeze
    if count >= len(units) and count:
        raise InputError(
            f"freeze is {count}, and {type(network).__name__} has {len(units)} units, of which one at least must train "
            f"({listing([unit.name for unit in units], most=8)}); freeze {len(units) - 1} at most"
        )
    return {name for unit in units[:count] for name in unit.parameters}


def _matching(patterns: tuple[str, ...], parameters: Mapping[str, nn.Parameter]) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        names = {
            name for name in parameters if fnmatchcase(name, pattern) or name.startswith(f"{pattern.rstrip('.')}.")
        }
        if not names:
            raise InputError(
                f"freeze: {pattern!r} matches no parameter{nearest(pattern.rstrip('.*'), parameters)}; a pattern is a "
                "layer's path such as layer1, or has wildcards such as *.norm*.weight"
            )
        found |= names
    return found


def _anchors(network: nn.Module, without: set[str]) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in network.named_parameters() if name not in without}
