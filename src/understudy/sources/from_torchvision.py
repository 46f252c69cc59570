"""Models of torchvision."""

from __future__ import annotations

import contextlib
import inspect
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from understudy.errors import InputError, listing, nearest
from understudy.extras import imported
from understudy.sources.hub import reachable
from understudy.sources.model_specs import TorchvisionModel
from understudy.sources.preprocess import Preprocess
from understudy.sources.state import load_state
from understudy.sources.surgery import channels_of, constructed, match_channels, parameter_names, replace_head

_OWN_INPUT_RANGE = ("googlenet", "inception_v3")
"""Their published weights expect [-1, 1], which torchvision converts to inside the model."""


def check_torchvision(spec: TorchvisionModel) -> None:
    """Find the names of a spec in the library, without building anything.

    Raises:
        InputError: without torchvision, for an unknown model or unknown weights.
    """
    models = imported("torchvision.models", extra="vision")
    names = models.list_models(module=models)
    if spec.name not in names:
        raise InputError(
            f"torchvision has no classifier {spec.name!r}{nearest(spec.name, names)} "
            "(torchvision.models.list_models() lists all)"
        )
    known = models.get_model_weights(spec.name).__members__
    if spec.weights is not None and spec.weights not in known:
        raise InputError(
            f"torchvision's {spec.name} has no weights {spec.weights!r}{nearest(spec.weights, known)}; "
            f"expected one of {listing(list(known))}"
        )


def build_torchvision(
    spec: TorchvisionModel, *, classes: int, inputs: Any, pretrained: bool
) -> tuple[nn.Module, Preprocess | None]:
    """The network, and the normalisation that its weights were trained with.

    Raises:
        InputError: when it cannot be built for these data.
    """
    check_torchvision(spec)
    models = imported("torchvision.models", extra="vision")
    builder = models.get_model_builder(spec.name)
    weights = models.get_model_weights(spec.name)[spec.weights] if pretrained and spec.weights else None
    outputs = len(weights.meta["categories"]) if weights else classes

    def build() -> nn.Module:
        return builder(weights=None, num_classes=outputs, **spec.arguments)

    architecture = inspect.signature(builder, eval_str=True).return_annotation
    known = [name for name in parameter_names(architecture) if name != "num_classes"]
    model = constructed(f"torchvision's {spec.name}", build, arguments=spec.arguments, known=known)
    preprocess = None
    if weights is not None:
        load_state(model, _downloaded(spec, weights), whose=f"{weights!r}")
        preprocess = _normalization(spec, weights)
        if outputs != classes:
            replace_head(model, old=outputs, new=classes)
        if channels_of(inputs) not in (None, 3):
            raise InputError(
                f"the pretrained weights of {spec.name} are for colour images, the data have {channels_of(inputs)} "
                "channels; set channels: 3 in the data, or take away the weights"
            )
    if spec.small_images:
        _keep_size(model, spec)
    match_channels(model, inputs)
    return model, preprocess


def _downloaded(spec: TorchvisionModel, weights: Any) -> dict[str, torch.Tensor]:
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    file = cache / weights.url.rpartition("/")[2]
    if not file.exists() and not reachable(weights.url):
        raise InputError(
            f"the weights {spec.weights} of torchvision's {spec.name} are not on this machine ({file}), and "
            f"{weights.url} is out of reach. Put the file there, or convert one of your own with "
            "understudy.sources.convert_state and name it as state:, or take away weights: to start at random"
        )
    # torch announces a download on stdout, which is for results.
    with contextlib.redirect_stdout(sys.stderr):
        return weights.get_state_dict(progress=False, check_hash=True, weights_only=True)


def _normalization(spec: TorchvisionModel, weights: Any) -> Preprocess:
    if spec.name in _OWN_INPUT_RANGE:
        return Preprocess(mean=(0.5,) * 3, std=(0.5,) * 3)
    transforms = weights.transforms()
    return Preprocess(mean=tuple(transforms.mean), std=tuple(transforms.std))


def _keep_size(model: nn.Module, spec: TorchvisionModel) -> None:
    modules = dict(model.named_modules())
    for stem, pool in (("conv1", "maxpool"), ("features.conv0", "features.pool0")):  # ResNets, DenseNets
        convolution = modules.get(stem)
        if isinstance(convolution, nn.Conv2d) and isinstance(modules.get(pool), nn.MaxPool2d):
            if spec.weights is not None:
                raise InputError(
                    f"small_images gives {spec.name} a new first layer, which the weights {spec.weights} do not have. "
                    "Take away one of the two"
                )
            channels = (convolution.in_channels, convolution.out_channels)
            model.set_submodule(stem, nn.Conv2d(*channels, kernel_size=3, padding=1, bias=False))
            model.set_submodule(pool, nn.Identity())
            return
    first = modules.get("features.0.0")
    if isinstance(first, nn.Conv2d) and first.kernel_size == (3, 3):  # MobileNets, EfficientNets
        first.stride = (1, 1)
        return
    raise InputError(
        f"small_images is known for ResNets, DenseNets, MobileNets and EfficientNets, not for {spec.name}; resize the "
        "images (size: in the data), or bring a model of your own (source: python)"
    )
