"""A student in a folder that transformers itself loads."""

import json

import pytest
import torch
from torch import nn

from understudy import CausalLanguageModel, Classification, InputError, RunError, TextClassification
from understudy.cli.main import main
from understudy.export import transformers_folder
from understudy.export.transformers_folder import save_for_transformers
from understudy.sources import BuiltinModel, Preprocess, TransformersModel, build_model, save_artifact
from understudy.tokenizing import Bytes, TextTokenization, Tokenizer, bytes_of

pytestmark = pytest.mark.e2e
transformers = pytest.importorskip("transformers")
TEXTS = ["a moving film", "dull and far too long", "film"]
LLAMA = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
WINDOW = torch.randint(2, 258, (2, 8), generator=torch.Generator().manual_seed(0))


def language(**more) -> nn.Module:
    spec = TransformersModel(
        config="llama", arguments={**LLAMA, **more}, head="causal_language_model", preprocess=Bytes()
    )
    return build_model(spec, classes=258, inputs=WINDOW).eval()


@pytest.fixture
def tokenizer(tmp_path):
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *sorted({*" ".join(TEXTS).split()})])}
    backend = Backend(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(tmp_path / "tokenizer.json"))
    return Tokenizer(path=str(tmp_path / "tokenizer.json"))


def test_a_classifier_of_texts_with_its_tokenizer_and_its_labels(tokenizer, tmp_path):
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    spec = TransformersModel(config="bert", arguments=sizes, preprocess=tokenizer)
    model = build_model(spec, classes=2, inputs=bytes_of(TEXTS)).eval()
    folder = save_for_transformers(
        model, tmp_path / "out", classes=("bad", "good"), example=bytes_of(TEXTS), task=TextClassification()
    )
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(theirs(**tokens).logits, model(bytes_of(TEXTS)).logits)
    assert theirs.config.id2label == {0: "bad", 1: "good"}
    assert theirs.config.label2id == {"bad": 0, "good": 1}


def test_a_language_model_remembers_again_and_knows_its_end(tmp_path):
    model = language()
    folder = save_for_transformers(
        model, tmp_path, classes=("-",) * 258, example=WINDOW, task=CausalLanguageModel(vocabulary=258)
    )
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        output = theirs(WINDOW)
        torch.testing.assert_close(output.logits, model(WINDOW).logits)
    assert output.past_key_values is not None
    assert (theirs.generation_config.eos_token_id, theirs.config.eos_token_id, theirs.config.pad_token_id) == (1, 1, 0)
    assert model.config.use_cache is False, "the student itself is left as it was"


def test_the_normalisation_of_images_goes_with_them(tmp_path):
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    normalisation = Preprocess(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    spec = TransformersModel(config="vit", arguments={**sizes, "patch_size": 4}, preprocess=normalisation)
    pixels = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    model = build_model(spec, classes=3, inputs=pixels / 255).eval()
    folder = save_for_transformers(model, tmp_path, classes="abc", example=pixels / 255, task=Classification())
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    theirs = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        found = theirs(**processor(list(pixels), return_tensors="pt")).logits
        torch.testing.assert_close(found, model(pixels / 255).logits, atol=1e-5, rtol=1e-5)


def test_a_network_that_was_changed_since_is_refused_and_nothing_is_written(tmp_path):
    model = language(tie_word_embeddings=True)
    mlp = model.model.layers[0].mlp
    mlp.gate_proj, mlp.up_proj, mlp.down_proj = nn.Linear(16, 7), nn.Linear(16, 7), nn.Linear(7, 16)
    with pytest.raises(
        InputError, match=r"cannot build this network from its configuration .* changed since, by pruning"
    ):
        save_for_transformers(model, tmp_path / "out", classes="ab", example=WINDOW, task=CausalLanguageModel())
    assert list((tmp_path / "out").iterdir()) == []


def test_one_that_answers_otherwise_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(transformers_folder, "preprocess_inputs", lambda loaded, _: loaded.lm_head.weight.data.add_(1))
    with pytest.raises(RunError, match="answers otherwise, by up to"):
        save_for_transformers(language(), tmp_path / "out", classes="ab", example=WINDOW, task=CausalLanguageModel())
    assert list((tmp_path / "out").iterdir()) == []


def test_a_network_of_something_else_is_refused(tmp_path, capsys):
    inputs = torch.rand(2, 5)
    spec = BuiltinModel(name="mlp", arguments={"hidden": [4]})
    model = build_model(spec, classes=2, inputs=inputs)
    place = save_artifact(tmp_path / "mlp", model, spec=spec, classes=("a", "b"), inputs=inputs)
    assert main(["export", str(place), "--format", "transformers", "--out", str(tmp_path / "out")]) == 2
    assert "none of transformers; expected one of `source: transformers`" in capsys.readouterr().err


def test_the_verb_writes_it(tmp_path, capsys):
    spec = TransformersModel(config="llama", arguments=LLAMA, head="causal_language_model", preprocess=Bytes())
    model = build_model(spec, classes=258, inputs=WINDOW)
    names = TextTokenization(Bytes()).names
    place = save_artifact(tmp_path / "model", model, spec=spec, classes=names, inputs=WINDOW)
    asked = ["export", str(place), "--format", "transformers", "--out", str(tmp_path / "out")]
    assert main(asked) == 0
    said = capsys.readouterr()
    assert "config.json, generation_config.json, model.safetensors; loaded again, it answers alike" in said.out
    assert "Loading" not in said.err
    assert main([*asked, "--json"]) == 0
    assert str(tmp_path / "out/model.safetensors") in json.loads(capsys.readouterr().out)["files"]
