"""Data sets: which one, which columns and splits of it, and how to hold it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from understudy.batch import IGNORE_INDEX
from understudy.errors import InputError, listing, nearest
from understudy.sources.arrays import SEVERAL, as_inputs, digits, read_npz
from understudy.sources.cache import content_digest
from understudy.sources.images import Form, LazyImages
from understudy.sources.label_sets import LabelSets, label_names, label_targets
from understudy.sources.labels import Labels, output_names, targets
from understudy.sources.numbers import Numbers
from understudy.sources.opening import local_path, open_splits
from understudy.sources.pairs import noted, open_pairs, read_pairs
from understudy.sources.prompt_columns import PromptColumns, find_prompts, read_prompts
from understudy.sources.selection import chosen
from understudy.sources.splits import Amount, Split
from understudy.sources.tables import (
    Columns,
    find_columns,
    read_inputs,
    read_label_sets,
    read_labels,
    read_numbers,
    read_texts,
)
from understudy.sources.texts import Texts
from understudy.sources.windows import RunningTokens, read_windows
from understudy.spec import Spec
from understudy.tasks.language import LanguageModel
from understudy.tasks.sequence_to_sequence import SequenceToSequence
from understudy.tasks.task import Task

MEMORY_BYTES = 2 * 1024**3
"""Images of a split that would take more than this, decoded, stay encoded."""

WINDOW = 256
"""Tokens that are read together when nobody says how many."""

_VALIDATION, _TEST = 11, 12
"""What is carved, so that the two choices are independent."""

Side = Annotated[int, Field(ge=1)]


@final
class DataSpec(Spec):
    """A data set and how to read it.

    Example:
        >>> DataSpec(source="sklearn/digits").carve
        0.1
    """

    source: str
    """A data set on the Hugging Face hub, a folder (of images by class, or of parquet, csv or json files), a file
    (.parquet, .csv, .json, .npz, .txt, whose lines end as they do under Unix), or ``sklearn/digits``, which needs no
    download."""
    config: str | None = None
    """Which configuration, for data sets on the hub that have several."""
    train: str = "train"
    """Name of the training split."""
    validation: str = "validation"
    """Name of the split that selects models; carved from the training split when the data has none."""
    test: str = "test"
    """Name of the split that is reported; nothing is ever selected on it."""
    carve: Amount = 0.1
    """How much of the training split becomes the validation split when there is none: a fraction of each class,
    or a number spread over the classes."""
    carve_test: Amount = 0.2
    """The same for a test split, when the data has none."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Which samples are carved out."""
    inputs: str | tuple[str, ...] | None = None
    """The column of inputs (images, texts, lists of numbers), several columns of numbers, or the two of pairs of texts;
    found when not given."""
    label: str | tuple[str, ...] | None = None
    """The column of labels, found when not given; for a regression that of numbers, or several of them. In task
    `multi_label_classification` a column of lists, or several columns of 0 and 1, each called as its label."""
    size: tuple[Side, Side] | None = None
    """(height, width) that images are resized to."""
    channels: Literal[1, 3] | None = None
    """1: images become grey; 3: they become RGB."""
    classes: tuple[str, ...] | None = None
    """The names of the classes, or of the labels, in order, as you expect them; refused if the data has others."""
    tokens: Annotated[RunningTokens, Field(discriminator="kind")] | None = None
    """For language models: the tokens that all models of the run read and predict, `{kind: bytes}` or
    `{kind: tokenizer, path: …}`."""
    window: Annotated[int, Field(ge=2)] | None = None
    """For language models: how many tokens are read together, of prompt and answer at the most; 256 when not given."""
    prompt: str | tuple[str, ...] | None = None
    """For language models: the column of prompts, or several that stand in them one after the other. Found when a table
    has `prompt`, `instruction` or `question` beside an answer, and no column `text`."""
    answer: str | None = None
    """For language models: the column of what is to be said to each prompt; found when it is called `answer`,
    `completion`, `response` or `output`."""


