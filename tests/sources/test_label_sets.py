"""Several labels per sample, in every way in which people have them."""

import csv
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from understudy import Classification, InputError, MultiLabelClassification, TextClassification
from understudy.sources import DataSpec, Subset, load_data
from understudy.sources.loader import Loader
from understudy.views import Views

TASK = MultiLabelClassification()
TEXTS = tuple(f"text number {number}" for number in range(6))
SETS = (["a"], ["b", "c"], [], None, ["c", "a"], ["b"])
MATRIX = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [-100, -100, -100], [1, 0, 1], [0, 1, 0]])


def split(source: Path, **settings):
    """All rows of a file, in their order."""
    data = load_data(DataSpec(source=str(source), carve=1, carve_test=1, **settings), task=TASK)
    parts = (data.train, data.validation, data.test)
    ids, targets = (torch.cat([getattr(part, name) for part in parts]) for name in ("ids", "targets"))
    return data.classes, targets[ids.argsort()]


def jsonl(path: Path, **columns) -> Path:
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def table(path: Path, **columns) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def test_lists_of_names(tmp_path) -> None:
    source = jsonl(tmp_path / "x.jsonl", text=TEXTS, labels=SETS)
    for settings in ({}, {"label": "labels"}, {"classes": ("a", "b", "c")}):
        names, found = split(source, **settings)
        assert (names, found.tolist()) == (("a", "b", "c"), MATRIX.tolist())


def test_the_order_of_the_user_counts(tmp_path) -> None:
    names, found = split(jsonl(tmp_path / "x.jsonl", text=TEXTS, labels=SETS), classes=("c", "a", "b", "never"))
    assert names == ("c", "a", "b", "never")
    assert found.tolist() == torch.cat([MATRIX[:, [2, 0, 1]], torch.tensor([0, 0, 0, -100, 0, 0])[:, None]], 1).tolist()


def test_lists_of_indices(tmp_path) -> None:
    indices = [None if names is None else ["abc".index(name) for name in names] for names in SETS]
    source = jsonl(tmp_path / "x.jsonl", text=TEXTS, labels=indices)
    assert split(source)[0] == ("0", "1", "2")
    names, found = split(source, classes=("a", "b", "c"))
    assert (names, found.tolist()) == (("a", "b", "c"), MATRIX.tolist())


def test_indices_whose_names_the_data_know(tmp_path) -> None:
    indices = [None if names is None else ["abc".index(name) for name in names] for names in SETS]
    features = datasets.Features(
        {"text": datasets.Value("string"), "topics": datasets.List(datasets.ClassLabel(names=["a", "b", "c"]))}
    )
    datasets.Dataset.from_dict({"text": TEXTS, "topics": indices}, features).save_to_disk(tmp_path / "x")
    names, found = split(tmp_path / "x", label="topics")
    assert (names, found.tolist()) == (("a", "b", "c"), MATRIX.tolist())


def test_lists_of_yes_and_no(tmp_path) -> None:
    rows = [None if -100 in row else row for row in MATRIX.tolist()]
    names, found = split(jsonl(tmp_path / "x.jsonl", text=TEXTS, labels=rows), classes=("a", "b", "c"))
    assert (names, found.tolist()) == (("a", "b", "c"), MATRIX.tolist())


@pytest.mark.parametrize("mark", [";", "|", ",", " ; "])
def test_names_in_a_text(tmp_path, mark) -> None:
    """In csv an empty cell is one that nobody filled in; that there is no label is said by an empty list."""
    cells = ["" if names is None else mark.join(names) or "[]" for names in SETS]
    names, found = split(table(tmp_path / "x.csv", text=TEXTS, labels=cells))
    assert (names, found.tolist()) == (("a", "b", "c"), MATRIX.tolist())


@pytest.mark.parametrize("written", [json.dumps, str])
def test_lists_in_a_text(tmp_path, written) -> None:
    named = [None if names is None else [f"{name}, etc." for name in names] for names in SETS]
    cells = ["" if names is None else written(names) for names in named]
    names, found = split(table(tmp_path / "x.csv", text=TEXTS, labels=cells))
    assert (names, found.tolist()) == (("a, etc.", "b, etc.", "c, etc."), MATRIX.tolist())


def test_a_column_for_each_label(tmp_path) -> None:
    cells = [["" if value == -100 else value for value in column] for column in MATRIX.T.tolist()]
    cells[1][0] = ""  # of one label alone nothing is known
    expected = MATRIX.clone()
    expected[0, 1] = -100
    columns = {"id": [f"x{row}" for row in range(6)], "comment": TEXTS, **dict(zip("abc", cells, strict=True))}
    source = table(tmp_path / "x.csv", **columns)
    names, found = split(source, inputs="comment", label=("c", "a", "b"))
    assert (names, found.tolist()) == (("c", "a", "b"), expected[:, [2, 0, 1]].tolist())
    assert split(source, inputs="comment", classes=("a", "b", "c"))[1].tolist() == expected.tolist()


