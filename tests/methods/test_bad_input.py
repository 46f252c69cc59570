"""What every method refuses, or survives, whichever it is."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from conformance.transformers_only import TRANSFORMERS_ONLY
from understudy import IGNORE_INDEX, CrossEntropy, Distiller, InputError
from understudy.feature_method import FeatureMethod
from understudy.methods import METHODS, Fsp

OF_CLASSES = [method for method in METHODS if "classes" in method.answers]
ON_MAPS = [method for method in OF_CLASSES if method.model_fields["kind"].default not in TRANSFORMERS_ONLY]
each_method_on_maps = pytest.mark.parametrize("method", ON_MAPS, ids=lambda method: method.__name__)
each_method = pytest.mark.parametrize("method", OF_CLASSES, ids=lambda method: method.__name__)


class Convolutional(nn.Module):
    """Two stages of maps and a classifier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2 * width, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.second(self.first(images))).flatten(1))


def distilled(method, images: torch.Tensor, targets: torch.Tensor) -> Distiller:
    torch.manual_seed(0)
    example = (torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))
    distiller = Distiller(Convolutional(2), Convolutional(4), CrossEntropy(name="labels") + method, example=example)
    distiller((images, targets)).loss.backward()
    return distiller


@each_method_on_maps
def test_a_batch_without_any_label_trains_or_leaves_the_student_alone(method) -> None:
    distiller = distilled(method(), torch.rand(4, 1, 8, 8), torch.full((4,), IGNORE_INDEX))
    assert all(p.grad is None or p.grad.isfinite().all() for p in distiller.parameters())


@each_method_on_maps
def test_a_batch_of_one_has_a_defined_value(method) -> None:
    distiller = distilled(method(), torch.rand(1, 1, 8, 8), torch.tensor([1]))
    assert all(p.grad is None or p.grad.isfinite().all() for p in distiller.parameters())


@each_method
def test_a_weight_below_zero_is_refused(method) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        method(weight=-1.0)
    with pytest.raises(InputError, match="zero or more"):
        -1.0 * method()


@pytest.mark.parametrize(
    "method", [m for m in METHODS if "temperature" in m.model_fields], ids=lambda method: method.__name__
)
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_that_is_none_is_refused(method, temperature) -> None:
    with pytest.raises(ValidationError, match="temperature"):
        method(temperature=temperature)


@pytest.mark.parametrize(
    "method", [m for m in ON_MAPS if issubclass(m, FeatureMethod)], ids=lambda method: method.__name__
)
def test_a_layer_that_is_not_there_is_named_with_the_nearest(method) -> None:
    count = 2 if method is Fsp else 1
    named = method(student_layer=("first", "secnd")[-count:], teacher_layer=("first", "second")[-count:])
    with pytest.raises(InputError, match=r"student has no layer 'secnd'.*nearest: 'second'"):
        Distiller(Convolutional(2), Convolutional(4), named, example=torch.rand(2, 1, 8, 8))
