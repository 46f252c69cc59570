"""From the columns of a ``datasets`` split to inputs and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from understudy.batch import IGNORE_INDEX
from understudy.errors import InputError, listing, nearest
from understudy.sources.arrays import SEVERAL, as_inputs
from understudy.sources.cache import cached, content_digest
from understudy.sources.images import Form, LazyImages, decode_all, first_shape, lazy
from understudy.sources.label_sets import LabelSets
from understudy.sources.labels import Labels
from understudy.sources.numbers import Numbers
from understudy.sources.texts import Texts
from understudy.spec import digest
from understudy.tasks.task import Task

if TYPE_CHECKING:
    import datasets

_INPUTS = ("image", "img", "images", "inputs", "input", "features", "x", "pixels")
_TEXTS = ("text", "texts", "sentence", "content", "review", "document", *_INPUTS)
_PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "answer"),
    ("query", "passage"),
    ("text1", "text2"),
    ("text_a", "text_b"),
)
"""Columns that hold pairs of texts, where no other one is called as texts are."""
_LABELS = ("label", "labels", "fine_label", "target", "targets", "class", "y")
_NUMBERS = ("score", "scores", "rating", *_LABELS)
_FORMAT = 1
"""Counts up when images are decoded differently, so that older files of the cache are not used."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns are read.

    Attributes:
        inputs: one column of images, texts or lists of numbers, several columns of numbers, or two of pairs of texts.
        labels: the column of labels, those of a 0 or 1 for each label, or of numbers; none where the task has no true
            answers.
        images: whether the inputs are encoded images.
        texts: whether they are texts.
    """

    inputs: tuple[str, ...]
    labels: tuple[str, ...]
    images: bool
    texts: bool = False


def find_columns(
    features: Mapping[str, Any],
    inputs: str | tuple[str, ...] | None,
    label: str | tuple[str, ...] | None,
    task: Task,
    classes: tuple[str, ...] | None = None,
) -> Columns:
    """Take the columns that the user names, or those that can only be meant.

    Args:
        features: the columns' types by name, as ``datasets`` gives them.
        inputs: what the user says; None: one column of images or texts, or all numbers that are not the label.
        label: what the user says; None: a column with a usual name, or the only one of classes; where a sample has
            several labels those that are called as the labels are. Several columns are those of numbers or labels.
        task: says whether images or texts are expected, and what the labels are.
        classes: the names of the labels that the user expects, if any.

    Raises:
        InputError: listing the columns, when one does not exist, or several or none could be meant.
    """
    import datasets

    check_names(features, (*_named(inputs), *_named(label)))
    labels = _label_columns(features, _named(label), task, classes)
    if task.kind.startswith(("text_", "sentence_")) or (
        task.kind in ("classification", "regression", SEVERAL) and _only_texts(features, inputs, labels)
    ):
        return _of_texts(features, inputs, labels, task)
    if inputs is None:
        inputs = _found_inputs(features, labels)
    inputs = (inputs,) if isinstance(inputs, str) else inputs
    images = len(inputs) == 1 and isinstance(features[inputs[0]], datasets.Image)
    wrong = [name for name in inputs if not images and not _numeric(features[name])]
    if wrong or (task.kind == "image_classification" and not images and not _listed(features[inputs[0]])):
        expected = "images" if task.kind == "image_classification" else "images or numbers"
        raise InputError(
            f"column {(wrong or inputs)[0]!r} does not hold what task {task.kind!r} reads, {expected}; "
            f"name another one with `inputs:`. {described(features)}"
        )
    return Columns(inputs, labels, images)


def read_inputs(
    split: datasets.Dataset, columns: Columns, form: Form, task: Task, *, name: str, memory_bytes: int
) -> tuple[Tensor | LazyImages | Texts, str]:
    """The inputs of a split and a digest of their content.

    Images come from the cache of decoded images, or go there; those that would need more than ``memory_bytes``
    stay encoded, and their digest is the one that ``datasets`` knows them by.

    Raises:
        InputError: naming samples that cannot be read, or do not fit together.
    """
    import datasets

    if not len(split):
        raise InputError(f"split {name!r} is empty; expected at least one sample")
    if columns.texts:
        parts = [_complete(split, column, name) for column in columns.inputs]
        texts = Texts.of(parts[0] if len(parts) == 1 else list(zip(*parts, strict=True)))
        return texts, content_digest(torch.cat([texts.lengths.view(torch.uint8), texts.content]))
    if not columns.images:
        inputs = as_inputs(_numbers(split, columns.inputs, name), task, name)
        return inputs, content_digest(inputs)
    column = columns.inputs[0]
    records = split.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    key = digest(
        {"data": split._fingerprint, "column": column, "size": form.size, "channels": form.channels, "format": _FORMAT}
    )
    height, width, channels = first_shape(records, form, name)
    if len(split) * height * width * channels > memory_bytes:
        return lazy(records, form, name), key
    return cached(f"images-{key}", lambda: decode_all(records, form, name))


def read_labels(split: datasets.Dataset, column: str, name: str) -> Labels:
    """The labels of a split; an empty cell is a sample without a label.

    Raises:
        InputError: when the column holds neither whole numbers nor names.
    """
    import datasets

    feature = split.features[column]
    names = tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else None
    values = split.with_format("arrow")[:][column]
    if names is None and not isinstance(feature, datasets.Value):
        several = f"; lists of them are for task: {SEVERAL}" if _listed(feature) else ""
        raise InputError(f"label column {column!r} has type {_type(feature)}; expected whole numbers or names{several}")
    if names is None and "string" in feature.dtype:
        return Labels(name, values.to_pylist())
    plain = np.asarray([IGNORE_INDEX if value is None else value for value in values.to_pylist()])
    return Labels.of_array(name, plain, names)


def read_label_sets(split: datasets.Dataset, columns: tuple[str, ...], name: str) -> LabelSets:
    """The labels of a split, any number for each sample.

    Args:
        split: as ``datasets`` opened it.
        columns: one of lists, or of texts with names in them, in which an empty cell is a sample whose labels are not
            known; or several of 0 and 1, each called as its label, in which it is a label that is not known.
        name: of the split, for messages.

    Raises:
        InputError: when they hold something else.
    """
    import datasets

    table = split.with_format("arrow")[:]
    if len(columns) > 1:
        wrong = [
            column for column in columns if not _numeric(split.features[column]) or _listed(split.features[column])
        ]
        if wrong:
            raise InputError(
                f"label column {wrong[0]!r} has type {_type(split.features[wrong[0]])}; expected 0 and 1, as `label` "
                f"names {len(columns)} columns"
            )
        cells = [[np.nan if cell is None else cell for cell in table[column].to_pylist()] for column in columns]
        return LabelSets.of_array(name, np.asarray(cells, dtype=np.float64).T, columns)
    column = next(iter(columns))
    feature = split.features[column]
    inner = feature.feature if isinstance(feature, (datasets.List, datasets.LargeList)) else feature
    if inner is feature and not textual(feature):
        raise InputError(
            f"label column {column!r} has type {_type(feature)}; expected lists of labels, or name the columns of 0 "
            "and 1, one for each label, with `label: [first, second, …]`"
        )
    names = tuple(inner.names) if isinstance(inner, datasets.ClassLabel) else None
    return LabelSets.of_cells(name, table[column].to_pylist(), names)


def read_numbers(split: datasets.Dataset, columns: Sequence[str], name: str) -> Numbers:
    """The true numbers of a split, of one or several columns; an empty cell is one that nobody knows.

    Raises:
        InputError: when a column holds something else than numbers, or lists of as many numbers.
    """
    found = []
    for column in columns:
        cells = split.with_format("arrow")[:][column].to_pylist()
        count = max((len(cell) for cell in cells if isinstance(cell, list)), default=0)
        unknown = [float("nan")] * count if count else float("nan")
        try:
            values = np.asarray([unknown if cell is None else cell for cell in cells], dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"column {column!r} of split {name!r} holds something else than numbers ({error}); expected numbers, "
                "or lists of equal lengths"
            ) from error
        found.append(Numbers.of_array(name, values, column))
    return found[0] if len(found) == 1 else Numbers.beside(found)


def _named(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names or ()


def _label_columns(
    features: Mapping[str, Any], given: tuple[str, ...], task: Task, classes: tuple[str, ...] | None
) -> tuple[str, ...]:
    """The columns of true answers; of numbers and of several labels all that are named, of classes one."""
    import datasets

    if not task.labelled:
        if given:
            raise InputError(f"`label` names a column, and task {task.kind!r} has no true answers; leave it out")
        return ()
    if task.answers == "numbers":
        usual = [name for name, feature in features.items() if name in _NUMBERS and _numeric(feature)]
        named = [name for name in _NUMBERS if name in usual][:1]
        wrong = [name for name in given if not _numeric(features[name])]
        if wrong:
            raise InputError(
                f"column {wrong[0]!r} holds no numbers, which task {task.kind!r} learns. {described(features)}"
            )
        return given or (only_one(named, "label", features),)
    if len(given) > 1 and task.kind != SEVERAL:
        raise InputError(
            f"`label` names {len(given)} columns; task {task.kind!r} reads one, and task: {SEVERAL} one for each label"
        )
    if not given and task.kind == SEVERAL and classes is not None and all(name in features for name in classes):
        return classes
    named = [name for name in features if name in _LABELS]
    of_classes = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    return given or (only_one(named or of_classes, "label", features),)


def _only_texts(features: Mapping[str, Any], inputs: str | tuple[str, ...] | None, labels: tuple[str, ...]) -> bool:
    """Whether the column that is named holds texts, or none is named and there is nothing else to learn from."""
    import datasets

    if inputs is not None:
        return all(textual(features[name]) for name in ((inputs,) if isinstance(inputs, str) else inputs))
    others = [feature for name, feature in features.items() if name not in labels]
    return any(map(textual, others)) and not any(isinstance(each, datasets.Image) or _numeric(each) for each in others)


def _of_texts(
    features: Mapping[str, Any], inputs: str | tuple[str, ...] | None, labels: tuple[str, ...], task: Task
) -> Columns:
    """One column of texts, or two, whose texts in a row are a pair."""
    texts = [name for name, feature in features.items() if name not in labels and textual(feature)]
    if not inputs and task.labelled:
        usual = {name for name in texts if name in _TEXTS}
        inputs = next((pair for pair in _PAIRS if usual <= set(pair) <= set(texts)), None)
    if isinstance(inputs, tuple) and len(inputs) == 2 and all(textual(features[name]) for name in inputs):
        return Columns(inputs, labels, images=False, texts=True)
    column = _text_column(features, inputs, labels, task=task.kind)
    return Columns((column,), labels, images=False, texts=True)


def _text_column(
    features: Mapping[str, Any], inputs: str | tuple[str, ...] | None, labels: tuple[str, ...], *, task: str
) -> str:
    if not inputs:
        texts = [name for name, feature in features.items() if name not in labels and textual(feature)]
        inputs = only_one([name for name in texts if name in _TEXTS] or texts, "inputs", features)
    name, *others = (inputs,) if isinstance(inputs, str) else inputs
    if others or not textual(features[name]):
        wrong = f"`inputs` names {1 + len(others)} columns" if others else f"column {name!r} does not hold texts"
        two = "" if not labels else ", or two of pairs"
        raise InputError(f"{wrong}; task {task!r} reads one column of texts{two}. {described(features)}")
    return name


def read_texts(split: datasets.Dataset, inputs: str | tuple[str, ...] | None, task: Task, name: str) -> list[str]:
    """The texts of a split that has no labels.

    Args:
        split: as ``datasets`` opened it.
        inputs: the column that the user names; None: the only one of texts, or one with a usual name.
        task: what they are for.
        name: of the split, for messages.

    Raises:
        InputError: when no column or several could be meant, or a text is missing.
    """
    check_names(split.features, _named(inputs))
    return _complete(split, _text_column(split.features, inputs, (), task=task.kind), name)


def check_names(features: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse columns that there are not.

    Raises:
        InputError: naming the first of them, and all columns.
    """
    for name in names:
        if name not in features:
            raise InputError(f"there is no column {name!r}{nearest(name, features)}; {described(features)}")


