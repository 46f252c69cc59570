"""``understudy write``: texts that a language model goes on from, and training sets of its texts."""

import json
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

import understudy as us
from understudy.cli.main import main
from understudy.sources import PythonModel, TransformersModel, build_model, save_artifact
from understudy.sources.continuing import written
from understudy.sources.data import DataSpec, load_data
from understudy.sources.tokenizers import open_tokens
from understudy.tasks import CausalLanguageModel
from understudy.tokenizing import Bytes, Words

TOKENS = Bytes()
NAMES = open_tokens(TOKENS).names
TASK = CausalLanguageModel(vocabulary=258)
WINDOW = torch.full((2, 8), 99)


class Alphabet(nn.Module):
    """After a letter the next one, after z the end."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        after = torch.where(tokens == 2 + ord("z"), 1, tokens + 1)
        return 99.0 * nn.functional.one_hot(after.clamp(max=257), 258).float()


def alphabet() -> nn.Module:
    return Alphabet()


@pytest.fixture
def letters(tmp_path, monkeypatch):
    """A model that is saved."""
    (tmp_path / "spelling.py").write_text("from tests.cli.test_write import alphabet\n")
    monkeypatch.chdir(tmp_path)
    spec = PythonModel(target="tests.cli.test_write:alphabet", preprocess=TOKENS)
    model = build_model(spec, classes=NAMES, inputs=WINDOW)
    return save_artifact(tmp_path / "letters", model, spec=spec, classes=NAMES, inputs=WINDOW)


@pytest.fixture
def texts(tmp_path):
    for name, text in (("train", "abcdefghijklmnopqrstuvwxyz" * 20), ("validation", "xyz" * 30), ("test", "käse" * 30)):
        (tmp_path / "set" / f"{name}.txt").parent.mkdir(exist_ok=True)
        (tmp_path / "set" / f"{name}.txt").write_text(text)
    return tmp_path / "set"


def test_it_goes_on_from_each_text(letters, capsys):
    assert main(["write", str(letters), "say: ab", "r", "--tokens", "3"]) == 0
    assert capsys.readouterr().out == "say: abcde\nrstu\n"


def test_it_stops_where_the_model_sees_the_end(letters, capsys):
    assert main(["write", str(letters), "w", "--tokens", "200"]) == 0
    assert capsys.readouterr().out == "wxyz\n"


def test_without_a_text_it_begins_anew(letters):
    model = build_model(
        PythonModel(target="tests.cli.test_write:alphabet", preprocess=TOKENS), classes=258, inputs=WINDOW
    )
    (text,) = written(model, [""], 3, task=TASK)
    assert text.encode() == bytes([0, 1, 2])  # behind the mark of the end comes the next number, that of byte 0


def test_the_seed_decides(tmp_path, capsys):
    torch.manual_seed(0)
    arguments = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    spec = TransformersModel(config="gpt_neox", arguments=arguments, head="causal_language_model", preprocess=TOKENS)
    model = build_model(spec, classes=NAMES, inputs=WINDOW)
    place = str(save_artifact(tmp_path / "random", model, spec=spec, classes=NAMES, inputs=WINDOW))
    said = []
    for options in ([], [], ["--seed", "1"], ["--temperature", "0.2"]):
        assert main(["write", place, "once", "--tokens", "20", *options]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert len(set(said)) == 3


def test_a_training_set_is_of_its_texts_and_judged_on_true_ones(letters, texts, tmp_path, capsys):
    out = tmp_path / "new" / "set"
    asked = ["write", str(letters), "--data", str(texts), "--out", str(out), "--prompt", "2", "--tokens", "6"]
    assert main([*asked, "--count", "9"]) == 0
    assert "validation.jsonl: 1 text\n" in capsys.readouterr().out
    rows = {
        path.stem: [json.loads(line)["text"] for line in path.read_text().split("\n") if line] for path in out.iterdir()
    }
    steps = [(first, second) for text in rows["train"] for first, second in pairwise(text)]
    assert len(steps) > 40
    assert all(ord(second) == ord(first) + 1 or (first, second) == ("z", "a") for first, second in steps)
    (validation,) = rows["validation"]
    assert ("xyz" * 30).startswith(validation)
    assert len(validation) == 89 // 8 * 8 + 1
    (test,) = rows["test"]
    assert ("käse" * 30).startswith(test)
    read = load_data(DataSpec(source=str(out), tokens=TOKENS, window=8), task=TASK)
    true = load_data(DataSpec(source=str(texts), tokens=TOKENS, window=8), task=TASK)
    assert torch.equal(read.test.inputs, true.test.inputs)
    assert torch.equal(read.test.targets, true.test.targets)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "set"], "expected beginnings of texts, or --data SOURCE with --out FOLDER"),
        (["--out", "x"], "expected beginnings of texts, or --data SOURCE with --out FOLDER"),
        (["hello", "--data", "set", "--out", "x"], "expected beginnings of texts, or --data SOURCE"),
        (["--data", "nowhere.txt", "--out", "x"], "no file or folder 'nowhere.txt'"),
        (["--data", "set", "--out", "x", "--tokens", "6", "--count", "9999"], "`samples: 9999` cannot be met"),
    ],
)
def test_what_cannot_be_written(letters, texts, capsys, arguments, message):
    assert main(["write", str(letters), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (texts.parent / "x" / "train.jsonl").exists()


def test_a_model_without_tokens_of_its_own_writes_nothing(tmp_path, capsys):
    for preprocess in (None, Words(buckets=256)):
        spec = PythonModel(target="tests.cli.test_write:alphabet", preprocess=preprocess)
        model = build_model(spec, classes=NAMES, inputs=WINDOW)
        place = save_artifact(tmp_path / "dumb", model, spec=spec, classes=NAMES, inputs=WINDOW)
        assert main(["write", str(place), "a"]) == 2
        assert "does not know how its tokens become a text" in capsys.readouterr().err


def test_predict_says_who_can(letters, capsys):
    assert main(["predict", str(letters), "-"]) == 2
    assert "is a language model; let it go on from a text with `understudy write" in capsys.readouterr().err


@pytest.fixture
def small(tmp_path):
    """A model of transformers that has learnt nothing, and where it is saved."""
    arguments = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    spec = TransformersModel(config="llama", arguments=arguments, head="causal_language_model", preprocess=TOKENS)
    model = build_model(spec, classes=NAMES, inputs=WINDOW)
    return model.eval(), str(save_artifact(tmp_path / "small", model, spec=spec, classes=NAMES, inputs=WINDOW))


@pytest.mark.e2e
def test_measure_counts_bits_over_windows_as_long_as_the_models(small, texts, capsys):
    assert main(["measure", small[1], "--data", str(texts), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["quality"]
    assert told["samples"] == 149 // 8 * 8  # five bytes for each "käse", all but the first predicted
    assert told["bits"] == pytest.approx(math.log2(258), abs=0.5)
    assert "f1" not in told


@pytest.mark.e2e
def test_a_file_of_it_takes_windows_of_any_length(small, texts, tmp_path, capsys):
    model, place = small
    out = tmp_path / "small.onnx"
    assert main(["export", place, "--data", str(texts), "--out", str(out)]) == 0
    assert "18 samples of the test split" in capsys.readouterr().out
    longer = torch.arange(2, 34)[None]
    with torch.no_grad():
        expected = model(longer).logits
    torch.testing.assert_close(us.open_model(out)(longer), expected, atol=1e-4, rtol=1e-4)