def test_columns_beside_numbers(tmp_path) -> None:
    """What is not a label is an input."""
    columns = {"width": range(6), "height": range(6), **dict(zip("abc", MATRIX.clamp(min=0).T.tolist(), strict=True))}
    source = table(tmp_path / "x.csv", **columns)
    data = load_data(DataSpec(source=str(source), label=("a", "b", "c"), carve=1, carve_test=1), task=TASK)
    assert data.train.shape == (2,)
    assert data.train.targets.shape == (4, 3)


def test_arrays(tmp_path) -> None:
    images = np.zeros((6, 4, 4), np.uint8)
    np.savez(tmp_path / "x.npz", x=images, y=MATRIX.numpy(), classes=np.array(["a", "b", "c"]))
    names, found = split(tmp_path / "x.npz")
    assert (names, found.tolist()) == (("a", "b", "c"), MATRIX.tolist())


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        (
            {"labels": SETS},
            {"classes": ("a", "b")},
            r"sample 1 of split 'train' has the label 'c'.*expected some of 'a', 'b'",
        ),
        ({"labels": [["a"]] * 6}, {}, r"there are 1 labels \('a'\), expected two or more"),
        ({"labels": [[1], [3], [1], [2], [2], [2]]}, {}, "labels go up to 3 but no sample has '0'; name all"),
        ({"labels": [None] * 5 + [[]]}, {}, "no sample has a label"),
        ({"labels": range(6)}, {}, r"label column 'labels' has type int64; expected lists of labels, or name the col"),
        ({"labels": ["[1", "a", "b", "c", "d", "e"]}, {}, r"sample 0 of split 'train' has the labels '\[1'"),
        (
            {"a": [0, 1, 0, 1, 2, 0], "b": [0] * 6},
            {"label": ("a", "b")},
            "label 'a' of sample 4 .* is 2; expected 0 or 1",
        ),
        (
            {"a": [0, -1, 0, 1, 1, 0], "b": [0] * 6},
            {"label": ("a", "b")},
            "label 'a' of sample 1 .* is -1; expected 0 or",
        ),
        (
            {"a": TEXTS, "b": [0] * 6},
            {"label": ("a", "b"), "inputs": "text"},
            "label column 'a' has type text; expected 0",
        ),
        ({"labels": SETS}, {"label": "lables"}, "there is no column 'lables'; nearest: 'labels'"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, columns, settings, message) -> None:
    with pytest.raises(InputError, match=message):
        split(jsonl(tmp_path / "x.jsonl", text=TEXTS, **columns), **settings)


def test_one_label_is_no_list(tmp_path) -> None:
    source = jsonl(tmp_path / "x.jsonl", text=TEXTS, labels=[["a"]] * 6)
    with pytest.raises(InputError, match="lists of them are for task: multi_label_classification"):
        load_data(DataSpec(source=str(source)), task=TextClassification())
    with pytest.raises(InputError, match=r"`label` names 2 columns; task 'classification' reads one"):
        load_data(DataSpec(source=str(source), label=("text", "labels")), task=Classification())


def test_a_subset_keeps_all_labels_of_a_sample(tmp_path) -> None:
    source = jsonl(tmp_path / "x.jsonl", text=TEXTS * 5, labels=SETS * 5)
    train = load_data(DataSpec(source=str(source), carve=3, carve_test=3), task=TASK).train
    part = train.subset(Subset(labels=4))
    kept = part.known
    assert (int(kept.sum()), len(part), part.noun) == (4, len(train), "texts")
    assert torch.equal(part.targets[kept], train.targets[kept])
    assert Subset(labels=4).describe(train) == f"4 of {len(train)} texts are labelled"
    with pytest.raises(InputError, match="by their class, and texts with several labels have none"):
        train.subset(Subset(only_classes=("a",)))


def test_mixed_images_have_the_labels_of_both(tmp_path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (30, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=images, y=np.tile(MATRIX.numpy(), (5, 1)))
    train = load_data(DataSpec(source=str(tmp_path / "x.npz"), carve=3, carve_test=3), task=TASK).train
    train = train.subset(Subset(labels=len(train) // 2))
    assert 0 < train.labelled < len(train)
    batch = next(iter(Loader(train, batch_size=len(train), shuffle=False, views=Views(mixup=0.4))))
    assert torch.equal(batch.label_pairs[..., 0], train.targets)
    assert batch.shares.shape == batch.targets.shape == train.targets.shape
    assert bool((batch.targets == -100).all())
    known = (batch.label_pairs != -100).any(1)
    assert torch.equal(known[:, 0], known[:, 1]), "what is labelled is mixed with what is labelled"
    assert torch.equal(known[:, 0], train.known)
