"""What is written at nearly no temperature is what Transformers' own greedy search writes."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from understudy.sources.continuing import continued, decoded
from understudy.tasks import CausalLanguageModel, SequenceToSequence

TOKENS, COLD, LENGTHS = 40, 1e-5, torch.tensor([7, 3, 5, 1, 6, 2])
REAL = torch.arange(7) < LENGTHS[:, None]
END = 1


def sharp(model: nn.Module) -> nn.Module:
    """With larger weights, so that the likeliest tokens are no near ties."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return model.eval()


def until_the_end(row: list[int]) -> list[int]:
    return row[: row.index(END)] if END in row else row


@pytest.mark.parametrize("seed", range(3))
def test_an_encoder_decoder_of_prompts_of_different_lengths(seed) -> None:
    torch.manual_seed(seed)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    config = T5Config(vocab_size=TOKENS, decoder_start_token_id=0, pad_token_id=0, eos_token_id=END, **sizes)
    model = sharp(T5ForConditionalGeneration(config))
    asked = {"input_ids": torch.randint(2, TOKENS, REAL.shape) * REAL, "attention_mask": REAL.long()}
    task = SequenceToSequence(decoder_start=0, vocabulary=TOKENS)
    ours = decoded(model, asked, 8, start=0, task=task, generator=torch.Generator(), temperature=COLD, end=END)
    theirs = model.generate(**asked, max_new_tokens=8, do_sample=False)[:, 1:]
    assert [until_the_end(row) for row in ours.tolist()] == [until_the_end(row) for row in theirs.tolist()]


@pytest.mark.parametrize("seed", range(3))
def test_a_causal_model_of_prompts_of_different_lengths(seed) -> None:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = sharp(LlamaForCausalLM(LlamaConfig(vocab_size=TOKENS, bos_token_id=None, eos_token_id=None, **sizes)))
    prompts = torch.randint(2, TOKENS, REAL.shape)
    how = {"task": CausalLanguageModel(vocabulary=TOKENS), "generator": torch.Generator(), "temperature": COLD}
    ours = continued(model, prompts, 6, lengths=LENGTHS, **how)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = prompts[row : row + 1, :length]
        theirs = model.generate(alone, attention_mask=torch.ones_like(alone), max_new_tokens=6, do_sample=False)
        assert ours[row, : length + 6].tolist() == theirs[0].tolist()
