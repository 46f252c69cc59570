"""Texts in memory: found in a table, held without padding, and read in batches of about one length."""

import csv

import datasets
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.batch import IGNORE_INDEX
from understudy.errors import InputError
from understudy.sources import DataSpec, Loader, Split, Subset, load_data
from understudy.sources.texts import Texts
from understudy.tasks import Classification, TextClassification
from understudy.tokenizing import are_texts, bytes_of, texts_of
from understudy.views import Views

TEXTS = TextClassification()
ANYTHING = Classification()
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\x1e"), max_size=8)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))


# Texts in memory


@given(texts=st.lists(TEXT, max_size=6), data=st.data())
def test_they_are_held_as_they_are(texts, data):
    held = Texts.of(texts)
    chosen = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=8) if texts else st.just([]))
    indices = torch.tensor(chosen, dtype=torch.int64)
    assert len(held) == len(texts)
    assert held.shape == tuple(bytes_of(texts).shape)
    assert torch.equal(held.gather(torch.arange(len(texts))), bytes_of(texts))
    some = [texts[index] for index in chosen]
    assert torch.equal(held.gather(indices), bytes_of(some))
    selected = held.select(indices)
    assert (len(selected), selected.shape) == (len(some), tuple(bytes_of(some).shape))
    back = torch.arange(len(some)).flip(0)
    assert texts_of(selected.gather(back)) == some[::-1]


def test_empty_ones_and_none_at_all():
    held = Texts.of(["", "ab", ""])
    assert held.gather(torch.tensor([2, 0])).tolist() == [[0], [0]]
    assert held.gather(torch.tensor([0, 1, 2])).tolist() == [[0, 0], [97, 98], [0, 0]]
    for nothing in (Texts.of([]), held.select(torch.tensor([], dtype=torch.int64))):
        assert (len(nothing), nothing.shape) == (0, (0, 1))
        assert nothing.gather(torch.tensor([], dtype=torch.int64)).shape == (0, 1)


def test_nothing_but_their_bytes_is_held():
    held = Texts.of(["a" * 1000, *["b"] * 999])
    assert held.content.numel() == 1999
    assert held.content.dtype == torch.uint8
    assert held.to("cpu").gather(torch.tensor([1])).tolist() == [[98]]


def test_characters_that_are_no_text_are_replaced():
    held = Texts.of(["a\0b", "\ud800"])
    assert texts_of(held.gather(torch.tensor([0, 1]))) == ["a b", "?"]


# From a table


def table(path, columns: dict[str, list], features=None) -> str:
    data = datasets.Dataset.from_dict(columns, features)
    if path.suffix == ".parquet":
        data.to_parquet(str(path))
        return str(path)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return str(path)


REVIEWS = [f"film {number}, {'naïve' * (number % 5)}" for number in range(20)]
MARKS = [number % 2 for number in range(20)]
VERDICTS = ["good" if mark else "bad" for mark in MARKS]


def everything(data) -> dict[int, tuple[str, int]]:
    """Text and class of each sample, by its id."""
    found = {}
    for split in (data.train, data.validation, data.test):
        texts = texts_of(split.gather(torch.arange(len(split))))
        found |= dict(zip(split.ids.tolist(), zip(texts, split.targets.tolist(), strict=True), strict=True))
    return found


@pytest.mark.parametrize("name", ["reviews.csv", "reviews.parquet"])
@pytest.mark.parametrize("column", ["text", "sentence", "review"])
def test_columns_with_usual_names_are_found(name, column, tmp_path):
    source = table(
        tmp_path / name, {"number": list(range(20)), "remark": REVIEWS[::-1], column: REVIEWS, "label": MARKS}
    )
    data = load_data(DataSpec(source=source), task=TEXTS)
    assert everything(data) == {index: (REVIEWS[index], MARKS[index]) for index in range(20)}
    assert data.train.noun == "texts"
    assert not data.train.images
    assert data.train.preview(int(data.train.ids[0])) is None


