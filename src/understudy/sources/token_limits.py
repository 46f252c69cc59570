"""What a network can read of the tokens that are made for it."""

from __future__ import annotations

import inspect
import sys
from typing import Any, cast

from torch import nn

from understudy.errors import InputError
from understudy.tokenizing import AnyTokens, TextTokenization


def fitting(tokens: TextTokenization, model: nn.Module) -> AnyTokens:
    """The tokens, no more of a text than a network has positions for.

    Args:
        tokens: as they were asked for.
        model: any; only those of transformers say what they can read.

    Raises:
        InputError: when it has fewer vectors or positions than the tokens need.
    """
    spec, vectors, positions = tokens.spec, _vectors(model), _positions(model)
    if vectors is not None and vectors < tokens.vocabulary:
        raise InputError(
            f"the tokenizer makes {tokens.vocabulary:,} different tokens, the model has vectors for {vectors:,}; it "
            "was trained with another one: name that one in `preprocess`, or in `data.tokens` of a language model"
        )
    if positions is None:
        return spec
    if spec.max_length is None or "max_length" not in spec.model_fields_set:
        return spec.model_copy(update={"max_length": min(positions, spec.max_length or positions)})
    if spec.max_length > positions:
        raise InputError(
            f"`max_length: {spec.max_length}` is more tokens than the model has positions for, {positions}"
        )
    return spec


def pad_alike(model: nn.Module, tokens: TextTokenization) -> None:
    """Let what stands behind a text be what the model takes for padding: some find the last token of a text by it.

    Args:
        model: any; only those of transformers have a padding of their own, and language models need none.
        tokens: how it reads texts.
    """
    if not _is_of_transformers(model) or cast("Any", model).can_generate():
        return
    config: Any = model.config
    if config.pad_token_id is None or config.pad_token_id < 0:  # -1 in files of early LLaMAs
        config.pad_token_id = tokens.padding
    tokens.padding = config.pad_token_id


def tell_apart(model: nn.Module, tokens: TextTokenization) -> None:
    """Let a model that tells two texts apart be told of which one each token is.

    Args:
        model: any; only those of transformers with vectors for two kinds of tokens tell them apart.
        tokens: how it reads texts.
    """
    if tokens.backend is None or not _is_of_transformers(model):
        return
    kinds = getattr(cast("Any", model).config, "type_vocab_size", None) or 0
    if kinds > 1 and "token_type_ids" in inspect.signature(model.forward).parameters:
        tokens.told_apart = "pairs"


def _vectors(model: nn.Module) -> int | None:
    if not _is_of_transformers(model):
        return None
    embeddings = cast("Any", model).get_input_embeddings()
    return embeddings.num_embeddings if isinstance(embeddings, nn.Embedding) else None


def _positions(model: nn.Module) -> int | None:
    if not _is_of_transformers(model):
        return None
    for path, module in model.named_modules():
        if path.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return module.num_embeddings - module.padding_idx - 1  # those of RoBERTa begin behind the padding's
    config: Any = model.config
    positions = getattr(config, "max_position_embeddings", None)
    return positions if positions is not None and positions > 0 else None


def _is_of_transformers(model: nn.Module) -> bool:
    transformers = sys.modules.get("transformers")
    return transformers is not None and isinstance(model, transformers.PreTrainedModel)
