"""Classifiers, language models and encoder–decoders of transformers."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from understudy.errors import InputError, listing, nearest
from understudy.extras import imported
from understudy.foreign import quiet
from understudy.sources.embedding import embedding_of
from understudy.sources.hub import cache_when_unreachable
from understudy.sources.model_specs import TransformersModel
from understudy.sources.preprocess import Preprocess
from understudy.sources.surgery import channels_of, constructed
from understudy.sources.tokenizers import open_tokens
from understudy.tokenizing import DECODED, Bytes, Tokenizer, tokenization_of

_HEADS = {
    "image_classification": "AutoModelForImageClassification",
    "sequence_classification": "AutoModelForSequenceClassification",
    "causal_language_model": "AutoModelForCausalLM",
    "sequence_to_sequence": "AutoModelForSeq2SeqLM",
    "none": "AutoModel",
}
_OF_TEXTS, _HEADLESS = "sequence_classification", "none"
_OF_TOKENS = ("causal_language_model", "sequence_to_sequence")
_START = "decoder_start_token_id"
"""A field that every encoder–decoder's configuration may have, and not all name."""
_NOT_ARCHITECTURE = ("architectures", "dtype", "id2label", "label2id", "model_type", "transformers_version")


def check_transformers(spec: TransformersModel) -> None:
    """Find the names of a spec in the library, without building or downloading anything.

    Raises:
        InputError: without transformers, for an unknown type of model or one of its fields, for a folder
            without a model.
    """
    transformers = imported("transformers", extra="text")
    if spec.config is not None:
        known = transformers.CONFIG_MAPPING
        if spec.config not in known:
            raise InputError(
                f"transformers has no model type {spec.config!r}{nearest(spec.config, known.keys())} "
                f"(there are {len(known.keys())}, such as vit, deit, resnet, bert)"
            )
        _check_fields(spec, known[spec.config]())
    elif spec.name is not None and Path(spec.name).is_dir() and not (Path(spec.name) / "config.json").is_file():
        raise InputError(
            f"{spec.name} holds no transformers model: expected config.json and model.safetensors, as "
            "model.save_pretrained(folder) writes them"
        )


def build_transformers(
    spec: TransformersModel, *, classes: int, inputs: Any, pretrained: bool
) -> tuple[nn.Module, Preprocess | None]:
    """The network, and the normalisation that its weights were trained with.

    Raises:
        InputError: when it cannot be built for these data, or is neither on this machine nor on the hub.
    """
    check_transformers(spec)
    if spec.config is not None:
        return _fresh(spec, classes=classes, inputs=inputs), None
    model, preprocess = _saved(spec, classes=classes, pretrained=pretrained)
    if (start := _start_of(inputs)) is not None:
        _check_start(model, start, what=f"transformers' {spec.name}")
    return model, preprocess


def build_text_transformers(
    spec: TransformersModel, *, classes: int, vocabulary: int, padding: int, pretrained: bool
) -> nn.Module:
    """A classifier of texts, or without classes an encoder, fresh or saved.

    Args:
        spec: which one; its ``head`` is that of a sequence classifier, whatever it says.
        classes: number of outputs; 0 for an encoder that gives the states of its tokens.
        vocabulary: how many tokens there are, for a fresh one that does not say it.
        padding: the token that stands after a text, for a model that does not say it.
        pretrained: whether a saved one's weights are loaded.

    Raises:
        InputError: as :func:`build_transformers` does.
    """
    spec = spec.model_copy(update={"head": _OF_TEXTS if classes else _HEADLESS})
    if spec.config is not None:
        check_transformers(spec)
        sizes = {"vocab_size": vocabulary, "pad_token_id": padding}
        fields = imported("transformers", extra="text").CONFIG_MAPPING[spec.config]().to_dict()
        asked = {name: value for name, value in sizes.items() if name in fields} | spec.arguments
        spec = spec.model_copy(update={"arguments": asked})
    return build_transformers(spec, classes=classes, inputs=None, pretrained=pretrained)[0]


def transformers_architecture(spec: TransformersModel, model: nn.Module) -> TransformersModel:
    """The same model as a fresh one: the type and the fields of its configuration, nothing to look up."""
    transformers = imported("transformers", extra="text")
    assert isinstance(model, transformers.PreTrainedModel)
    config: Any = model.config
    fields = json.loads(config.to_json_string(use_diff=True))
    known = set(_fields(transformers.CONFIG_MAPPING[config.model_type]()))
    # Files of earlier versions have fields that this one no longer knows.
    arguments = {name: value for name, value in fields.items() if name in known}
    head = _OF_TEXTS if tokenization_of(model) is not None and spec.head not in _OF_TOKENS else spec.head
    embedding = embedding_of(model)
    head = head if embedding is None else _HEADLESS
    return TransformersModel(config=config.model_type, arguments=arguments, head=head, embedding=embedding)


def _fresh(spec: TransformersModel, *, classes: int, inputs: Any) -> nn.Module:
    transformers = imported("transformers", extra="text")
    fields = transformers.CONFIG_MAPPING[spec.config]().to_dict()
    arguments: dict[str, Any] = {}
    channels = channels_of(inputs)
    if channels is not None and "num_channels" in fields:
        arguments["num_channels"] = channels
    if isinstance(inputs, Tensor) and inputs.ndim == 4 and "image_size" in fields:
        height, width = inputs.shape[-2:]
        arguments["image_size"] = height if height == width else (height, width)
    if spec.head in _OF_TOKENS:
        arguments |= {"vocab_size": classes, "use_cache": False}
    if (start := _start_of(inputs)) is not None:
        arguments |= _decoding(spec, start, fields)
    arguments |= spec.arguments

    def build() -> nn.Module:
        with quiet():  # language models import what they could be quantized with, which talks
            labels = {} if spec.head == _HEADLESS else {"num_labels": classes}
            config = transformers.AutoConfig.for_model(spec.config, **arguments, **labels)
            return getattr(transformers, _HEADS[spec.head]).from_config(
                config, **_no_pooler(transformers, spec, config)
            )

    return constructed(f"transformers' {spec.config}", build, arguments=spec.arguments, known=fields)


