"""Where a model comes from, as a recipe writes it."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Literal, final

from pydantic import Field, JsonValue, ValidationError, model_validator

from understudy.errors import nearest
from understudy.sources.builtin import ARGUMENTS
from understudy.sources.embedding import Embedding
from understudy.sources.preprocess import AnyPreprocess
from understudy.spec import Spec


class ModelSpec(Spec):
    """A model by its source. What ``build_model`` makes of it is an ordinary ``torch.nn.Module``."""

    source: str
    preprocess: AnyPreprocess | None = None
    """What the model does to its inputs itself: a normalisation (`mean`, `std`), or tokens of texts (`kind: words`,
    `bytes` or `tokenizer`); each model of a recipe has its own. Not given: what the pretrained weights were trained
    with, and nothing for a model that starts from random weights."""


class _Buildable(ModelSpec):
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Further arguments of the architecture."""
    state: str | None = None
    """A .safetensors file with weights of your own for this architecture."""


class _OfTexts(_Buildable):
    embedding: Embedding | None = None
    """In task `sentence_embedding`: how the model makes one vector of a text, such as `{width: 128}` for networks of
    our own, `{normalise: true}`, or `{pooling: first}` for an encoder."""


@final
class TorchvisionModel(_Buildable):
    """A model of torchvision, such as ``resnet18``."""

    source: Literal["torchvision"] = "torchvision"
    name: str
    """As ``torchvision.models.list_models()`` has it."""
    weights: str | None = None
    """Pretrained weights, such as ``DEFAULT`` or ``IMAGENET1K_V1``; none: random."""
    small_images: bool = False
    """A first layer that keeps the size of the image: for ResNets a 3×3 convolution with stride 1 and no max pooling,
    for MobileNets and EfficientNets stride 1. For images of some 32 pixels."""

    @model_validator(mode="after")
    def _no_contradiction(self) -> TorchvisionModel:
        if self.weights is not None and self.state is not None:
            raise ValueError("weights and state are two answers to one question; give one of them")
        return self


@final
class TimmModel(_Buildable):
    """A model of timm, such as ``vit_tiny_patch16_224``."""

    source: Literal["timm"] = "timm"
    name: str
    """As ``timm.list_models()`` has it."""
    pretrained: bool = False
    """Whether to load timm's weights for it."""

    @model_validator(mode="after")
    def _no_contradiction(self) -> TimmModel:
        if self.pretrained and self.state is not None:
            raise ValueError("pretrained and state are two answers to one question; give one of them")
        return self


@final
class TransformersModel(_OfTexts):
    """A classifier or language model of transformers: a saved one by ``name``, or a fresh one by ``config``."""

    source: Literal["transformers"] = "transformers"
    name: str | None = None
    """A folder with ``config.json`` and ``model.safetensors``, or an id on the hub."""
    config: str | None = None
    """The type of a fresh model with random weights, such as ``vit``; ``arguments`` are fields of its configuration."""
    head: Literal[
        "image_classification", "sequence_classification", "causal_language_model", "sequence_to_sequence", "none"
    ] = "image_classification"
    """What the model ends in; in the tasks of texts and of language models that is clear anyway."""

    @model_validator(mode="after")
    def _one_origin(self) -> TransformersModel:
        if (self.name is None) == (self.config is None):
            raise ValueError("expected exactly one of name (a saved model) and config (a fresh one, such as vit)")
        return self


@final
class PythonModel(_OfTexts):
    """What a function of your own returns."""

    source: Literal["python"] = "python"
    target: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")]
    """``module:callable``; the module is found in the current directory or among the installed packages. It is called
    with ``arguments``, with the number of classes if it has an argument named ``classes`` or ``num_classes``, and for
    texts with the number of tokens if it has one named ``vocabulary`` or ``vocab_size``."""


@final
class BuiltinModel(_OfTexts):
    """A network of our own.

    ``mlp`` takes the arguments ``hidden``, ``dropout`` and ``input_dropout``, ``cnn`` takes ``widths``, and ``resnet``,
    for images of some 32 pixels, ``widths`` and ``blocks``. For texts there are ``bag`` (``embedding``, ``hidden``,
    ``dropout``), ``lstm`` and ``gru`` (``embedding``, ``width``, ``layers``, ``dropout``), and ``text_cnn``
    (``embedding``, ``width``, ``sizes``, ``dropout``).
    """

    source: Literal["understudy"] = "understudy"
    name: Literal["mlp", "cnn", "resnet", "bag", "lstm", "gru", "text_cnn"]
    """Which one."""

    @model_validator(mode="after")
    def _known_arguments(self) -> BuiltinModel:
        try:
            ARGUMENTS[self.name].model_validate(self.arguments)
        except ValidationError as error:
            raise ValueError("; ".join(map(self._explained, error.errors()))) from None
        return self

    def _explained(self, problem: Any) -> str:
        name, known = str(problem["loc"][0]), ARGUMENTS[self.name].model_fields
        if problem["type"] == "extra_forbidden":
            return f"{self.name} has no argument {name!r}{nearest(name, known)}; it takes {', '.join(known)}"
        if problem["type"] == "missing":
            return f"{self.name} needs the argument {name!r}: {inspect.cleandoc(known[name].description or '')}"
        return f"argument {'.'.join(map(str, problem['loc']))!r} of {self.name}: {problem['msg']}"


@final
class ArtifactModel(ModelSpec):
    """A model that Understudy saved: a directory with ``model.json`` and ``model.safetensors``."""

    source: Literal["artifact"] = "artifact"
    path: str
    """The directory, or one of the two files in it."""


def embedding_spec(spec: ModelSpec) -> Embedding | None:
    """How a model is to make one vector of a text; None where its description does not say it.

    Args:
        spec: where the model comes from.
    """
    return spec.embedding if isinstance(spec, _OfTexts) else None


AnyModel = Annotated[
    TorchvisionModel | TimmModel | TransformersModel | PythonModel | BuiltinModel | ArtifactModel,
    Field(discriminator="source"),
]
"""What a recipe may write where a model goes."""
