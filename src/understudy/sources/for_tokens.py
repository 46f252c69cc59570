"""Networks that say which token comes next: what their descriptions need beside what a recipe says."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from understudy.errors import InputError
from understudy.sources.model_specs import (
    ArtifactModel,
    BuiltinModel,
    ModelSpec,
    TimmModel,
    TorchvisionModel,
    TransformersModel,
)
from understudy.sources.tokenizers import open_tokens
from understudy.sources.windows import RunningTokens
from understudy.tasks.language import LanguageModel
from understudy.tokenizing import Tokenizer

Described = TypeVar("Described", bound=ModelSpec)
_HEADS: dict[str, tuple[Literal["causal_language_model", "sequence_to_sequence"], str]] = {
    "causal_language_model": (
        "causal_language_model",
        "a causal language model of `source: transformers`, such as {config: llama, arguments: {hidden_size: 128, …}}",
    ),
    "sequence_to_sequence": (
        "sequence_to_sequence",
        "an encoder–decoder of `source: transformers`, such as {config: t5, arguments: {d_model: 128, …}}",
    ),
}
"""By kind of task what a network ends in, and what could be taken."""
_FILES = ("tokenizer.json", "tokenizer_config.json")


def language_model(spec: Described, tokens: RunningTokens, task: LanguageModel) -> Described:
    """The description of a model as one that predicts the tokens of the data, and knows how texts become such.

    Args:
        spec: where it comes from; an artifact stays what it is.
        tokens: what the data are made of.
        task: says whether it reads from left to right, or is an encoder–decoder.

    Raises:
        InputError: for a source of no language models, tokens of its own, or a saved model of another tokenizer.
    """
    head, such = _HEADS[task.kind]
    if isinstance(spec, TorchvisionModel | TimmModel | BuiltinModel):
        what = spec.name if isinstance(spec, BuiltinModel) else spec.source
        raise InputError(f"{what} does not predict the next token; take {such}, or a `python` function of your own")
    if spec.preprocess is not None:
        raise InputError(
            "a language model reads and predicts the tokens of the data (`data.tokens`); leave `preprocess` out"
        )
    if isinstance(spec, ArtifactModel):
        return spec
    if not isinstance(spec, TransformersModel):
        return spec.model_copy(update={"preprocess": tokens})
    if spec.name is not None:
        _check_same(spec.name, tokens)
    return spec.model_copy(update={"head": head, "preprocess": tokens})


def _check_same(name: str, tokens: RunningTokens) -> None:
    """See that a saved model was trained with the tokenizer that made the data, where one lies beside it."""
    folder = Path(name)
    if not any((folder / file).is_file() for file in _FILES):
        return
    own, data = open_tokens(Tokenizer(path=name)), open_tokens(tokens)
    if own.names != data.names:
        raise InputError(
            f"{name} has a tokenizer of its own with {len(own.names):,} tokens, and the data are made of other tokens "
            f"({data.spec.kind}, {len(data.names):,}). Models with different tokenizers cannot be compared token by "
            "token: name that tokenizer in `data.tokens`, or let the teacher write texts and train the student on them"
        )
