"""Running texts as windows of tokens: cut by hand, carved from the end, and refused where that cannot be done."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, processors

from understudy.batch import IGNORE_INDEX
from understudy.errors import InputError
from understudy.sources import DataSpec, Loader, Split, Subset, load_data
from understudy.sources.windows import read_windows
from understudy.tasks import CausalLanguageModel, Classification, ImageClassification, TextClassification
from understudy.tokenizing import Bytes, Tokenizer

TASK = CausalLanguageModel()
END = 1  # what stands between two documents of bytes
WORDS = ("the", "sea", "a", "bell", "rang")
VERSE = "the sea rang a bell a bell rang the sea the bell rang a sea"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))


def of_bytes(text: str) -> list[int]:
    return [byte + 2 for byte in text.encode()]


def cut(*texts: str, window: int, tokens=None) -> tuple[list[list[int]], list[list[int]]]:
    _, windows = read_windows({"train": texts}, tokens or Bytes(), window)
    found = windows["train"]
    assert found.inputs.dtype == found.targets.dtype == torch.int64
    return found.inputs.tolist(), found.targets.tolist()


def write_tokenizer(path: Path, *, end: str | None = "</s>", unknown: str = "[UNK]") -> str:
    """A tokenizer of words in a file, which puts marks around a text; ``end`` is its last token."""
    names = (unknown, "[CLS]", *WORDS, *([end] if end else []))
    backend = tokenizers.Tokenizer(models.WordLevel({name: at for at, name in enumerate(names)}, unk_token=unknown))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [CLS]", special_tokens=[("[CLS]", 1)])
    backend.enable_truncation(4)
    backend.enable_padding(pad_id=0, pad_token=unknown)
    path.parent.mkdir(parents=True, exist_ok=True)
    backend.save(str(path))
    return str(path)


@pytest.fixture
def tokenizer(tmp_path) -> str:
    return write_tokenizer(tmp_path / "own" / "tokenizer.json")


# Cut by hand


def test_windows_are_shifted_by_one():
    inputs, targets = cut("abcdefg", window=3)
    assert (inputs, targets) == ([of_bytes("abc"), of_bytes("def")], [of_bytes("bcd"), of_bytes("efg")])


def test_what_does_not_fill_a_window_is_left_out():
    for text in ("abcdefg", "abcdefgh", "abcdefghi"):
        assert cut(text, window=3) == cut("abcdefg", window=3)
    assert len(cut("abcdefghij", window=3)[0]) == 3
    assert cut("abcd", window=3) == ([of_bytes("abc")], [of_bytes("bcd")])


@given(texts=st.lists(st.text("ab é", max_size=9), min_size=1, max_size=5), window=st.integers(2, 7))
def test_each_token_but_the_first_is_predicted_once_after_the_one_before_it(texts, window):
    row: list[int] = []
    for number, text in enumerate(texts):
        row += [END] * (number > 0) + of_bytes(text)
    if len(row) <= window:
        with pytest.raises(InputError, match=rf"holds {len(row)} tokens, not one window"):
            cut(*texts, window=window)
        return
    inputs, targets = cut(*texts, window=window)
    before, after = (np.concatenate(each).tolist() for each in (inputs, targets))
    assert after == row[1 : 1 + len(after)]
    assert before == row[: len(after)]
    assert len(row) - 1 - len(after) < window


def test_between_two_documents_stands_the_mark_of_the_end():
    inputs, targets = cut("ab", "c", "", "de", window=7)
    row = [*of_bytes("ab"), END, *of_bytes("c"), END, END, *of_bytes("de")]
    assert len(row) == 8
    assert (inputs, targets) == ([row[:7]], [row[1:]])


def test_bytes_are_those_of_utf8_and_a_zero_is_a_space():
    inputs, targets = cut("é\0ab", window=4)
    assert (inputs, targets) == ([of_bytes("é a")], [of_bytes("é ab")[1:]])


def test_names_of_bytes():
    names, _ = read_windows({"train": ["abc"]}, Bytes(), 2)
    assert len(names) == 258
    assert names[:2] == ("<padding>", "<end>")
    assert (names[97 + 2], names[0xFF + 2], names[32 + 2], names[127 + 2]) == ("a", "<FF>", "<20>", "<7F>")
    assert len(set(names)) == 258


# A saved tokenizer


def test_a_saved_tokenizer_adds_no_marks_and_reads_to_the_end(tokenizer):
    spec = Tokenizer(path=tokenizer)
    names, windows = read_windows({"train": [VERSE], "test": ["a bell rang"]}, spec, 2)
    assert names == ("[UNK]", "[CLS]", *WORDS, "</s>")
    row = [2 + WORDS.index(word) for word in VERSE.split()]
    assert len(row) == 15
    assert windows["train"].inputs.flatten().tolist() == row[:14]
    assert windows["train"].targets.flatten().tolist() == row[1:15]
    assert windows["test"].targets.tolist() == [[5, 6]]


def test_documents_of_a_tokenizer_are_parted_where_it_has_a_mark_for_that(tokenizer, tmp_path):
    assert cut("the sea", "rang", window=3, tokens=Tokenizer(path=tokenizer)) == ([[2, 3, 7]], [[3, 7, 6]])
    without = write_tokenizer(tmp_path / "without" / "tokenizer.json", end=None)
    assert cut("the sea", "rang bell", window=3, tokens=Tokenizer(path=without)) == ([[2, 3, 6]], [[3, 6, 5]])


@pytest.mark.parametrize("end", ["<|endoftext|>", "<eos>", "[SEP]"])
def test_marks_of_the_end_have_many_names(end, tmp_path):
    path = write_tokenizer(tmp_path / "other" / "tokenizer.json", end=end)
    assert cut("the", "sea", window=2, tokens=Tokenizer(path=path)) == ([[2, 7]], [[7, 3]])


def test_a_folder_with_a_tokenizer_is_as_good_as_its_file(tokenizer):
    folder = str(Path(tokenizer).parent)
    assert cut(VERSE, window=4, tokens=Tokenizer(path=folder)) == cut(VERSE, window=4, tokens=Tokenizer(path=tokenizer))


# From files


def spec(source: object, **more) -> DataSpec:
    return DataSpec(source=str(source), **({"tokens": Bytes(), "window": 4} | more))


def load(source: object, **more):
    return load_data(spec(source, **more), task=TASK)


def text_of(split: Split) -> str:
    """The bytes of neighbouring windows in a row, and the last target."""
    row = [*split.inputs.flatten().tolist(), int(split.targets[-1, -1])]
    return bytes(token - 2 if token != END else 10 for token in row).decode()


@pytest.fixture
def plain(tmp_path) -> Path:
    """Forty windows of four, and two tokens that fill none."""
    path = tmp_path / "verses.txt"
    path.write_text("".join(f"{number:04d}" for number in range(40)) + "end")
    return path


def test_a_text_file_is_one_text_and_its_end_is_the_test(plain):
    data = load(plain)
    parts = (data.train, data.validation, data.test)
    assert [len(part) for part in parts] == [29, 3, 8]
    assert [part.name for part in parts] == ["train", "validation", "test"]
    assert torch.cat([part.ids for part in parts]).tolist() == list(range(40))
    assert text_of(data.test) == "".join(f"{number:04d}" for number in range(32, 40)) + "e"
    assert text_of(data.validation) == "002900300031" + "0"
    for part in parts:
        assert torch.equal(part.inputs[1:, 0], part.targets[:-1, -1]), "neighbours stay together"
        assert part.shape == (4,)
        assert part.noun == "windows"
        assert part.labelled == len(part)
    assert data.tokens == Bytes()
    assert (len(data.classes), data.train.classes) == (258, data.classes)


def test_lines_of_a_text_file_stay_together(tmp_path):
    text = "one\n\ntwo, naïve\nthree and four\n" * 4
    (tmp_path / "lines.txt").write_text(text, encoding="utf-8")
    data = load(tmp_path / "lines.txt", carve=1, carve_test=1)
    row = of_bytes(text)
    found = torch.cat([part.targets for part in (data.train, data.validation, data.test)]).flatten().tolist()
    assert found == row[1 : 1 + len(found)]
    assert END not in found


def test_numbers_say_how_many_windows_are_carved(plain):
    data = load(plain, carve=5, carve_test=10)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [25, 5, 10]
    assert data.test.ids.tolist() == list(range(30, 40))
    least = load(plain, carve=0.001, carve_test=0.001)
    assert [len(part) for part in (least.train, least.validation, least.test)] == [38, 1, 1]


def test_the_seed_carves_nothing_else(plain):
    assert load(plain, seed=3).fingerprint == load(plain).fingerprint


def test_a_folder_has_a_file_for_each_split(tmp_path):
    folder = tmp_path / "three"
    folder.mkdir()
    for name, text in (("train", "abcdefghij" * 2), ("validation", "klmnopqrs"), ("test", "tuvwxyz012345")):
        (folder / f"{name}.txt").write_text(text)
    data = load(folder)
    assert text_of(data.train) == ("abcdefghij" * 2)[:17]
    assert text_of(data.validation) == "klmnopqrs"
    assert text_of(data.test) == "tuvwxyz012345"
    assert torch.cat([data.train.ids, data.validation.ids, data.test.ids]).unique().numel() == 4 + 2 + 3


def test_notes_beside_a_table_are_no_text(tmp_path):
    (tmp_path / "notes.txt").write_text("where the texts come from")
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": "abcdefghij" * 6}))
    assert text_of(load(tmp_path, carve=2, carve_test=2).train).startswith("abcdefghij")


def test_files_of_a_folder_that_are_no_splits_are_documents_in_the_order_of_their_names(tmp_path):
    folder = tmp_path / "chapters"
    folder.mkdir()
    for number in (2, 3, 1):
        (folder / f"chapter-{number}.txt").write_text(f"{number} in the beginning\n")
    data = load(folder)
    found = torch.cat([part.targets for part in (data.train, data.validation, data.test)])
    assert found.tolist() == cut(*(f"{number} in the beginning\n" for number in (1, 2, 3)), window=4)[1]


@pytest.mark.parametrize("text", ["\ufeffone two three", "\x0cone\u2028two\x1cthree", "one\n\n \ttwo  \n"])
def test_odd_characters_of_a_text_file_are_read(text, tmp_path):
    (tmp_path / "odd.txt").write_bytes((text * 3).encode())
    data = load(tmp_path / "odd.txt", carve=1, carve_test=1)
    found = torch.cat([part.targets for part in (data.train, data.validation, data.test)])
    assert found.tolist() == cut(text * 3, window=4)[1]


def table(path: Path, columns: dict[str, list]) -> Path:
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)
    return path


STORIES = [f"story {number} of a bell" for number in range(20)]
OTHERS = [f"nothing {number}" for number in range(20)]


@pytest.mark.parametrize("name", ["stories.csv", "stories.jsonl"])
def test_each_row_of_a_table_is_a_document(name, tmp_path):
    expected = cut(*STORIES, window=4)[1]
    tables = [({"story": STORIES, "stars": list(range(20))}, {}), ({"text": STORIES, "remark": OTHERS}, {})]
    tables += [({"one": OTHERS, "two": STORIES}, {"inputs": "two"}), ({"two": STORIES}, {"inputs": ("two",)})]
    for columns, asked in tables:
        data = load(table(tmp_path / name, columns), **asked)
        found = torch.cat([part.targets for part in (data.train, data.validation, data.test)])
        assert found.tolist() == expected


# What is left of them


def test_a_subset_keeps_whole_windows(plain):
    train = load(plain).train
    some = train.subset(Subset(samples=7), seed=3)
    assert len(some) == some.labelled == 7
    places = [train.ids.tolist().index(sample) for sample in some.ids.tolist()]
    assert torch.equal(some.inputs, train.inputs[places])
    assert torch.equal(some.targets, train.targets[places])
    assert Subset(samples=7).describe(train) == "7 of 29 windows, all labelled"


def test_windows_without_a_label_stay_to_be_asked(plain):
    train = load(plain).train
    left = train.subset(Subset(labels=5), seed=1)
    assert (len(left), left.labelled) == (29, 5)
    assert torch.equal(left.inputs, train.inputs)
    assert torch.equal(left.targets[left.known], train.targets[left.known])
    assert (left.targets[~left.known] == IGNORE_INDEX).all()
    fewer = train.subset(Subset(labels=3), seed=1)
    assert set(fewer.ids[fewer.known].tolist()) < set(left.ids[left.known].tolist())
    assert Subset(labels=5).describe(train) == "5 of 29 windows are labelled"


@pytest.mark.parametrize("subset", [Subset(only_classes=("a",)), Subset(exclude_classes=(5,))])
def test_windows_are_of_no_class(subset, plain):
    with pytest.raises(InputError, match=r"choose samples by their class, and windows have none"):
        load(plain).train.subset(subset)


def test_a_loader_gives_the_tokens_untouched(plain):
    train = load(plain).train
    batches = list(Loader(train, batch_size=8, seed=4))
    assert [len(batch) for batch in batches] == [8, 8, 8, 5]
    seen = torch.cat([batch.ids for batch in batches])
    assert sorted(seen.tolist()) == train.ids.tolist() != seen.tolist()
    for batch in batches:
        assert batch.inputs.dtype == batch.targets.dtype == torch.int64
        assert torch.equal(batch.inputs, train.inputs[batch.ids])
        assert torch.equal(batch.targets, train.targets[batch.ids])


# Of what a fingerprint is


def test_a_fingerprint_is_of_the_tokens_the_windows_and_where_they_are(plain, tokenizer, tmp_path):
    same = tmp_path / "same.txt"
    same.write_text(plain.read_text())
    assert load(plain).fingerprint == load(same).fingerprint
    same.write_text("1" + plain.read_text()[1:])
    own = write_tokenizer(tmp_path / "marks" / "tokenizer.json", end="<eos>")
    letters = tmp_path / "words.txt"
    letters.write_text(VERSE * 8)
    found = [load(plain), load(same), load(plain, window=5), load(plain, carve=2), load(plain, carve_test=2)]
    found += [load(letters), load(letters, tokens=Tokenizer(path=tokenizer)), load(letters, tokens=Tokenizer(path=own))]
    assert len({data.fingerprint for data in found}) == len(found)


# What is refused


def test_how_many_tokens_are_read_together_when_nobody_says(tmp_path):
    (tmp_path / "long.txt").write_text("a" * 2000)
    assert load(tmp_path / "long.txt", window=None).train.shape == (256,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": None}, r"`tokens` is missing: .*\{kind: bytes\}, or \{kind: tokenizer, path: …\}"),
        ({"label": "text"}, r"`label` says nothing of running texts, whose labels are their own tokens; leave it out"),
        ({"size": (8, 8)}, r"`size` says nothing of running texts"),
        ({"channels": 3}, r"`channels` says nothing of running texts"),
        ({"classes": ("a", "b")}, r"`classes` says nothing of running texts"),
        ({"tokens": Bytes(max_length=9)}, r"`tokens` has a `max_length`, .* say `window` for what is read"),
        ({"tokens": Tokenizer(path="./none.json")}, r"there is no tokenizer \./none\.json"),
        ({"window": 200}, r"split 'train' holds 163 tokens, not one window of 200 and the token after it"),
        ({"inputs": "txt"}, r"there is no column 'txt'; nearest: 'text'"),
        ({"test": "tset"}, r"`test`: there is no split 'tset'"),
        ({"carve_test": 40}, r"`carve_test: 40` takes all 40 windows; none is left to train on"),
        ({"carve": 32}, r"`carve: 32` takes all 32 windows"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_read_is_explained(change, message, plain):
    with pytest.raises(InputError, match=message):
        load(plain, **change)


def test_a_length_of_a_tokenizer_is_refused_too(plain, tokenizer):
    with pytest.raises(InputError, match="say `window` for what is read"):
        load(plain, tokens=Tokenizer(path=tokenizer, max_length=9))


@pytest.mark.parametrize("source", ["sklearn/digits", "images.npz", "IMAGES.NPZ"])
def test_arrays_are_no_texts(source):
    with pytest.raises(InputError, match=rf"{re.escape(source)} holds no texts; expected a \.txt file, a folder"):
        load(source)


@pytest.mark.parametrize(
    ("columns", "asked", "message"),
    [
        ({"one": STORIES, "two": OTHERS}, {}, r"`inputs` is not clear: 'one' and 'two' could all be meant"),
        ({"stars": list(range(20))}, {}, r"`inputs` is not clear: no column could be meant"),
        ({"text": STORIES, "stars": list(range(20))}, {"inputs": "stars"}, r"column 'stars' does not hold texts"),
        ({"one": STORIES, "two": OTHERS}, {"inputs": ("one", "two")}, r"`inputs` names 2 columns; task 'causal_lang"),
        ({"text": [None, *STORIES[1:]]}, {}, r"1 samples of split 'train' have no text: samples '0'"),
    ],
    ids=["two", "none", "numbers", "several", "missing"],
)
def test_columns_that_cannot_be_read_are_explained(columns, asked, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load(table(tmp_path / "stories.jsonl", columns), **asked)


def test_a_split_that_is_too_short_is_named(tmp_path):
    for name, text in (("train", "abcdefghij"), ("validation", "abc"), ("test", "abcdefghij")):
        (tmp_path / f"{name}.txt").write_text(text)
    with pytest.raises(InputError, match=r"split 'validation' holds 3 tokens, not one window of 4"):
        load(tmp_path)


def test_a_text_without_a_character_is_too_short(tmp_path):
    table(tmp_path / "empty.jsonl", {"text": ["", ""]})
    with pytest.raises(InputError, match=r"split 'train' holds 1 tokens, not one window"):
        load(tmp_path / "empty.jsonl")


@pytest.mark.parametrize("task", [TextClassification(), Classification(), ImageClassification()])
@pytest.mark.parametrize("fields", [{"tokens": Bytes()}, {"window": 8}])
def test_other_tasks_have_no_windows(task, fields):
    with pytest.raises(InputError, match=rf"`tokens` and `window` are of running texts, .* in task {task.kind} each"):
        load_data(DataSpec(source="sklearn/digits", **fields), task=task)
