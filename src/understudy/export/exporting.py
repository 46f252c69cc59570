"""From a trained network to a file that other runtimes execute, and that was seen to answer alike."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError, RunError, listing, nearest
from understudy.export.dynamic import write_dynamic_onnx
from understudy.export.executorch import write_executorch
from understudy.export.onnx import write_onnx
from understudy.export.openvino import write_openvino
from understudy.export.proof import Proof, prove
from understudy.export.tensorrt import trtexec_line, write_tensorrt
from understudy.export.torch_export import write_torch_export
from understudy.export.traced import Traced, traced
from understudy.files import file_digest, replacing
from understudy.measure.picking import PROOF
from understudy.runtimes import Card, FileInput
from understudy.runtimes.card import TOKENIZER
from understudy.sources.forward import each_tensor, moved, resized
from understudy.sources.preprocess import normalisation_of
from understudy.sources.state import write_state
from understudy.sources.tokenizers import write_tokens
from understudy.taps import unwrapped
from understudy.tasks.task import Task
from understudy.tokenizing import DECODED, Tokenizer, tokenization_of

Format = Literal["onnx", "onnx_dynamic", "tensorrt", "openvino", "executorch", "torch_export"]
"""Of which kind an exported file is."""
FORMATS: tuple[Format, ...] = get_args(Format)
INT8_FORMATS: tuple[Format, ...] = ("onnx", "tensorrt", "openvino")
"""In which a quantized network can be written."""
SUFFIXES: dict[Format, str] = {
    "onnx": ".onnx",
    "onnx_dynamic": ".onnx",
    "tensorrt": ".onnx",
    "openvino": ".xml",
    "executorch": ".pte",
    "torch_export": ".pt2",
}
_KINDS: dict[Format, str] = {"onnx_dynamic": ".dynamic", "tensorrt": ".tensorrt"}
"""What keeps files with one ending apart."""
UNPROVED = ".unproved"
"""What the name of a file has before its ending that does not answer as the network does."""
_WRITERS: dict[Format, Callable[[Traced, Path, str], bool]] = {
    "onnx": write_onnx,
    "onnx_dynamic": write_dynamic_onnx,
    "tensorrt": write_tensorrt,
    "openvino": write_openvino,
    "executorch": write_executorch,
    "torch_export": write_torch_export,
}
_RANDOM = "random inputs"
_RANDOM_SAMPLES = {"float32": 32, "int8": 256}
"""How many; one prediction in a hundred cannot be counted on a few."""


@dataclass(frozen=True)
class Exported:
    """A file that was exported and proved.

    Attributes:
        path: of the file; what belongs to it lies beside it.
        format: its kind.
        card: what it says about itself.
        proof: what was seen when it was run beside the network; also beside it, such as in ``model.onnx.proof.json``.
        size_bytes: of all its files.
        trtexec: the command that builds an engine of a ``tensorrt`` file, for 1 to 64 samples no longer than the
            example; None for other files.
    """

    path: Path
    format: Format
    card: Card
    proof: Proof
    size_bytes: int
    trtexec: str | None

    def told(self) -> dict[str, Any]:
        """All but where it is, as records and ``--json`` have it."""
        return {
            "format": self.format,
            "bytes": self.size_bytes,
            "card": self.card.model_dump(mode="json", by_alias=True),
            "proof": self.proof.model_dump(mode="json"),
            **({"trtexec": self.trtexec} if self.trtexec else {}),
        }


def export(
    model: nn.Module,
    path: str | Path,
    *,
    format: Format,
    example: Any,
    task: Task,
    classes: Sequence[str],
    samples: Iterable[Any] | None = None,
    data: str = "the given samples",
    licence: str | None = None,
    recipe: str | None = None,
    weights: str | None = None,
) -> Exported:
    """Write a network as a file for another runtime, and prove that it answers as the network does.

    The file is written beside its place, run in every installed runtime that takes it, and put there when it is proved
    (:func:`~understudy.export.proof.prove`). The network's own normalisation of its inputs is in it. The file of one
    for texts takes tokens; a tokenizer that makes them is written beside it.

    Args:
        model: the network; it is left as it was.
        path: the file, or a folder in which it is called ``model``.
        format: what is written: ``onnx``; ``onnx_dynamic``, an int8 file of a float network
            (:func:`~understudy.export.dynamic.dynamic_int8`); ``tensorrt``, an ONNX file as TensorRT takes it;
            ``openvino``, ``executorch`` or ``torch_export``.
        example: a batch's inputs, one sample or more; of any device.
        task: how the network is called.
        classes: names of the classes, in the order of the outputs.
        samples: batches on which it is proved, as the task reads them; random inputs when not given.
        data: which samples these are, in words.
        licence: of the weights, as their owner says it.
        recipe: digest of the recipe that made the network.
        weights: SHA-256 of the weights; found out when not given.

    Returns:
        The file, with its proof.

    Raises:
        InputError: when a library is not installed, or the network cannot be converted, naming operator and layer.
        RunError: when the file does not answer as the network does, with the figure and the bound; it is then called
            ``NAME.unproved.…``, with its proof, and what was there before stays.
    """
    _check_decoder(example, format)
    target, own = place_of(path, format), copy.deepcopy(unwrapped(model)).cpu().float().eval()
    example = moved(example, "cpu")
    network = traced(own, example, task)
    if network.quantized and format not in INT8_FORMATS:
        raise InputError(
            f"the network is quantized by NNCF, which cannot be written as {format!r}; expected "
            f"one of {listing(INT8_FORMATS)}, or the network before it was quantized"
        )
    precision = "int8" if network.quantized or format == "onnx_dynamic" else "float32"
    card = _card(
        own, network, task, target, classes, precision=precision, licence=licence, recipe=recipe, weights=weights
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-", ignore_cleanup_errors=True) as folder:
        written = Path(folder) / target.name
        if card.tokens is not None and (tokenization := tokenization_of(own)) is not None:
            write_tokens(tokenization, written.with_name(f"{target.name}{TOKENIZER}"))
        tokens = _WRITERS[format](network, written, card.model_dump_json(by_alias=True))
        proof = prove(
            written,
            own,
            [_random(example, _RANDOM_SAMPLES[card.precision])] if samples is None else samples,
            task=task,
            data=_RANDOM if samples is None else data,
            precision=card.precision,
            tokens=tokens,
        )
        if not proof.proved:
            target = target.with_name(f"{target.stem}{UNPROVED}{target.suffix}")
        _put(written, target)
    with replacing(target.with_name(f"{target.name}{PROOF}")) as temporary:
        temporary.write_text(proof.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if not proof.proved:
        raise RunError(f"{target} does not answer as the network does: {'; '.join(proof.problems)}. It was kept")
    size = sum(part.stat().st_size for part in _parts(target))
    return Exported(target, format, card, proof, size, _built_by(target, card) if format == "tensorrt" else None)


def _check_decoder(example: Any, format: Format) -> None:
    if isinstance(example, Mapping) and DECODED in example:
        raise InputError(
            f"an encoder–decoder cannot be written as {format!r}; expected `understudy export MODEL --format "
            "transformers`, which leaves a folder that transformers and all that builds on it loads"
        )


def place_of(path: str | Path, format: Format) -> Path:
    """Where a file goes: itself, or ``model`` with the right ending, in a folder.

    Raises:
        InputError: for a format that there is not, or a name with the ending of another one.
    """
    if format not in FORMATS:
        raise InputError(
            f"there is no format {format!r}{nearest(format, FORMATS)}; expected one of {', '.join(FORMATS)}"
        )
    path, ending = Path(path), SUFFIXES[format]
    if path.suffix == ending:
        return path
    if path.suffix in SUFFIXES.values():
        raise InputError(f"{path} ends in {path.suffix}, a file of the format {format!r} ends in {ending}")
    return path / file_name("model", format)


def file_name(model: str, format: Format) -> str:
    """What a model's file is called.

    Example:
        >>> file_name("student", "onnx"), file_name("student", "onnx_dynamic")
        ('student.onnx', 'student.dynamic.onnx')
    """
    return f"{model}{_KINDS.get(format, '')}{SUFFIXES[format]}"


def _card(
    model: nn.Module,
    network: Traced,
    task: Task,
    target: Path,
    classes: Sequence[str],
    *,
    precision: Literal["float32", "int8"],
    licence: str | None,
    recipe: str | None,
    weights: str | None,
) -> Card:
    normalisation, tokenization = normalisation_of(model), tokenization_of(model)
    tokens = tokenization.spec if tokenization is not None else None
    if isinstance(tokens, Tokenizer):
        tokens = tokens.model_copy(update={"path": f"{target.name}{TOKENIZER}"})
    return Card(
        understudy=version("understudy"),
        task=task.kind,
        classes=tuple(classes),
        inputs=tuple(
            FileInput(name=name, shape=tuple(tensor.shape[1:]), dtype=str(tensor.dtype).removeprefix("torch."))
            for name, tensor in zip(network.names, network.tensors, strict=True)
        ),
        normalisation=None if normalisation is None else {"mean": normalisation.mean, "std": normalisation.std},
        tokens=tokens,
        precision=precision,
        licence=licence,
        recipe=recipe,
        weights=weights or _digest_of(model),
    )


def _built_by(path: Path, card: Card) -> str:
    longest = max((port.shape[0] for port in card.inputs if port.shape), default=1)
    return trtexec_line(path, sizes=(1, longest, longest))


def _digest_of(model: nn.Module) -> str:
    with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
        path = Path(folder) / "weights.safetensors"
        write_state(model, path)
        return file_digest(path)


def _random(example: Any, count: int) -> Batch:
    """Inputs that mean nothing: numbers from 0 to 1, and where whole numbers go in those of the example."""

    def drawn(tensor: Tensor) -> Tensor:
        return torch.rand(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor

    generator = torch.Generator().manual_seed(0)
    return Batch(inputs=each_tensor(resized(example, count), drawn))


def _parts(path: Path) -> list[Path]:
    """All files of an exported file, itself last."""
    return [path.with_suffix(".bin"), path] if path.suffix == ".xml" else [path]


def _put(written: Path, target: Path) -> None:
    """Put a file in its place, and its tokenizer; of two that belong together none stays that belongs to another."""
    tokenizer = written.with_name(f"{written.name}{TOKENIZER}")
    if tokenizer.is_file():
        with replacing(target.with_name(f"{target.name}{TOKENIZER}")) as temporary:
            tokenizer.rename(temporary)
    if len(_parts(target)) > 1:
        target.unlink(missing_ok=True)
    for source, place in zip(_parts(written), _parts(target), strict=True):
        with replacing(place) as temporary:
            source.rename(temporary)
