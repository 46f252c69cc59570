"""Models that give a vector of each text: built, saved, and the same as by the plain formula."""

import pytest
import torch
from torch import nn

from understudy import InputError
from understudy.sources import BuiltinModel, TransformersModel, build_model, load_artifact, save_artifact
from understudy.sources.embedding import Embedding, embed, embedding_of
from understudy.tokenizing import Words, bytes_of, tokenization_of

TEXTS = ("a moving film", "dull, and far too long; nobody should ever watch it.", "")
ROWS = bytes_of(TEXTS)
BERT = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "hidden_dropout_prob": 0.0,
}


def encoder(embedding: Embedding | None = None, kind: str = "bert", **arguments: object) -> nn.Module:
    spec = TransformersModel(
        config=kind, arguments={**BERT, **arguments}, preprocess=Words(buckets=60), embedding=embedding
    )
    return build_model(spec, classes=(), inputs=ROWS).eval()


def test_an_encoder_gives_the_mean_of_its_last_states_over_real_tokens() -> None:
    torch.manual_seed(0)
    model = encoder(Embedding(normalise=True))
    tokens = tokenization_of(model).tokens(ROWS)
    with torch.no_grad():
        states = model.forward(**tokens).last_hidden_state
        found = model(ROWS)
    for row, (state, mask) in enumerate(zip(states, tokens["attention_mask"], strict=True)):
        mean = state[mask.bool()].mean(0)
        torch.testing.assert_close(found[row], mean / mean.norm())
    assert tokens["attention_mask"].sum(1).tolist() == [3, 13, 1]


def test_other_ends() -> None:
    model = encoder()
    tokens = tokenization_of(model).tokens(ROWS)
    with torch.no_grad():
        states, mean = model.forward(**tokens).last_hidden_state, model(ROWS)
        assert (mean.norm(dim=1) - 1).abs().max() > 0.1
        torch.testing.assert_close(embed(model, Embedding(pooling="first"))(ROWS), states[:, 0])
        torch.testing.assert_close(embed(model)(ROWS), mean)
    assert embedding_of(model) == Embedding()
    assert embedding_of(nn.Linear(1, 1)) is None


def test_nothing_is_left_that_no_gradient_reaches() -> None:
    model = encoder()
    model(ROWS).square().sum().backward()
    unreached = [name for name, each in model.named_parameters() if each.grad is None]
    assert unreached == []
    assert not [name for name, _ in model.named_parameters() if "pooler" in name]


@pytest.mark.parametrize("name", ["bag", "lstm", "gru", "text_cnn"])
def test_our_networks_have_the_width_that_they_are_told(name) -> None:
    spec = BuiltinModel(name=name, preprocess=Words(buckets=60), embedding=Embedding(width=7, normalise=True))
    model = build_model(spec, classes=(), inputs=ROWS).eval()
    assert model(ROWS).shape == (3, 7)
    torch.testing.assert_close(model(ROWS).norm(dim=1), torch.ones(3))


@pytest.mark.parametrize(
    ("spec", "classes", "message"),
    [
        (BuiltinModel(name="bag", preprocess=Words()), (), "has to be told how long its vectors are"),
        (
            BuiltinModel(name="bag", preprocess=Words(), embedding=Embedding(width=3)),
            ("good", "bad"),
            "for task: sentence_embedding; leave it out",
        ),
        (
            TransformersModel(config="bert", arguments=BERT, preprocess=Words(), embedding=Embedding(width=3)),
            (),
            "is that of its states; leave it out",
        ),
    ],
)
def test_descriptions_that_do_not_fit(spec, classes, message) -> None:
    with pytest.raises(InputError, match=message):
        build_model(spec, classes=classes, inputs=ROWS)


@pytest.mark.parametrize("ours", [False, True], ids=["transformers", "bag"])
def test_they_come_back_from_disk(tmp_path, ours) -> None:
    spec = TransformersModel(
        config="bert", arguments=BERT, preprocess=Words(buckets=60), embedding=Embedding(pooling="first")
    )
    if ours:
        spec = BuiltinModel(name="bag", preprocess=Words(buckets=60), embedding=Embedding(width=5, normalise=True))
    model = build_model(spec, classes=(), inputs=ROWS).eval()
    save_artifact(tmp_path, model, spec=spec, classes=(), inputs=ROWS, task="sentence_embedding")
    loaded = load_artifact(tmp_path, classes=())
    assert (loaded.task, loaded.classes) == ("sentence_embedding", ())
    assert embedding_of(loaded.module) == spec.embedding
    with torch.no_grad():
        assert torch.equal(loaded.module.eval()(ROWS), model(ROWS))
    with pytest.raises(InputError, match="was made for 0 classes"):
        load_artifact(tmp_path, classes=("good", "bad"))
