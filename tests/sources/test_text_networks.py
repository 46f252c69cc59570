"""The built-in networks read a text, not its padding; and compute what their papers and torch's own layers do."""

from typing import Literal

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from understudy.sources import BuiltinModel, build_model, describe
from understudy.sources.text_networks import BothWays, build_text_network
from understudy.tokenizing import Words, bytes_of

CELLS: tuple[Literal["lstm", "gru"], ...] = ("lstm", "gru")
ARGUMENTS = {
    "bag": {"embedding": 6, "hidden": [5, 4]},
    "lstm": {"embedding": 6, "width": 5, "layers": 2},
    "gru": {"embedding": 6, "width": 5, "layers": 2},
    "text_cnn": {"embedding": 6, "width": 5, "sizes": [1, 2, 3, 4]},
}
LENGTHS = [4, 1, 7, 3]
every_network = pytest.mark.parametrize("name", ARGUMENTS)


def network(name: str, **more: object) -> nn.Module:
    return build_text_network(name, ARGUMENTS[name] | more, classes=3, vocabulary=20).double()


def batch(lengths=LENGTHS, *, to: int | None = None, padding: int = 0) -> tuple[Tensor, Tensor]:
    """Tokens from 2 on, and a mask; a text has the same tokens whatever the padding."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.full((len(lengths), to or max(lengths)), padding)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(2, 20, (length,), generator=generator)
        mask[row, :length] = 1
    return ids, mask


# Padding


@every_network
def test_a_text_among_others_is_what_it_is_alone(name):
    model, (ids, mask) = network(name).eval(), batch()
    alone = [model(ids[row : row + 1, :length], mask[row : row + 1, :length]) for row, length in enumerate(LENGTHS)]
    torch.testing.assert_close(model(ids, mask), torch.cat(alone))
    assert torch.pdist(torch.cat(alone)).min() > 1e-4  # they do not all say the same


@every_network
def test_more_padding_changes_nothing(name):
    model = network(name).eval()
    expected = model(*batch())
    torch.testing.assert_close(model(*batch(to=15)), expected)
    torch.testing.assert_close(model(*batch(to=15, padding=7)), expected)  # nor what stands there


@every_network
def test_padding_gets_no_gradient(name):
    model = network(name)
    model(*batch(to=9, padding=1)).square().sum().backward()
    gradient = model.embedding.weight.grad
    assert float(gradient[1].abs().max()) == 0
    assert float(gradient[batch()[0][2]].abs().max()) > 0


@every_network
def test_a_text_without_a_real_token_does_no_harm(name):
    model = network(name)
    ids, mask = batch([4, 2])
    mask[1] = 0
    logits = model(ids, mask)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits[:1], model(ids[:1], mask[:1]))
    logits.square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@every_network
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_computes_in_the_type_of_its_weights(name, dtype):
    ids, mask = batch([3, 1])
    mask[1] = 0
    logits = network(name).to(dtype).eval()(ids, mask)
    assert (logits.dtype, logits.shape) == (dtype, (2, 3))
    assert torch.isfinite(logits).all()


# What they compute


def test_a_bag_is_the_mean_of_its_vectors():
    model, (ids, mask) = network("bag", hidden=[]).eval(), batch()
    for row, logits in enumerate(model(ids, mask)):
        vectors = [model.embedding.weight[token] for token in ids[row, : LENGTHS[row]]]
        torch.testing.assert_close(logits, model.head.weight @ (sum(vectors) / len(vectors)) + model.head.bias)


def test_a_convolution_finds_the_largest_window():
    """Kim's formula, window by window, over a text with zeros around it."""
    model, (ids, mask) = network("text_cnn", sizes=[2, 3]).eval(), batch()
    for row, logits in enumerate(model(ids, mask)):
        vectors = model.embedding.weight[ids[row, : LENGTHS[row]]]
        found = []
        for size, convolution in zip((2, 3), model.convolutions, strict=True):
            zeros = torch.zeros(size, 6, dtype=vectors.dtype)
            around = torch.cat([zeros, vectors, zeros])
            before = (size - 1) // 2
            windows = [around[size - before + start :][:size] for start in range(LENGTHS[row])]
            weight, bias = convolution.conv.weight, convolution.conv.bias
            scores = [(weight * window.T).sum((1, 2)) + bias for window in windows]
            found.append(torch.stack(scores).clamp_min(0).amax(0))
        torch.testing.assert_close(logits, model.head.weight @ torch.cat(found) + model.head.bias)


def twins(cell: Literal["lstm", "gru"]) -> tuple[BothWays, nn.LSTM | nn.GRU]:
    """Ours, and torch's own bidirectional layer with the same weights."""
    own = BothWays(cell, 4, 3).double()
    theirs = (nn.LSTM if cell == "lstm" else nn.GRU)(4, 3, batch_first=True, bidirectional=True).double()
    weights = dict(own.forwards.named_parameters())
    weights |= {f"{name}_reverse": weight for name, weight in own.backwards.named_parameters()}
    theirs.load_state_dict(weights)
    return own, theirs


