"""Models that read texts: built with tokens that fit them, and saved with what makes those."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import tokenizers
import torch
from pydantic import TypeAdapter
from tokenizers import models, pre_tokenizers, processors
from torch import nn

from understudy.errors import InputError
from understudy.sources import (
    AnyModel,
    ArtifactModel,
    BuiltinModel,
    ModelSpec,
    Preprocess,
    PythonModel,
    TimmModel,
    TorchvisionModel,
    TransformersModel,
    build_model,
    check_model,
    convert_state,
    describe,
    load_artifact,
    preprocess_of,
    save_artifact,
)
from understudy.tokenizing import Bytes, Tokenizer, Words, bytes_of, read_tokens, tokenization_of

RECIPE: TypeAdapter[ModelSpec] = TypeAdapter(AnyModel)
READ = ["a good film", "bad", "", "one two three four five six seven"]
TEXTS = bytes_of(READ)
CLASSES = ("bad", "good")
FEW = Words(buckets=50, max_length=16)
TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
SMALL_GPT2 = {"n_embd": 8, "n_layer": 1, "n_head": 2, "bos_token_id": 1, "eos_token_id": 1}
BAG = {"embedding": 4}
KNOWN = ("a", "good", "bad", "film", "one", "two", "three", "four", "five", "six", "seven")
NAMES = ("<pad>", "[PAD]", "[UNK]", "[CLS]", "[SEP]", *KNOWN)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def write_tokenizer(path: Path, names=NAMES, *, marks=True, padding: str | None = None) -> str:
    """A tokenizer of words in a file; ``[PAD]`` is its token 1."""
    backend = tokenizers.Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if marks:
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[(mark, names.index(mark)) for mark in ("[CLS]", "[SEP]")]
        )
    if padding is not None:
        backend.enable_padding(pad_id=names.index(padding), pad_token=padding)
    path.parent.mkdir(parents=True, exist_ok=True)
    backend.save(str(path))
    return str(path)


@pytest.fixture
def tokenizer(tmp_path) -> str:
    return write_tokenizer(tmp_path / "own" / "tokenizer.json")


def scores(model: nn.Module, texts: torch.Tensor = TEXTS) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        output = model(texts)
    return output if isinstance(output, torch.Tensor) else output.logits


def one_by_one(model: nn.Module) -> torch.Tensor:
    return torch.cat([scores(model, bytes_of([text])) for text in READ])


def positions(model: nn.Module) -> int | None:
    """How many tokens the model reads of a text."""
    spec = preprocess_of(model)
    assert isinstance(spec, Tokenizer)
    return spec.max_length


def bert(**more: object) -> TransformersModel:
    spec = {"config": "bert", "arguments": TINY | {"max_position_embeddings": 16}, "preprocess": FEW} | more
    return TransformersModel(**spec)


# What is built


@pytest.mark.parametrize(
    "entry",
    [
        {"source": "understudy", "name": "bag", "preprocess": {"kind": "words", "buckets": 50}},
        {"source": "understudy", "name": "lstm", "arguments": {"width": 4}, "preprocess": {"kind": "bytes"}},
        {"source": "understudy", "name": "text_cnn", "arguments": {"width": 4}, "preprocess": {"kind": "tokenizer"}},
        {"source": "transformers", "config": "bert", "arguments": TINY, "preprocess": {"kind": "words"}},
        {"source": "transformers", "config": "distilbert", "preprocess": {"kind": "words"}},
        {"source": "transformers", "config": "gpt2", "arguments": SMALL_GPT2, "preprocess": {"kind": "words"}},
        {"source": "python", "target": "own_text_networks:make", "preprocess": {"kind": "tokenizer"}},
    ],
    ids=lambda entry: entry.get("name") or entry.get("config") or entry["source"],
)
def test_a_recipes_entry_gives_a_network_for_texts(entry, tokenizer, own_code):
    if entry["preprocess"]["kind"] == "tokenizer":
        entry = entry | {"preprocess": entry["preprocess"] | {"path": tokenizer}}
    if entry.get("config") == "distilbert":
        entry = entry | {"arguments": {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8}}
    spec = RECIPE.validate_python(entry)
    model = build_model(spec, classes=2, inputs=TEXTS)
    assert model.training
    assert scores(model).shape == (4, 2)
    torch.testing.assert_close(scores(model), one_by_one(model))
    assert RECIPE.validate_json(spec.model_dump_json()) == spec


def test_a_fresh_one_has_as_many_vectors_as_there_are_tokens(tokenizer):
    for spec, count in ((FEW, 52), (Bytes(max_length=16), 258), (Tokenizer(path=tokenizer), len(NAMES))):
        model = build_model(bert(preprocess=spec), classes=2, inputs=TEXTS)
        assert model.get_input_embeddings().num_embeddings == count
        assert build_model(
            BuiltinModel(name="bag", preprocess=spec), classes=2, inputs=TEXTS
        ).embedding.weight.shape == (count, 128)
    assert build_model(bert(preprocess=Tokenizer(path=tokenizer)), classes=2, inputs=TEXTS).config.pad_token_id == 1


def test_what_its_arguments_say_is_kept():
    arguments = TINY | {"max_position_embeddings": 16, "vocab_size": 99, "pad_token_id": 3}
    model = build_model(bert(arguments=arguments), classes=2, inputs=TEXTS)
    assert (model.config.vocab_size, model.config.pad_token_id) == (99, 3)


def test_it_reads_no_more_than_it_has_positions_for(tokenizer):
    spec = Tokenizer(path=tokenizer)
    model = build_model(bert(preprocess=spec), classes=2, inputs=TEXTS)
    assert positions(model) == 16
    assert scores(model, bytes_of(["good " * 100])).shape == (1, 2)
    assert (
        positions(build_model(bert(preprocess=Tokenizer(path=tokenizer, max_length=5)), classes=2, inputs=TEXTS)) == 5
    )
    unlimited = build_model(BuiltinModel(name="bag", preprocess=spec), classes=2, inputs=TEXTS)
    assert positions(unlimited) is None
    with pytest.raises(InputError, match=r"`max_length: 17` is more tokens than the model has positions for, 16"):
        build_model(bert(preprocess=Words(max_length=17)), classes=2, inputs=TEXTS)


def test_what_nobody_set_is_shortened(tokenizer):
    for spec in (Words(buckets=5), Bytes()):
        model = build_model(bert(preprocess=spec), classes=2, inputs=TEXTS)
        assert preprocess_of(model) == spec.model_copy(update={"max_length": 16})


def test_a_length_without_room_for_a_text_is_refused(tokenizer):
    for length in (1, 2):
        spec = BuiltinModel(name="bag", preprocess=Tokenizer(path=tokenizer, max_length=length))
        with pytest.raises(InputError, match=rf"`max_length: {length}` leaves no room .* puts 2 marks around it"):
            build_model(spec, classes=2, inputs=TEXTS)


def test_the_positions_of_roberta_begin_behind_the_padding(tokenizer):
    arguments = TINY | {"max_position_embeddings": 18}
    spec = TransformersModel(config="roberta", arguments=arguments, preprocess=Tokenizer(path=tokenizer))
    model = build_model(spec, classes=2, inputs=TEXTS)
    assert positions(model) == 16
    tokens = tokenization_of(model).tokens(bytes_of(["good " * 100]))
    assert tokens["input_ids"].shape == (1, 16)
    assert scores(model, bytes_of(["good " * 100])).isfinite().all()
    longer = spec.model_copy(update={"preprocess": Tokenizer(path=tokenizer, max_length=17)})
    with pytest.raises(InputError, match=r"`max_length: 17` .* positions for, 16"):
        build_model(longer, classes=2, inputs=TEXTS)


def test_positions_without_an_end_are_no_limit():
    """XLNet says that it has -1."""
    arguments = {"d_model": 8, "n_layer": 1, "n_head": 2, "d_inner": 8}
    spec = TransformersModel(config="xlnet", arguments=arguments, preprocess=FEW)
    assert scores(build_model(spec, classes=2, inputs=TEXTS)).shape == (4, 2)


@pytest.mark.parametrize("padding", [{}, {"pad_token_id": 2}, {"pad_token_id": -1}], ids=["usual", "its own", "none"])
@pytest.mark.parametrize(("config", "arguments"), [("gpt2", SMALL_GPT2), ("llama", TINY)], ids=["gpt2", "llama"])
def test_a_model_that_reads_from_the_last_token_finds_it(config, arguments, padding, tokenizer):
    """It looks for the last token that is not its own padding, which may not be what the tokenizer calls padding."""
    spec = TransformersModel(config=config, arguments=arguments | padding, preprocess=Tokenizer(path=tokenizer))
    model = build_model(spec, classes=2, inputs=TEXTS)
    torch.testing.assert_close(scores(model), one_by_one(model))


# A function of the user's own


@pytest.fixture
def own_code(tmp_path, monkeypatch) -> Path:
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path / "code")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "code" / "own_text_networks.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, tokens, classes):\n"
        "        super().__init__()\n"
        "        self.vectors = nn.Embedding(tokens, 4)\n"
        "        self.head = nn.Linear(4, classes)\n"
        "    def forward(self, input_ids, attention_mask):\n"
        "        return self.head((self.vectors(input_ids) * attention_mask.unsqueeze(-1)).sum(1))\n"
        "def make(vocabulary, classes): return Net(vocabulary, classes)\n"
        "def other(num_classes, vocab_size): return Net(vocab_size, num_classes)\n"
        "def own(): return Net(1000, 2)\n"
    )
    yield tmp_path / "code"
    sys.modules.pop("own_text_networks", None)


@pytest.mark.parametrize(
    ("target", "arguments", "count"),
    [("make", {}, 52), ("other", {}, 52), ("own", {}, 1000), ("make", {"vocabulary": 70}, 70)],
)
def test_a_function_is_given_the_number_of_tokens(target, arguments, count, own_code):
    spec = PythonModel(target=f"own_text_networks:{target}", arguments=arguments, preprocess=FEW)
    model = build_model(spec, classes=2, inputs=TEXTS)
    assert model.vectors.num_embeddings == count
    assert scores(model).shape == (4, 2)


def test_a_function_for_anything_else_is_given_no_number_of_tokens(own_code):
    with pytest.raises(InputError, match=r"missing a required argument: 'vocabulary'"):
        build_model(PythonModel(target="own_text_networks:make"), classes=2, inputs=torch.rand(2, 3))


# What is refused

MIXED_UP = [
    (BuiltinModel(name="bag"), r"the model says nothing of tokens; give it `preprocess: \{kind: words\}`"),
    (bert(preprocess=None), r"the model says nothing of tokens.*kind: tokenizer, path: …"),
    (
        BuiltinModel(name="bag", preprocess=Preprocess(mean=(0.5,), std=(0.5,))),
        r"the data are texts, and the model says nothing of tokens",
    ),
    (
        TorchvisionModel(name="resnet18", preprocess=FEW),
        r"torchvision reads images or vectors, the data are texts; take a model of `source: transformers`.*bag, lstm",
    ),
    (TimmModel(name="resnet10t", preprocess=FEW), r"timm reads images or vectors, the data are texts"),
    (BuiltinModel(name="mlp", arguments={"hidden": [4]}, preprocess=FEW), r"mlp .*text"),
    (BuiltinModel(name="cnn", arguments={"widths": [4]}, preprocess=FEW), r"cnn .*text"),
    (BuiltinModel(name="resnet", preprocess=FEW), r"resnet .*text"),
    (TransformersModel(config="vit", preprocess=FEW), r"vit cannot be built .*Unrecognized configuration class"),
    (TransformersModel(config="bertt", preprocess=FEW), r"no model type 'bertt'; nearest: 'bert"),
    (bert(arguments={"hiden_size": 8}), r"a transformers bert has no field 'hiden_size'; nearest: 'hidden_size'"),
    (
        bert(arguments=TINY | {"vocab_size": 40}),
        r"the tokenizer makes 52 different tokens, the model has vectors for 40; .* name that one in `preprocess`",
    ),
    (BuiltinModel(name="bag", preprocess=Tokenizer(path="./none.json")), r"there is no tokenizer \./none\.json"),
]


@pytest.mark.parametrize(
    ("spec", "message"), MIXED_UP, ids=lambda value: "" if isinstance(value, str) else describe(value)
)
def test_what_does_not_fit_texts_is_explained(spec, message):
    with pytest.raises(InputError, match=message):
        build_model(spec, classes=2, inputs=TEXTS)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            BuiltinModel(name="cnn", arguments={"widths": [4]}, preprocess=FEW),
            r"makes tokens of texts \(kind: words\), and the data are no texts; say `task: text_classification`",
        ),
        (TorchvisionModel(name="resnet18", preprocess=Bytes()), r"tokens of texts \(kind: bytes\)"),
        (BuiltinModel(name="bag"), r"bag reads texts, and the data are none; say `task: text_classification`"),
    ],
    ids=["words", "bytes", "network"],
)
def test_what_reads_texts_refuses_images(spec, message):
    with pytest.raises(InputError, match=message):
        build_model(spec, classes=2, inputs=torch.rand(2, 3, 8, 8))


def test_a_misspelt_tokenizer_is_told_what_is_there(tokenizer):
    path = Path(tokenizer)
    for wrong, hint in ((path.with_name("tokenzer.json"), "; nearest: 'tokenizer.json'"), (path / "x" / "y", "")):
        spec = BuiltinModel(name="bag", preprocess=Tokenizer(path=str(wrong)))
        with pytest.raises(InputError, match=rf"there is no tokenizer {wrong}{hint}$"):
            build_model(spec, classes=2, inputs=TEXTS)


def test_a_tokenizer_is_looked_for_before_anything_is_built(tokenizer, tmp_path):
    (tmp_path / "torn.json").write_text("{")
    check_model(BuiltinModel(name="bag", preprocess=Tokenizer(path=tokenizer)))
    check_model(BuiltinModel(name="bag", preprocess=Tokenizer(path="somebody/elses")))  # the hub is asked later
    for name, message in (("none.json", "there is no tokenizer"), ("torn.json", "cannot be read as a tokenizer")):
        with pytest.raises(InputError, match=message):
            check_model(BuiltinModel(name="bag", preprocess=Tokenizer(path=str(tmp_path / name))))


# A folder that transformers saved


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model of two classes with its tokenizer beside it."""
    spec = bert(preprocess=Tokenizer(path=write_tokenizer(tmp_path / "saved" / "tokenizer.json")))
    build_model(spec, classes=2, inputs=TEXTS).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_saved_model_reads_with_the_tokenizer_beside_it(folder):
    from transformers import BertForSequenceClassification

    model = build_model(TransformersModel(name=str(folder)), classes=2, inputs=TEXTS)
    assert preprocess_of(model) == Tokenizer(path=str(folder / "tokenizer.json"), max_length=16)
    theirs = BertForSequenceClassification.from_pretrained(folder).eval()
    tokens = read_tokens(Tokenizer(path=str(folder / "tokenizer.json"))).tokens(TEXTS)
    assert tokens["input_ids"].shape == (4, 9)
    torch.testing.assert_close(scores(model), theirs(**tokens).logits.detach())
    other = build_model(TransformersModel(name=str(folder)), classes=5, inputs=TEXTS)
    assert scores(other).shape == (4, 5)