def _complete(split: datasets.Dataset, column: str, name: str) -> list[str]:
    values = split.with_format("arrow")[:][column].to_pylist()
    missing = [str(row) for row, value in enumerate(values) if value is None]
    if missing:
        raise InputError(
            f"{len(missing):,} samples of split {name!r} have no {column}: samples {listing(missing)}; expected texts, "
            "which may be empty. In a csv file an empty cell, NA or null is no text; parquet and json tell them apart"
        )
    return values


def textual(feature: Any) -> bool:
    """Whether a column holds texts."""
    import datasets

    return isinstance(feature, datasets.Value) and "string" in feature.dtype


def _found_inputs(features: Mapping[str, Any], labels: tuple[str, ...]) -> tuple[str, ...]:
    import datasets

    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    if images:
        return (only_one([name for name in images if name in _INPUTS] or images, "inputs", features),)
    named = [name for name in features if name in _INPUTS and name not in labels]
    if named:
        return (only_one(named, "inputs", features),)
    numbers = [name for name, feature in features.items() if name not in labels and _numeric(feature)]
    lists = [name for name in numbers if _listed(features[name])]
    if lists:
        return (only_one(lists, "inputs", features),)
    if not numbers:
        raise InputError(f"no column of images or numbers was found; name one with `inputs:`. {described(features)}")
    return tuple(numbers)


