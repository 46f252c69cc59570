"""A teacher again, but smaller: with other arguments of its constructor, or with channels taken out."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from understudy.extras import imported
from understudy.recommend.catalogue import family_of
from understudy.sources.from_python import function_of
from understudy.sources.model_specs import (
    AnyModel,
    BuiltinModel,
    ModelSpec,
    PythonModel,
    TimmModel,
    TorchvisionModel,
    TransformersModel,
)

SHARES = (0.75, 0.5, 0.25)
_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
_WIDTHS = ("width", "widths", "hidden", "hidden_size", "hidden_sizes", "channels", "dim", "dims", "embed_dim")
_DEPTHS = ("depth", "depths", "layers", "num_layers", "blocks", "num_blocks", "num_hidden_layers")


def smaller_copies(spec: ModelSpec) -> Iterator[tuple[AnyModel, str]]:
    """Descriptions of narrower and shallower networks of the same kind, each with its difference in words.

    Only what the constructor has an argument for; nothing is built. Some may turn out to be impossible.

    Args:
        spec: of the teacher, without weights.
    """
    match spec:
        case BuiltinModel():
            yield from _builtin(spec)
        case TorchvisionModel():
            yield from _torchvision(spec)
        case TimmModel():
            yield from _with(spec, _timm(spec.name))
        case TransformersModel() if spec.config is not None:
            yield from _with(spec, _transformers(spec))
        case PythonModel():
            yield from _with(spec, _python(spec))
        case _:
            pass


def _with(spec: Any, changes: Iterator[tuple[dict[str, Any], str]]) -> Iterator[tuple[AnyModel, str]]:
    for arguments, words in changes:
        yield spec.model_copy(update={"arguments": {**spec.arguments, **arguments}}), words


def _builtin(spec: BuiltinModel) -> Iterator[tuple[AnyModel, str]]:
    key = "hidden" if spec.name == "mlp" else "widths"
    widths: Any = spec.arguments.get(key, ())
    if not widths:
        return
    yield from _with(spec, (({key: _scaled(widths, share)}, _narrower(share)) for share in (*SHARES, 0.125)))
    if len(widths) > 1:
        yield from _with(spec, iter([({key: list(widths[:-1])}, "one layer less than the teacher")]))


def _torchvision(spec: TorchvisionModel) -> Iterator[tuple[AnyModel, str]]:
    if spec.name.startswith("mobilenet"):
        yield from _with(spec, (({"width_mult": share}, _narrower(share)) for share in SHARES))
    elif spec.name in ("resnet50", "resnet101", "resnet152"):
        words = "of the teacher's width inside its blocks"
        yield from _with(spec, (({"width_per_group": int(64 * s)}, f"{s:.0%} {words}") for s in (0.5, 0.25)))
    if spec.name in _RESNETS and not spec.small_images and not spec.arguments:
        # timm builds the same network and lets one choose its channels.
        yield from _with(TimmModel(name=spec.name), _timm(spec.name))


def _timm(name: str) -> Iterator[tuple[dict[str, Any], str]]:
    name = name.partition(".")[0]
    if name in _RESNETS:
        yield from (({"channels": _scaled((64, 128, 256, 512), share)}, _narrower(share)) for share in SHARES)
        yield {"layers": [1, 1, 1, 1]}, "one block in each stage"
    elif family_of(name) == "vit":
        made = _defaults_of_timm(name)
        depth, dim, heads = made["depth"], made["embed_dim"], made["num_heads"]
        yield {"depth": max(1, depth // 2)}, "half of the teacher's blocks"
        for share in (0.5, 0.25):
            few = max(1, int(heads * share))
            yield {"embed_dim": few * (dim // heads), "num_heads": few}, _narrower(few / heads)


def _defaults_of_timm(name: str) -> dict[str, int]:
    """The sizes of one of timm's vision transformers, which its configuration does not tell, from an empty one."""
    timm = imported("timm", extra="vision")
    with torch.device("meta"):
        model = timm.create_model(name)
    heads = model.blocks[0].attn.num_heads
    return {"depth": len(model.blocks), "embed_dim": model.embed_dim, "num_heads": heads}


def _transformers(spec: TransformersModel) -> Iterator[tuple[dict[str, Any], str]]:
    transformers = imported("transformers", extra="text")
    fields = {**transformers.CONFIG_MAPPING[spec.config]().to_dict(), **spec.arguments}
    layers, width, heads = (fields.get(key) for key in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    if isinstance(layers, int) and layers > 1:
        for fewer in dict.fromkeys((layers // 2, max(1, layers // 4))):
            yield {"num_hidden_layers": fewer}, f"{fewer} of the teacher's {layers} layers"
    if isinstance(width, int) and isinstance(heads, int) and heads > 1:
        for few in dict.fromkeys((max(1, heads // 2), max(1, heads // 4))):
            changes: dict[str, Any] = {"num_attention_heads": few, "hidden_size": few * (width // heads)}
            if isinstance(inner := fields.get("intermediate_size"), int):
                changes["intermediate_size"] = inner * few // heads
            yield changes, _narrower(few / heads)


def _python(spec: PythonModel) -> Iterator[tuple[dict[str, Any], str]]:
    given: Mapping[str, Any] = spec.arguments
    parameters = inspect.signature(function_of(spec)).parameters
    values = {name: given.get(name, each.default) for name, each in parameters.items()}
    widths = {name: value for name, value in values.items() if name in _WIDTHS and _is_sizes(value)}
    depths = {name: value for name, value in values.items() if name in _DEPTHS and _is_sizes(value)}
    if widths:
        yield from (({name: _scaled(v, share) for name, v in widths.items()}, _narrower(share)) for share in SHARES)
    if depths:
        yield {name: _scaled(value, 0.5) for name, value in depths.items()}, "half of the teacher's depth"


def _is_sizes(value: object) -> bool:
    numbers = value if isinstance(value, tuple | list) else (value,)
    return bool(numbers) and all(isinstance(each, int) and not isinstance(each, bool) for each in numbers)


def _scaled(value: Any, share: float) -> Any:
    """Whole numbers times a share, at least 1; even ones where they were, which grouped layers and kernels like."""
    if isinstance(value, tuple | list):
        return [_scaled(each, share) for each in value]
    step = 8 if value * share >= 16 and value % 8 == 0 else 1
    return max(1, math.floor(value * share / step + 0.5) * step)


def _narrower(share: float) -> str:
    return f"{share:.0%} of the teacher's width"
