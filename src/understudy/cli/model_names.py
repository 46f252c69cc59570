"""Naming a model in one word on the command line: ``torchvision:resnet18``, a directory, ``recipe.yaml#student``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.errors import InputError, listing, nearest

if TYPE_CHECKING:
    from torch import nn

    from understudy.recipe.schema import Recipe
    from understudy.sources.data import DataSpec
    from understudy.sources.loader import Loader
    from understudy.sources.model_specs import AnyModel, ModelSpec
    from understudy.tasks import Task

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A saved model's directory, torchvision:NAME, timm:NAME, transformers:NAME, python:MODULE:CALLABLE, "
        "understudy:mlp:800-800, RECIPE.yaml#STAGE or RUN#STAGE.",
    ),
]
Size = Annotated[
    str | None,
    typer.Option("--size", metavar="C,H,W", help="Shape of one input, without the batch, such as 3,32,32."),
]
Classes = Annotated[
    int | None, typer.Option("--classes", metavar="N", min=1, help="Number of classes of a model that is built anew.")
]
LONGEST = 2**16
"""Tokens of a prompt with its answer that are read for a model that says nothing of how many it can read."""
SOURCES = ("torchvision", "timm", "transformers", "python", "understudy", "artifact")
_WIDTHS = {"mlp": "hidden", "cnn": "widths", "resnet": "widths"}
_TEXT_SIZES = {
    "bag": ("embedding",),
    "lstm": ("embedding", "width"),
    "gru": ("embedding", "width"),
    "text_cnn": ("embedding", "width"),
}


@dataclass(frozen=True)
class Built:
    """A model that was named, with an example of what it takes.

    Attributes:
        name: what the user wrote.
        module: the network.
        spec: where it came from.
        inputs: a batch of two samples.
        classes: names of its classes; numbers, as texts, for a model that was built without data.
        knows_classes: whether the names mean something.
        made_for: the kind of problem; None where nobody said it.
    """

    name: str
    module: nn.Module
    spec: ModelSpec
    inputs: Any
    classes: tuple[str, ...]
    knows_classes: bool
    made_for: str | None = None

    @property
    def task(self) -> Task:
        """What is asked of it: numbers or a vector, the next token of a language model, labels or a class of others."""
        from understudy.sources import continuing
        from understudy.tasks import Classification, MultiLabelClassification, task_of

        if self._predicts_tokens:
            return continuing.task_of(self.module, self.inputs, len(self.classes))
        found = task_of(self.made_for, len(self.classes))
        plain = found.answers == "classes" and not isinstance(found, MultiLabelClassification)
        return Classification() if plain else found

    def loader(self, source: str, split: str) -> Loader:
        """The samples of a data set as it reads them.

        Args:
            source: as a recipe has it.
            split: test or validation.

        Raises:
            InputError: when they cannot be read, or have other classes.
        """
        from understudy.sources.data import DataSpec, load_data
        from understudy.sources.loader import Loader

        spec = DataSpec(source=source, classes=self.classes if self.knows_classes else None)
        if self.task.answers != "classes":
            spec = DataSpec(source=source)
        if self._predicts_tokens:
            spec = self._of_tokens(source)
        data = load_data(spec, task=self.task)
        batch = 16 if self._predicts_tokens else 500
        return Loader(data.test if split == "test" else data.validation, batch_size=batch, shuffle=False)

    def _of_tokens(self, source: str) -> DataSpec:
        """Prompts with answers as long as it can read them, or windows as it has been shown."""
        from understudy.sources.continuing import running_tokens, tokens_of
        from understudy.sources.data import DataSpec, prompt_columns
        from understudy.tasks import LanguageModel

        spec, task = DataSpec(source=source, tokens=running_tokens(self.module)), self.task
        assert isinstance(task, LanguageModel)
        paired = prompt_columns(spec, task=task) is not None
        window = tokens_of(self.module).spec.max_length or LONGEST if paired else self.inputs.shape[1]
        return spec.model_copy(update={"window": window})

    @property
    def _predicts_tokens(self) -> bool:
        from understudy.tokenizing import are_tokens, tokenization_of

        return are_tokens(self.inputs) and tokenization_of(self.module) is not None


def model_fields(text: str) -> dict[str, Any]:
    """A model's name as the mapping that a recipe would have under ``model``; nothing is built or imported.

    Args:
        text: such as ``torchvision:resnet18``, ``understudy:mlp:800-800`` or the path of a directory.

    Raises:
        InputError: for a text that names no model, with what it may have meant.
    """
    source, colon, rest = text.partition(":")
    if Path(text).exists():
        return {"source": "artifact", "path": text}
    if not colon or source not in SOURCES:
        raise InputError(_not_a_model(text, source if colon else ""))
    if not rest:
        raise InputError(f"{text!r} names no model; expected a name after the colon, such as {_example(source)}")
    if source == "python":
        return {"source": source, "target": rest}
    if source == "artifact":
        return {"source": source, "path": rest}
    if source == "understudy":
        return _builtin(text, rest)
    return {"source": source, "name": rest}


def trained_fields(text: str) -> dict[str, Any]:
    """A model's name as a recipe would have it, with the weights that it was trained to.

    Args:
        text: as for :func:`model_fields`, or ``RUN#STAGE``.

    Raises:
        InputError: for a text that names no model, or one that has random weights.
    """
    fields = model_fields(str(place_of(text)))
    match fields["source"]:
        case "torchvision":
            return {**fields, "weights": "DEFAULT"}
        case "timm":
            return {**fields, "pretrained": True}
        case "understudy":
            raise InputError(
                f"{text!r} is a network with random weights, and there is nothing to keep of it. Give a trained "
                "model: the directory of a saved one, or RUN#STAGE; `understudy init` writes a recipe that trains one"
            )
        case _:
            return fields


def trained_model(text: str, *, inputs: Any, classes: int) -> nn.Module:
    """The network that a word names, with the weights that it was trained to.

    Args:
        text: as for :func:`trained_fields`.
        inputs: a batch's, which it has to take.
        classes: of a new head, where the source has none of its own.

    Raises:
        InputError: for a text that names no trained model, or one that cannot be had.
    """
    from understudy.sources.artifact import load_artifact
    from understudy.sources.model_specs import ArtifactModel
    from understudy.sources.models import build_model

    spec = _validated(trained_fields(text))
    if isinstance(spec, ArtifactModel):
        return load_artifact(spec.path).module
    return build_model(spec, classes=classes, inputs=inputs)


def build_named(text: str, *, size: str | None, classes: int | None) -> Built:
    """Build, or load, the model that a word names.

    Args:
        text: what the user wrote.
        size: ``--size``; needed for a model that does not know the shape of its inputs.
        classes: ``--classes``; 10 when it is needed and not given.

    Raises:
        InputError: for a text that names no model, or a model that cannot be built.
    """
    place, hash_sign, stage = text.rpartition("#")
    if hash_sign and place.endswith((".yaml", ".yml", ".json")):
        return _of_recipe(text, Path(place), stage, size, classes)
    if hash_sign:
        return _saved(text, _of_run(Path(place), stage), size)
    fields = model_fields(text)
    if fields["source"] == "artifact":
        return _saved(text, Path(fields["path"]), size)
    return _fresh(text, _validated(fields), parsed_size(size), classes or 10)


def place_of(text: str) -> Path:
    """Where on disk the model is that a word names: a path, or ``RUN#STAGE``, which may have exported it.

    Raises:
        InputError: when the run has no such stage, or it has left no model.
    """
    from understudy.runtimes.opening import SUFFIXES

    run, hash_sign, stage = text.rpartition("#")
    if not hash_sign or Path(text).exists():
        return Path(text)
    files = sorted((Path(run) / "stages" / stage).glob("seed-*/*"))
    exported = [file.parent for file in files if file.suffix in SUFFIXES]
    return exported[0] if exported else _of_run(Path(run), stage)


def parsed_size(size: str | None) -> tuple[int, ...]:
    """``3,32,32`` as numbers; an ordinary image of that size when not given.

    Raises:
        InputError: for anything but whole numbers.
    """
    parts = re.split(r"[,x×]", size) if size else ["3", "224", "224"]
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"--size {size!r}: expected whole numbers such as 3,32,32, or 64 for a vector")
    return tuple(map(int, parts))


def _validated(fields: dict[str, Any]) -> AnyModel:
    from pydantic import TypeAdapter, ValidationError

    from understudy.sources.model_specs import AnyModel

    try:
        return TypeAdapter(AnyModel).validate_python(fields)
    except ValidationError as error:
        reasons = "; ".join(str(item["msg"]) for item in error.errors(include_url=False))
        raise InputError(f"not a model: {reasons}") from error


def _fresh(name: str, spec: AnyModel, shape: tuple[int, ...], classes: int) -> Built:
    import torch

    from understudy.sources.models import build_model

    inputs = torch.zeros(2, *shape)
    model = build_model(spec, classes=classes, inputs=inputs)
    return Built(name, model, spec, inputs, tuple(map(str, range(classes))), knows_classes=False)


def _saved(name: str, directory: Path, size: str | None) -> Built:
    import torch

    from understudy.sources.artifact import load_artifact

    loaded = load_artifact(directory)
    inputs = torch.zeros(2, *parsed_size(size)) if size else loaded.example(2)
    return Built(name, loaded.module, loaded.spec, inputs, loaded.classes, knows_classes=True, made_for=loaded.task)


def _of_recipe(name: str, file: Path, stage: str, size: str | None, classes: int | None) -> Built:
    from understudy.pipeline.stages import DataFree, Distill, Train
    from understudy.recipe.loading import load_recipe

    recipe = load_recipe(file)
    models = {item.name: item.model for item in recipe.stages if isinstance(item, Train | Distill | DataFree)}
    if stage not in models:
        raise InputError(
            f"{file} has no stage {stage!r} with a model{nearest(stage, models)}; it has {listing(list(models))}"
        )
    if size is None or classes is None:
        return _on_its_data(name, recipe, models[stage])
    return _fresh(name, models[stage], parsed_size(size), classes)


def _on_its_data(name: str, recipe: Recipe, spec: AnyModel) -> Built:
    """The model as the run would build it: the data say how large inputs are, and how many classes there are."""
    from understudy.sources.data import load_data
    from understudy.sources.loader import Loader
    from understudy.sources.models import build_model

    data = load_data(recipe.data, task=recipe.task)
    inputs = next(iter(Loader(data.validation, batch_size=2, shuffle=False))).inputs
    model = build_model(spec, classes=data.classes, inputs=inputs)
    return Built(name, model, spec, inputs, data.classes, knows_classes=True, made_for=recipe.task.kind)


def _of_run(run: Path, stage: str) -> Path:
    stages = run / "stages"
    known = sorted(folder.name for folder in stages.iterdir()) if stages.is_dir() else []
    if not known:
        raise InputError(f"{run} is neither a recipe nor the directory of a run, so it has no stage {stage!r}")
    if stage not in known:
        raise InputError(f"{run} has no stage {stage!r}{nearest(stage, known)}; it has {listing(known)}")
    finished = sorted((stages / stage).glob("seed-*/model.json"))
    if not finished:
        raise InputError(f"stage {stage!r} of {run} has left no model yet")
    return finished[0].parent


def _builtin(text: str, rest: str) -> dict[str, Any]:
    name, _, widths = rest.partition(":")
    if name in _TEXT_SIZES:
        return _for_texts(text, name, widths)
    if name not in _WIDTHS:
        known = [*_WIDTHS, *_TEXT_SIZES]
        raise InputError(f"{text!r}: Understudy has no network {name!r}{nearest(name, known)}; it has {listing(known)}")
    if not re.fullmatch(r"\d+(-\d+)*", widths):
        raise InputError(f"{text!r}: expected the widths of its layers, such as understudy:{name}:64-128")
    return {"source": "understudy", "name": name, "arguments": {_WIDTHS[name]: [int(n) for n in widths.split("-")]}}


def _for_texts(text: str, name: str, sizes: str) -> dict[str, Any]:
    """A network for texts, of which no size has to be said, and which reads words."""
    names = _TEXT_SIZES[name]
    if not re.fullmatch(rf"(\d+(-\d+){{,{len(names) - 1}}})?", sizes):
        raise InputError(
            f"{text!r}: expected nothing after {name}, or its {' and '.join(names)}, such as "
            f"understudy:{name}:{'-'.join(['128'] * len(names))}"
        )
    given = dict(zip(names, map(int, filter(None, sizes.split("-"))), strict=False))
    arguments = {"arguments": given} if given else {}
    return {"source": "understudy", "name": name, **arguments, "preprocess": {"kind": "words"}}


def _example(source: str) -> str:
    examples = {
        "python": "python:my_models:small",
        "understudy": "understudy:mlp:800-800",
        "artifact": "artifact:folder",
    }
    return examples.get(source, f"{source}:resnet18")


def _not_a_model(text: str, source: str) -> str:
    if source:
        near = nearest(source, SOURCES) or f"; expected one of {listing(SOURCES)}"
        return f"{text!r}: unknown source {source!r}{near}"
    if "/" in text or "\\" in text:
        return f"{text!r}: there is no such directory. A saved model is a directory with model.json in it"
    return (
        f"{text!r} is no directory, and says not where the model comes from: torchvision:{text}, timm:{text}, or "
        "python:module:callable for a function of your own"
    )