def only_one(names: Sequence[str], field: str, features: Mapping[str, Any]) -> str:
    """The one column that can be meant.

    Args:
        names: those that can.
        field: where the user would name one.
        features: all columns.

    Raises:
        InputError: for several, or none.
    """
    if len(names) == 1:
        return names[0]
    which = f"{' and '.join(map(repr, names))} could all be meant" if names else "no column could be meant"
    raise InputError(f"`{field}` is not clear: {which}; name the column with `{field}:`. {described(features)}")


def _numbers(split: datasets.Dataset, names: tuple[str, ...], split_name: str) -> np.ndarray:
    table = split.with_format("numpy", columns=list(names))[:]
    columns = [np.asarray(table[name]) for name in names]
    if any(column.dtype.kind == "O" for column in columns):
        raise InputError(f"inputs of split {split_name!r} do not all have the same length; expected equal lengths")
    return columns[0] if len(columns) == 1 and columns[0].ndim > 1 else np.stack(columns, axis=1)


def _numeric(feature: Any) -> bool:
    import datasets

    while isinstance(feature, (datasets.List, datasets.LargeList)):
        feature = feature.feature
    if not (_listed(feature) or isinstance(feature, datasets.Value)):
        return False
    return feature.dtype.startswith(("int", "uint", "float", "bool"))


def _listed(feature: Any) -> bool:
    import datasets

    arrays = (datasets.Array2D, datasets.Array3D, datasets.Array4D, datasets.Array5D)
    return isinstance(feature, (datasets.List, datasets.LargeList, *arrays))


def described(features: Mapping[str, Any]) -> str:
    """All columns with what they hold, in words."""
    return "the columns are " + ", ".join(f"{name!r} ({_type(feature)})" for name, feature in features.items())


def _type(feature: Any) -> str:
    import datasets

    if isinstance(feature, datasets.Value):
        return "text" if "string" in feature.dtype else feature.dtype
    return {"ClassLabel": "classes", "Image": "images"}.get(type(feature).__name__, type(feature).__name__)
