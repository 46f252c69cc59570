"""Models from anywhere: one call from a spec to a network that is ready for the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from understudy.errors import InputError
from understudy.sources.architecture import build_architecture, check_forward, describe_source
from understudy.sources.artifact import load_artifact
from understudy.sources.artifact_record import locate_artifact, read_record
from understudy.sources.from_timm import check_timm
from understudy.sources.from_torchvision import check_torchvision
from understudy.sources.from_transformers import check_transformers
from understudy.sources.model_specs import (
    ArtifactModel,
    BuiltinModel,
    ModelSpec,
    PythonModel,
    TimmModel,
    TorchvisionModel,
    TransformersModel,
)
from understudy.sources.preprocess import check_preprocess, preprocess_inputs
from understudy.sources.state import load_state, read_state
from understudy.sources.tokenizers import check_tokens
from understudy.tokenizing import Bytes, Tokenizer, Words


def build_model(spec: ModelSpec, *, classes: int | Sequence[str], inputs: Any) -> nn.Module:
    """Build the model of a spec for a data set.

    A head of another size is asked for or replaced, a first convolution gets as many channels as the images have, and
    the model normalises its inputs as the spec (or else its pretrained weights) says.

    Args:
        spec: where the model comes from.
        classes: the classes of the data: how many, or their names in order, which a saved model is compared with.
        inputs: an example batch's inputs.

    Returns:
        The network on the CPU, in train mode.

    Raises:
        InputError: when it cannot be had, or does not fit the data; nothing was trained.
    """
    count = classes if isinstance(classes, int) else len(classes)
    if isinstance(spec, ArtifactModel):
        return _loaded(spec, classes, inputs)
    model = build_architecture(spec, classes=count, inputs=inputs, pretrained=True)
    state = _state_of(spec)
    if state is not None:
        load_state(model, read_state(state), whose=str(state))
    return model


def check_model(spec: ModelSpec) -> None:
    """Check what can be checked of a spec without building, downloading, or importing code of the user.

    Raises:
        InputError: for an optional library that is not installed, an unknown name, a missing or damaged file.
    """
    match spec:
        case TorchvisionModel():
            check_torchvision(spec)
        case TimmModel():
            check_timm(spec)
        case TransformersModel():
            check_transformers(spec)
        case ArtifactModel():
            read_record(*locate_artifact(Path(spec.path)))
        case _:
            pass
    if isinstance(spec.preprocess, Words | Bytes | Tokenizer):
        check_tokens(spec.preprocess)
    state = _state_of(spec)
    if state is not None:
        read_state(state)


def saved_content(spec: ModelSpec) -> dict[str, str | None]:
    """A digest of the weights of a saved model, by its path; None where it cannot be read, nothing for other sources.

    Args:
        spec: where the model comes from.
    """
    if not isinstance(spec, ArtifactModel):
        return {}
    try:
        return {spec.path: read_record(*locate_artifact(Path(spec.path))).sha256}
    except InputError:
        return {spec.path: None}


def describe(spec: ModelSpec, model: nn.Module | None = None) -> str:
    """A model's architecture in a few words, for reports: ``mlp 800-800``, ``torchvision resnet18``.

    Args:
        spec: where it comes from; a saved model is described as what it was saved from, and what it became.
        model: the network itself; the class of what a python function returned is named.
    """
    if isinstance(spec, ArtifactModel):
        record = read_record(*locate_artifact(Path(spec.path)))
        return ", ".join(dict.fromkeys([describe(record.spec, model), *(edit.becomes for edit in record.edits)]))
    if isinstance(spec, PythonModel) and model is not None:
        return f"{describe_source(spec)} ({type(model).__name__})"
    return describe_source(spec)


def _loaded(spec: ArtifactModel, classes: int | Sequence[str], inputs: Any) -> nn.Module:
    names = None if isinstance(classes, int) else classes
    loaded = load_artifact(spec.path, classes=names)
    if isinstance(classes, int) and len(loaded.classes) != classes:
        raise InputError(
            f"the model in {spec.path} was made for {len(loaded.classes)} classes, the data have {classes}; "
            "use data of the same classes"
        )
    if spec.preprocess is not None:
        check_preprocess(spec.preprocess, inputs)
        preprocess_inputs(loaded.module, spec.preprocess)
    check_forward(loaded.module, inputs, classes=len(loaded.classes), what=f"the model in {spec.path}")
    return loaded.module


def _state_of(spec: ModelSpec) -> Path | None:
    buildable = isinstance(spec, TorchvisionModel | TimmModel | TransformersModel | PythonModel | BuiltinModel)
    return Path(spec.state) if buildable and spec.state is not None else None
