"""Pairs of texts: held as one row of bytes, and read as the tokens of two."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, processors
from torch import Tensor, nn

from understudy import Batch, InputError, TextClassification
from understudy.export import export
from understudy.runtimes import open_model
from understudy.sources import BuiltinModel, TransformersModel, build_model, load_artifact, save_artifact
from understudy.sources.texts import Texts
from understudy.tokenizing import EMPTY, Bytes, TextTokenization, Tokenizer, Words, bytes_of, texts_of, tokenization_of

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\x1e"), max_size=8)
PAIRS = [("a good film", "bad"), ("bad", "a film that was not bad"), ("", "good")]
WORDS = ["a", "good", "bad", "film", "not", "it", "was", "and", "that", "all"]
SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def saved(path: Path) -> str:
    """A tokenizer with BERT's marks around one text, and around two."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    made = Library(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.save(str(path))
    return str(path)


def transformer(path: Path, kind: str = "bert", *, most: int | None = None, example: Tensor | None = None) -> nn.Module:
    sizes = SIZES if kind == "bert" else {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8}
    spec = TransformersModel(
        config=kind,
        arguments={**sizes, "max_position_embeddings": 24},
        preprocess=Tokenizer(path=saved(path), max_length=most),
    )
    model = build_model(spec, classes=("no", "yes"), inputs=bytes_of(PAIRS) if example is None else example)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(20.0)  # a fresh one's logits hardly depend on the text
    return model.eval()


@given(texts=st.lists(TEXT | st.tuples(TEXT, TEXT), max_size=5))
def test_texts_and_pairs_come_back(texts) -> None:
    assert texts_of(bytes_of(texts)) == texts
    assert texts_of(Texts.of(texts).gather(torch.arange(len(texts)))) == texts


def test_the_mark_is_in_no_text() -> None:
    assert texts_of(bytes_of(["a\x1eb", ("c\x1e", "\0d")])) == ["a b", ("c ", " d")]
    assert TextTokenization(Bytes()).running("a\x1e").tolist() == [99, 32], "a running text has no pairs, and keeps it"


@pytest.mark.parametrize(
    ("pair", "read", "kinds"),
    [
        (("ab", "cd"), "ab|cd", "00011"),
        (("abcdefgh", "cd"), "abc|cd", "000011"),
        (("ab", "cdefghi"), "ab|cde", "000111"),
        (("abcdef", "ghijkl"), "abc|gh", "000011"),
        (("", ""), "|", "0"),
        (("", "b"), "|b", "01"),
    ],
)
def test_the_longer_text_is_cut_first(pair, read, kinds) -> None:
    tokenization = TextTokenization(Bytes(max_length=6))
    made = tokenization.tokens(bytes_of([pair]))
    tokens = made["input_ids"][0].tolist()
    assert "".join("|" if token == EMPTY else chr(token - 2) for token in tokens) == read
    assert tokenization.cut(bytes_of([pair])) == (len("".join(pair)) + 1 > 6)
    tokenization.told_apart = "always"
    assert "".join(map(str, tokenization.tokens(bytes_of([pair]))["token_type_ids"][0].tolist())) == kinds


def test_words_have_a_mark_between() -> None:
    tokenization = TextTokenization(Words(buckets=50))
    one, two = (tokenization.tokens(bytes_of([text]))["input_ids"][0].tolist() for text in PAIRS[0])
    assert tokenization.tokens(bytes_of(PAIRS[:1]))["input_ids"][0].tolist() == [*one, EMPTY, *two]


def test_a_saved_tokenizer_reads_two_texts_as_transformers_does(tmp_path) -> None:
    from transformers import PreTrainedTokenizerFast

    model = transformer(tmp_path / "t.json", most=8)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "t.json"), pad_token="[PAD]")
    more = {"padding": True, "return_token_type_ids": True}
    expected = theirs(*map(list, zip(*PAIRS, strict=True)), max_length=8, truncation="longest_first", **more)
    made = tokenization_of(model).tokens(bytes_of(PAIRS))
    assert made.keys() == {"input_ids", "attention_mask", "token_type_ids"}
    for name, tensor in made.items():
        assert tensor.tolist() == expected[name], name
    assert made["token_type_ids"].any()
    assert tokenization_of(model).cut(bytes_of(PAIRS)) == 1


def test_who_tells_texts_apart_is_told(tmp_path) -> None:
    """And who cannot is not; nor is anybody of single texts, which are read as before."""
    pairs, singles = bytes_of(PAIRS), bytes_of(["good", "a film"])
    bert, distilbert = (transformer(tmp_path / f"{kind}.json", kind) for kind in ("bert", "distilbert"))
    assert "token_type_ids" not in tokenization_of(bert).tokens(singles)
    assert "token_type_ids" not in tokenization_of(distilbert).tokens(pairs)
    with torch.no_grad():
        answer = bert(pairs).logits
        made = tokenization_of(bert).tokens(pairs)
        torch.testing.assert_close(bert(**made).logits, answer)
        blind = bert(**{**made, "token_type_ids": torch.zeros_like(made["token_type_ids"])}).logits
        assert float((blind - answer).abs().max()) > 0.01
        assert distilbert(pairs).logits.shape == (3, 2)


def test_no_room_for_two_texts(tmp_path) -> None:
    with pytest.raises(InputError, match="`max_length: 3` leaves no room for a pair of texts: the tokenizer puts 3"):
        transformer(tmp_path / "t.json", most=3)


@pytest.mark.parametrize("name", ["bag", "lstm", "text_cnn"])
def test_both_texts_and_their_order_count(name) -> None:
    spec = BuiltinModel(name=name, arguments={"embedding": 8}, preprocess=Words(buckets=50))
    model = build_model(spec, classes=2, inputs=bytes_of(PAIRS)).eval()
    rows = bytes_of([("good film", "bad"), ("good film", "not"), ("it", "bad"), ("good", "film bad")])
    with torch.no_grad():
        answers = model(rows)
    apart = torch.cdist(answers, answers) > 1e-6
    assert bool(apart[0, 1:3].all())
    assert bool(apart[0, 3]) == (name != "bag"), "a bag of words knows no order"


@pytest.mark.e2e
def test_saved_and_exported_it_reads_pairs(tmp_path) -> None:
    example, task = bytes_of(PAIRS), TextClassification()
    model = transformer(tmp_path / "t.json")
    spec = TransformersModel(config="bert", arguments={**SIZES, "max_position_embeddings": 24})
    save_artifact(tmp_path / "saved", model, spec=spec, classes=("no", "yes"), inputs=example)
    made = export(model, tmp_path / "m.onnx", format="onnx", example=example, task=task, classes=("no", "yes"))
    assert made.proof.proved
    assert [port.name for port in made.card.inputs] == ["attention_mask", "input_ids", "token_type_ids"]
    others = bytes_of([("it was bad", "and good"), ("film", "")])
    with torch.no_grad():
        expected = model(others).logits
        for again in (load_artifact(tmp_path / "saved").module.eval(), open_model(tmp_path / "m.onnx")):
            found = task.observe(again, Batch(inputs=others)).logits
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        single = bytes_of(["good film"])
        alone = task.observe(open_model(tmp_path / "m.onnx"), Batch(inputs=single)).logits
        torch.testing.assert_close(alone, model(single).logits, rtol=1e-4, atol=1e-4)