@final
@dataclass(frozen=True, eq=False, slots=True)
class DataSet:
    """Three splits of the same classes, without a common sample.

    Attributes:
        train: to learn from.
        validation: to select on.
        test: to report on.
        classes: names of the classes, in the order of the targets; of language models the tokens, of a regression the
            numbers, and none where there are no true answers.
        fingerprint: a hash of all content and of which sample is in which split.
        tokens: what was made of texts for language models; None for all other data.
        notes: what was cut or left out, in words.
    """

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    fingerprint: str
    tokens: RunningTokens | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Source:
    """What can be read: the names of the splits, and how to get one of them."""

    names: tuple[str, ...]
    read: Callable[[str], _Part] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Part:
    inputs: Tensor | LazyImages | Texts
    labels: Labels | LabelSets | Numbers
    digest: str


def load_data(spec: DataSpec, *, task: Task, memory_bytes: int = MEMORY_BYTES) -> DataSet:
    """Read a data set; images are decoded once and kept in the cache (see :func:`cache_directory`).

    Args:
        spec: which data.
        task: what it is for; decides how columns are read.
        memory_bytes: images of a split that need more than this stay encoded and are decoded when asked for.

    Raises:
        InputError: for anything about the data that would make a training fail or mislead: it does not exist or
            cannot be reached, columns or splits that are missing or unclear, images of different sizes or modes,
            values that are not finite, labels out of range, classes that are not as expected, an empty split.
    """
    if isinstance(task, LanguageModel):
        return _of_language(spec, task)
    if spec.tokens is not None or spec.window is not None:
        raise InputError(
            "`tokens` and `window` are of running texts, for task: causal_language_model; in task "
            f"{task.kind} each model has its own tokens, in its `preprocess`"
        )
    if spec.prompt is not None or spec.answer is not None:
        raise InputError(f"`prompt` and `answer` are columns for language models; task {task.kind} reads `inputs`")
    source = _open(spec, task, memory_bytes)
    names = _roles(spec, source.names)
    parts = {role: source.read(name) for role, name in names.items()}
    classes = _names([part.labels for part in parts.values()], spec.classes)
    splits: dict[str, Split] = {}
    offset = 0
    for role, part in parts.items():
        splits[role] = _split(part, names[role], classes, offset)
        offset += len(splits[role])
    _carve(splits, "test", spec.carve_test, (spec.seed, _TEST))
    _carve(splits, "validation", spec.carve, (spec.seed, _VALIDATION))
    train, validation, test = (splits[role] for role in ("train", "validation", "test"))
    digests = [part.digest for part in parts.values()]
    return DataSet(train, validation, test, classes, _fingerprint(classes, digests, (train, validation, test)))


