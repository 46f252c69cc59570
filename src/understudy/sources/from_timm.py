"""Models of timm."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from torch import nn

from understudy.errors import InputError, nearest
from understudy.extras import imported
from understudy.sources.hub import cache_when_unreachable
from understudy.sources.model_specs import TimmModel
from understudy.sources.preprocess import Preprocess
from understudy.sources.surgery import channels_of, constructed


def check_timm(spec: TimmModel) -> None:
    """Find the name of a spec in the library, without building anything.

    Raises:
        InputError: without timm, for an unknown model.
    """
    timm = imported("timm", extra="vision")
    name = spec.name.partition(".")[0]
    if ":" in spec.name:
        raise InputError(
            f"timm's name {spec.name!r} points to the hub or to a folder; expected a model's own name "
            "(timm.list_models() lists all), with weights of your own as state: FILE.safetensors"
        )
    if not timm.is_model(name):
        raise InputError(
            f"timm has no model {name!r}{nearest(name, timm.list_models())} (timm.list_models() lists all)"
        )


def build_timm(spec: TimmModel, *, classes: int, inputs: Any, pretrained: bool) -> tuple[nn.Module, Preprocess | None]:
    """The network, and the normalisation that its weights were trained with.

    Raises:
        InputError: when it cannot be built for these data, or its weights cannot be loaded.
    """
    check_timm(spec)
    timm = imported("timm", extra="vision")
    channels = channels_of(inputs)
    arguments = ({"in_chans": channels} if channels not in (None, 3) else {}) | spec.arguments
    known = ("in_chans", "drop_rate", "drop_path_rate", "global_pool", "img_size", "patch_size")

    def build(weights: bool) -> nn.Module:
        return timm.create_model(spec.name, pretrained=weights, num_classes=classes, **arguments)

    what = f"timm's {spec.name}"
    if not (pretrained and spec.pretrained):
        return constructed(what, lambda: build(False), arguments=spec.arguments, known=known), None
    with cache_when_unreachable() as silent:
        try:
            model = constructed(what, lambda: build(True), arguments=spec.arguments, known=known)
        except OSError as error:
            where = f"are not on this machine, and {silent} is out of reach" if silent else "could not be loaded"
            raise InputError(
                f"the weights of {what} {where}. Set pretrained: false, or give a .safetensors file of your own as "
                f"state: ({error})"
            ) from error
    return model, _normalization(model.pretrained_cfg, channels)


def _normalization(config: Any, channels: int | None) -> Preprocess:
    mean, std = tuple(config["mean"]), tuple(config["std"])
    if channels not in (None, len(mean)):
        # timm folds the colours of its first layer into the channels there are; so is the normalisation.
        mean, std = (fmean(mean),), (fmean(std),)
    return Preprocess(mean=mean, std=std)
