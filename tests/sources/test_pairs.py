"""Prompts with answers: which columns, which tokens, what is cut or left out, and how they come in batches."""

import json

import pytest
import torch
from tests.sources.test_windows import write_tokenizer

from understudy.batch import IGNORE_INDEX
from understudy.errors import InputError
from understudy.sources import DataSpec, Loader, Subset, load_data
from understudy.sources.data import prompts_and_answers
from understudy.tasks import CausalLanguageModel, Classification, SequenceToSequence
from understudy.tokenizing import DECODED, Bytes, Tokenizer

CAUSAL, DECODER = CausalLanguageModel(), SequenceToSequence()
END = 1
NO = IGNORE_INDEX


def of(text: str) -> list[int]:
    return [byte + 2 for byte in text.encode()]


def table(path, rows, names=("prompt", "answer")):
    path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    return str(path)


def load(source, *, task=CAUSAL, tokens=None, window=8, **fields):
    spec = DataSpec(source=source, tokens=tokens or Bytes(), window=window, **{"carve": 1, "carve_test": 1} | fields)
    return load_data(spec, task=task)


def everything(data):
    """By id: the inputs and the targets of each sample that count, without padding."""
    found = {}
    for split in (data.train, data.validation, data.test):
        for batch in Loader(split, batch_size=1, shuffle=False):
            found[int(batch.ids[0])] = batch
    return found


@pytest.fixture
def source(tmp_path) -> str:
    return table(tmp_path / "pairs.jsonl", [("ab?", "cd"), ("x", "yz"), ("", "n"), ("hello", "w")])


def test_a_row_is_the_prompt_the_answer_and_a_mark_of_the_end(source):
    batches = everything(load(source))
    assert batches[0].inputs.tolist() == [of("ab?cd")]
    assert batches[0].targets.tolist() == [[NO, NO, *of("cd"), END]]
    assert batches[0].mask.tolist() == [[False, False, True, True, True]]
    assert batches[2].inputs.tolist() == [[END, *of("n")]], "an empty prompt is the mark that stands before a text"
    assert batches[2].targets.tolist() == [[*of("n"), END]]


def test_an_encoder_reads_the_prompt_and_the_decoder_the_answer(source):
    batches = everything(load(source, task=DECODER))
    inputs = batches[0].inputs
    assert {name: value.tolist() for name, value in inputs.items()} == {
        "input_ids": [[*of("ab?"), END]],
        "attention_mask": [[1, 1, 1, 1]],
        DECODED: [[0, *of("cd")]],
    }
    assert batches[0].targets.tolist() == [[*of("cd"), END]]
    assert batches[2].inputs["input_ids"].tolist() == [[END]]
    begun = everything(load(source, task=SequenceToSequence(decoder_start=7)))
    assert begun[0].inputs[DECODED].tolist() == [[7, *of("cd")]]


@pytest.mark.parametrize("task", [CAUSAL, DECODER], ids=lambda task: task.kind)
def test_in_a_batch_shorter_ones_are_padded_and_padding_is_masked(task, tmp_path):
    words = ["a", "bcd", "efghi", "jk", "l", "mnopqr"]
    source = table(tmp_path / "rows.jsonl", [(word, word[:2]) for word in words])
    data = load(source, task=task, window=20)
    (batch,) = Loader(data.train, batch_size=8, shuffle=False)
    alone = everything(data)
    for row, number in enumerate(batch.ids.tolist()):
        one = alone[number]
        width = one.mask.shape[1]
        assert torch.equal(batch.targets[row, :width], one.targets[0])
        assert not batch.mask[row, width:].any()
        assert (batch.targets[row, width:] == NO).all()
        pairs = zip(
            *((each if isinstance(each, dict) else {"": each}).values() for each in (batch.inputs, one.inputs)),
            strict=True,
        )
        for ours, own in pairs:
            assert torch.equal(ours[row, : own.shape[1]], own[0])
            assert not ours[row, own.shape[1] :].any()
    assert batch.targets.shape == batch.mask.shape
    assert batch.mask.shape[1] == max(int(alone[number].mask.shape[1]) for number in batch.ids.tolist())


def test_little_is_padded_in_a_shuffled_epoch(tmp_path):
    source = table(tmp_path / "rows.jsonl", [("a" * (1 + number % 40), "b") for number in range(402)])
    train = load(source, window=64).train
    batches = list(Loader(train, batch_size=20))
    read = sum(batch.inputs.numel() for batch in batches)
    real = int(train.inputs.positions.sum())
    assert read < 1.15 * real
    assert sorted(number for batch in batches for number in batch.ids.tolist()) == train.ids.tolist()


