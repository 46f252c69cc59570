"""Texts go through tensors unharmed, and a text has the same tokens wherever and whenever it is read."""

import copy
from pathlib import Path

import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, processors
from torch import nn

from understudy import tokenizing
from understudy.errors import InputError
from understudy.sources import preprocess_inputs
from understudy.tokenizing import (
    EMPTY,
    PADDING,
    Bytes,
    TextTokenization,
    Tokenizer,
    Words,
    are_texts,
    bytes_of,
    network_inputs,
    read_tokens,
    texts_of,
    tokenization_of,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\x1e"))
WORDS = ("a", "good", "bad", "film")
CLS, SEP = 2, 3


def saved_tokenizer(path: Path, words=WORDS, *, padding="[PAD]", marks=True) -> str:
    """A tokenizer whose words are numbered from 4 on, in a file."""
    vocabulary = {name: number for number, name in enumerate((padding, "[UNK]", "[CLS]", "[SEP]", *words))}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if marks:
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
        )
    backend.save(str(path))
    return str(path)


@pytest.fixture
def saved(tmp_path) -> str:
    return saved_tokenizer(tmp_path / "tokenizer.json")


def ids(tokenization: TextTokenization, text: str) -> list[int]:
    return tokenization.tokens(bytes_of([text]))["input_ids"][0].tolist()


def read(spec, *texts: str) -> tuple[list[list[int]], list[list[int]]]:
    tokens = read_tokens(spec).tokens(bytes_of(texts))
    return tokens["input_ids"].tolist(), tokens["attention_mask"].tolist()


# Texts as tensors


@given(st.lists(TEXT, max_size=5))
def test_texts_come_back_from_their_bytes(texts):
    rows = bytes_of(texts)
    assert rows.dtype == torch.uint8
    assert rows.shape == (len(texts), max([1, *(len(text.encode()) for text in texts)]))
    assert texts_of(rows) == texts


def test_the_character_that_is_no_text_becomes_a_space():
    assert texts_of(bytes_of(["\0a\0b\0", "\0"])) == [" a b ", " "]


@given(st.lists(st.text(st.characters(categories=("Cs", "Lu"), exclude_characters="\0")), max_size=3))
def test_half_a_character_does_no_harm(texts):
    rows = bytes_of(texts)
    again = texts_of(rows)
    assert texts_of(bytes_of(again)) == again
    assert [len(text) for text in again] == [len(text) for text in texts]
    assert read_tokens(Words()).tokens(rows)["input_ids"].shape[0] == len(texts)


def test_half_a_character_in_bytes_does_no_harm(saved):
    broken = torch.tensor([[0xC3, 0], [0xFF, 0x61]], dtype=torch.uint8)
    assert texts_of(broken) == ["�", "�a"]
    for spec in (Words(), Bytes(), Tokenizer(path=saved)):
        assert read_tokens(spec).tokens(broken)["input_ids"].shape[0] == 2


def test_only_a_matrix_of_bytes_is_texts():
    assert are_texts(bytes_of(["a", "b"]))
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    for other in (torch.rand(2, 3), torch.zeros(2, 3, dtype=torch.int64), images, images[0, 0, 0], {"x": 1}, "a", None):
        assert not are_texts(other)


# Words and bytes


def test_a_word_has_the_same_token_in_any_process():
    # computed once with another implementation of CRC-32, gzip's
    assert read(Words(), "good")[0] == [[2 + 194]]
    assert read(Words(buckets=100), "A good film, naïve")[0] == [[9, 96, 4, 80, 76]]


def test_equal_words_have_equal_tokens():
    first, *_, last = ids(read_tokens(Words()), "good films are good")
    assert first == last
    assert len(set(ids(read_tokens(Words()), "these words have tokens of their own"))) == 7


@pytest.mark.parametrize(("lowercase", "same"), [(True, True), (False, False)])
def test_capitals_count_only_where_they_are_kept(lowercase, same):
    tokenization = read_tokens(Words(lowercase=lowercase))
    for small, large in (("good", "Good"), ("über", "ÜBER")):
        assert (ids(tokenization, small) == ids(tokenization, large)) is same


def test_marks_are_tokens_and_spaces_are_none():
    tokenization = read_tokens(Words())
    apart = [number for part in ("no", "!", "!", "really", "?", "😀") for number in ids(tokenization, part)]
    assert ids(tokenization, "  no!! \t\n really?😀 ") == apart
    assert apart[1] == apart[2]


