"""Data whose answers are numbers, and data without any."""

import csv

import numpy as np
import pytest
import torch

from understudy import InputError, NumberRegression, SentenceEmbedding, TextClassification, TextRegression
from understudy.sources import DataSpec, Loader, Subset, load_data

TEXTS = TextRegression()


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))


def table(path, head, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    return str(path)


def scores(path, *, head=("text", "score"), count=20):
    return table(path, head, [(f"text {n}", "" if n % 5 == 0 else n / 4) for n in range(count)])


def test_a_column_of_numbers_is_found(tmp_path):
    data = load_data(DataSpec(source=scores(tmp_path / "a.csv"), carve=3, carve_test=4), task=TEXTS)
    assert data.classes == ("score",)
    parts = (data.train, data.validation, data.test)
    assert [len(part) for part in parts] == [13, 3, 4]
    assert all(bool(part.known.all()) for part in parts[1:])  # what is measured on has numbers
    together = torch.cat([part.targets for part in parts])[torch.cat([part.ids for part in parts]).argsort()]
    expected = torch.tensor([[float("nan") if n % 5 == 0 else n / 4] for n in range(20)])
    torch.testing.assert_close(together, expected, equal_nan=True)
    assert together.dtype == torch.float32
    batch = next(iter(Loader(data.train, batch_size=13, shuffle=False)))
    assert batch.labelled.tolist() == data.train.known.tolist()
    assert (data.train.noun, data.train.labelled) == ("texts", 9)


def test_several_columns_and_lists(tmp_path):
    rows = [(f"t {n}", n, 2 * n) for n in range(12)]
    source = table(tmp_path / "b.csv", ("text", "first", "second"), rows)
    data = load_data(DataSpec(source=source, label=("second", "first"), carve=2, carve_test=2), task=TEXTS)
    assert data.classes == ("second", "first")
    assert data.train.targets.shape == (8, 2)
    assert torch.equal(data.train.targets[:, 0], 2 * data.train.targets[:, 1])
    (tmp_path / "c.jsonl").write_text("".join(f'{{"text": "t", "scores": [{n}, 1.5]}}\n' for n in range(12)))
    lists = load_data(DataSpec(source=str(tmp_path / "c.jsonl"), carve=2, carve_test=2), task=TEXTS)
    assert lists.classes == ("scores[0]", "scores[1]")
    assert lists.train.targets[:, 1].tolist() == [1.5] * 8


def test_numbers_of_vectors(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=x.sum(1))
    data = load_data(DataSpec(source=str(tmp_path / "d.npz"), carve=3, carve_test=3), task=NumberRegression())
    torch.testing.assert_close(data.train.targets[:, 0], data.train.inputs.sum(1))
    assert (data.train.noun, data.classes) == ("samples", ("target",))


def test_fewer_labels_and_fewer_samples(tmp_path):
    data = load_data(DataSpec(source=scores(tmp_path / "a.csv"), carve=3, carve_test=4), task=TEXTS)
    few = data.train.subset(Subset(labels=4))
    assert (len(few), few.labelled) == (13, 4)
    assert torch.equal(few.targets[few.known], data.train.targets[few.known])
    assert Subset(labels=4).describe(data.train) == "4 of 13 texts are labelled"
    assert len(data.train.subset(Subset(samples=5))) == 5
    with pytest.raises(InputError, match="numbers have none"):
        data.train.subset(Subset(only_classes=("score",)))


@pytest.mark.parametrize(
    ("rows", "spec", "message"),
    [
        ([("a", "good"), ("b", "bad")], {"label": "score"}, "holds no numbers, which task 'text_regression' learns"),
        ([("a", ""), ("b", "")], {"label": "score"}, "no"),
        ([("a", "1.5"), ("b", "inf")], {}, "infinite; expected finite numbers"),
        ([("a", "1.5"), ("b", "2")], {"classes": ("x", "y")}, "`classes` names classes, and this task has none"),
    ],
)
def test_what_cannot_be_learnt(tmp_path, rows, spec, message):
    source = table(tmp_path / "e.csv", ("text", "score"), rows)
    with pytest.raises(InputError, match=message):
        load_data(DataSpec(source=source, **spec), task=TEXTS)


def test_half_of_the_numbers_of_a_sample(tmp_path):
    source = table(tmp_path / "f.csv", ("text", "a", "b"), [("t", 1, 2), ("u", 1, ""), ("v", "", "")])
    with pytest.raises(InputError, match=r"1 samples of split 'train' have some of their 2 numbers .*: samples '1';"):
        load_data(DataSpec(source=source, label=("a", "b")), task=TEXTS)


def test_floats_are_no_classes(tmp_path):
    source = scores(tmp_path / "a.csv", head=("text", "label"))
    with pytest.raises(
        InputError, match=r"is not a whole number; .* For numbers there are the tasks `text_regression`"
    ):
        load_data(DataSpec(source=source), task=TextClassification())
    with pytest.raises(InputError, match="`label` names 2 columns; task 'text_classification' reads one"):
        load_data(DataSpec(source=source, label=("label", "text")), task=TextClassification())


def test_texts_alone_are_data(tmp_path):
    (tmp_path / "g.txt").write_text("".join(f"line {n}\n" for n in range(20)))
    tables = (table(tmp_path / "h.csv", ("sentence", "label"), [(f"line {n}", n % 2) for n in range(20)]), None)
    for source in (str(tmp_path / "g.txt"), tables[0]):
        data = load_data(DataSpec(source=source, carve=4, carve_test=4), task=SentenceEmbedding())
        assert data.classes == ()
        assert [len(part) for part in (data.train, data.validation, data.test)] == [12, 4, 4]
        assert data.train.labelled == 0
        assert len(data.train.subset(Subset(samples=5))) == 5
        assert Subset(samples=5).describe(data.train) == "5 of 12 texts"
        assert Subset().describe(data.train) == "all 12 texts"
    with pytest.raises(InputError, match="`label` names a column, and task 'sentence_embedding' has no true answers"):
        load_data(DataSpec(source=tables[0], label="label"), task=SentenceEmbedding())