def test_a_prompt_that_is_too_long_loses_its_beginning_and_an_encoders_its_end(tmp_path):
    source = table(tmp_path / "rows.jsonl", [("a", "b"), ("a", "b"), ("abcdefghij", "xyz"), ("abcde", "xyz")])
    data = load(source, carve=1)
    batch = everything(data)[2]
    assert batch.inputs.tolist() == [of("fghijxyz")[-8:]]
    assert batch.inputs.shape == (1, 8)
    assert batch.targets[0].tolist() == [NO, NO, NO, NO, *of("xyz"), END]
    assert data.notes == ("1 of 4 prompts are cut: a sample has at most `window: 8` tokens",)
    encoded = load(source, task=DECODER, carve=1)
    assert everything(encoded)[2].inputs["input_ids"].tolist() == [[*of("abcdefg"), END]]
    assert encoded.notes == data.notes


def test_an_answer_that_fills_the_window_keeps_one_token_of_its_prompt(tmp_path):
    source = table(tmp_path / "rows.jsonl", [("a", "b")] * 3 + [("pq", "1234567"), ("pq", "12345678")])
    data = load(source)
    assert everything(data)[3].inputs.tolist() == [of("q1234567")]
    assert 4 not in everything(data)
    assert data.notes[-1] == "1 of 5 answers have more than `window: 8` tokens and are left out"


@pytest.mark.parametrize("task", [CAUSAL, DECODER], ids=lambda task: task.kind)
def test_prompts_without_an_answer_are_left_out_and_ids_stay(task, tmp_path):
    rows = [("a", "b"), ("c", ""), ("d", None), ("e", " \n"), ("f", "g"), ("h", "i")]
    data = load(table(tmp_path / "rows.jsonl", rows), task=task)
    assert sorted(everything(data)) == [0, 4, 5]
    assert data.notes == ("3 of 6 prompts have no answer and are left out",)
    assert prompts_and_answers(DataSpec(source=str(tmp_path / "rows.jsonl")), task=task)["train"][4] == ("f", "g")


def test_when_no_pair_is_left_that_is_said(tmp_path):
    source = table(tmp_path / "rows.jsonl", [("a", ""), ("b", "123456789")])
    with pytest.raises(
        InputError, match=r"'train' has 2 prompts, 1 of them without an answer and 1 with one of more than 8"
    ):
        load(source)


@pytest.mark.parametrize(
    ("names", "fields"),
    [
        (("prompt", "completion"), {}),
        (("instruction", "output"), {}),
        (("question", "answer"), {}),
        (("frage", "antwort"), {"prompt": "frage", "answer": "antwort"}),
        (("frage", "answer"), {"prompt": "frage"}),
        (("prompt", "antwort"), {"answer": "antwort"}),
    ],
)
def test_columns_are_found_or_named(names, fields, tmp_path):
    source = table(tmp_path / "rows.jsonl", [("ab?", "cd"), ("x", "yz"), ("u", "v")], names)
    assert everything(load(source, **fields))[0].inputs.tolist() == [of("ab?cd")]


def test_an_instruction_and_its_input_are_one_prompt(tmp_path):
    rows = [("Add.", "1+1", "2"), ("Say a.", "", "a"), ("b", None, "c")]
    source = table(tmp_path / "rows.jsonl", rows, ("instruction", "input", "output"))
    found = everything(load(source, window=20))
    assert found[0].inputs.tolist() == [of("Add.\n\n1+12")]
    assert found[1].inputs.tolist() == [of("Say a.a")]
    assert everything(load(source, window=20, prompt="instruction"))[0].inputs.tolist() == [of("Add.2")]


def test_whole_numbers_are_texts(tmp_path):
    source = table(tmp_path / "rows.jsonl", [("1+1", 2), ("6*7", 42), ("0", 0)], ("question", "answer"))
    assert everything(load(source))[1].inputs.tolist() == [of("6*742")]


def test_a_column_of_running_texts_comes_first_unless_prompts_are_named(tmp_path):
    rows = [("q" * 9, "a", "running " * 9)] * 3
    source = table(tmp_path / "rows.jsonl", rows, ("question", "answer", "text"))
    assert load(source).train.noun == "windows"
    assert load(source, prompt="question").train.noun == "pairs"
    assert load(source, task=DECODER).train.noun == "pairs"
    assert load(source, inputs="question", window=2).train.noun == "windows"


