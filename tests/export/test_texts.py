"""Networks that read texts as files that read texts: tokens go in, and what makes them lies beside."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, processors
from torch import Tensor, nn

from understudy import InputError, RunError, TextClassification
from understudy.export import Exported, export
from understudy.runtimes import open_model
from understudy.sources import BuiltinModel, TransformersModel, build_model
from understudy.tokenizing import AnyTokens, Tokenizer, Words, bytes_of, tokenization_of

TASK = TextClassification()
CLASSES = ("bad", "good")
EXAMPLE = bytes_of(["a good film", "not a bad film"])
OTHERS = bytes_of(["bad", "it was good, and a film that was not all bad", "", "good good", "a film"])
WORDS = Words(buckets=40)
ARGUMENTS: dict[str, dict[str, Any]] = {
    "bag": {"embedding": 4, "hidden": [3]},
    "lstm": {"embedding": 4, "width": 3, "layers": 2},
    "gru": {"embedding": 4, "width": 3},
    "text_cnn": {"embedding": 4, "width": 3, "sizes": [2, 3]},
}


class Dropping(nn.Module):
    """Answers otherwise each time."""

    def forward(self, values: Tensor) -> Tensor:
        return F.dropout(values, 0.5, training=True)


def network(name: str, tokens: AnyTokens = WORDS) -> nn.Module:
    spec = BuiltinModel(name=name, arguments=ARGUMENTS[name], preprocess=tokens)
    return build_model(spec, classes=CLASSES, inputs=EXAMPLE)


def written(path: Path, *, words: str = "a good bad film not it was and that all") -> Path:
    """A tokenizer with marks of beginning and end, and no token for a word that it does not know but [UNK]."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words.split()]
    made = Library(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.save(str(path))
    return path


def bert(tokenizer: Path, *, most: int | None = None) -> nn.Module:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    spec = TransformersModel(
        config="bert",
        arguments={**sizes, "max_position_embeddings": 24},
        preprocess=Tokenizer(path=str(tokenizer), max_length=most),
    )
    model = build_model(spec, classes=CLASSES, inputs=EXAMPLE)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(20.0)  # a fresh one's logits hardly depend on the text
    return model


def exported(model: nn.Module, path: Path, *, kind: str = "onnx", example: Tensor = EXAMPLE) -> Exported:
    return export(model, path, format=kind, example=example, task=TASK, classes=CLASSES)


def logits(model: nn.Module, inputs: Any) -> Tensor:
    with torch.no_grad():
        return TASK.observe(model.eval(), TASK.batch(inputs)).logits


def check(model: nn.Module, file: Exported) -> None:
    """The file answers texts and tokens of other lengths and numbers, as the network does."""
    assert file.proof.proved
    assert {each.name for each in file.card.inputs} == {"input_ids", "attention_mask"}
    deployed, expected = open_model(file.path, threads=1), logits(model, OTHERS)
    tokens = tokenization_of(model).tokens(OTHERS)
    assert expected.std(0).min() > 0.01, "it depends on the text"
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(deployed(OTHERS), expected, **close)
    torch.testing.assert_close(deployed(**tokens), expected, **close)
    torch.testing.assert_close(logits(deployed, OTHERS), expected, **close)
    torch.testing.assert_close(logits(deployed, tokens), expected, **close)
    for each in range(len(OTHERS)):
        torch.testing.assert_close(deployed(OTHERS[each : each + 1]), expected[each : each + 1], **close)


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Exported]:
    """A transformer whose tokenizer was written somewhere else and is no longer there, and its file."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("transformer")
    tokenizer = written(folder / "somewhere.json")
    model = bert(tokenizer)
    tokenizer.unlink()
    return model, exported(model, folder / "files" / "net.onnx")


@pytest.mark.parametrize(
    "name", ["lstm", *(pytest.param(name, marks=pytest.mark.e2e) for name in ("bag", "gru", "text_cnn"))]
)
def test_networks_of_words(name: str, tmp_path: Path) -> None:
    model = network(name)
    file = exported(model, tmp_path)
    check(model, file)
    assert file.card.tokens == open_model(file.path).card.tokens == WORDS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.proof.json"]


def test_a_transformer_brings_its_tokenizer(transformer) -> None:
    model, file = transformer
    check(model, file)
    assert file.card.tokens == Tokenizer(path="net.onnx.tokenizer.json", max_length=24)
    names = ["net.onnx", "net.onnx.proof.json", "net.onnx.tokenizer.json"]
    assert sorted(path.name for path in file.path.parent.iterdir()) == names
    kept = Library.from_file(str(file.path.with_name(names[-1])))
    assert kept.encode("a film", "unheard").tokens == ["[CLS]", "a", "film", "[SEP]", "[UNK]", "[SEP]"]


def test_the_two_move_together(transformer, tmp_path) -> None:
    model, file = transformer
    for path in file.path.parent.iterdir():
        shutil.copy(path, tmp_path)
    moved = open_model(tmp_path / "net.onnx", threads=1)
    torch.testing.assert_close(moved(OTHERS), logits(model, OTHERS), rtol=1e-4, atol=1e-5)


def test_a_file_without_its_tokenizer_names_it(transformer, tmp_path) -> None:
    _, file = transformer
    shutil.copy(file.path, tmp_path)
    with pytest.raises(InputError) as raised:
        open_model(tmp_path / "net.onnx")
    beside = tmp_path / "net.onnx.tokenizer.json"
    assert str(raised.value) == (
        f"{tmp_path / 'net.onnx'} reads texts with the tokenizer {beside}, which is not there; keep both together"
    )
    beside.write_text("{}")
    with pytest.raises(InputError, match=r"net\.onnx\.tokenizer\.json cannot be read as a tokenizer"):
        open_model(tmp_path / "net.onnx")


@pytest.mark.parametrize("example", [bytes_of(["good"]), bytes_of([""])], ids=["one_word", "empty"])
def test_an_example_of_one_token_says_nothing_of_the_length(example: Tensor, tmp_path: Path) -> None:
    model = network("lstm")
    check(model, exported(model, tmp_path, example=example))


def test_an_unproved_file_leaves_the_proved_one_its_tokenizer(tmp_path: Path) -> None:
    words = "a good bad film not it was and that all"
    first, second = (
        network("lstm", Tokenizer(path=str(written(tmp_path / f"{number}.json", words=each))))
        for number, each in enumerate((words, words[::-1]))
    )
    expected, proved = logits(first, OTHERS), exported(first, tmp_path / "net.onnx").path
    second.dropout = Dropping()
    with pytest.raises(RunError, match=r"net\.unproved\.onnx does not answer as the network does"):
        exported(second, proved)
    torch.testing.assert_close(open_model(proved, threads=1)(OTHERS), expected, rtol=1e-4, atol=1e-5)
    unproved = open_model(tmp_path / "net.unproved.onnx", threads=1)
    assert tokenization_of(unproved).identity == tokenization_of(second).identity
