"""A model on disk: what it is, and its weights. Nothing is pickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from understudy.edits import AnyEdit
from understudy.edits.nncf_library import HOOKS
from understudy.errors import InputError, listing
from understudy.files import file_digest, replacing
from understudy.runtimes.card import TOKENIZER
from understudy.sources.architecture import build_architecture, portable
from understudy.sources.artifact_record import (
    SCHEMA,
    AnyInputShape,
    ArtifactRecord,
    example_of,
    input_shapes,
    locate_artifact,
    read_record,
)
from understudy.sources.model_specs import ArtifactModel, ModelSpec
from understudy.sources.preprocess import preprocess_inputs, preprocess_of
from understudy.sources.state import load_state, read_checkpoint, read_state, write_state
from understudy.sources.tokenizers import write_tokens
from understudy.taps import unwrapped
from understudy.tokenizing import Tokenizer, tokenization_of


@dataclass(frozen=True)
class LoadedArtifact:
    """A model read back from disk.

    Attributes:
        module: the network on the CPU, in train mode as any fresh module, with its weights and its preprocessing.
        spec: where it came from.
        classes: names of the classes, in the order of the outputs.
        inputs: what one sample looks like.
        metadata: what the writer kept with it.
        task: the kind of problem that it was made for; None where nobody said it.
    """

    module: nn.Module
    spec: ModelSpec
    classes: tuple[str, ...]
    inputs: AnyInputShape
    metadata: dict[str, Any]
    task: str | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample (of its first tensor, when there are several)."""
        first = self.inputs
        if isinstance(first, dict):
            first = next(iter(first.values()))
        return (first[0] if isinstance(first, tuple) else first).shape

    def example(self, count: int = 1) -> Any:
        """Inputs of the right shapes and types that mean nothing, for measuring and export."""
        return example_of(self.inputs, count)


