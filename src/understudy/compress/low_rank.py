"""Low-rank factorisation: linear layers by truncated SVD, convolutions by Tucker-2."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from understudy.compress.low_rank_layers import Candidate, candidates
from understudy.edits import Factorised
from understudy.edits.factorised import Ranks, factors_of
from understudy.errors import InputError, listing
from understudy.functional.factorisation import svd_factors, tucker2_factors
from understudy.measure.cost import Cost, cost
from understudy.sources.forward import call, device_of, evaluating, moved, resized
from understudy.taps import unwrapped
from understudy.tasks.task import Task

CostName = Literal["macs", "params"]

_HALVINGS = 30


@dataclass(frozen=True, slots=True)
class FactorisedLayer:
    """What became of one layer.

    Attributes:
        ranks: one for two factors; those of the outputs and of the inputs for a convolution with a window.
        kept: the share of its squared weight that is left.
        macs: multiply-accumulates of one sample, before and after.
        parameters: numbers in its weight, before and after.
    """

    ranks: Ranks
    kept: float
    macs: tuple[int, int]
    parameters: tuple[int, int]


@dataclass(frozen=True, slots=True)
class FactorisedNetwork:
    """A network with factorised layers.

    Attributes:
        network: the new one, on the same device and in the same modes; the one before is as it was.
        edit: what was changed, for :func:`~understudy.sources.save_artifact`.
        before: what the network cost.
        after: what it costs now.
        energy: the share of its squared weight that every layer has kept, or more.
        layers: those that were factorised, by path.
        left_alone: why the others that have a matrix were not, by path.
    """

    network: nn.Module
    edit: Factorised
    before: Cost
    after: Cost
    energy: float
    layers: dict[str, FactorisedLayer]
    left_alone: dict[str, str]


def factorise(
    model: nn.Module,
    example: Any,
    *,
    task: Task,
    energy: float | None = None,
    target: Mapping[CostName, float] | None = None,
    keep: Sequence[str] = (),
) -> FactorisedNetwork:
    """Replace layers by products of smaller ones, wherever that takes fewer multiplications and fewer parameters.

    Linear layers and 1×1 convolutions become two factors (SVD), other convolutions up to three (Tucker-2). Every layer
    keeps the same share of its squared weight; no data are needed for that. Fewer multiplications are not always less
    time, since there are more layers than before: measure both with :func:`~understudy.measure.compare_latency`.

    Args:
        model: a trained network; it is left as it is.
        example: one batch as a loader yields it, for the shapes.
        task: how the model is called.
        energy: the share of each layer's squared weight to keep, between 0 and 1.
        target: instead of an energy: at most these shares of the network's ``macs`` or ``params``, such as
            ``{"macs": 0.5}``; the highest energy that meets all of them is taken.
        keep: paths of layers that are left alone, with everything below them.

    Raises:
        InputError: when no layer becomes cheaper, when the target cannot be met (with what can be), for a layer to keep
            that is not there, or weights that are not finite.

    References:
        Denton, Zaremba, Bruna, LeCun, Fergus: Exploiting Linear Structure Within Convolutional Networks for Efficient
        Evaluation, NIPS 2014 (arXiv:1404.0736). Kim, Park, Yoo, Choi, Yang, Shin: Compression of Deep Convolutional
        Neural Networks for Fast and Low Power Mobile Applications, ICLR 2016 (arXiv:1511.06530).
    """
    _check(energy, target)
    inner = unwrapped(model)
    inputs = moved(resized(task.batch(example).inputs, 1), device_of(inner))
    before = cost(inner, inputs)
    found, left_alone = candidates(inner, inputs, keep=keep)
    found, needed = _replaceable(inner, inputs, found)
    left_alone |= needed
    if energy is None:
        assert target is not None
        energy = _energy_for(target, found, before)
    ranks = _all_ranks(found, energy)
    if not ranks:
        raise InputError(_nothing(energy, found, left_alone))
    left_alone |= {path: f"no cheaper when it keeps {energy:.4g}" for path in found if path not in ranks}
    network = copy.deepcopy(inner)
    kept = {path: put_factors(network, path, each) for path, each in ranks.items()}
    return FactorisedNetwork(
        network=network,
        edit=Factorised(layers=ranks),
        before=before,
        after=cost(network, inputs),
        energy=energy,
        layers={path: _told(found[path], each, kept[path]) for path, each in ranks.items()},
        left_alone=left_alone,
    )


def _check(energy: float | None, target: Mapping[CostName, float] | None) -> None:
    if (energy is None) == (target is None):
        raise InputError("expected either an energy to keep, such as 0.9, or a target, such as {'macs': 0.5}")
    if energy is not None and not 0.0 < energy <= 1.0:
        raise InputError(f"expected an energy above 0 and up to 1, got {energy:g}")
    if target is not None and not (target and all(map(_is_share, target, target.values()))):
        raise InputError(f"expected a target such as {{'macs': 0.5}} or {{'params': 0.5}}, got {dict(target)}")


def _is_share(name: str, share: float) -> bool:
    return name in ("macs", "params") and 0.0 < share < 1.0


def _replaceable(
    network: nn.Module, inputs: Any, found: Mapping[str, Candidate]
) -> tuple[dict[str, Candidate], dict[str, str]]:
    """The layers that the network does without, and why not, for those whose weight it uses beside their call."""
    if _failure(network, inputs, found) is None:
        return dict(found), {}
    failures = {path: _failure(network, inputs, {path: each}) for path, each in found.items()}
    fit = {path: each for path, each in found.items() if failures[path] is None}
    if (together := _failure(network, inputs, fit)) is not None:
        raise InputError(
            f"the network cannot be called once its layers are factorised: {together}. Name the layers whose weights "
            f"it uses itself under keep; tried {listing(list(fit))}"
        )
    return fit, {
        path: f"the network uses it beside calling it ({reason})" for path, reason in failures.items() if reason
    }


def _failure(network: nn.Module, inputs: Any, layers: Mapping[str, Candidate]) -> str | None:
    """How the network fails once these layers are products, if it does."""
    trial = copy.deepcopy(network)
    ranks = {path: (1,) if each.has_one_rank else (1, 1) for path, each in layers.items()}
    with torch.random.fork_rng(devices=[]):
        Factorised(layers=ranks).replay(trial, inputs)
        try:
            with evaluating(trial), torch.no_grad():
                call(trial, inputs)
        except Exception as error:  # whatever a network of the user's does
            return f"{type(error).__name__}: {error}"
    return None


def _energy_for(target: Mapping[CostName, float], found: Mapping[str, Candidate], before: Cost) -> float:
    """The highest energy with which a network is within its target."""
    allowed = {"macs": before.macs, "params": before.parameters}
    allowed = {name: share * allowed[name] for name, share in target.items()}

    def reached(energy: float) -> dict[str, int]:
        ranks = _all_ranks(found, energy)
        saved = [
            (found[path].macs - macs, found[path].parameters - parameters)
            for path, each in ranks.items()
            for macs, parameters in [found[path].cost_of(each)]
        ]
        return {
            "macs": before.macs - sum(macs for macs, _ in saved),
            "params": before.parameters - sum(parameters for _, parameters in saved),
        }

    def is_within(energy: float) -> bool:
        return all(reached(energy)[name] <= most for name, most in allowed.items())

    low, high = 0.0, 1.0
    if not is_within(low):
        least, whole = reached(low), {"macs": before.macs, "params": before.parameters}
        told = ", ".join(f"{least[name] / whole[name]:.4g} of the {name} (asked: {target[name]:g})" for name in target)
        raise InputError(
            f"the target cannot be met: with rank 1 everywhere the network still has {told}. Raise the target, keep "
            "fewer layers, or prune it first"
        )
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_within(middle) else (low, middle)
    return low


def _all_ranks(found: Mapping[str, Candidate], energy: float) -> dict[str, Ranks]:
    ranks = {path: each.ranks_for(energy) for path, each in found.items()}
    return {path: each for path, each in ranks.items() if each is not None}


def put_factors(network: nn.Module, path: str, ranks: Ranks) -> float:
    """Replace a layer by its best factors of some ranks.

    Args:
        network: changed in place.
        path: of a linear layer or a convolution.
        ranks: see :class:`~understudy.edits.Factorised`.

    Returns:
        The share of the squared weight that they keep.
    """
    layer = network.get_submodule(path)
    weight = layer.get_parameter("weight").detach()
    factors = factors_of(layer, ranks)
    if len(ranks) == 1:
        first, last = svd_factors(weight.flatten(1), rank=ranks[0])
        values = {"first": first, "last": last}
        kept = (last.double() @ first.double()).square().sum()
    else:
        first, core, last = tucker2_factors(weight, ranks=ranks)
        values = {"first": first, "core": core, "last": last}
        kept = core.double().square().sum()
    with torch.no_grad():
        for name, factor in factors.named_children():
            own = factor.get_parameter("weight")
            own.copy_(values[name].reshape(own.shape))
        if layer._parameters.get("bias") is not None:
            factors[-1].get_parameter("bias").copy_(layer.get_parameter("bias"))
    network.set_submodule(path, factors)
    return min(1.0, float(kept / weight.double().square().sum()))


def _told(candidate: Candidate, ranks: Ranks, kept: float) -> FactorisedLayer:
    macs, parameters = candidate.cost_of(ranks)
    return FactorisedLayer(ranks, kept, (candidate.macs, macs), (candidate.parameters, parameters))


def _nothing(energy: float, found: Mapping[str, Candidate], left_alone: Mapping[str, str]) -> str:
    if not found:
        reasons = "; ".join(f"{path!r}: {reason}" for path, reason in list(left_alone.items())[:4])
        return f"the network has no layer that can be factorised ({reasons or 'none has a matrix'})"
    low, high = 0.0, energy
    if not _all_ranks(found, low):
        return f"no layer of the network becomes cheaper at any rank; tried {listing(list(found))}"
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _all_ranks(found, middle) else (low, middle)
    return (
        f"no layer becomes cheaper while it keeps {energy:g} of its squared weight; the first one does at {low:.4g}. "
        "Lower the energy, or give a target"
    )
