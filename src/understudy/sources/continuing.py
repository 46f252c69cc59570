"""Letting a language model go on from the beginning of a text, or answer a prompt, token by token."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError
from understudy.sources.forward import device_of, evaluating
from understudy.sources.pairs import PADDING, prompted, shortened
from understudy.sources.windows import RunningTokens
from understudy.tasks.language import CausalLanguageModel, LanguageModel
from understudy.tasks.sequence_to_sequence import SequenceToSequence
from understudy.tokenizing import DECODED, Bytes, TextTokenization, Tokenizer, Words, tokenization_of

_AT_ONCE = 64
"""Prompts that are answered together."""


def tokens_of(model: nn.Module) -> TextTokenization:
    """How a language model's tokens are made of texts, and texts of its tokens.

    Raises:
        InputError: for a model that has none, or tokens that no text can be made of.
    """
    tokens = tokenization_of(model)
    if tokens is None or isinstance(tokens.spec, Words):
        raise InputError(
            "this model does not know how its tokens become a text; expected a language model that a recipe with "
            "`task: causal_language_model` (or sequence_to_sequence) has trained or loaded"
        )
    return tokens


def running_tokens(model: nn.Module) -> RunningTokens:
    """How running texts must be read for a language model, as `data.tokens` of a recipe says it.

    Raises:
        InputError: as :func:`tokens_of` does.
    """
    spec = tokens_of(model).spec
    return Tokenizer(path=spec.path) if isinstance(spec, Tokenizer) else Bytes()


def task_of(model: nn.Module, inputs: Any, vocabulary: int) -> LanguageModel:
    """How a saved language model is called.

    Args:
        model: as :func:`tokens_of` wants it.
        inputs: an example of its inputs, or their shapes; an encoder–decoder has a name for what its decoder reads.
        vocabulary: how many tokens there are.

    Raises:
        InputError: as :func:`tokens_of` does.
    """
    if isinstance(inputs, Mapping) and DECODED in inputs:
        return SequenceToSequence(vocabulary=vocabulary, decoder_start=_start(model, tokens_of(model)))
    return CausalLanguageModel(vocabulary=vocabulary)


def _start(model: nn.Module, tokens: TextTokenization) -> int:
    """What a decoder begins with: what its own configuration says, or the padding of its tokens."""
    own = getattr(getattr(model, "config", None), "decoder_start_token_id", None)
    return tokens.padding if own is None else own


def written(
    model: nn.Module,
    prompts: Sequence[str],
    count: int,
    *,
    task: LanguageModel,
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
        Each prompt with what comes after it, in order; of an encoder–decoder its answers alone.

    Raises:
        InputError: as :func:`tokens_of` does, or for an empty prompt where there is no such mark.
    """
    generator = torch.Generator(device_of(model)).manual_seed(seed)
    for prompt in prompts:
        (new,) = _said(model, [prompt], count, task=task, generator=generator, temperature=temperature)
        yield new if isinstance(task, SequenceToSequence) else prompt + new


def answers(
    model: nn.Module,
    prompts: Sequence[str],
    count: int,
    *,
    task: LanguageModel,
    seed: int = 0,
    temperature: float = 1.0,
) -> list[str]:
    """What a language model answers to prompts, those of about one length together.

    Args:
        model: as :func:`tokens_of` wants it.
        prompts: any number of them; of one that is longer than what the model can read together with so many new
            tokens the beginning is not read, of an encoder–decoder's the end.
        count: tokens that an answer has at the most.
        task: how the model is called.
        seed: of what is drawn.
        temperature: see :func:`continued`.

    Returns:
        The answers, in order.

    Raises:
        InputError: as :func:`written` does.
    """
    generator, most = torch.Generator(device_of(model)).manual_seed(seed), tokens_of(model).spec.max_length
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    found = [""] * len(prompts)
    for first in range(0, len(order), _AT_ONCE):
        some = order[first : first + _AT_ONCE]
        texts = [prompts[number] for number in some]
        said = _said(model, texts, count, task=task, generator=generator, temperature=temperature, most=most)
        for number, text in zip(some, said, strict=True):
            found[number] = text
    return found


def _said(
    model: nn.Module,
    prompts: Sequence[str],
    count: int,
    *,
    task: LanguageModel,
    generator: torch.Generator,
    temperature: float,
    most: int | None = None,
) -> list[str]:
    """What comes after some prompts, of which no more than ``most`` tokens are read together with what is new."""
    tokens, device = tokens_of(model), device_of(model)
    encoded = isinstance(task, SequenceToSequence)
    rows = [prompted(prompt, tokens, encoded=encoded) for prompt in prompts]
    if most is not None:
        rows = [shortened(row, most) if encoded else row[-max(1, most - count) :] for row in rows]
    lengths = torch.tensor([len(row) for row in rows])
    begun = torch.full((len(rows), int(lengths.max())), PADDING)
    for place, row in enumerate(rows):
        begun[place, : len(row)] = torch.from_numpy(row)
    real = torch.arange(begun.shape[1]) < lengths[:, None]
    begun, lengths, real = begun.to(device), lengths.to(device), real.to(device)
    more: dict[str, Any] = {"task": task, "generator": generator, "temperature": temperature, "end": tokens.end}
    if isinstance(task, SequenceToSequence):
        read = {"input_ids": begun, "attention_mask": real.long()}
        new = decoded(
            model,
            read,
            count,
            start=_start(model, tokens) if task.decoder_start is None else task.decoder_start,
            **more,
        ).tolist()
    else:
        whole = continued(model, begun, count, lengths=lengths, **more).tolist()
        new = [row[length : length + count] for row, length in zip(whole, lengths.tolist(), strict=True)]
    return [tokens.text(row[: row.index(tokens.end)] if tokens.end in row else row) for row in new]


