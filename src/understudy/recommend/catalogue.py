"""Architectures of the libraries, with what their authors published about them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from understudy.errors import InputError
from understudy.extras import imported
from understudy.sources.model_specs import AnyModel, ModelSpec, TimmModel, TorchvisionModel

_PUBLISHED_SIZE = 224
_LARGEST_SMALL_IMAGE = 64
_SMALLEST_IMAGE = 16
_STEMS = {"resnet": 16, "densenet": 16, "mobilenet": 4, "efficientnet": 4}
"""Families with a first layer for small images, and how many times more work all layers behind it then have."""
_ALIASES = {"deit": "vit", "resnext": "resnet", "semnasnet": "mnasnet", "spnasnet": "mnasnet", "regnetx": "regnet"}
_ALIASES |= {"regnety": "regnet", "mobilenetv": "mobilenet", "lcnet": "mobilenet"}

# Parameters in millions and multiply-accumulates in millions (both counted in timm 1.0), and top-1 accuracy on ImageNet
# as in results/results-imagenet.csv of timm's repository, of weights trained on ImageNet alone, at 224 pixels.
_TIMM: dict[str, tuple[float, float, float]] = {
    "mobilenetv3_small_050": (1.59, 24.2, 57.910),
    "lcnet_050": (1.88, 44.7, 63.120),
    "mobilenetv3_small_075": (2.04, 43.4, 65.234),
    "mobilenetv2_050": (1.97, 97.1, 65.950),
    "lcnet_075": (2.36, 94.8, 68.782),
    "regnetx_002": (2.68, 199.0, 68.746),
    "resnet10t": (5.44, 1097.3, 68.358),
    "regnety_002": (3.16, 199.5, 70.278),
    "lcnet_100": (2.95, 155.7, 72.096),
    "deit_tiny_patch16_224": (5.72, 1253.7, 72.172),
    "resnet14t": (10.08, 1676.8, 72.254),
    "semnasnet_075": (2.91, 223.4, 72.992),
    "ghostnet_100": (5.18, 141.2, 73.982),
    "semnasnet_100": (3.89, 311.6, 75.450),
    "efficientnet_lite0": (4.65, 385.2, 75.480),
    "hardcorenas_a": (5.26, 224.2, 75.930),
    "mixnet_s": (4.13, 239.2, 75.994),
    "mobilenetv2_140": (6.11, 582.2, 76.520),
    "poolformer_s12": (11.92, 1812.3, 77.234),
    "rexnet_100": (4.80, 398.4, 77.862),
}


@dataclass(frozen=True, slots=True)
class Published:
    """An architecture of a library.

    Attributes:
        source: ``torchvision`` or ``timm``.
        name: as the library has it.
        parameters: with 1000 classes.
        macs: multiply-accumulates of one image of 224 pixels.
        top1: accuracy on ImageNet in percent, of the first weights that the library has for it.
    """

    source: str
    name: str
    parameters: float
    macs: float
    top1: float

    @property
    def family(self) -> str:
        """See :func:`family_of`."""
        return family_of(self.name)


def catalogue() -> list[Published]:
    """All architectures that can be recommended, as far as their libraries are installed."""
    timm = [Published("timm", name, 1e6 * size, 1e6 * macs, top1) for name, (size, macs, top1) in _TIMM.items()]
    found = list(_of_torchvision())
    try:
        imported("timm", extra="vision")
    except InputError:
        return found
    return [*found, *timm]


def published_for(spec: ModelSpec) -> Published | None:
    """What was published about the architecture of a description; None where nothing is known.

    Args:
        spec: of any source.
    """
    if not isinstance(spec, TorchvisionModel | TimmModel) or spec.arguments:
        return None
    name = spec.name.partition(".")[0]
    return next((each for each in catalogue() if each.name == name), None)


def family_of(name: str) -> str:
    """Networks of one family are built alike, whatever their size: ``resnet`` for ``wide_resnet50_2``.

    Args:
        name: of an architecture.

    Example:
        >>> [family_of(name) for name in ("wide_resnet50_2", "deit_tiny_patch16_224", "mobilenet_v3_small")]
        ['resnet', 'vit', 'mobilenet']
    """
    letters = re.match(r"[a-z]+", name.removeprefix("wide_").removeprefix("tf_"))
    word = letters[0] if letters else name
    return _ALIASES.get(word, word)


def described_for(published: Published, inputs: Any) -> AnyModel | None:
    """How a recipe writes it for these inputs; None where it cannot take them, or was not made for their size.

    Args:
        published: an architecture.
        inputs: an example batch's inputs.
    """
    if not isinstance(inputs, Tensor) or inputs.ndim != 4:
        return None
    side = min(inputs.shape[-2:])
    if side > _LARGEST_SMALL_IMAGE:
        if published.source == "timm":
            return TimmModel(name=published.name)
        return TorchvisionModel(name=published.name)
    if side < _SMALLEST_IMAGE or published.source == "timm" or published.family not in _STEMS:
        return None
    return TorchvisionModel(name=published.name, small_images=True)


def expected_macs(published: Published, inputs: Any) -> float:
    """Multiply-accumulates for one image of the inputs' size, roughly: they grow with the area.

    Args:
        published: an architecture.
        inputs: images (batch, channels, height, width).
    """
    side = min(inputs.shape[-2:])
    stem = _STEMS.get(published.family, 1) if side <= _LARGEST_SMALL_IMAGE else 1
    return published.macs * stem * math.prod(inputs.shape[-2:]) / _PUBLISHED_SIZE**2


def _of_torchvision() -> Iterator[Published]:
    try:
        models = imported("torchvision.models", extra="vision")
    except InputError:
        return
    for name in models.list_models(module=models):
        meta: dict[str, Any] = next(iter(models.get_model_weights(name))).meta
        top1 = meta["_metrics"].get("ImageNet-1K", {}).get("acc@1")
        if top1 is not None and meta.get("num_params") and meta.get("_ops"):
            yield Published("torchvision", name, meta["num_params"], 1e9 * meta["_ops"], top1)
