"""Letting a language model go on from the beginning of a text, token by token."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError
from understudy.sources.forward import device_of, evaluating
from understudy.sources.windows import RunningTokens
from understudy.tasks.language import CausalLanguageModel
from understudy.tokenizing import Bytes, TextTokenization, Tokenizer, Words, tokenization_of


def tokens_of(model: nn.Module) -> TextTokenization:
    """How a language model's tokens are made of texts, and texts of its tokens.

    Raises:
        InputError: for a model that has none, or tokens that no text can be made of.
    """
    tokens = tokenization_of(model)
    if tokens is None or isinstance(tokens.spec, Words):
        raise InputError(
            "this model does not know how its tokens become a text; expected a language model that a recipe with "
            "`task: causal_language_model` has trained or loaded"
        )
    return tokens


def running_tokens(model: nn.Module) -> RunningTokens:
    """How running texts must be read for a language model, as `data.tokens` of a recipe says it.

    Raises:
        InputError: as :func:`tokens_of` does.
    """
    spec = tokens_of(model).spec
    return Tokenizer(path=spec.path) if isinstance(spec, Tokenizer) else Bytes()


def written(
    model: nn.Module,
    prompts: Sequence[str],
    count: int,
    *,
    task: CausalLanguageModel,
    seed: int = 0,
    temperature: float = 1.0,
) -> Iterator[str]:
    """Texts that a language model makes of their beginnings, up to its mark for the end of a text.

    Args:
        model: as :func:`tokens_of` wants it.
        prompts: the beginnings; an empty one is the mark that stands between two texts.
        count: tokens that are added at the most.
        task: how the model is called.
        seed: of what is drawn.
        temperature: see :func:`continued`.

    Returns:
        Each prompt with what comes after it, in order.

    Raises:
        InputError: as :func:`tokens_of` does, or for an empty prompt where there is no such mark.
    """
    tokens = tokens_of(model)
    generator = torch.Generator(device_of(model)).manual_seed(seed)
    for prompt in prompts:
        begun = tokens.running(prompt).tolist() or ([] if tokens.end is None else [tokens.end])
        if not begun:
            raise InputError("a text begins with nothing, and the tokenizer has no mark to begin with; give a word")
        start = torch.tensor([begun], device=device_of(model))
        row = continued(model, start, count, task=task, generator=generator, temperature=temperature)[0].tolist()
        new = row[len(begun) :]
        yield prompt + tokens.text(new[: new.index(tokens.end)] if tokens.end in new else new)


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
    """Whether a model can be given what it computed for the tokens before; state-space models keep that otherwise."""
    transformers = sys.modules.get("transformers")
    if transformers is None or not isinstance(model, transformers.GenerationMixin):
        return False
    return "past_key_values" in inspect.signature(model.forward).parameters
