"""What a model on disk says about itself: ``model.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, JsonValue, ValidationError
from torch import Tensor

from understudy.edits import EDITS, AnyEdit
from understudy.errors import InputError, listing
from understudy.files import file_digest
from understudy.sources.model_specs import AnyModel
from understudy.sources.preprocess import AnyPreprocess
from understudy.sources.state import refuse_pickle
from understudy.spec import Spec
from understudy.tokenizing import Bytes, Tokenizer, Words

SCHEMA = 1
"""Version of ``model.json``."""
_EDITS = tuple(edit.model_fields["kind"].default for edit in EDITS)


class InputShape(Spec):
    """One tensor of a model's inputs."""

    shape: tuple[int, ...]
    """Without the batch."""
    dtype: str
    """As torch calls it, such as ``float32``."""


AnyInputShape = InputShape | tuple[InputShape, ...] | dict[str, InputShape]
"""The inputs of a model: one tensor, several by position, or several by name."""


class ArtifactRecord(Spec):
    """The content of ``model.json``."""

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    understudy: str
    """The version that wrote it."""
    spec: AnyModel
    """Where the model came from."""
    architecture: AnyModel
    """How to build it again, without pretrained weights and without a network."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the model's outputs; or of the numbers, and none of a vector's."""
    task: str | None = None
    """The kind of problem that it was made for, which says what its outputs are; None: one of classes."""
    inputs: AnyInputShape
    """What one sample looks like."""
    preprocess: AnyPreprocess | None
    """What the model does to its inputs itself; the path of a tokenizer is that of a file beside this one."""
    edits: tuple[AnyEdit, ...] = ()
    """Structural changes to replay after building, in this order."""
    sha256: str
    """Of the weights file."""
    tokenizer_sha256: str | None = None
    """Of the tokenizer's file, where there is one."""
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    """Whatever the writer wanted to keep."""


def read_record(folder: Path, name: str = "model") -> ArtifactRecord:
    """Read what an artifact is, without its weights.

    Raises:
        InputError: when there is none, or it is damaged or from a later version.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        there = (
            f"it holds {listing(sorted(item.name for item in folder.iterdir()))}" if folder.is_dir() else "not there"
        )
        raise InputError(
            f"{folder} is not a saved model: expected {name}.json and {name}.safetensors ({there}). Name the folder "
            "that a run or save_artifact wrote"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("schema") != SCHEMA:
            raise InputError(
                f"{path} has schema {content.get('schema')}, this version reads {SCHEMA}; update Understudy, "
                "or save again"
            )
        _refuse_later_edits(content, path)
        record = ArtifactRecord.model_validate(content)
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise InputError(f"{path} is damaged: {error}. Take an intact copy, or save the model again") from error
    return _with_tokens(record, folder)


def _with_tokens(record: ArtifactRecord, folder: Path) -> ArtifactRecord:
    """The record of a network that reads texts, which cannot be built without what makes tokens of them."""
    tokens = record.preprocess
    if not isinstance(tokens, Words | Bytes | Tokenizer):
        return record
    if isinstance(tokens, Tokenizer):
        path = folder / tokens.path
        if not path.is_file() or file_digest(path) != record.tokenizer_sha256:
            problem = "is not the one that the model was saved with" if path.is_file() else "is missing"
            raise InputError(
                f"the tokenizer {path} {problem}; take an intact copy of all files, or save the model again"
            )
        tokens = tokens.model_copy(update={"path": str(path)})
    network = record.architecture.model_copy(update={"preprocess": tokens})
    return record.model_copy(update={"preprocess": tokens, "architecture": network})


def _refuse_later_edits(content: Any, path: Path) -> None:
    edits = content.get("edits", []) if isinstance(content, dict) else []
    kinds = [edit.get("kind") if isinstance(edit, dict) else edit for edit in edits]
    unknown = [str(kind) for kind in kinds if kind not in _EDITS]
    if unknown:
        raise InputError(
            f"{path} lists structural edits which this version cannot replay ({listing(unknown)}); update Understudy"
        )


def locate_artifact(path: Path, name: str = "model") -> tuple[Path, str]:
    """The folder of an artifact and the name of its files, from the folder or from one of the files.

    Raises:
        InputError: for a pickled checkpoint.
    """
    if path.suffix in (".json", ".safetensors") and not path.is_dir():
        return path.parent, path.stem
    if not path.is_dir():
        refuse_pickle(path)
    return path, name


def input_shapes(inputs: Any) -> AnyInputShape:
    """The shapes and types of an example batch's inputs, or of one float sample given by its shape."""
    if isinstance(inputs, Tensor):
        return _input_shape(inputs)
    if isinstance(inputs, Mapping):
        return {str(name): _input_shape(value) for name, value in inputs.items() if isinstance(value, Tensor)}
    if all(isinstance(size, int) for size in inputs):
        return InputShape(shape=tuple(inputs), dtype="float32")
    return tuple(_input_shape(value) for value in inputs)


def _input_shape(tensor: Tensor) -> InputShape:
    return InputShape(shape=tuple(tensor.shape[1:]), dtype=str(tensor.dtype).removeprefix("torch."))


def example_of(inputs: AnyInputShape, count: int) -> Any:
    """``count`` samples of these shapes and types that mean nothing."""
    if isinstance(inputs, InputShape):
        # Ones, because a mask of zeros hides everything; they are a valid pixel, token and mask alike.
        return torch.ones((count, *inputs.shape), dtype=getattr(torch, inputs.dtype))
    if isinstance(inputs, Mapping):
        return {name: example_of(value, count) for name, value in inputs.items()}
    return tuple(example_of(value, count) for value in inputs)