def test_a_byte_is_a_token():
    assert read(Bytes(), "ab", "é")[0] == [[2 + 97, 2 + 98], [2 + 0xC3, 2 + 0xA9]]


@pytest.mark.parametrize("spec", [Words(), Bytes()])
def test_an_empty_text_is_one_token_of_its_own(spec):
    numbers, real = read(spec, "", "ab cd")
    assert numbers[0] == [EMPTY, *[PADDING] * (len(numbers[0]) - 1)]
    assert real[0] == [1, *[0] * (len(numbers[0]) - 1)]
    assert read(spec, "") == ([[EMPTY]], [[1]])


def test_a_text_without_words_is_as_good_as_an_empty_one():
    assert read(Words(), " \n ") == ([[EMPTY]], [[1]])


@given(st.lists(TEXT, min_size=1, max_size=4))
def test_all_tokens_are_within_the_vocabulary(texts):
    for spec, size in ((Words(buckets=7), 9), (Words(buckets=1), 3), (Bytes(), 258)):
        tokenization = read_tokens(spec)
        tokens = tokenization.tokens(bytes_of(texts))
        real = tokens["input_ids"][tokens["attention_mask"].bool()]
        assert tokenization.vocabulary == size
        assert int(real.min()) > PADDING
        assert int(real.max()) < size


def test_what_is_longer_is_cut_and_counted():
    texts = bytes_of(["one two three", "one two", "one", "", "one two three four"])
    whole, short = read_tokens(Words()), read_tokens(Words(max_length=2))
    expected = whole.tokens(texts)
    assert {name: tensor.tolist() for name, tensor in short.tokens(texts).items()} == {
        name: tensor[:, :2].tolist() for name, tensor in expected.items()
    }
    assert (whole.cut(texts), short.cut(texts)) == (0, 2)
    assert read(Bytes(max_length=3), "abcd", "abc") == ([[99, 100, 101], [99, 100, 101]], [[1, 1, 1], [1, 1, 1]])
    assert read_tokens(Bytes(max_length=3)).cut(bytes_of(["abcd", "abc"])) == 1


def test_texts_are_padded_behind_to_the_longest():
    numbers, real = read(Words(), "good", "a good film")
    assert real == [[1, 0, 0], [1, 1, 1]]
    assert numbers[0][1:] == [PADDING, PADDING]
    assert numbers[0][0] == numbers[1][1]


def test_tokens_are_whole_numbers_where_the_texts_are():
    tokens = read_tokens(Words()).tokens(bytes_of(["good"]))
    assert list(tokens) == ["input_ids", "attention_mask"]
    assert {(tensor.dtype, tensor.device.type) for tensor in tokens.values()} == {(torch.int64, "cpu")}
    assert read_tokens(Words()).tokens(bytes_of([]))["input_ids"].shape[0] == 0


def kinds(folder: Path) -> list:
    return [Words(max_length=3), Bytes(max_length=5), Tokenizer(path=saved_tokenizer(folder / "t.json"), max_length=4)]


@pytest.mark.parametrize("kind", range(3), ids=["words", "bytes", "tokenizer"])
@given(texts=st.lists(st.one_of(TEXT, st.lists(st.sampled_from(WORDS)).map(" ".join)), min_size=1, max_size=5))
def test_a_text_alone_has_the_tokens_that_it_has_among_others(kind, texts, tmp_path_factory):
    spec = kinds(tmp_path_factory.mktemp("tokens"))[kind]
    together = read_tokens(spec).tokens(bytes_of(texts))
    for row, text in enumerate(texts):
        alone = read_tokens(spec).tokens(bytes_of([text]))
        real = together["attention_mask"][row].bool()
        assert torch.equal(together["input_ids"][row][real], alone["input_ids"][0])
        assert int(alone["attention_mask"].min()) == 1
        assert bool((together["input_ids"][row][~real] == PADDING).all())


# What is remembered


def test_a_small_memory_changes_no_answer(monkeypatch):
    batches = [bytes_of(texts) for texts in (["a b c", "d", "a b c"], ["d", "e f"], ["a b c", "", "g h i j"], ["e f"])]
    expected = [read_tokens(Words()).tokens(batch) for batch in batches]
    cuts = [read_tokens(Words(max_length=2)).cut(batch) for batch in batches]
    monkeypatch.setattr(tokenizing, "_REMEMBERED", 3)
    forgetful, short = read_tokens(Words()), read_tokens(Words(max_length=2))
    for _ in range(2):
        for batch, tokens, cut in zip(batches, expected, cuts, strict=True):
            for name, tensor in forgetful.tokens(batch).items():
                assert torch.equal(tensor, tokens[name])
            assert short.cut(batch) == cut
            assert sum(len(made.tokens) for made in forgetful._remembered.values()) <= 3