def save_artifact(
    directory: str | Path,
    model: nn.Module,
    *,
    spec: ModelSpec,
    classes: Sequence[str],
    inputs: Any,
    task: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    edits: Sequence[AnyEdit] = (),
    name: str = "model",
) -> Path:
    """Write ``NAME.safetensors`` and ``NAME.json``, each whole or not at all; beside them what tokenizer it has.

    Args:
        directory: made if it is not there; files of the same names are replaced.
        model: what was built from ``spec``, trained or not; wrappers are looked through.
        spec: where the model came from.
        classes: names of the classes, in the order of the outputs; or of the numbers, and none of a vector.
        inputs: an example batch's inputs (a tensor, or a tuple or mapping of them), or the shape of one float sample.
        task: the kind of problem that it was made for, such as ``text_regression``; None: one of classes.
        metadata: any JSON to keep with it.
        edits: what was changed in the network after it was built, in this order; loading it changes it again.
        name: of the two files.

    Returns:
        The directory.

    Raises:
        InputError: for metadata that is not JSON.
        RunError: when the disk does not take it; what was there before is intact.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(spec, ArtifactModel):
        origin = read_record(*locate_artifact(Path(spec.path)))
        source, edits, task = origin.spec, (*origin.edits, *edits), task or origin.task
        architecture = origin.architecture.model_copy(update={"preprocess": None})  # it is in the record itself
    else:
        source, architecture = spec, portable(spec, unwrapped(model))
    weights, tokenizer = folder / f"{name}.safetensors", folder / f"{name}{TOKENIZER}"
    write_state(model, weights)
    preprocess, tokens = preprocess_of(model), tokenization_of(model)
    if tokens is not None and isinstance(preprocess, Tokenizer):
        write_tokens(tokens, tokenizer)
        preprocess = preprocess.model_copy(update={"path": tokenizer.name})
    try:
        record = ArtifactRecord(
            schema=SCHEMA,
            understudy=version("understudy"),
            spec=source,  # pyright: ignore[reportArgumentType] - every ModelSpec is one of AnyModel
            architecture=architecture,  # pyright: ignore[reportArgumentType]
            classes=tuple(classes),
            task=task,
            inputs=input_shapes(inputs),
            preprocess=preprocess,
            edits=tuple(edits),
            sha256=file_digest(weights),
            tokenizer_sha256=file_digest(tokenizer) if isinstance(preprocess, Tokenizer) else None,
            metadata=dict(metadata or {}),
        )
    except ValidationError as error:
        raise InputError(f"the model's record cannot be written: {error}") from error
    with replacing(folder / f"{name}.json") as temporary:
        temporary.write_text(record.model_dump_json(indent=2, by_alias=True) + "\n", encoding="utf-8")
    return folder


def load_artifact(
    directory: str | Path, *, name: str = "model", classes: Sequence[str] | None = None
) -> LoadedArtifact:
    """Read a model that :func:`save_artifact` wrote. Torch's random state is left as it was.

    Args:
        directory: the folder, or one of the two files.
        name: of the two files, when a folder is given.
        classes: names of the classes of the data it shall be used with; None: not compared.

    Raises:
        InputError: when files are missing or damaged, are pickles, or when the classes differ.
    """
    folder, name = locate_artifact(Path(directory), name)
    record = read_record(folder, name)
    _check_classes(record, classes, folder)
    weights = folder / f"{name}.safetensors"
    state = read_state(weights)
    if file_digest(weights) != record.sha256:
        raise InputError(
            f"{weights} is not the file that {name}.json was written with (their SHA-256 differ); one of the two is "
            "from another save. Save the model again, or take both from one copy"
        )
    own = [tensor for name, tensor in state.items() if not name.startswith(HOOKS)]  # ranges have a type of their own
    types = {tensor.dtype for tensor in own if tensor.is_floating_point()}
    with torch.random.fork_rng(devices=[]):
        module = build_architecture(
            record.architecture, classes=len(record.classes), inputs=example_of(record.inputs, 2), pretrained=False
        )
        if len(types) == 1:
            module.to(types.pop())
        for edit in record.edits:
            module = edit.replay(module, example_of(record.inputs, 2))
    load_state(module, state, whose=str(weights))
    preprocess_inputs(module, record.preprocess)
    return LoadedArtifact(module, record.spec, record.classes, record.inputs, dict(record.metadata), record.task)


def convert_checkpoint(
    path: str | Path,
    directory: str | Path,
    *,
    spec: ModelSpec,
    classes: Sequence[str],
    inputs: Any,
    name: str = "model",
) -> LoadedArtifact:
    """Turn a checkpoint that ``torch.save(model.state_dict(), path)`` wrote into an artifact.

    Args:
        path: the checkpoint; only tensors are read, no code is run.
        directory: where the artifact goes.
        spec: the architecture that the weights belong to.
        classes: names of the classes, in the order of the outputs.
        inputs: an example batch's inputs.
        name: of the two files.

    Raises:
        InputError: when the file is no state dict, or not of this architecture.
    """
    state = read_checkpoint(Path(path))
    model = build_architecture(spec, classes=len(classes), inputs=inputs, pretrained=False)
    load_state(model, state, whose=str(path))
    save_artifact(
        directory,
        model,
        spec=spec,
        classes=classes,
        inputs=inputs,
        metadata={"converted_from": Path(path).name},
        name=name,
    )
    return load_artifact(directory, name=name)


def _check_classes(record: ArtifactRecord, classes: Sequence[str] | None, folder: Path) -> None:
    own = record.classes
    if classes is None or tuple(classes) == own:
        return
    if sorted(classes) == sorted(own):
        place = next(index for index, (ours, theirs) in enumerate(zip(own, classes, strict=True)) if ours != theirs)
        raise InputError(
            f"the model in {folder} has the same classes as the data in another order: its output {place} is "
            f"{own[place]!r}, the data's class {place} is {classes[place]!r}. Give the data the model's order "
            f"(classes: {list(own)})"
        )
    strange = [label for label in classes if label not in own] or [label for label in own if label not in classes]
    raise InputError(
        f"the model in {folder} was made for {len(own)} classes ({listing(own)}), the data have {len(classes)} "
        f"({listing(list(classes))}); not common to both: {listing(strange)}. Use data of the same classes"
    )