def test_the_only_column_of_texts_is_found(tmp_path):
    source = table(tmp_path / "reviews.csv", {"what_they_said": REVIEWS, "stars": MARKS, "label": MARKS})
    assert everything(load_data(DataSpec(source=source), task=TEXTS))[7] == (REVIEWS[7], 1)


def test_labels_may_be_words(tmp_path):
    source = table(tmp_path / "reviews.csv", {"label": VERDICTS, "said": REVIEWS})
    data = load_data(DataSpec(source=source), task=TEXTS)
    assert data.classes == ("bad", "good")
    assert everything(data)[3] == (REVIEWS[3], 1)


def test_a_text_may_be_empty(tmp_path):
    source = table(tmp_path / "reviews.parquet", {"text": ["", *REVIEWS[1:]], "label": MARKS})
    assert everything(load_data(DataSpec(source=source), task=TEXTS))[0] == ("", 0)


@pytest.mark.parametrize(
    ("columns", "asked", "message"),
    [
        ({"said": REVIEWS, "meant": REVIEWS}, {}, r"`inputs` is not clear: 'said' and 'meant' could all be meant"),
        ({"text": REVIEWS, "sentence": REVIEWS}, {}, r"'text' and 'sentence' could all be meant; name .* `inputs:`"),
        ({"stars": MARKS}, {}, r"`inputs` is not clear: no column could be meant.*'stars' \(int64\)"),
        ({"text": REVIEWS}, {"inputs": "txet"}, r"there is no column 'txet'; nearest: 'text'"),
        ({"text": REVIEWS}, {"label": "lable"}, r"there is no column 'lable'; nearest: 'label'"),
        (
            {"text": REVIEWS, "stars": MARKS},
            {"inputs": "stars"},
            r"column 'stars' does not hold texts; task 'text_classification' reads one column of texts",
        ),
        (
            dict.fromkeys(("text", "sentence", "review"), REVIEWS),
            {"inputs": ("text", "sentence", "review")},
            r"`inputs` names 3 columns",
        ),
        (
            {"text": [None if index in (4, 11) else text for index, text in enumerate(REVIEWS)]},
            {},
            r"2 samples of split 'train' have no text: samples '4', '11'; expected texts, which may be empty",
        ),
    ],
    ids=["two", "two usual", "none", "misspelt", "misspelt label", "numbers", "several", "missing"],
)
def test_what_cannot_be_read_is_explained(columns, asked, message, tmp_path):
    source = table(tmp_path / "reviews.parquet", columns | {"label": MARKS})
    with pytest.raises(InputError, match=message):
        load_data(DataSpec(source=source, **asked), task=TEXTS)


def test_a_column_that_is_named_settles_what_is_unclear(tmp_path):
    source = table(tmp_path / "reviews.csv", {"said": REVIEWS[::-1], "meant": REVIEWS, "label": VERDICTS})
    for inputs in ("meant", ("meant",)):
        data = load_data(DataSpec(source=source, inputs=inputs), task=TEXTS)
        assert everything(data)[2] == (REVIEWS[2], 0)


def test_any_classification_reads_texts_where_there_is_nothing_else(tmp_path):
    numbers = {"width": [0.5 * number for number in range(20)], "height": list(range(20))}
    alone = table(tmp_path / "alone.csv", {"text": REVIEWS, "label": VERDICTS})
    beside = table(tmp_path / "beside.csv", {"text": REVIEWS, **numbers, "label": VERDICTS})
    found = load_data(DataSpec(source=alone), task=ANYTHING)
    assert (found.train.noun, everything(found)[5]) == ("texts", (REVIEWS[5], 1))
    named = load_data(DataSpec(source=beside, inputs="text"), task=ANYTHING)
    assert (named.train.noun, everything(named)[5]) == ("texts", (REVIEWS[5], 1))
    vectors = load_data(DataSpec(source=beside, inputs=("width", "height")), task=ANYTHING)
    assert (vectors.train.noun, vectors.train.shape) == ("samples", (2,))


def test_numbers_are_read_before_texts(tmp_path):
    source = table(tmp_path / "beside.csv", {"remark": REVIEWS, "width": MARKS, "height": MARKS, "label": VERDICTS})
    data = load_data(DataSpec(source=source), task=ANYTHING)
    assert data.train.shape == (2,)
    assert not isinstance(data.train.inputs, Texts)