def packed(theirs: nn.LSTM | nn.GRU, states: Tensor, lengths: list[int]) -> Tensor:
    sequence = pack_padded_sequence(states, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(theirs(sequence)[0], batch_first=True)[0]


def from_the_end_of_the_batch(own: BothWays, states: Tensor) -> Tensor:
    """The mistake: the way back begins at the padding, not at the text's own end."""
    return torch.cat([own.forwards(states)[0], own.backwards(states.flip(1))[0].flip(1)], -1)


@pytest.mark.parametrize("cell", CELLS)
def test_both_ways_is_torchs_own_layer_over_packed_sequences(cell):
    own, theirs = twins(cell)
    states, real = torch.randn(4, 7, 4).double(), batch()[1].bool()
    expected = packed(theirs, states, LENGTHS)
    torch.testing.assert_close(own(states, real)[real], expected[real])
    assert not torch.allclose(from_the_end_of_the_batch(own, states)[real], expected[real])
    assert not torch.allclose(torch.cat([own.forwards(states)[0]] * 2, -1)[real], expected[real])
    longest = [2]  # the only text without padding: there the mistake is none
    torch.testing.assert_close(from_the_end_of_the_batch(own, states)[longest], expected[longest])


@pytest.mark.parametrize("cell", CELLS)
def test_a_recurrent_network_takes_the_largest_state(cell):
    model = network(cell, layers=1).eval()
    ids, mask = batch()
    for row, logits in enumerate(model(ids, mask)):
        states = model.embedding(ids[row : row + 1, : LENGTHS[row]])
        forwards = model.layers[0].forwards(states)[0][0]
        backwards = model.layers[0].backwards(states.flip(1))[0][0]
        largest = torch.cat([forwards.amax(0), backwards.amax(0)])
        torch.testing.assert_close(logits, model.head.weight @ largest + model.head.bias)


@pytest.mark.parametrize(("name", "same"), [("bag", True), ("lstm", False), ("gru", False), ("text_cnn", False)])
def test_only_a_bag_does_not_mind_the_order(name, same):
    model, (ids, mask) = network(name).eval(), batch([7])
    assert torch.allclose(model(ids, mask), model(ids.flip(1), mask)) is same


# Training


@every_network
def test_every_weight_learns(name):
    model = network(name, dropout=0.2).train()
    ids = torch.arange(20).repeat(6, 1)
    model(ids, torch.ones_like(ids)).square().sum().backward()
    without = [path for path, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not without


@every_network
def test_dropout_is_only_in_training(name):
    model, inputs = network(name, dropout=0.5), batch()
    model.eval()
    assert torch.equal(model(*inputs), model(*inputs))
    undisturbed = model(*inputs)
    model.train()
    assert not torch.equal(model(*inputs), model(*inputs))
    whole = network(name)
    whole.load_state_dict(model.state_dict())
    torch.testing.assert_close(whole.train()(*inputs), undisturbed)  # nor is there any unless asked for


# In a recipe


@every_network
def test_a_recipes_entry_gives_a_network_for_texts(name):
    spec = BuiltinModel(name=name, arguments=ARGUMENTS[name], preprocess=Words(buckets=50))
    texts = bytes_of(["a good film", "bad", ""])
    model = build_model(spec, classes=4, inputs=texts)
    assert model.training
    assert model(texts).shape == (3, 4)
    assert model.embedding.num_embeddings == 52


@every_network
def test_all_arguments_have_a_value_of_their_own(name):
    model = build_text_network(name, {}, classes=2, vocabulary=20)
    assert model.embedding.weight.shape == (20, 128)
    assert model(*batch()).shape == (4, 2)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("bag", {"hiden": [4]}, "bag has no argument 'hiden'; nearest: 'hidden'; it takes embedding, hidden, dropout"),
        ("lstm", {"widht": 4}, "lstm has no argument 'widht'; nearest: 'width'"),
        ("gru", {"layer": 2}, "gru has no argument 'layer'; nearest: 'layers'"),
        ("text_cnn", {"size": [3]}, "text_cnn has no argument 'size'; nearest: 'sizes'"),
        ("text_cnn", {"sizes": []}, "argument 'sizes' of text_cnn"),
        ("text_cnn", {"sizes": [3, 0]}, "argument 'sizes.1' of text_cnn"),
        ("lstm", {"layers": 0}, "argument 'layers' of lstm"),
        ("bag", {"dropout": 1.0}, "argument 'dropout' of bag"),
        ("bag", {"widths": [3]}, "bag has no argument 'widths'"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_built(name, arguments, message):
    with pytest.raises(ValidationError, match=message):
        BuiltinModel(name=name, arguments=arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("bag", {}, "bag 128"),
        ("bag", {"embedding": 64, "hidden": [32, 16]}, "bag 64-32-16"),
        ("lstm", {"width": 150, "layers": 2}, "lstm 128, 2 × 150 both ways"),
        ("gru", {"embedding": 32}, "gru 32, 1 × 128 both ways"),
        ("text_cnn", {}, "text_cnn 128, 3-4-5 × 100"),
        ("text_cnn", {"sizes": [2], "width": 8}, "text_cnn 128, 2 × 8"),
    ],
)
def test_a_report_tells_its_sizes(name, arguments, words):
    assert describe(BuiltinModel(name=name, arguments=arguments)) == words
