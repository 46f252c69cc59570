"""Data that is already arrays: ``.npz`` files, and the digits that come with scikit-learn."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from understudy.errors import InputError, listing
from understudy.sources.label_sets import LabelSets
from understudy.sources.labels import Labels
from understudy.sources.numbers import Numbers
from understudy.tasks.task import Task

_INPUTS = ("x", "inputs", "images", "image", "data", "features")
_LABELS = ("y", "labels", "label", "targets", "target")
SEVERAL = "multi_label_classification"
"""The kind of task in which a sample has any number of labels."""
_SPLITS = {"val": "validation", "valid": "validation"}


@dataclass(frozen=True, slots=True)
class Arrays:
    """The arrays of one split, as a source has them."""

    inputs: np.ndarray
    labels: Labels | LabelSets | Numbers


def digits() -> dict[str, Arrays]:
    """1,797 handwritten digits, 8×8 pixels (Alpaydin, Kaynak: UCI optical recognition of handwritten digits)."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    return {"train": Arrays(pixels, Labels("train", bunch.target.astype(np.int64), tuple(map(str, range(10)))))}


def read_npz(path: Path, inputs: str | None, label: str | None, task: Task) -> dict[str, Arrays]:
    """The splits of a NumPy archive: ``x_train``/``y_train``, ``train_images``/``train_labels``, or just ``x``/``y``.

    Args:
        path: of the file; pickled objects in it are refused.
        inputs: what the arrays of inputs are called, without the name of the split; None: found.
        label: the same for the labels.
        task: says whether these are classes, a 0 or 1 for each label, or numbers.

    Raises:
        InputError: when the file cannot be read or has no such arrays.
    """
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream):
            file = np.load(stream, allow_pickle=False)
            names = list(file)
            pairs = _pairs(names, inputs, label)
            if not pairs:
                raise InputError(
                    f"{path} has arrays {listing(names)}; expected inputs and labels of each split, such as 'x_train' "
                    "and 'y_train'. Name them with `inputs:` and `label:`, without the name of the split"
                )
            classes = tuple(map(str, file["classes"].tolist())) if "classes" in names else None
            read = {split: (file[x], file[y]) for split, (x, y) in pairs.items()}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as a NumPy archive: {error}") from error
    if task.answers == "numbers":
        return {split: Arrays(x, Numbers.of_array(split, y, label or "target")) for split, (x, y) in read.items()}
    of_array = LabelSets.of_array if task.kind == SEVERAL else Labels.of_array
    return {split: Arrays(x, of_array(split, y, classes)) for split, (x, y) in read.items()}


def as_inputs(values: np.ndarray, task: Task, name: str) -> Tensor:
    """Images as (N, channels, height, width), uint8 or float32 in [0, 1]; everything else as float32 (N, features).

    Args:
        values: numbers, samples first; images (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W).
        task: says whether images are expected.
        name: of the split, for messages.

    Raises:
        InputError: for arrays that are neither, values that are not finite, or floats of images beyond [0, 1].
    """
    if values.dtype.kind not in "biuf" or values.ndim < 2:
        raise InputError(
            f"inputs of split {name!r} have type {values.dtype} and shape {values.shape}; "
            "expected an array of numbers, samples first"
        )
    images = _channels_first(values)
    if values.dtype == np.uint8 and images is not None:
        return torch.from_numpy(np.ascontiguousarray(images))
    if task.kind != "image_classification":
        return _finite(torch.from_numpy(values.reshape(len(values), -1).astype(np.float32)), name)
    if images is None or values.dtype.kind != "f":
        raise InputError(
            f"inputs of split {name!r} have type {values.dtype} and shape {values.shape}; expected images: uint8, or "
            "floats in [0, 1], (N, height, width), (N, height, width, channels) or (N, channels, height, width)"
        )
    tensor = _finite(torch.from_numpy(np.ascontiguousarray(images, np.float32)), name)
    if len(tensor) and (tensor.min() < 0 or tensor.max() > 1):
        raise InputError(
            f"images of split {name!r} have values from {tensor.min():g} to {tensor.max():g}; expected floats in "
            "[0, 1] or uint8. Each model's own mean and standard deviation belong to its `preprocess`"
        )
    return tensor


def _finite(inputs: Tensor, name: str) -> Tensor:
    broken = (~torch.isfinite(inputs)).flatten(1).any(1).nonzero().flatten().tolist()
    if broken:
        raise InputError(
            f"{len(broken):,} samples of split {name!r} hold NaN or infinity: samples "
            f"{listing([str(row) for row in broken])}; expected finite numbers"
        )
    return inputs


def _channels_first(values: np.ndarray) -> np.ndarray | None:
    if values.ndim == 3:
        return values[:, None]
    if values.ndim != 4:
        return None
    if values.shape[1] in (1, 3):
        return values
    return values.transpose(0, 3, 1, 2) if values.shape[3] in (1, 3) else None


def _pairs(names: list[str], inputs: str | None, label: str | None) -> dict[str, tuple[str, str]]:
    """The names of (inputs, labels) by split."""
    found: dict[str, tuple[str, str]] = {}
    for name in names:
        for x in (inputs,) if inputs else _INPUTS:
            pattern = re.fullmatch(rf"(?:(?P<before>\w+)_)?{re.escape(x)}(?:_(?P<after>\w+))?", name)
            if pattern is None:
                continue
            for y in (label,) if label else _LABELS:
                other = "_".join(part for part in (pattern["before"], y, pattern["after"]) if part)
                if other in names:
                    split = pattern["before"] or pattern["after"] or "train"
                    found[_SPLITS.get(split, split)] = (name, other)
    return found