def test_a_saved_model_reads_with_another_tokenizer_if_told_so(folder, tmp_path):
    fewer = write_tokenizer(tmp_path / "fewer.json", NAMES[:6])
    for spec in (Words(buckets=5, max_length=8), Tokenizer(path=fewer, max_length=8)):
        model = build_model(TransformersModel(name=str(folder), preprocess=spec), classes=2, inputs=TEXTS)
        assert preprocess_of(model) == spec
    with pytest.raises(InputError, match=rf"52 different tokens, the model has vectors for {len(NAMES)}"):
        build_model(TransformersModel(name=str(folder), preprocess=FEW), classes=2, inputs=TEXTS)


def test_a_tokenizer_may_be_named_by_its_folder(folder):
    model = build_model(BuiltinModel(name="bag", preprocess=Tokenizer(path=str(folder))), classes=2, inputs=TEXTS)
    assert model.embedding.num_embeddings == len(NAMES)


def test_a_field_that_is_no_longer_known_does_no_harm(folder, tmp_path):
    """Files of earlier versions of transformers have ``gradient_checkpointing``, among others."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"gradient_checkpointing": False, "of_old": [1, 2]}))
    spec = TransformersModel(name=str(folder))
    model = build_model(spec, classes=2, inputs=TEXTS)
    save_artifact(tmp_path / "artifact", model, spec=spec, classes=CLASSES, inputs=TEXTS)
    torch.testing.assert_close(scores(load_artifact(tmp_path / "artifact").module), scores(model), rtol=0, atol=0)


# On disk

SAVED = [
    BuiltinModel(name="bag", arguments=BAG, preprocess=FEW),
    BuiltinModel(name="gru", arguments={"embedding": 4, "width": 4}, preprocess=Bytes(max_length=9)),
    BuiltinModel(name="text_cnn", arguments={"embedding": 4, "width": 4}, preprocess=Tokenizer(path="tokenizer.json")),
    bert(),
    bert(preprocess=Tokenizer(path="tokenizer.json")),
    TransformersModel(config="roberta", arguments=TINY, preprocess=Tokenizer(path="tokenizer.json", max_length=6)),
]


@pytest.mark.parametrize("spec", SAVED, ids=lambda spec: f"{describe(spec)} {spec.preprocess.kind}")
def test_it_comes_back_as_it_was(spec, tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(tokenizer).parent)
    model = build_model(spec, classes=2, inputs=TEXTS)
    expected, tokens = scores(model), tokenization_of(model)
    save_artifact(tmp_path / "a", model, spec=spec, classes=CLASSES, inputs=TEXTS)
    own = ["model.tokenizer.json"] if isinstance(spec.preprocess, Tokenizer) else []
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["model.json", "model.safetensors", *own]
    shutil.move(tmp_path / "a", tmp_path / "moved")
    shutil.rmtree(Path(tokenizer).parent)  # a saved model needs nothing but itself
    monkeypatch.chdir(tmp_path)
    loaded = load_artifact(tmp_path / "moved", classes=CLASSES)
    torch.testing.assert_close(scores(loaded.module), expected, rtol=0, atol=0)
    assert tokenization_of(loaded.module).identity == tokens.identity
    assert (loaded.spec, loaded.input_shape) == (spec, (TEXTS.shape[1],))
    assert loaded.example(3).dtype == torch.uint8
    assert scores(loaded.module, loaded.example(3)).shape == (3, 2)
    again = build_model(ArtifactModel(path=str(tmp_path / "moved")), classes=CLASSES, inputs=TEXTS)
    torch.testing.assert_close(scores(again), expected, rtol=0, atol=0)


@pytest.fixture
def saved(tokenizer, tmp_path) -> Path:
    spec = BuiltinModel(name="bag", arguments=BAG, preprocess=Tokenizer(path=tokenizer, max_length=16))
    model = build_model(spec, classes=2, inputs=TEXTS)
    return save_artifact(tmp_path / "artifact", model, spec=spec, classes=CLASSES, inputs=TEXTS)


def test_the_record_names_the_file_beside_it(saved, tokenizer):
    record = json.loads((saved / "model.json").read_text())
    assert record["preprocess"] == {"kind": "tokenizer", "path": "model.tokenizer.json", "max_length": 16}
    assert record["spec"]["preprocess"]["path"] == tokenizer
    assert len(record["tokenizer_sha256"]) == 64
    assert record["inputs"] == {"shape": [TEXTS.shape[1]], "dtype": "uint8"}
    assert record["architecture"]["preprocess"] is None


def test_the_record_of_a_copy_names_no_other_folder(saved, tmp_path):
    model = build_model(ArtifactModel(path=str(saved)), classes=2, inputs=TEXTS)
    save_artifact(tmp_path / "b", model, spec=ArtifactModel(path=str(saved)), classes=CLASSES, inputs=TEXTS)
    first, copy = (json.loads((folder / "model.json").read_text()) for folder in (saved, tmp_path / "b"))
    assert copy["preprocess"] == first["preprocess"]
    assert copy["architecture"] == first["architecture"]


def test_a_saved_copy_needs_neither_its_origin_nor_its_place(saved, tmp_path):
    model = build_model(ArtifactModel(path=str(saved)), classes=2, inputs=TEXTS)
    expected = scores(model)
    save_artifact(tmp_path / "b", model, spec=ArtifactModel(path=str(saved)), classes=CLASSES, inputs=TEXTS, name="net")
    shutil.rmtree(saved)
    assert (tmp_path / "b" / "net.tokenizer.json").is_file()
    shutil.move(tmp_path / "b", tmp_path / "c")
    torch.testing.assert_close(scores(load_artifact(tmp_path / "c", name="net").module), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_text(path.read_text().replace('"good"', '"goud"')), "is not the one"),
        (lambda path: path.write_text(path.read_text() + "\n"), "is not the one"),
    ],
    ids=["missing", "altered", "longer"],
)
def test_a_tokenizer_that_was_harmed_is_noticed(harm, problem, saved):
    harm(saved / "model.tokenizer.json")
    for read in (load_artifact, lambda path: check_model(ArtifactModel(path=str(path)))):
        with pytest.raises(InputError, match=rf"the tokenizer .*model\.tokenizer\.json {problem}"):
            read(saved)


def test_a_padding_of_its_own_is_saved_with_it(tmp_path):
    """What stands behind a text decides where some models find its end, and where others begin to count."""
    path = write_tokenizer(tmp_path / "own.json", (*NAMES, "nothing"), marks=False, padding="nothing")
    for number, (config, arguments) in enumerate((("gpt2", SMALL_GPT2), ("roberta", TINY))):
        spec = TransformersModel(config=config, arguments=arguments, preprocess=Tokenizer(path=path, max_length=16))
        model = build_model(spec, classes=2, inputs=TEXTS)
        save_artifact(tmp_path / str(number), model, spec=spec, classes=CLASSES, inputs=TEXTS)
        loaded = load_artifact(tmp_path / str(number)).module
        torch.testing.assert_close(scores(loaded), scores(model), rtol=0, atol=0)
        assert tokenization_of(loaded).padding == tokenization_of(model).padding


def test_a_saved_model_may_be_given_other_tokens_that_fit(tokenizer, tmp_path):
    spec = bert(preprocess=Tokenizer(path=tokenizer))
    model = build_model(spec, classes=2, inputs=TEXTS)
    artifact = str(save_artifact(tmp_path / "artifact", model, spec=spec, classes=CLASSES, inputs=TEXTS))
    fewer = Words(buckets=5, max_length=8)
    assert preprocess_of(build_model(ArtifactModel(path=artifact, preprocess=fewer), classes=2, inputs=TEXTS)) == fewer
    unlimited = ArtifactModel(path=artifact, preprocess=Tokenizer(path=tokenizer))
    assert positions(build_model(unlimited, classes=2, inputs=TEXTS)) == 16
    for wrong, message in ((FEW, "different tokens"), (Words(buckets=5, max_length=17), "positions for, 16")):
        with pytest.raises(InputError, match=message):
            build_model(ArtifactModel(path=artifact, preprocess=wrong), classes=2, inputs=bytes_of(["", "a"]))


def test_weights_of_ones_own_are_put_in(saved, tokenizer, tmp_path):
    trained = load_artifact(saved).module
    torch.save(trained.state_dict(), tmp_path / "old.pt")
    convert_state(tmp_path / "old.pt", tmp_path / "own.safetensors")
    preprocess = Tokenizer(path=tokenizer, max_length=16)
    state = str(tmp_path / "own.safetensors")
    spec = BuiltinModel(name="bag", arguments=BAG, preprocess=preprocess, state=state)
    torch.testing.assert_close(scores(build_model(spec, classes=2, inputs=TEXTS)), scores(trained))
