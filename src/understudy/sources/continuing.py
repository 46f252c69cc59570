"""Letting a language model go on from the beginning of a text, token by token."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.sources.forward import evaluating
from understudy.tasks.language import CausalLanguageModel


@torch.no_grad()
def continued(
    model: nn.Module,
    prompts: Tensor,
    count: int,
    *,
    task: CausalLanguageModel,
    generator: torch.Generator,
    temperature: float = 1.0,
) -> Tensor:
    """The prompts with tokens behind them that a model draws one after the other from what it thinks likely.

    Models of transformers compute each token once; any other is called anew with the whole text for each token.

    Args:
        model: in eval mode meanwhile; afterwards every submodule is in the mode it had before.
        prompts: int64 (batch, tokens), at least one token.
        count: how many tokens are added.
        task: how the model is called, and how many tokens there are.
        generator: what is drawn from, on the prompts' device; torch's own random state is left as it was.
        temperature: above 1 the choice is wider, below 1 narrower.

    Returns:
        int64 (batch, tokens + count).
    """
    tokens, memory = prompts, None
    remembers = _remembers(model)
    with evaluating(model):
        for _ in range(count):
            if remembers:
                new = tokens if memory is None else tokens[:, -1:]
                output: Any = model(new, past_key_values=memory, use_cache=True)
                memory, logits = output.past_key_values, output.logits[:, -1, : task.vocabulary]
            else:
                logits = task.observe(model, Batch(inputs=tokens)).logits[:, -1]
            shares = (logits.float() / temperature).softmax(-1)
            tokens = torch.cat([tokens, torch.multinomial(shares, 1, generator=generator)], 1)
    return tokens


def _remembers(model: nn.Module) -> bool:
    """Whether a model can be given what it computed for the tokens before."""
    transformers = sys.modules.get("transformers")
    return transformers is not None and isinstance(model, transformers.GenerationMixin)
