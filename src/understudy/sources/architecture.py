"""From a description to a network, with or without pretrained weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from understudy.errors import InputError
from understudy.sources.builtin import build_builtin, describe_builtin
from understudy.sources.for_texts import build_for_texts
from understudy.sources.forward import call, evaluating, resized
from understudy.sources.from_python import build_python
from understudy.sources.from_timm import build_timm
from understudy.sources.from_torchvision import build_torchvision
from understudy.sources.from_transformers import build_transformers, transformers_architecture
from understudy.sources.model_specs import (
    BuiltinModel,
    ModelSpec,
    PythonModel,
    TimmModel,
    TorchvisionModel,
    TransformersModel,
)
from understudy.sources.preprocess import check_preprocess, preprocess_inputs
from understudy.tokenizing import are_texts, are_tokens


def build_architecture(spec: ModelSpec, *, classes: int, inputs: Any, pretrained: bool) -> nn.Module:
    """Build the network of a spec, tell it what it does to its inputs first, and see that it takes them.

    Args:
        spec: any source but an artifact.
        classes: number of classes of the data, or of numbers; 0 where it gives a vector of any width.
        inputs: an example batch's inputs.
        pretrained: whether the weights that the spec names are loaded; False where others are put in afterwards.

    Raises:
        InputError: when the model cannot be built, cannot take the inputs, or gives another number of classes.
    """
    if are_texts(inputs):
        model = build_for_texts(spec, classes=classes, pretrained=pretrained)
    else:
        model, preprocess = _built(spec, classes=classes, inputs=inputs, pretrained=pretrained)
        preprocess = spec.preprocess or preprocess
        check_preprocess(preprocess, inputs)
        preprocess_inputs(model, preprocess)
    check_forward(model, inputs, classes=classes, what=describe_source(spec))
    return model


def portable(spec: ModelSpec, model: nn.Module) -> ModelSpec:
    """The spec of the bare architecture: it needs no pretrained weights, no other file and no network to be built.

    Args:
        spec: any source but an artifact.
        model: what was built from it.
    """
    if isinstance(spec, TorchvisionModel):
        return spec.model_copy(update={"weights": None, "state": None, "preprocess": None})
    if isinstance(spec, TimmModel):
        return spec.model_copy(update={"pretrained": False, "state": None, "preprocess": None})
    if isinstance(spec, TransformersModel):
        return transformers_architecture(spec, model)
    return spec.model_copy(update={"state": None, "preprocess": None})


def check_forward(model: nn.Module, inputs: Any, *, classes: int, what: str) -> None:
    """Run two samples through a fresh model: it must take them and give one score per class.

    Random state, modes and buffers stay as they were; layers that find their size at the first call find it here.

    Raises:
        InputError: when the forward pass fails, or gives another number of classes.
    """
    try:
        with evaluating(model), torch.no_grad(), torch.random.fork_rng(devices=[]):
            output = call(model, resized(inputs, 2))
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{what} cannot take these inputs ({shown(inputs)}): {error}. Change the model's arguments, or the data's "
            "size: and channels:"
        ) from error
    logits = _scores(output)
    if classes and logits is not None and logits.ndim == 2 and logits.shape[1] != classes:
        raise InputError(
            f"{what} gives {logits.shape[1]} scores per sample, the data have {classes} classes; make the two equal"
        )


def describe_source(spec: ModelSpec) -> str:
    """Where a model comes from, in a few words: ``torchvision resnet18``."""
    match spec:
        case BuiltinModel():
            return f"{spec.name} {describe_builtin(spec.name, spec.arguments)}"
        case TorchvisionModel():
            weights = f", {spec.weights} weights" if spec.weights else ""
            return f"torchvision {spec.name}{weights}{', small images' if spec.small_images else ''}"
        case TimmModel():
            return f"timm {spec.name}{', pretrained' if spec.pretrained else ''}"
        case TransformersModel():
            return f"transformers {spec.name or spec.config}"
        case PythonModel():
            return f"python {spec.target}"
        case _:
            return spec.source


def shown(inputs: Any) -> str:
    """The shapes of a batch's inputs, for an error."""
    if isinstance(inputs, Tensor):
        return f"shape ({', '.join(['N', *map(str, inputs.shape[1:])])})"
    if isinstance(inputs, Mapping):
        return ", ".join(f"{name}: {shown(value)}" for name, value in inputs.items())
    if isinstance(inputs, tuple):
        return ", ".join(map(shown, inputs))
    return type(inputs).__name__


def _built(spec: ModelSpec, *, classes: int, inputs: Any, pretrained: bool) -> tuple[nn.Module, Any]:
    match spec:
        case BuiltinModel():
            return build_builtin(spec.name, spec.arguments, classes=classes, inputs=inputs), None
        case TorchvisionModel():
            return build_torchvision(spec, classes=classes, inputs=inputs, pretrained=pretrained)
        case TimmModel():
            return build_timm(spec, classes=classes, inputs=inputs, pretrained=pretrained)
        case TransformersModel():
            return build_transformers(spec, classes=classes, inputs=inputs, pretrained=pretrained)
        case PythonModel():
            return build_python(spec, classes=classes, vocabulary=classes if are_tokens(inputs) else None), None
        case _:
            raise AssertionError(f"{spec.source} has no architecture of its own")


def _scores(output: Any) -> Tensor | None:
    if isinstance(output, Mapping):
        output = output.get("logits")
    if isinstance(output, tuple | list) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None