def continued(
    model: nn.Module,
    prompts: Tensor,
    count: int,
    *,
    task: LanguageModel,
    generator: torch.Generator,
    temperature: float = 1.0,
    lengths: Tensor | None = None,
    end: int | None = None,
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
        lengths: int64 (batch,), how many tokens of each prompt are real, where that is not all; what stands behind
            them is drawn.
        end: the mark of the end; where all have said it nothing more is drawn. What stands behind it means nothing.

    Returns:
        int64 (batch, tokens + count), or fewer where all have ended.
    """
    says = _speaker(model, task, None)
    with evaluating(model):
        return _drawn(says, prompts, prompts.shape[1] + count, generator, temperature, lengths=lengths, end=end)


def decoded(
    model: nn.Module,
    prompts: Mapping[str, Tensor],
    count: int,
    *,
    start: int,
    task: LanguageModel,
    generator: torch.Generator,
    temperature: float = 1.0,
    end: int | None = None,
) -> Tensor:
    """What an encoder–decoder answers, drawn as :func:`continued` draws.

    Args:
        model: in eval mode meanwhile; afterwards every submodule is in the mode it had before.
        prompts: ``input_ids`` and ``attention_mask``.
        count: how many tokens an answer has at the most.
        start: what the decoder begins with.
        task: how the model is called, and how many tokens there are.
        generator: what is drawn from, on the prompts' device.
        temperature: above 1 the choice is wider, below 1 narrower.
        end: the mark of the end; where all have said it nothing more is drawn.

    Returns:
        int64 (batch, count), or fewer where all have ended.
    """
    begun = prompts["input_ids"].new_full((len(prompts["input_ids"]), 1), start)
    with evaluating(model):
        says = _speaker(model, task, prompts)
        return _drawn(says, begun, 1 + count, generator, temperature, lengths=None, end=end)[:, 1:]


@torch.no_grad()
def _drawn(
    says: Callable[[Tensor], Tensor],
    prompts: Tensor,
    width: int,
    generator: torch.Generator,
    temperature: float,
    *,
    lengths: Tensor | None,
    end: int | None,
) -> Tensor:
    given = prompts.shape[1]
    lengths = torch.full_like(prompts[:, 0], given) if lengths is None else lengths
    over = torch.zeros_like(lengths, dtype=torch.bool)
    tokens = prompts[:, : int(lengths.min())]
    for place in range(tokens.shape[1], width):
        shares = (says(tokens).float() / temperature).softmax(-1)
        new = torch.multinomial(shares, 1, generator=generator)
        free = lengths <= place
        if place < given:
            new = torch.where(free[:, None], new, prompts[:, place : place + 1])
        tokens = torch.cat([tokens, new], 1)
        over |= free & (new[:, 0] == end) if end is not None else False
        if end is not None and bool(over.all()):
            break
    return tokens


def _speaker(model: nn.Module, task: LanguageModel, prompts: Mapping[str, Tensor] | None) -> Callable[[Tensor], Tensor]:
    """What tells the logits of the token after some, (batch, vocabulary); it is called with ever more of them."""
    if not _remembers(model):
        read = prompts or {}
        return lambda tokens: task.observe(model, Batch(inputs={**read, DECODED: tokens} if read else tokens)).logits[
            :, -1
        ]
    network, memory = cast("Any", model), None
    fixed: dict[str, Any] = {}
    if prompts is not None:
        with torch.no_grad():
            fixed = {"encoder_outputs": network.get_encoder()(**prompts), "attention_mask": prompts["attention_mask"]}

    def says(tokens: Tensor) -> Tensor:
        nonlocal memory
        new = tokens if memory is None else tokens[:, -1:]
        asked = {"input_ids" if prompts is None else DECODED: new}
        output = network(**asked, **fixed, past_key_values=memory, use_cache=True)
        memory = output.past_key_values
        return output.logits[:, -1, : task.vocabulary]

    return says


def _remembers(model: nn.Module) -> bool:
    """Whether a model can be given what it computed for the tokens before; state-space models keep that otherwise."""
    transformers = sys.modules.get("transformers")
    if transformers is None or not isinstance(model, transformers.GenerationMixin):
        return False
    return "past_key_values" in inspect.signature(model.forward).parameters
