"""The layer that makes the logits of a network: found, left out, and computed afterwards."""

import pytest
import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from understudy import CausalLanguageModel, Classification, InputError, SequenceToSequence
from understudy.last_layer import last_layer
from understudy.tasks import Task

WORDS, WIDTH = 50, 16
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
DECODERS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=WORDS, n_embd=WIDTH, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=1)
    ),
    "scaled": lambda: CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.0625)),
    "divided": lambda: GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=8.0)),
    "capped": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=0.5)),
}


def t5() -> nn.Module:
    sizes = {"d_model": WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    return T5ForConditionalGeneration(T5Config(vocab_size=WORDS, **sizes))


def bart() -> nn.Module:
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"d_model": WIDTH, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 32}
    return BartForConditionalGeneration(BartConfig(vocab_size=WORDS, **layers, **sizes))


def check(network: nn.Module, task: Task, raw: object) -> None:
    """What is found gives the network's own logits, and leaves the network as it was."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    batch = task.batch(raw)
    with torch.no_grad():
        logits = task.observe(network.eval(), batch).logits
        found = last_layer(network, lambda: task.observe(network, batch))
        shown = found.left_out(network, lambda: task.observe(network, batch), 3)
        before = shown.before_head
        assert shown.logits.device.type == "meta"
        assert shown.logits.shape == logits.shape
        assert before.hidden.shape == (*logits.shape[:-1], before.head.weight.shape[1])
        assert before.chunk == 3
        later = before.head.logits(before.hidden.flatten(0, -2)).reshape(logits.shape)
        torch.testing.assert_close(later, logits, rtol=1e-4, atol=1e-5)
        assert torch.equal(task.observe(network, batch).logits, logits)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("vocabulary", [None, WORDS - 3])
def test_decoders_are_left_before_their_last_layer(name, vocabulary) -> None:
    torch.manual_seed(0)
    tokens = torch.randint(1, WORDS, (2, 7))
    check(DECODERS[name](), CausalLanguageModel(vocabulary=vocabulary), {"input_ids": tokens})


def test_an_encoder_decoder_is_left_before_its_last_layer() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(1, WORDS, (2, 7))
    check(t5(), SequenceToSequence(decoder_start=0, padding=0), {"input_ids": tokens, "labels": tokens[:, :4]})


def test_a_classifier_of_many_classes_is_left_before_its_last_layer() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 40, bias=True))
    check(network, Classification(), (torch.randn(3, 3, 2, 2), torch.zeros(3, dtype=torch.int64)))


def test_a_last_layer_whose_weight_is_computed_is_left_out_too() -> None:
    """Weight normalisation has no parameter of that name; what it is made of gets the gradients."""
    network = nn.Sequential(nn.Linear(12, 5), nn.Tanh(), nn.utils.parametrizations.weight_norm(nn.Linear(5, 40)))
    batch = Classification().batch((torch.randn(3, 12), torch.zeros(3, dtype=torch.int64)))
    found = last_layer(network.eval(), lambda: Classification().observe(network, batch))
    before = found.left_out(network, lambda: Classification().observe(network, batch)).before_head
    before.head.logits(before.hidden).square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    network(batch.inputs).square().sum().backward()
    for gradient, parameter in zip(gradients, network.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 6)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.linear(inputs).log_softmax(-1)


@pytest.mark.parametrize("network", [Normalised(), nn.Sequential(nn.Conv2d(3, 6, 1), nn.Flatten())])
def test_logits_of_something_else_are_refused(network) -> None:
    shape = (2, 4) if isinstance(network, Normalised) else (2, 3, 1, 1)
    batch = Classification().batch((torch.randn(shape), torch.zeros(2, dtype=torch.int64)))
    with pytest.raises(InputError, match=r"are not the output of its last linear layer.*leave head_chunk out"):
        last_layer(network, lambda: Classification().observe(network, batch))


def test_a_model_that_computes_with_its_logits_is_refused() -> None:
    """BART adds a bias of its own to them, which is not the last layer's."""
    tokens, network, task = (
        torch.randint(1, WORDS, (2, 7)),
        bart().eval(),
        SequenceToSequence(decoder_start=0, padding=0),
    )
    network.final_logits_bias += 1.0
    batch = task.batch({"input_ids": tokens, "labels": tokens})
    with pytest.raises(InputError, match="BartForConditionalGeneration"):
        last_layer(network, lambda: task.observe(network, batch))
    assert task.observe(network, batch).logits.shape == (2, 7, WORDS)


def test_a_forward_that_somebody_else_has_put_there_comes_back() -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 6))
    forward = network[1].forward
    network[1].forward = calls = lambda hidden: forward(hidden)
    batch = Classification().batch((torch.randn(2, 4), torch.zeros(2, dtype=torch.int64)))
    last_layer(network, lambda: Classification().observe(network, batch))
    assert network[1].__dict__["forward"] is calls