def test_other_texts_are_other_data(tmp_path):
    def fingerprint(name, texts):
        source = table(tmp_path / name, {"text": texts, "label": MARKS})
        return load_data(DataSpec(source=source), task=TEXTS).fingerprint

    usual = fingerprint("a.parquet", REVIEWS)
    assert fingerprint("b.parquet", list(REVIEWS)) == usual
    moved = [REVIEWS[0] + REVIEWS[1][0], REVIEWS[1][1:], *REVIEWS[2:]]  # the same bytes, divided elsewhere
    assert len({usual, fingerprint("c.parquet", moved), fingerprint("d.parquet", [*REVIEWS[:-1], "film"])}) == 3


def test_a_part_of_texts_is_a_split_like_any_other(tmp_path):
    source = table(tmp_path / "reviews.csv", {"text": REVIEWS, "label": VERDICTS})
    train = load_data(DataSpec(source=source), task=TEXTS).train
    part = train.subset(Subset(samples=6, labels=2))
    assert (len(part), part.labelled) == (6, 2)
    for text, sample in zip(texts_of(part.gather(torch.arange(6))), part.ids.tolist(), strict=True):
        assert text == REVIEWS[sample]
    assert "of 14 texts" in Subset(samples=6).describe(train)


# Batches


def letters(lengths) -> Split:
    """A text for each length; which one it is can be told from its id, and how long from its label."""
    texts = [chr(97 + number % 26) * length for number, length in enumerate(lengths)]
    return Split(Texts.of(texts), torch.tensor(lengths), torch.arange(len(texts)) * 7 + 1000, ("a",), "train")


def shuffled(count: int) -> list[int]:
    return (torch.randperm(count, generator=torch.Generator().manual_seed(4)) + 1).tolist()


def order(loader: Loader) -> list[int]:
    return [sample for batch in loader for sample in batch.ids.tolist()]


