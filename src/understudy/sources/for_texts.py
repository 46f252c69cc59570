"""Networks that read texts: their vocabulary, and how many tokens they can read."""

from __future__ import annotations

from torch import nn

from understudy.errors import InputError
from understudy.sources.embedding import Embedding, embed
from understudy.sources.from_python import build_python
from understudy.sources.from_transformers import build_text_transformers
from understudy.sources.model_specs import (
    BuiltinModel,
    ModelSpec,
    PythonModel,
    TimmModel,
    TorchvisionModel,
    TransformersModel,
    embedding_spec,
)
from understudy.sources.preprocess import check_preprocess, preprocess_inputs
from understudy.sources.text_networks import TEXT_ARGUMENTS, build_text_network
from understudy.sources.tokenizers import open_tokens
from understudy.tokenizing import Bytes, TextTokenization, Tokenizer, Words, bytes_of


def build_for_texts(spec: ModelSpec, *, classes: int, pretrained: bool) -> nn.Module:
    """Build a network of a spec and let it make its own tokens of texts.

    Args:
        spec: any source but an artifact. Without a ``preprocess`` a saved model of transformers has the tokenizer that
            lies beside it.
        classes: number of classes of the data, or of numbers; 0 where there are none, and the network gives a vector.
        pretrained: whether the weights that the spec names are loaded.

    Raises:
        InputError: when it reads no texts, has no tokens, or fewer tokens or positions than are made for it.
    """
    if isinstance(spec, TorchvisionModel | TimmModel) or (
        isinstance(spec, BuiltinModel) and spec.name not in TEXT_ARGUMENTS
    ):
        what = spec.name if isinstance(spec, BuiltinModel) else spec.source
        raise InputError(
            f"{what} reads images or vectors, the data are texts; take a model of `source: transformers`, of "
            "`understudy` (bag, lstm, gru or text_cnn), or a `python` function of your own"
        )
    wanted = spec.preprocess
    if wanted is None and isinstance(spec, TransformersModel) and spec.name is not None:
        wanted = Tokenizer(path=spec.name)
    check_preprocess(wanted, bytes_of([""]))
    assert isinstance(wanted, Words | Bytes | Tokenizer)
    network = _built(spec, open_tokens(wanted), classes=_outputs(spec, classes), pretrained=pretrained)
    if not classes:
        embed(network, embedding_spec(spec))
    return preprocess_inputs(network, wanted)


def _outputs(spec: ModelSpec, classes: int) -> int:
    """How many numbers a network is to give; 0 for an encoder that has a width of its own.

    Raises:
        InputError: when the description says what does not fit, or not enough.
    """
    embedding = embedding_spec(spec)
    if classes and embedding is not None:
        raise InputError(
            "`embedding` says how a model makes a vector of a text, for task: sentence_embedding; leave it out"
        )
    width = (embedding or Embedding()).width
    if classes or not isinstance(spec, BuiltinModel | TransformersModel):
        return classes or width or 0
    if isinstance(spec, TransformersModel) and width is not None:
        raise InputError(
            "`embedding.width` of an encoder of transformers is that of its states; leave it out, or choose another "
            "`hidden_size` in `arguments`"
        )
    if isinstance(spec, BuiltinModel) and width is None:
        raise InputError(
            f"{spec.name} has to be told how long its vectors are, such as `embedding: {{width: 128}}`; a teacher's "
            "may have another width"
        )
    return width or 0


def _built(spec: ModelSpec, tokens: TextTokenization, *, classes: int, pretrained: bool) -> nn.Module:
    match spec:
        case BuiltinModel():
            return build_text_network(spec.name, spec.arguments, classes=classes, vocabulary=tokens.vocabulary)
        case TransformersModel():
            return build_text_transformers(
                spec, classes=classes, vocabulary=tokens.vocabulary, padding=tokens.padding, pretrained=pretrained
            )
        case PythonModel():
            return build_python(spec, classes=classes, vocabulary=tokens.vocabulary)
        case _:
            raise AssertionError(f"{spec.source} reads no texts")
