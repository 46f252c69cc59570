"""Texts are asked about as they are, by lines and in JSON."""

import json

import pytest
import torch

from understudy.cli.main import main
from understudy.errors import InputError
from understudy.serving import open_predictor
from understudy.serving.samples import SampleForm
from understudy.serving.uploads import kind_of
from understudy.sources import BuiltinModel, build_model, save_artifact
from understudy.tokenizing import Bytes, bytes_of, texts_of

TEXTS = ("a moving film", "dull", "5 stars, and no more")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, inputs = tmp_path_factory.mktemp("model"), bytes_of(TEXTS)
    spec = BuiltinModel(name="gru", arguments={"embedding": 4, "width": 4}, preprocess=Bytes())
    torch.manual_seed(0)
    model = build_model(spec, classes=("bad", "good"), inputs=inputs)
    save_artifact(folder, model, spec=spec, classes=("bad", "good"), inputs=inputs)
    return folder


@pytest.fixture(scope="module")
def predictor(folder):
    return open_predictor(folder)


def said(samples):
    return [texts_of(sample[None])[0] for sample in samples]


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b"one\n\n  \ntwo \r\nthree", ["one", "two ", "three"]),
        (b'"quoted" at first\n[sic]', ['"quoted" at first', "[sic]"]),
        (b"10\n", ["10"]),
        ("\ufeffnaïve".encode(), ["naïve"]),
        (b'["one", "two"]', ["one", "two"]),
        (b'"one"', ["one"]),
        (b'{"input": "one"}', ["one"]),
        (b'{"inputs": ["one", ""]}', ["one", ""]),
        (b'{"input": ["one", "two"]}', [("one", "two")]),
        (b'{"inputs": [["one", "two"], "three"]}', [("one", "two"), "three"]),
        (b'[["one", "two"], ["three", "four"]]', [("one", "two"), ("three", "four")]),
        (b'{"text": "one", "pair": ""}', [("one", "")]),
        (b'{"text": "one", "pair": "two"}\n{"text": "three", "pair": "four"}', [("one", "two"), ("three", "four")]),
        (b'{"text": "one"} is what he said\n{"a": 1}', ['{"text": "one"} is what he said', '{"a": 1}']),
        (b'{"input": "one\\u001etwo"}', ["one two"]),
    ],
)
def test_what_a_file_of_texts_says(data, texts):
    assert said(SampleForm.of_texts().read(data, kind_of(data))) == texts


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\n \n", "holds no text; expected one on each line"),
        (b"[1, 2]", r"x\[0\] is a int; the model takes a text"),
        (b'{"input": 3}', "x is a int; the model takes a text"),
        (b'{"input": ["one", "two", "three"]}', "x is a list; the model takes a text, or a list of two"),
        (b'{"input": {"text": 1, "pair": "two"}}', "x is a list; the model takes a text"),
        (b'{"inputs": []}', 'no list of samples under "inputs"'),
    ],
)
def test_what_is_no_text_is_refused(data, words):
    with pytest.raises(InputError, match=words):
        SampleForm.of_texts().read(data, "json", whose="x")


def test_texts_of_all_lengths_are_answered_together_as_each_alone(predictor):
    samples = predictor.form.of_json({"inputs": [*TEXTS, ""]})
    together = predictor.predict(samples, top=2)
    alone = [predictor.predict([sample], top=2)[0] for sample in samples]
    for one, other in zip(together, alone, strict=True):
        assert dict(one.top) == pytest.approx(dict(other.top), abs=1e-6)
    assert len({prediction.probability for prediction in together}) == len(samples)


def test_the_card_says_what_goes_in(predictor):
    card = predictor.card()
    assert [port["kind"] for port in card["inputs"]] == ["text"]
    assert card["tokens"] == {"kind": "bytes", "max_length": 2048}


def test_lines_are_predicted_one_by_one(folder, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("\n\n".join(TEXTS), encoding="utf-8")
    assert main(["predict", str(folder), str(tmp_path / "texts.txt"), "--json", "--batch", "2"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["input"].rpartition(":")[2] for line in lines] == ["1", "3", "5"]
    predictor = open_predictor(folder)
    expected = predictor.predict(predictor.form.of_json(list(TEXTS)))
    assert [line["probability"] for line in lines] == pytest.approx([one.probability for one in expected], abs=1e-6)