def test_texts_stay_bytes():
    split = letters([3, 0, 1])
    (batch,) = Loader(split, batch_size=3, shuffle=False)
    assert are_texts(batch.inputs)
    assert batch.inputs.tolist() == [[97, 97, 97], [0, 0, 0], [99, 0, 0]]
    assert batch.targets.tolist() == [3, 0, 1]
    assert batch.view is None


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=60),
    batch_size=st.integers(1, 9),
    epoch=st.integers(0, 3),
    drop_last=st.booleans(),
)
def test_every_epoch_has_each_text_once(lengths, batch_size, epoch, drop_last):
    drop_last = drop_last and len(lengths) >= batch_size
    split = letters(lengths)
    loader = Loader(split, batch_size=batch_size, seed=3, drop_last=drop_last)
    loader.set_epoch(epoch)
    batches = list(loader)
    assert len(batches) == len(loader)
    full, rest = divmod(len(lengths), batch_size)
    assert [len(batch) for batch in batches] == [batch_size] * full + [rest] * (rest > 0 and not drop_last)
    seen = [(sample - 1000) // 7 for batch in batches for sample in batch.ids.tolist()]
    assert len(set(seen)) == len(seen)
    assert drop_last or sorted(seen) == list(range(len(lengths)))
    for batch in batches:
        chosen = [(sample - 1000) // 7 for sample in batch.ids.tolist()]
        assert torch.equal(batch.inputs, bytes_of([chr(97 + index % 26) * lengths[index] for index in chosen]))
        assert batch.targets.tolist() == [lengths[index] for index in chosen]


def test_the_order_is_a_function_of_seed_and_epoch():
    split = letters(shuffled(90))
    loader, state = Loader(split, batch_size=8, seed=5), torch.random.get_rng_state()
    orders = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        orders.append(order(loader))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert orders[0] == orders[2] == order(Loader(split, batch_size=8, seed=5))
    assert orders[0] != orders[1]
    assert orders[0] != order(Loader(split, batch_size=8, seed=6))


def test_other_texts_come_together_in_another_epoch():
    loader = Loader(letters([5] * 90), batch_size=9)
    together = []
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        together.append({frozenset(batch.ids.tolist()) for batch in loader})
    assert not together[0] & together[1]


def test_what_is_left_over_is_not_always_the_same():
    left = set()
    loader = Loader(letters(shuffled(21)), batch_size=10)
    for epoch in range(12):
        loader.set_epoch(epoch)
        left.add(int(list(loader)[-1].targets))
    assert len(left) > 5  # neither the longest nor the shortest, which `drop_last` would never show


@given(start=st.integers(0, 6), world=st.integers(1, 3))
@settings(max_examples=20)
def test_it_goes_on_where_it_was_left(start, world):
    loader = Loader(letters(shuffled(43)), batch_size=8, rank=world - 1, world=world)
    whole, rest = list(loader), list(loader.iterate(start))
    assert len(whole) == 6
    assert len(rest) == 6 - start
    for expected, batch in zip(whole[start:], rest, strict=True):
        assert torch.equal(expected.inputs, batch.inputs)
        assert torch.equal(expected.ids, batch.ids)


@pytest.mark.parametrize("world", [2, 3])
def test_the_shares_of_all_processes_are_the_batches_of_one(world):
    split = letters(shuffled(50))
    alone = list(Loader(split, batch_size=8))
    ranks = [list(Loader(split, batch_size=8, rank=rank, world=world)) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {len(alone)} == {7}
    for number, batch in enumerate(alone):
        parts = [batches[number] for batches in ranks]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert torch.equal(torch.cat([part.ids for part in parts]), batch.ids)
        assert [text for part in parts for text in texts_of(part.inputs)] == texts_of(batch.inputs)


def test_an_order_that_is_not_shuffled_is_that_of_the_split():
    split = letters(shuffled(30))
    loader = Loader(split, batch_size=7, shuffle=False)
    assert order(loader) == split.ids.tolist()
    assert torch.cat([batch.ids for batch in loader.between(3, 20)]).tolist() == split.ids[3:20].tolist()


def padded(batches) -> int:
    return sum(batch.inputs.numel() for batch in batches)


def test_texts_of_one_length_come_together():
    split = letters(shuffled(200))
    real = sum(range(1, 201))
    in_any_order = padded(Loader(split, batch_size=8, shuffle=False))  # the lengths are in a random order
    assert in_any_order > 1.6 * real
    assert padded(Loader(split, batch_size=8)) < 1.05 * real


def test_long_texts_come_at_any_time():
    split = letters(shuffled(200))
    loader, longest = Loader(split, batch_size=8), []
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        longest.append([batch.inputs.shape[1] for batch in loader])
        halves = longest[-1][:12], longest[-1][13:]
        assert longest[-1] not in (sorted(longest[-1]), sorted(longest[-1], reverse=True))
        assert max(map(min, halves)) < 60
        assert min(map(max, halves)) > 140
    assert longest[0] != longest[1]


def test_only_batches_near_each_other_exchange_texts():
    """Fifty batches at a time are sorted, so that the texts of one batch are not always the longest of all."""
    split = letters(shuffled(400))
    spans = [int(batch.targets.max() - batch.targets.min()) for batch in Loader(split, batch_size=2)]
    assert len(spans) == 200
    assert 2 < sum(spans) / len(spans) < 8  # 4 if 100 texts at a time are sorted, 1 if all were, 133 if none


def test_views_of_texts_are_refused():
    split = letters([3, 2, 1])
    for views in (Views(flip=True), Views(mixup=1.0)):
        with pytest.raises(InputError, match="the samples of split 'train' are texts"):
            Loader(split, batch_size=2, views=views)
    assert len(list(Loader(split, batch_size=2, views=Views()))) == 2  # which change nothing


def test_texts_without_a_label_keep_that():
    split = letters([3, 2, 1])
    targets = torch.tensor([0, IGNORE_INDEX, 0])
    split = Split(split.inputs, targets, split.ids, split.classes, split.name)
    (batch,) = Loader(split, batch_size=3, shuffle=False)
    assert batch.targets.tolist() == targets.tolist()
