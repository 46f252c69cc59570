"""Where models and data come from."""

from understudy.sources.artifact import LoadedArtifact, convert_checkpoint, load_artifact, save_artifact
from understudy.sources.data import DataSet, DataSpec, load_data
from understudy.sources.images import LazyImages
from understudy.sources.layers import Layer, layers
from understudy.sources.loader import Loader
from understudy.sources.model_specs import (
    AnyModel,
    ArtifactModel,
    BuiltinModel,
    ModelSpec,
    PythonModel,
    TimmModel,
    TorchvisionModel,
    TransformersModel,
)
from understudy.sources.models import build_model, check_model, describe
from understudy.sources.preprocess import Preprocess, preprocess_inputs, preprocess_of
from understudy.sources.splits import Split, Subset
from understudy.sources.state import convert_state

__all__ = [
    "AnyModel",
    "ArtifactModel",
    "BuiltinModel",
    "DataSet",
    "DataSpec",
    "Layer",
    "LazyImages",
    "LoadedArtifact",
    "Loader",
    "ModelSpec",
    "Preprocess",
    "PythonModel",
    "Split",
    "Subset",
    "TimmModel",
    "TorchvisionModel",
    "TransformersModel",
    "build_model",
    "check_model",
    "convert_checkpoint",
    "convert_state",
    "describe",
    "layers",
    "load_artifact",
    "load_data",
    "preprocess_inputs",
    "preprocess_of",
    "save_artifact",
]