def _names(splits: list[Labels | LabelSets | Numbers], expected: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of the classes, the labels or the numbers."""
    sets = [labels for labels in splits if isinstance(labels, LabelSets)]
    if sets:
        return label_names(sets, expected)
    return output_names([each for each in splits if not isinstance(each, LabelSets)], expected)


def prompts_and_answers(spec: DataSpec, *, task: LanguageModel) -> dict[str, list[tuple[str, str]]]:
    """All texts of a data set of prompts, also those that a sample was not made of.

    Args:
        spec: which data.
        task: what they are for.

    Returns:
        Each prompt with its answer, by the role of its split in the data themselves, the training split first; samples'
        ids count through them. Nothing for running texts.

    Raises:
        InputError: as :func:`load_data` does.
    """
    tables = open_splits(spec.source, spec.config, running=True)
    names = _roles(spec, tuple(tables))
    columns = _prompt_columns(spec, task, tables[names["train"]])
    return {} if columns is None else {role: read_prompts(tables[name], columns) for role, name in names.items()}


def prompt_columns(spec: DataSpec, *, task: LanguageModel) -> PromptColumns | None:
    """Which columns hold prompts and answers; None for running texts.

    Raises:
        InputError: as :func:`load_data` does.
    """
    tables = open_splits(spec.source, spec.config, running=True)
    return _prompt_columns(spec, task, tables[_roles(spec, tuple(tables))["train"]])


def _prompt_columns(spec: DataSpec, task: LanguageModel, table: Any) -> PromptColumns | None:
    named = spec.prompt is not None or spec.answer is not None
    if named and spec.inputs is not None:
        raise InputError("`inputs` names a column of running texts beside `prompt` and `answer`; leave it out")
    running = not isinstance(task, SequenceToSequence)
    columns = None
    if spec.inputs is None:
        columns = find_prompts(table.features, spec.prompt, spec.answer, running=running)
    if columns is None and not running:
        raise InputError(
            f"task {task.kind} reads a table with a column of prompts and one of answers, and found none in "
            f"{spec.source}; name them with `prompt:` and `answer:`"
        )
    return columns


def _of_language(spec: DataSpec, task: LanguageModel) -> DataSet:
    """The data of a language model: prompts with answers, or windows of running texts."""
    tokens = _tokens(spec)
    tables = open_splits(spec.source, spec.config, running=True)
    names = _roles(spec, tuple(tables))
    columns = _prompt_columns(spec, task, tables[names["train"]])
    if columns is not None:
        return _pairs(spec, task, tokens, {role: (name, tables[name]) for role, name in names.items()}, columns)
    texts = {role: read_texts(tables[name], spec.inputs, task, name) for role, name in names.items()}
    classes, windows = read_windows(texts, tokens, spec.window or WINDOW)
    splits: dict[str, Split] = {}
    offset = 0
    for role, part in windows.items():
        ids = torch.arange(offset, offset + len(part.inputs))
        splits[role] = Split(part.inputs, part.targets, ids, classes, names[role])
        offset += len(ids)
    digests = [content_digest(part.inputs) for part in windows.values()]
    _carve_end(splits, "test", spec.carve_test)
    _carve_end(splits, "validation", spec.carve)
    train, validation, test = (splits[role] for role in ("train", "validation", "test"))
    fingerprint = _fingerprint(classes, digests, (train, validation, test))
    return DataSet(train, validation, test, classes, fingerprint, tokens)


def _pairs(
    spec: DataSpec, task: LanguageModel, tokens: RunningTokens, tables: dict[str, Any], columns: PromptColumns
) -> DataSet:
    """Prompts with answers: by role the name of a split and its table."""
    made, window, start = open_pairs(tokens), spec.window or WINDOW, None
    if isinstance(task, SequenceToSequence):
        start = made.padding if task.decoder_start is None else task.decoder_start
    found = {
        role: read_pairs(read_prompts(table, columns), made, window, start=start, name=name)
        for role, (name, table) in tables.items()
    }
    width = max(int(part.pairs.positions.max()) for part in found.values())
    splits: dict[str, Split] = {}
    offset = 0
    for role, part in found.items():
        splits[role] = Split(part.pairs, part.pairs.targets(width), part.kept + offset, made.names, tables[role][0])
        offset += part.rows
    _carve(splits, "test", spec.carve_test, (spec.seed, _TEST))
    _carve(splits, "validation", spec.carve, (spec.seed, _VALIDATION))
    train, validation, test = (splits[role] for role in ("train", "validation", "test"))
    digests = [part.pairs.digest() for part in found.values()]
    fingerprint = _fingerprint(made.names, digests, (train, validation, test))
    return DataSet(train, validation, test, made.names, fingerprint, tokens, noted(found, window))


def _tokens(spec: DataSpec) -> RunningTokens:
    """What is made of texts; data that are none are refused."""
    if spec.source == "sklearn/digits" or spec.source.lower().endswith(".npz"):
        raise InputError(f"{spec.source} holds no texts; expected a .txt file, a folder of them, or a table of texts")
    unfit = [name for name in ("label", "size", "channels", "classes") if getattr(spec, name) is not None]
    if unfit:
        raise InputError(f"`{unfit[0]}` says nothing of running texts, whose labels are their own tokens; leave it out")
    if spec.tokens is None:
        raise InputError(
            "`tokens` is missing: what the models of this run read and predict; expected {kind: bytes}, or "
            "{kind: tokenizer, path: …} with the tokenizer of the teacher"
        )
    return spec.tokens


def _open(spec: DataSpec, task: Task, memory_bytes: int) -> _Source:
    if spec.source == "sklearn/digits":
        if task.kind == SEVERAL:
            raise InputError(f"{spec.source} has one label for each sample; task {task.kind} reads several")
        return _of_arrays(digits(), spec, task)
    path = local_path(spec.source)
    if path is not None and path.suffix.lower() == ".npz":
        if isinstance(spec.inputs, tuple):
            raise InputError(f"`inputs` names {len(spec.inputs)} arrays of {path}, expected one")
        if isinstance(spec.label, tuple):
            raise InputError(
                f"`label` names {len(spec.label)} arrays of {path}, expected one, (N, labels) or (N, numbers)"
            )
        return _of_arrays(read_npz(path, spec.inputs, spec.label, task), spec, task)
    tables = open_splits(spec.source, spec.config, lines=not task.labelled)
    form = Form(size=spec.size, channels=spec.channels)

    def read(name: str) -> _Part:
        columns = find_columns(tables[name].features, spec.inputs, spec.label, task, spec.classes)
        inputs, digest = read_inputs(tables[name], columns, form, task, name=name, memory_bytes=memory_bytes)
        return _Part(inputs, _read_answers(tables[name], columns, name, task), digest)

    return _Source(tuple(tables), read)


def _read_answers(table: Any, columns: Columns, name: str, task: Task) -> Labels | LabelSets | Numbers:
    """What there is to learn of a split."""
    if not task.labelled:
        return Numbers.absent(name, len(table))
    if task.answers == "numbers":
        return read_numbers(table, columns.labels, name)
    if task.kind == SEVERAL:
        return read_label_sets(table, columns.labels, name)
    return read_labels(table, columns.labels[0], name)


def _of_arrays(arrays: dict[str, Any], spec: DataSpec, task: Task) -> _Source:
    if spec.size is not None or spec.channels is not None:
        raise InputError(
            f"`size` and `channels` convert encoded images; {spec.source} holds arrays, which are used as they are"
        )

    def read(name: str) -> _Part:
        inputs = as_inputs(arrays[name].inputs, task, name)
        return _Part(inputs, arrays[name].labels, content_digest(inputs))

    return _Source(tuple(arrays), read)


def _roles(spec: DataSpec, names: tuple[str, ...]) -> dict[str, str]:
    """Which split plays which role. A default name that the data lacks is carved later, any other is an error."""
    asked = {"train": spec.train, "validation": spec.validation, "test": spec.test}
    taken: dict[str, str] = {}
    for role, name in asked.items():
        if name in names:
            for other, same in taken.items():
                if same == name:
                    raise InputError(
                        f"`{other}` and `{role}` are both split {name!r}; expected different ones, since a model is "
                        "never judged on what it was trained or selected on"
                    )
            taken[role] = name
        elif role == "train" or name != role:
            raise InputError(f"`{role}`: there is no split {name!r}{nearest(name, names)}; it has {listing(names)}")
    return taken


def _split(part: _Part, name: str, classes: tuple[str, ...], offset: int) -> Split:
    read = part.labels
    labels = label_targets(read, classes) if isinstance(read, LabelSets) else targets(read, classes)
    if len(labels) != len(part.inputs):
        raise InputError(f"split {name!r} has {len(part.inputs):,} inputs and {len(labels):,} labels")
    if not len(labels):
        raise InputError(f"split {name!r} is empty; expected at least one sample")
    return Split(part.inputs, labels, torch.arange(offset, offset + len(labels)), classes, name)


def _carve(splits: dict[str, Split], role: str, amount: int | float, key: tuple[int, ...]) -> None:
    """Move labelled samples of the training split into a new split, unless the data has it."""
    if role in splits:
        return
    train = splits["train"]
    what = "carve" if role == "validation" else "carve_test"
    taken = chosen(train.groups, train.ids, amount, key, what=what)
    left = torch.ones(len(train), dtype=torch.bool)
    left[taken] = False
    if not (train.groups[left] != IGNORE_INDEX).any():
        raise InputError(f"`{what}: {amount}` takes all labelled samples; none of {len(train):,} is left to train on")
    splits[role] = replace(train.select(taken), name=role)
    splits["train"] = train.select(left.nonzero().flatten())


def _carve_end(splits: dict[str, Split], role: str, amount: int | float) -> None:
    """Move the last windows of the training split into a new one, unless the data has it; neighbours stay together."""
    if role in splits:
        return
    train = splits["train"]
    what = "carve" if role == "validation" else "carve_test"
    count = amount if isinstance(amount, int) else max(1, round(amount * len(train)))
    if count >= len(train):
        raise InputError(f"`{what}: {amount}` takes all {len(train):,} windows; none is left to train on")
    places = torch.arange(len(train))
    splits[role] = replace(train.select(places[-count:]), name=role)
    splits["train"] = train.select(places[:-count])


def _fingerprint(classes: tuple[str, ...], digests: list[str], splits: tuple[Split, ...]) -> str:
    digest = hashlib.sha256(json.dumps([classes, digests]).encode())
    for split in splits:
        digest.update(content_digest(split.ids).encode())
        digest.update(content_digest(split.targets).encode())
    return digest.hexdigest()
