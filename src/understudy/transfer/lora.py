"""Low-rank adaptation: a trained network is trained on by small factors beside its layers, and is itself afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, final

from pydantic import Field
from torch import nn

from understudy.errors import InputError, nearest
from understudy.extras import imported
from understudy.spec import Spec
from understudy.transfer.units import units_of

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
_FACTORS = "lora_"
"""How peft begins the names of what it adds."""


@final
class Lora(Spec):
    """Instead of the weights W, train factors A and B of W + alpha/rank · BA; the head trains as it is.

    Afterwards they are merged into the weights, so that the model that is kept is the network that it was.

    References:
        Hu et al.: LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022 (arXiv:2106.09685); by `peft`.
    """

    rank: Annotated[int, Field(ge=1)] = 8
    """Rows of A and columns of B."""
    alpha: Annotated[float, Field(gt=0.0)] | None = None
    """What the update is multiplied by, times the rank; twice the rank when left out."""
    layers: tuple[str, ...] | None = None
    """Paths of layers, or patterns such as `*.query`; all linear layers but the head when left out."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Part of a layer's inputs that the factors do not see while they train."""


def put_factors_beside(network: nn.Module, lora: Lora) -> nn.Module:
    """Give layers factors to train. B begins at zero, so that the network computes what it did.

    Args:
        network: changed in place; its head is the last of :func:`~understudy.transfer.units.units_of`.
        lora: which factors.

    Returns:
        The network. Layers keep their paths; their own weights are now called ``base_layer.weight``.

    Raises:
        InputError: without peft, for a pattern that matches no layer, or a layer that factors cannot stand beside.
    """
    peft = imported("peft", extra="text", needed_by="lora")
    chosen = _chosen(network, lora.layers)
    trained = {parameter for parameter in network.parameters() if parameter.requires_grad}
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=2 * lora.rank if lora.alpha is None else lora.alpha,
        target_modules=chosen,
        lora_dropout=lora.dropout,
    )
    peft.inject_adapter_in_model(config, network)
    for parameter in trained:  # peft freezes what is not its own; what trains is for the pace to say
        parameter.requires_grad_(True)
    for path in chosen:
        # In eval mode nn.TransformerEncoderLayer reads its layers' weights without calling them, unless one has a hook.
        network.get_submodule(path).register_forward_pre_hook(_nothing)
    return network


def merge_factors(network: nn.Module) -> nn.Module:
    """Add what the factors learnt to the weights, and leave the network as it was before them, but for its weights.

    Args:
        network: changed in place.

    Returns:
        The network.
    """
    tuners = imported("peft.tuners.tuners_utils", extra="text", needed_by="lora")
    for path, layer in list(network.named_modules()):
        if isinstance(layer, tuners.BaseTunerLayer):
            adapted: Any = layer
            adapted.merge(safe_merge=True)
            network.set_submodule(path, adapted.get_base_layer())
    del network.peft_config
    return network


def is_factor(name: str) -> bool:
    """Whether a parameter is a factor beside a layer.

    Args:
        name: of the parameter.

    Example:
        >>> is_factor("encoder.0.lora_A.default.weight"), is_factor("encoder.0.base_layer.weight")
        (True, False)
    """
    return any(part.startswith(_FACTORS) for part in name.split("."))


def _chosen(network: nn.Module, patterns: tuple[str, ...] | None) -> list[str]:
    layers = {path: layer for path, layer in network.named_modules() if isinstance(layer, _LAYERS)}
    head = _head(network)
    reasons = {path: reason for path, layer in layers.items() if (reason := _unfit(network, path, layer, head))}
    if patterns is None:
        found = [path for path, layer in layers.items() if isinstance(layer, nn.Linear) and path not in reasons]
        if not found:
            raise InputError(
                f"{type(network).__name__} has no linear layer but its head, so that lora has nothing to stand beside; "
                "name convolutions as layers:, or use freeze or decay instead"
            )
        return found
    return [path for pattern in patterns for path in _matching(pattern, layers, reasons)]


def _matching(pattern: str, layers: Mapping[str, nn.Module], reasons: Mapping[str, str]) -> list[str]:
    found = [path for path in layers if fnmatchcase(path, pattern)]
    if not found:
        raise InputError(
            f"lora: {pattern!r} matches no linear layer, convolution or embedding{nearest(pattern, layers)}; "
            "a pattern is a layer's whole path or has wildcards such as *.query (understudy layers lists the paths)"
        )
    if unfit := [path for path in found if path in reasons]:
        raise InputError(f"lora: factors cannot stand beside {unfit[0]!r}, {reasons[unfit[0]]}; take it out of layers:")
    return found


def _head(network: nn.Module) -> set[str]:
    return {name.rpartition(".")[0] for name in units_of(network)[-1].parameters}


def _unfit(network: nn.Module, path: str, layer: nn.Module, head: set[str]) -> str | None:
    if path in head:
        return "which is the head and trains as a whole"
    if isinstance(network.get_submodule(path.rpartition(".")[0]), nn.MultiheadAttention):
        return "whose weights nn.MultiheadAttention reads without calling it, so that they would change nothing"
    if isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.groups > 1:
        return "a convolution in groups"
    return None


def _nothing(*_: object) -> None:
    pass
