"""Tables with two columns of texts."""

import csv
from pathlib import Path

import pytest

from understudy import Classification, InputError, TextClassification
from understudy.sources import DataSet, DataSpec, load_data
from understudy.tokenizing import texts_of

ROWS = [(f"first {number}", f"second {number}", number % 2) for number in range(8)]


def table(folder: Path, *names: str, rows=ROWS) -> Path:
    path = folder / "x.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])
    return path


def read(path: Path, task=None, **settings) -> DataSet:
    return load_data(DataSpec(source=str(path), carve=2, carve_test=2, **settings), task=task or TextClassification())


def texts(data: DataSet):
    return texts_of(data.train.gather((data.train.ids >= 0).nonzero().flatten()))


@pytest.mark.parametrize("names", [("premise", "hypothesis"), ("sentence1", "sentence2"), ("question", "sentence")])
@pytest.mark.parametrize("task", [TextClassification(), Classification()])
def test_two_columns_that_are_always_pairs(tmp_path, names, task) -> None:
    data = read(table(tmp_path, *names, "label"), task)
    assert texts(data) == [ROWS[identity][:2] for identity in data.train.ids.tolist()]
    assert data.train.noun == "texts"


def test_two_columns_that_are_named(tmp_path) -> None:
    path = table(tmp_path, "left", "right", "label")
    assert texts(read(path, inputs=("right", "left")))[0][0].startswith("second")
    with pytest.raises(InputError, match="`inputs` is not clear: 'left' and 'right' could all be meant"):
        read(path)


def test_a_column_that_is_called_text_comes_first(tmp_path) -> None:
    rows = [(*row[:2], "told", row[2]) for row in ROWS]
    assert set(texts(read(table(tmp_path, "question", "answer", "text", "label", rows=rows)))) == {"told"}


def test_one_of_them_alone(tmp_path) -> None:
    data = read(table(tmp_path, "premise", "hypothesis", "label"), inputs="premise")
    assert texts(data) == [ROWS[identity][0] for identity in data.train.ids.tolist()]


def test_pairs_are_other_data_than_their_texts_in_a_row(tmp_path) -> None:
    pairs = read(table(tmp_path, "premise", "hypothesis", "label"))
    joined = [(f"{first} {second}", label) for first, second, label in ROWS]
    assert pairs.fingerprint != read(table(tmp_path, "text", "label", rows=joined)).fingerprint


def test_three_columns_are_no_pair(tmp_path) -> None:
    path = table(tmp_path, "a", "b", "c", "label", rows=[(*row[:2], "third", row[2]) for row in ROWS])
    with pytest.raises(
        InputError, match="`inputs` names 3 columns; task 'text_classification' reads one column of texts, "
    ):
        read(path, inputs=("a", "b", "c"))


def test_a_missing_text_is_named(tmp_path) -> None:
    rows = [*ROWS[:3], ("only one", "", 1), *ROWS[4:]]
    with pytest.raises(InputError, match=r"1 samples of split 'train' have no hypothesis: samples '?3"):
        read(table(tmp_path, "premise", "hypothesis", "label", rows=rows))