@pytest.mark.parametrize(
    ("names", "fields", "task", "message"),
    [
        (
            ("prompt", "answer", "response"),
            {},
            CAUSAL,
            r"`answer` is not clear: 'answer' and 'response' could all be meant",
        ),
        (("prompt", "question", "answer"), {}, CAUSAL, r"`prompt` is not clear: 'prompt' and 'question' could all be"),
        (("a", "b", "c"), {"prompt": "a"}, CAUSAL, r"`answer` is not clear: no column could be meant"),
        (("a", "b", "c"), {"prompt": "q", "answer": "a"}, CAUSAL, r"there is no column 'q'"),
        (("a", "b", "c"), {"prompt": "a", "answer": "a"}, CAUSAL, r"column 'a' is named twice"),
        (("a", "b", "c"), {"prompt": "a", "answer": "b", "inputs": "c"}, CAUSAL, r"`inputs` names a column of running"),
        (("a", "b", "c"), {}, DECODER, r"task sequence_to_sequence reads a table with a column of prompts and one of"),
    ],
)
def test_columns_that_are_not_clear_are_explained(names, fields, task, message, tmp_path):
    source = table(tmp_path / "rows.jsonl", [("a", "b", "c")] * 3, names)
    with pytest.raises(InputError, match=message):
        load(source, task=task, **fields)


def test_lists_are_no_texts(tmp_path):
    source = table(tmp_path / "rows.jsonl", [([1], "b")] * 3)
    with pytest.raises(
        InputError, match=r"column 'prompt' does not hold texts; expected a column of prompts and one of"
    ):
        load(source, prompt="prompt")


def test_other_tasks_have_no_prompts():
    with pytest.raises(InputError, match=r"`prompt` and `answer` are columns for language models; task classification"):
        load_data(DataSpec(source="sklearn/digits", prompt="a"), task=Classification())


def test_a_tokenizer_without_a_mark_of_the_end_is_refused(source, tmp_path):
    without = write_tokenizer(tmp_path / "own" / "tokenizer.json", end=None)
    with pytest.raises(InputError, match=r"the tokenizer has no mark for the end of a text"):
        load(source, tokens=Tokenizer(path=without))
    with pytest.raises(InputError, match=r"`tokens` has a `max_length`"):
        load(source, tokens=Bytes(max_length=9))


def test_an_encoder_reads_the_marks_of_its_tokenizer(tmp_path):
    """[CLS] is 1 and stands around a text, the words begin at 2, </s> is 7."""
    own = write_tokenizer(tmp_path / "own" / "tokenizer.json")
    source = table(tmp_path / "rows.jsonl", [("the sea", "a bell")] * 3)
    batch = everything(load(source, task=DECODER, tokens=Tokenizer(path=own)))[0]
    assert batch.inputs["input_ids"].tolist() == [[1, 2, 3, 1, 7, 0]]  # as wide as the answer it would be, but for one
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0]]
    assert batch.targets.tolist() == [[1, 4, 5, 1, 7]]
    plain = everything(load(source, tokens=Tokenizer(path=own)))[0]
    assert plain.inputs.tolist() == [[2, 3, 4, 5]]
    assert plain.targets.tolist() == [[NO, 4, 5, 7]]


def test_a_subset_keeps_prompts_without_labels(tmp_path):
    """A pair without a label still counts, so that a teacher can say something of it."""
    source = table(tmp_path / "rows.jsonl", [(f"{number}?", "ab") for number in range(20)])
    train = load(source).train
    part = train.subset(Subset(labels=5))
    assert (len(part), part.labelled) == (18, 5)
    assert Subset(labels=5).describe(train) == "5 of 18 pairs are labelled"
    (batch,) = Loader(part, batch_size=18, shuffle=False)
    assert int(batch.mask.sum()) == 18 * 3
    assert int(batch.labelled.sum()) == 5 * 3


def test_a_fingerprint_is_of_all_that_is_read(tmp_path):
    rows = [("ab", "c"), ("a", "bc"), ("x", "y"), ("u", "v")]
    source, moved = (
        table(tmp_path / "a.jsonl", rows),
        table(tmp_path / "b.jsonl", [("a", "bc"), ("ab", "c"), *rows[2:]]),
    )
    found = [load(source), load(moved), load(source, window=2), load(source, carve_test=2), load(source, seed=3)]
    found += [load(source, task=DECODER), load(source, task=SequenceToSequence(decoder_start=1))]
    assert load(source).fingerprint == found[0].fingerprint
    assert len({data.fingerprint for data in found}) >= 6


def test_two_processes_share_a_batch(tmp_path):
    source = table(tmp_path / "rows.jsonl", [("a" * (1 + number), "b") for number in range(9)])
    train = load(source, window=20).train
    whole = list(Loader(train, batch_size=4))
    parts = [list(Loader(train, batch_size=4, rank=rank, world=2)) for rank in (0, 1)]
    for together, *shares in zip(whole, *parts, strict=True):
        assert torch.equal(together.ids, torch.cat([share.ids for share in shares]))
    assert len(list(Loader(train, batch_size=6, rank=0, world=2))[-1]) == 0
