"""Answering one sequence of tokens with another: encoder–decoders such as T5 and BART."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, final

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from understudy.batch import IGNORE_INDEX, Batch
from understudy.errors import InputError
from understudy.tasks.language import LanguageModel
from understudy.tokenizing import DECODED

_READ, _MASK, _LABELS, _DECODED_MASK = "input_ids", "attention_mask", "labels", "decoder_attention_mask"

Token = Annotated[int, Field(ge=0)]


@final
class SequenceToSequence(LanguageModel):
    r"""The answer's tokens: logits (batch, tokens of the answer, vocabulary), targets the tokens at the same places.

    The encoder reads the prompt, the decoder the answer so far: a token to begin with, then the labels one place to the
    right. That is done once, and here. All methods see logits, features of the decoder and masks of the same
    positions; what counts are those whose label is not -100.

    Example:
        >>> import torch
        >>> task = SequenceToSequence(decoder_start=0)
        >>> batch = task.batch({"input_ids": torch.tensor([[5, 6, 7]]), "labels": torch.tensor([[8, 1]])})
        >>> batch.inputs["decoder_input_ids"].tolist(), batch.targets.tolist()
        ([[0, 8]], [[8, 1]])
    """

    kind: Literal["sequence_to_sequence"] = "sequence_to_sequence"
    decoder_start: Token | None = None
    """The token that the decoder begins with, ``model.config.decoder_start_token_id`` in Transformers. In a recipe it
    is the tokenizer's padding, as T5 has it, when it is not given."""
    padding: Token | None = None
    """The token that the decoder reads in place of a label of -100; ``decoder_start`` when not given. Behind the last
    label it makes no difference."""

    def batch(self, raw: Any) -> Batch:
        """Accept a mapping with ``input_ids``, ``labels``, and if need be ``attention_mask`` and ``decoder_input_ids``.

        Labels are as Transformers has them, not shifted, -100 where nothing is to be learnt. They are not handed to the
        model, which would compute a loss of its own. Without ``decoder_input_ids`` they are made of the labels.

        Raises:
            InputError: for anything else, tensors of shapes that do not fit, or a decoder without a token to begin
                with.
        """
        if isinstance(raw, Batch):
            return raw
        inputs = _checked(raw)
        labels = inputs.pop(_LABELS, None)
        if labels is None:
            mask = inputs.get(_DECODED_MASK)
            return Batch(inputs=told_apart(inputs), mask=None if mask is None else mask.bool())
        if DECODED not in inputs:
            inputs[DECODED] = self._shifted(labels)
        if labels.shape != inputs[DECODED].shape:
            raise InputError(
                f"labels have shape {tuple(labels.shape)}, expected that of {DECODED}, {tuple(inputs[DECODED].shape)}"
            )
        return Batch(inputs=told_apart(inputs), targets=labels, mask=labels != IGNORE_INDEX)

    def predicted(self, inputs: Any) -> Tensor:
        """Those that the decoder reads."""
        return inputs[DECODED]

    def _shifted(self, labels: Tensor) -> Tensor:
        """What the decoder reads, so that it is to say the labels."""
        if self.decoder_start is None:
            raise InputError(
                f"the batch has no {DECODED}, and the task does not say what the decoder begins with; expected "
                "SequenceToSequence(decoder_start=model.config.decoder_start_token_id), or a batch of "
                "DataCollatorForSeq2Seq(tokenizer, model=model)"
            )
        padding = self.decoder_start if self.padding is None else self.padding
        shifted = labels.new_full(labels.shape, self.decoder_start)
        shifted[:, 1:] = labels[:, :-1]
        return shifted.masked_fill_(shifted == IGNORE_INDEX, padding)


def told_apart(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with one more place of padding in the prompts, where they are as wide as the answers.

    So that a layer of the encoder is never taken for one of the decoder, whose rows are those of the logits.

    Args:
        inputs: of a batch; without an attention mask they stay as they are.
    """
    if _MASK not in inputs or inputs[_READ].shape[1] != inputs[DECODED].shape[1]:
        return inputs
    return {**inputs, **{name: F.pad(inputs[name], (0, 1)) for name in (_READ, _MASK)}}


def _checked(raw: Any) -> dict[str, Tensor]:
    given = f"a mapping with {', '.join(map(repr, raw))}" if isinstance(raw, Mapping) else f"a {type(raw).__name__}"
    if not isinstance(raw, Mapping) or _READ not in raw or not (_LABELS in raw or DECODED in raw):
        raise InputError(
            f"a batch of this task is a mapping with 'input_ids' of the prompt and 'labels' of the answer; got {given}"
        )
    for name in (_READ, _LABELS, DECODED):
        tokens = raw.get(name)
        if tokens is not None and (not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.is_floating_point()):
            shape = f"{tuple(tokens.shape)} {tokens.dtype}" if isinstance(tokens, Tensor) else type(tokens).__name__
            raise InputError(f"{name} are {shape}; expected whole numbers (N, tokens)")
    if _MASK in raw and raw[_MASK].shape != raw[_READ].shape:
        raise InputError(
            f"{_MASK} has shape {tuple(raw[_MASK].shape)}, expected that of {_READ}, {tuple(raw[_READ].shape)}"
        )
    return {str(name): value for name, value in raw.items()}
