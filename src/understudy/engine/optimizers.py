"""Optimizers of ``torch.optim``, by name, with their options checked."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from understudy.balancing import Balancer
from understudy.edits.nncf_library import is_quantizer
from understudy.engine.training import Optimizer
from understudy.errors import InputError, listing, nearest

_OWN_FIELDS = ("params", "lr", "weight_decay")
_NEED_A_CLOSURE = ("lbfgs",)
NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
)


def build_optimizer(
    spec: Optimizer, modules: list[nn.Module], *, factors: Mapping[Tensor, float] | None = None
) -> torch.optim.Optimizer:
    """An optimizer of all parameters of the modules that are to be trained, each once.

    What balances an objective's terms and the ranges of quantizers are never decayed. The fused implementation is used
    where torch has one for the parameters' device.

    Args:
        spec: which optimizer, with what options.
        modules: whose parameters to train; frozen ones are left out.
        factors: of the learning rate, for parameters that have one of their own.

    Raises:
        InputError: for an unknown optimizer or option (naming the nearest), a value that the optimizer refuses,
            or when nothing is left to train.
    """
    cls = _optimizer_class(spec.kind)
    groups = _groups(spec, modules, factors or {})
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in spec.options.items()}
    parameters = inspect.signature(cls).parameters
    known = [name for name in parameters if name not in _OWN_FIELDS]
    for name in options:
        if name in _OWN_FIELDS:
            raise InputError(f"write {name!r} as a field of the optimizer, not among its options")
        if name not in known:
            raise InputError(f"{cls.__name__} has no option {name!r}{nearest(name, known)} (it takes {listing(known)})")
    if "weight_decay" in parameters:
        options["weight_decay"] = spec.weight_decay
    elif spec.weight_decay > 0.0:
        raise InputError(f"{cls.__name__} has no weight decay; expected weight_decay: 0, got {spec.weight_decay}")
    if _fuses(parameters, groups) and not {"foreach", "fused", "differentiable"} & options.keys():
        options["fused"] = True
    try:
        return cls(groups, lr=spec.lr, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"torch.optim.{cls.__name__} refuses these options: {error}") from error


def _optimizer_class(kind: str) -> Any:
    known = {
        name.lower(): cls
        for name, cls in vars(torch.optim).items()
        if inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer) and cls is not torch.optim.Optimizer
    }
    if kind.lower() in _NEED_A_CLOSURE:
        raise InputError(f"optimizer {kind!r} evaluates the loss several times per step, which fit does not do")
    if kind.lower() not in known:
        raise InputError(f"torch.optim has no optimizer {kind!r}{nearest(kind.lower(), known)}")
    return known[kind.lower()]


def _groups(spec: Optimizer, modules: list[nn.Module], factors: Mapping[Tensor, float]) -> list[dict[str, Any]]:
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    seen: set[Tensor] = set()
    for module in modules:
        for layer in module.modules():
            for parameter in layer.parameters(recurse=False):
                exempt = (
                    isinstance(layer, Balancer)
                    or is_quantizer(layer)
                    or (spec.no_decay_on_bias_and_norm and (parameter.ndim <= 1 or isinstance(layer, NORMS)))
                )
                if parameter.requires_grad and parameter not in seen:
                    seen.add(parameter)
                    groups.setdefault((factors.get(parameter, 1.0), exempt), []).append(parameter)
    if not groups:
        raise InputError("no parameter of the student requires a gradient, so there is nothing to train; unfreeze some")
    # The fastest first, whose rate is the one that records tell.
    ordered = sorted(groups.items(), key=lambda item: (-item[0][0], item[0][1]))
    return [
        {"params": parameters}
        | ({"lr": spec.lr * factor} if factor != 1.0 else {})
        | ({"weight_decay": 0.0} if exempt else {})
        for (factor, exempt), parameters in ordered
    ]


def _fuses(parameters: Any, groups: list[dict[str, Any]]) -> bool:
    if "fused" not in parameters:
        return False
    tensors = [tensor for group in groups for tensor in group["params"]]
    return all(tensor.is_floating_point() and tensor.device.type in ("cpu", "cuda") for tensor in tensors)


def keep_norms(module: nn.Module, max_norm: float) -> None:
    """Scale down the weights coming into any unit whose L2 norm is above ``max_norm``, in place.

    A unit is one output of a linear layer, or one output channel of a convolution (Srivastava et al.: Dropout,
    2014, section 5.1).
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd) and layer.weight.requires_grad:
            units = 1 if isinstance(layer, nn.modules.conv._ConvTransposeNd) else 0
            with torch.no_grad():
                layer.weight.renorm_(2, units, max_norm)
