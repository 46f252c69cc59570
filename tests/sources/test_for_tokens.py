"""Models that say which token comes next: described for the tokens of the data, built, saved, and refused."""

import re
import sys
from pathlib import Path

import pytest
import tokenizers
import torch
from tokenizers import models, pre_tokenizers

from understudy.batch import IGNORE_INDEX, Batch
from understudy.errors import InputError
from understudy.sources import (
    ArtifactModel,
    BuiltinModel,
    Preprocess,
    PythonModel,
    TimmModel,
    TorchvisionModel,
    TransformersModel,
    build_model,
    load_artifact,
    save_artifact,
)
from understudy.sources.for_tokens import language_model
from understudy.sources.tokenizers import open_tokens
from understudy.tasks import CausalLanguageModel
from understudy.tokenizing import Bytes, Tokenizer

TASK = CausalLanguageModel()
NAMES = ("[UNK]", "the", "sea", "a", "bell", "rang", "</s>")
TOKENS = torch.tensor([[1, 2, 5, 3, 4], [3, 4, 5, 6, 1]])
LLAMA = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
GPT2 = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16, "bos_token_id": 1, "eos_token_id": 1}
TINY = {"llama": LLAMA, "gpt2": GPT2}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def write_tokenizer(folder: Path, names: tuple[str, ...] = NAMES) -> Tokenizer:
    backend = tokenizers.Tokenizer(models.WordLevel({name: at for at, name in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    return Tokenizer(path=str(folder / "tokenizer.json"))


@pytest.fixture
def data(tmp_path) -> Tokenizer:
    return write_tokenizer(tmp_path / "data")


def fresh(config: str = "llama", **arguments: object) -> TransformersModel:
    return TransformersModel(config=config, arguments=TINY[config] | arguments)


def logits(model: torch.nn.Module, tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(tokens).logits


def batch_of(tokens: torch.Tensor = TOKENS) -> Batch:
    return Batch(inputs=tokens, targets=torch.full(tokens.shape, IGNORE_INDEX))


# What a description becomes


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (TorchvisionModel(name="resnet18"), "torchvision"),
        (TimmModel(name="resnet10t"), "timm"),
        (BuiltinModel(name="mlp", arguments={"hidden": [4]}), "mlp"),
        (BuiltinModel(name="lstm", preprocess=Bytes()), "lstm"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_source_of_no_language_models_is_refused(spec, what):
    message = rf"^{what} does not predict the next token; take a causal language model of `source: transformers`, such"
    with pytest.raises(InputError, match=message):
        language_model(spec, Bytes(), TASK)


@pytest.mark.parametrize(
    "spec",
    [
        TransformersModel(config="llama", preprocess=Bytes()),
        TransformersModel(name="somewhere", preprocess=Tokenizer(path="own.json")),
        PythonModel(target="own:make", preprocess=Preprocess(mean=(0.5,), std=(0.5,))),
        ArtifactModel(path="somewhere", preprocess=Bytes()),
    ],
    ids=["fresh", "saved", "python", "artifact"],
)
def test_tokens_of_its_own_are_refused(spec):
    message = r"reads and predicts the tokens of the data \(`data.tokens`\); leave `preprocess` out"
    with pytest.raises(InputError, match=message):
        language_model(spec, Bytes(), TASK)


def test_a_saved_model_stays_what_it_is_and_a_function_of_ones_own_is_told_the_tokens():
    saved_one, own = ArtifactModel(path="somewhere"), PythonModel(target="own:make")
    assert language_model(saved_one, Bytes(), TASK) == saved_one
    assert language_model(own, Bytes(), TASK) == own.model_copy(update={"preprocess": Bytes()})


def test_a_transformer_gets_the_head_that_predicts_tokens():
    spec = fresh()
    fitted = language_model(spec, Bytes(), TASK)
    assert fitted == spec.model_copy(update={"head": "causal_language_model", "preprocess": Bytes()})
    assert spec.head == "image_classification", "what the user wrote is left alone"
    on_the_hub = TransformersModel(name="somebody/elses")
    assert (
        language_model(on_the_hub, Bytes(), TASK).head == "causal_language_model"
    )  # which is looked at when it is built


# A function of the user's own


@pytest.fixture
def own_code(tmp_path, monkeypatch) -> None:
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path / "code")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "code" / "own_readers.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, tokens):\n"
        "        super().__init__()\n"
        "        self.vectors, self.head = nn.Embedding(tokens, 4), nn.Linear(4, tokens)\n"
        "    def forward(self, inputs): return self.head(self.vectors(inputs))\n"
        "def make(vocabulary): return Net(vocabulary)\n"
        "def other(vocab_size): return Net(vocab_size)\n"
        "def third(num_classes): return Net(num_classes)\n"
        "def own(): return Net(20)\n"
    )
    yield
    sys.modules.pop("own_readers", None)


@pytest.mark.parametrize(
    ("target", "arguments", "count"),
    [("make", {}, 7), ("other", {}, 7), ("third", {}, 7), ("own", {}, 20), ("make", {"vocabulary": 9}, 9)],
)
def test_a_function_is_given_the_number_of_tokens(target, arguments, count, own_code, data):
    spec = language_model(PythonModel(target=f"own_readers:{target}", arguments=arguments), data, TASK)
    model = build_model(spec, classes=NAMES, inputs=TOKENS)
    assert model.vectors.num_embeddings == count
    assert model(TOKENS).shape == (2, 5, count)


# Fresh ones


@pytest.mark.parametrize("config", ["llama", "gpt2"])
def test_it_comes_back_as_it_was_saved(config, data, tmp_path):
    spec = language_model(fresh(config), data, TASK)
    model = build_model(spec, classes=NAMES, inputs=TOKENS)
    assert model.training
    assert model.config.vocab_size == model.get_input_embeddings().num_embeddings == len(NAMES)
    assert logits(model).shape == (2, 5, len(NAMES))
    assert getattr(model(TOKENS), "past_key_values", None) is None
    folder = save_artifact(tmp_path / "model", model, spec=spec, classes=NAMES, inputs=TOKENS)
    loaded = load_artifact(folder, classes=NAMES)
    assert torch.equal(logits(loaded.module), logits(model))
    assert getattr(loaded.module(TOKENS), "past_key_values", None) is None
    again = build_model(language_model(ArtifactModel(path=str(folder)), data, TASK), classes=NAMES, inputs=TOKENS)
    assert torch.equal(logits(again), logits(model))
    assert type(again) is type(model)
    assert "CausalLM" in type(model).__name__ or "LMHead" in type(model).__name__


def test_a_token_sees_none_that_comes_after_it(data):
    model = build_model(language_model(fresh(), data, TASK), classes=NAMES, inputs=TOKENS)
    other = TOKENS.clone()
    other[:, 3:] = 0
    torch.testing.assert_close(logits(model)[:, :3], logits(model, other)[:, :3])
    assert not torch.allclose(logits(model)[:, 3:], logits(model, other)[:, 3:])


def test_what_its_arguments_say_is_kept(data):
    spec = language_model(fresh(vocab_size=12, use_cache=True), data, TASK)
    model = build_model(spec, classes=NAMES, inputs=TOKENS)
    assert (model.config.vocab_size, model.config.use_cache) == (12, True)


def test_a_misspelt_field_is_explained(data):
    with pytest.raises(InputError, match=r"a transformers llama has no field 'hiden_size'; nearest: 'hidden_size'"):
        build_model(language_model(fresh(hiden_size=8), data, TASK), classes=NAMES, inputs=TOKENS)


def test_fewer_positions_than_a_window_are_explained(data):
    spec = language_model(fresh("gpt2", n_positions=4), data, TASK)
    with pytest.raises(InputError, match=r"transformers gpt2 cannot take these inputs \(shape \(N, 5\)\)"):
        build_model(spec, classes=NAMES, inputs=TOKENS)


# A folder that transformers saved


def saved(folder: Path, names: tuple[str, ...] | None = NAMES, *, vocabulary: int = len(NAMES)) -> str:
    """A language model with its tokenizer beside it, or with none."""
    spec = fresh(vocab_size=vocabulary).model_copy(update={"head": "causal_language_model"})
    model = build_model(spec, classes=vocabulary, inputs=TOKENS)
    model.config.use_cache = True  # as in most files
    model.generation_config.use_cache = True
    model.save_pretrained(folder)
    if names is not None:
        write_tokenizer(folder, names)
    return str(folder)


def test_a_saved_model_with_the_tokenizer_of_the_data_is_taken(data, tmp_path):
    from transformers import AutoModelForCausalLM

    name = saved(tmp_path / "saved")
    for tokens in (data, Tokenizer(path=name), Tokenizer(path=f"{name}/tokenizer.json")):
        model = build_model(language_model(TransformersModel(name=name), tokens, TASK), classes=NAMES, inputs=TOKENS)
        theirs = AutoModelForCausalLM.from_pretrained(name)
        assert torch.equal(logits(model), logits(theirs))
        assert getattr(model(TOKENS), "past_key_values", None) is None
    folder = save_artifact(
        tmp_path / "model",
        model,
        spec=TransformersModel(name=name, head="causal_language_model"),
        classes=NAMES,
        inputs=TOKENS,
    )
    assert torch.equal(logits(load_artifact(folder).module), logits(model))


def test_a_saved_model_of_another_tokenizer_is_refused(data, tmp_path):
    other = saved(tmp_path / "saved", (*NAMES[::-1], "more"), vocabulary=8)
    message = (
        rf"^{re.escape(other)} has a tokenizer of its own with 8 tokens, and the data are made of other tokens "
        r"\(tokenizer, 7\)\. Models with different tokenizers cannot be compared token by token: name that tokenizer "
        r"in `data.tokens`, or let the teacher write texts"
    )
    with pytest.raises(InputError, match=message):
        language_model(TransformersModel(name=other), data, TASK)
    with pytest.raises(InputError, match=r"8 tokens, and the data are made of other tokens \(bytes, 258\)"):
        language_model(TransformersModel(name=other), Bytes(), TASK)


def test_as_many_tokens_in_another_order_are_another_tokenizer(data, tmp_path):
    name = saved(tmp_path / "saved", (NAMES[0], NAMES[2], NAMES[1], *NAMES[3:]))
    with pytest.raises(InputError, match=r"with 7 tokens, and the data are made of other tokens \(tokenizer, 7\)"):
        language_model(TransformersModel(name=name), data, TASK)


def test_a_saved_model_without_a_tokenizer_is_believed(tmp_path):
    name = saved(tmp_path / "bytes", None, vocabulary=258)
    spec = language_model(TransformersModel(name=name), Bytes(), TASK)
    assert logits(build_model(spec, classes=open_tokens(Bytes()).names, inputs=TOKENS)).shape == (2, 5, 258)


# More and fewer tokens than there are


def test_room_for_more_tokens_is_left_out(data, tmp_path):
    name = saved(tmp_path / "roomy", vocabulary=16)
    model = build_model(language_model(TransformersModel(name=name), data, TASK), classes=NAMES, inputs=TOKENS)
    task = CausalLanguageModel().of_classes(len(NAMES))
    assert logits(model).shape == (2, 5, 16)
    found = task.observe(model.eval(), batch_of()).logits
    assert torch.equal(found, logits(model)[..., :7])
    assert task.of_classes(3) == task, "what was said is kept"
    assert CausalLanguageModel().vocabulary is None


def test_fewer_tokens_than_the_data_have_are_refused(data):
    message = r"makes 7 different tokens, the model has vectors for 4; .* in `data.tokens` of a language model"
    with pytest.raises(InputError, match=message):
        build_model(language_model(fresh(vocab_size=4), data, TASK), classes=NAMES, inputs=TOKENS)
    message = r"tells 4 tokens apart, fewer than the vocabulary of 7; it belongs to another"
    with pytest.raises(InputError, match=message):
        CausalLanguageModel().of_classes(len(NAMES)).observe(torch.nn.Embedding(7, 4), batch_of())
