"""What stands in an ONNX file, beside its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from understudy.errors import InputError, listing, nearest
from understudy.extras import imported
from understudy.files import file_digest, neighbours
from understudy.foreign import reason

_PASSING = frozenset({"Identity", "Cast", "Reshape", "Squeeze", "Flatten"})
"""Operators behind a softmax that leave probabilities what they are."""


def read_onnx(path: Path) -> Any:
    """The file's description (an ``onnx.ModelProto``), without the weights that lie beside it.

    Args:
        path: the file.

    Raises:
        InputError: when it is missing or broken, or a file that it refers to is.
    """
    if not path.is_file():
        raise InputError(f"there is no ONNX file {str(path)!r}{nearest(path.name, neighbours(path))}")
    onnx = imported("onnx", extra="export", needed_by="reading an ONNX file")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own, of no public class
        raise InputError(f"{path} is not an ONNX file, or a broken one: {reason(error)}") from error
    if not model.graph.output:
        raise InputError(f"{path} is not an ONNX file, or a broken one: it holds no graph with an output")
    missing = [place for place in files_beside(model) if not (path.parent / place).is_file()]
    if missing:
        raise InputError(f"{path} needs the files {listing(missing)} beside it, which are not there")
    return model


def files_beside(model: Any) -> list[str]:
    """The files that hold weights of a graph, from its own folder."""
    places = {
        entry.value for each in model.graph.initializer for entry in each.external_data if entry.key == "location"
    }
    return sorted(places)


def last_operator(model: Any, output: str) -> str | None:
    """The operator that an output comes from, such as ``Softmax``; None where no operator makes it.

    Args:
        model: what :func:`read_onnx` gave.
        output: its name.
    """
    producers = {name: node for node in model.graph.node for name in node.output}
    node = producers.get(output)
    while node is not None and node.op_type in _PASSING:
        node = producers.get(node.input[0])
    return node.op_type if node is not None else None


def onnx_digest(path: Path, model: Any, settings: Sequence[Any] = ()) -> str:
    """SHA-256 of the file; where there are files beside it, or settings, one of the digests and settings together.

    Args:
        path: the file.
        model: what :func:`read_onnx` gave.
        settings: what the answers depend on beside the files; nothing where all is as usual.
    """
    digests = [file_digest(each) for each in (path, *(path.parent / place for place in files_beside(model)))]
    if len(digests) == 1 and not settings:
        return digests[0]
    return hashlib.sha256(repr((digests, list(settings))).encode()).hexdigest()