def test_a_text_is_read_once(monkeypatch):
    seen: list[bytes] = []
    encode = TextTokenization._encode
    monkeypatch.setattr(TextTokenization, "_encode", lambda self, texts: seen.extend(texts) or encode(self, texts))
    tokenization = read_tokens(Words())
    for texts in (["a", "b", "a"], ["b", "c"], ["a", "b", "c"]):
        tokenization.tokens(bytes_of(texts))
        tokenization.cut(bytes_of(texts))
    assert seen == [b"a", b"b", b"c"]


def test_an_answer_belongs_to_the_caller():
    tokenization = read_tokens(Words())
    texts = bytes_of(["a good film"])
    tokens = tokenization.tokens(texts)["input_ids"]
    expected = tokens.clone()
    tokens.zero_()
    assert torch.equal(tokenization.tokens(texts)["input_ids"], expected)


# A tokenizer that was saved


def test_a_saved_tokenizer_keeps_its_marks_when_it_cuts(saved):
    tokenization = read_tokens(Tokenizer(path=saved, max_length=4))
    texts = bytes_of(["a good bad film", "a good", "film", ""])
    tokens = tokenization.tokens(texts)
    assert tokens["input_ids"].tolist() == [[CLS, 4, 5, SEP], [CLS, 4, 5, SEP], [CLS, 7, SEP, 0], [CLS, SEP, 0, 0]]
    assert tokens["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]
    assert tokenization.cut(texts) == 1
    assert tokenization.vocabulary == 8


def test_a_saved_tokenizer_reads_all_where_no_length_is_given(saved):
    long = " ".join(["good"] * 3000)
    tokenization = read_tokens(Tokenizer(path=saved))
    assert ids(tokenization, long) == [CLS, *[5] * 3000, SEP]
    assert tokenization.cut(bytes_of([long])) == 0


def test_a_saved_tokenizer_does_not_cut_or_pad_as_its_file_says(tmp_path, saved):
    backend = tokenizers.Tokenizer.from_file(saved)
    backend.enable_truncation(3)
    backend.enable_padding(length=9)
    backend.save(str(tmp_path / "cutting.json"))
    for length in (None, 5):
        spec = Tokenizer(path=str(tmp_path / "cutting.json"), max_length=length)
        assert read(spec, "a good film") == ([[CLS, 4, 5, 7, SEP]], [[1] * 5])


def test_a_saved_tokenizer_pads_with_its_own_token(tmp_path):
    path = saved_tokenizer(tmp_path / "own.json", ("a", "<pad>"), padding="nothing", marks=False)
    assert read(Tokenizer(path=path), "a a", "a") == ([[4, 4], [4, 5]], [[1, 1], [1, 0]])
    backend = tokenizers.Tokenizer.from_file(path)
    backend.enable_padding(pad_id=4, pad_token="a")  # what it says itself goes before what it is called
    backend.save(path)
    assert read(Tokenizer(path=path), "a a", "a") == ([[4, 4], [4, 4]], [[1, 1], [1, 0]])
    nameless = saved_tokenizer(tmp_path / "none.json", ("a",), padding="nothing", marks=False)
    assert read(Tokenizer(path=nameless), "a a", "") == ([[4, 4], [0, 0]], [[1, 1], [1, 0]])


@pytest.mark.parametrize("content", [None, "{", '{"version": "1.0"}', ""], ids=["missing", "torn", "foreign", "empty"])
def test_a_tokenizer_that_cannot_be_read_is_named(content, tmp_path):
    path = tmp_path / "own_tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"cannot be read as a tokenizer: \w.*tokenizer\.save_pretrained") as caught:
        read_tokens(Tokenizer(path=str(path)))
    assert str(caught.value).startswith(str(path))


# Identity


def test_the_same_tokens_are_the_same_identity(tmp_path, saved):
    other = saved_tokenizer(tmp_path / "elsewhere.json")
    assert read_tokens(Tokenizer(path=saved)).identity == read_tokens(Tokenizer(path=other)).identity
    assert read_tokens(Words()).identity == read_tokens(Words(buckets=30_000)).identity


def test_a_file_that_was_only_rewritten_is_the_same_identity(tmp_path, saved):
    backend = tokenizers.Tokenizer.from_file(saved)
    backend.enable_truncation(3)
    backend.save(str(tmp_path / "cutting.json"), pretty=False)
    both = (read_tokens(Tokenizer(path=path, max_length=4)) for path in (saved, str(tmp_path / "cutting.json")))
    assert len({tokenization.identity for tokenization in both}) == 1


def test_other_tokens_are_another_identity(tmp_path, saved):
    other = saved_tokenizer(tmp_path / "other.json", (*WORDS, "more"))
    swapped = saved_tokenizer(tmp_path / "swapped.json", tuple(reversed(WORDS)))
    unmarked = saved_tokenizer(tmp_path / "unmarked.json", marks=False)
    specs = [
        Words(),
        Words(buckets=100),
        Words(lowercase=False),
        Words(max_length=100),
        Bytes(),
        Bytes(max_length=512),
        Tokenizer(path=saved),
        Tokenizer(path=saved, max_length=4),
        *(Tokenizer(path=path) for path in (other, swapped, unmarked)),
    ]
    assert len({read_tokens(spec).identity for spec in specs}) == len(specs)


# The hook


class Recording(nn.Module):
    """Keeps what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[tuple[tuple, dict]] = []

    def forward(self, *positional: object, **named: object) -> None:
        self.called.append((positional, named))


def test_a_network_is_called_with_its_own_tokens():
    model = preprocess_inputs(Recording(), Words())
    texts = bytes_of(["a good film", "bad"])
    model(texts, output_hidden_states=True)
    (positional, named), expected = model.called[0], read_tokens(Words()).tokens(texts)
    assert positional == ()
    assert list(named) == ["output_hidden_states", "input_ids", "attention_mask"]
    assert all(torch.equal(named[name], tensor) for name, tensor in expected.items())


def test_anything_else_passes_through():
    model = preprocess_inputs(Recording(), Words())
    floats, texts = torch.rand(2, 3), bytes_of(["a"])
    tokens = read_tokens(Words()).tokens(texts)
    for positional, named in (((floats,), {}), ((), tokens), ((tokens["input_ids"],), {}), ((floats, texts), {})):
        model(*positional, **named)
        seen, seen_named = model.called[-1]
        assert len(seen) == len(positional)
        assert all(left is right for left, right in zip(seen, positional, strict=True))
        assert list(seen_named) == list(named)
        assert all(seen_named[name] is tensor for name, tensor in named.items())


def test_what_a_network_itself_is_called_with():
    model, texts = preprocess_inputs(Recording(), Words()), bytes_of(["a good film", "bad"])
    tokens = network_inputs(model, texts)
    assert tokens["input_ids"].shape == (2, 3)
    assert network_inputs(model, tokens) is tokens
    assert network_inputs(Recording(), texts) is texts


def test_copies_share_what_makes_tokens():
    model = preprocess_inputs(Recording(), Words())
    assert tokenization_of(copy.deepcopy(model)) is tokenization_of(model)
    assert tokenization_of(copy.deepcopy(nn.Sequential(model))) is tokenization_of(model)


class Wrapper(nn.Module):
    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.inside = modules[0]
        self.others = nn.ModuleList(modules[1:]) if len(modules) > 1 else None


def test_wrappers_are_looked_through():
    model = preprocess_inputs(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), Words())
    own = tokenization_of(model)
    assert own is not None
    assert all(tokenization_of(wrapped) is own for wrapped in (model, Wrapper(model), Wrapper(Wrapper(model))))


def test_a_compiled_network_is_looked_through():
    model = preprocess_inputs(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), Words())
    compiled = torch.compile(model)  # which compiles nothing before the first call
    assert isinstance(tokenization_of(model), TextTokenization)
    assert tokenization_of(compiled) is tokenization_of(Wrapper(compiled)) is tokenization_of(model)


def test_a_network_that_reads_no_texts_has_no_tokens():
    model = preprocess_inputs(Recording(), Words())
    for plain in (nn.Linear(2, 2), Recording(), Wrapper(nn.Linear(2, 2)), nn.Sequential(), Wrapper(model, Recording())):
        assert tokenization_of(plain) is None
    assert tokenization_of(preprocess_inputs(model, None)) is None