def _start_of(inputs: Any) -> int | None:
    """What a decoder begins with; None for the inputs of another network."""
    return int(inputs[DECODED][0, 0]) if isinstance(inputs, Mapping) and DECODED in inputs else None


def _decoding(spec: TransformersModel, start: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What the configuration of a fresh encoder–decoder says of its tokens: those of the data, and no others."""
    marks: dict[str, Any] = {name: None for name in ("bos_token_id", "forced_eos_token_id") if name in fields}
    padding, end = start, None
    if isinstance(spec.preprocess, Bytes | Tokenizer):
        tokens = open_tokens(spec.preprocess)
        padding, end = tokens.padding, tokens.end
    return {**marks, "pad_token_id": padding, "eos_token_id": end, _START: start}


def _check_start(model: Any, start: int, *, what: str) -> None:
    """See that a saved encoder–decoder was trained to begin answers as the data do."""
    own = getattr(model.config, _START, None)
    if own is not None and own != start:
        raise InputError(
            f"{what} begins its answers with token {own}, and this run with token {start}; say `task: "
            f"{{kind: sequence_to_sequence, decoder_start: {own}}}`"
        )


def _saved(spec: TransformersModel, *, classes: int, pretrained: bool) -> tuple[nn.Module, Preprocess | None]:
    transformers = imported("transformers", extra="text")
    what = f"transformers' {spec.name}"
    with _reaching(spec, what), silenced(transformers):
        config = transformers.AutoConfig.from_pretrained(spec.name)
        _check_fields(spec, config)
        language = spec.head in (*_OF_TOKENS, _HEADLESS)  # its outputs are its tokens, or its states, and stay
        other_head = not language and config.num_labels != classes
        labels = {"use_cache": False} if spec.head in _OF_TOKENS else {"num_labels": classes} if other_head else {}
        family = getattr(transformers, _HEADS[spec.head])
        if not pretrained:
            config = transformers.AutoConfig.from_pretrained(spec.name, **spec.arguments, **labels)
            return family.from_config(config), _normalization(transformers, spec)
        model, info = family.from_pretrained(
            spec.name,
            **spec.arguments,
            **labels,
            **_no_pooler(transformers, spec, config),
            ignore_mismatched_sizes=other_head,
            output_loading_info=True,
            use_safetensors=True,  # the other format is pickle
        )
        foreign = [key for key, saved, _ in info["mismatched_keys"] if saved[0] != config.num_labels]
        if foreign:
            raise InputError(f"{what}: the saved shapes of {listing(foreign)} are not those of the architecture")
        return model, _normalization(transformers, spec)


def _no_pooler(transformers: Any, spec: TransformersModel, config: Any) -> dict[str, bool]:
    """Without the layer behind an encoder that nothing reads, and no gradient reaches."""
    if spec.head != _HEADLESS:
        return {}
    known = inspect.signature(transformers.MODEL_MAPPING[type(config)].__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in known else {}


def _normalization(transformers: Any, spec: TransformersModel) -> Preprocess | None:
    if spec.head != "image_classification":
        return None
    try:
        settings, _ = transformers.ImageProcessingMixin.get_image_processor_dict(spec.name)
    except OSError:
        return None
    mean, std = settings.get("image_mean"), settings.get("image_std")
    if not settings.get("do_normalize", True) or mean is None or std is None:
        return None
    return Preprocess(mean=tuple(mean), std=tuple(std))


def _fields(config: Any) -> list[str]:
    """What can be said of a configuration."""
    names = [name for name in config.to_dict() if name not in _NOT_ARCHITECTURE]
    return [*names, _START] if config.is_encoder_decoder and _START not in names else names


def _check_fields(spec: TransformersModel, config: Any) -> None:
    known = _fields(config)
    for name in spec.arguments:
        # transformers itself takes any field silently, and a misspelt one would change nothing.
        if name not in known:
            raise InputError(
                f"a transformers {config.model_type} has no field {name!r}{nearest(name, known)}; "
                f"it has {listing(known, most=12)}"
            )


@contextlib.contextmanager
def _reaching(spec: TransformersModel, what: str) -> Iterator[None]:
    remedy = (
        "Give a folder that model.save_pretrained(folder) wrote (with model.safetensors, not a pickle), or start "
        "from random weights with config: instead of name:"
    )
    assert spec.name is not None
    local = Path(spec.name).is_dir()
    with contextlib.nullcontext() if local else cache_when_unreachable() as silent:
        try:
            yield
        except InputError:
            raise
        except (OSError, ValueError) as error:
            where = f"is not on this machine, and {silent} is out of reach" if silent else "could not be loaded"
            raise InputError(f"{what} {where}. {remedy} ({error})") from error


@contextlib.contextmanager
def silenced(transformers: Any) -> Iterator[None]:
    """Without the library's bars and its table of loaded keys: that the head is new was asked for.

    Args:
        transformers: the library.
    """
    logging = transformers.logging
    before, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with quiet():
            yield
    finally:
        logging.set_verbosity(before)
        if bar:
            logging.enable_progress_bar()
