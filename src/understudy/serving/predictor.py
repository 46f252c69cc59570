"""A model from disk, and what it says about samples."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from understudy import __version__
from understudy.batch import Batch
from understudy.errors import InputError, RunError, UnderstudyError, listing, nearest
from understudy.files import neighbours
from understudy.runtimes import DeployedModel, open_model
from understudy.runtimes.opening import SUFFIXES
from understudy.serving.expected import Expected
from understudy.serving.samples import Sample, SampleForm
from understudy.sources.artifact import load_artifact
from understudy.sources.forward import device_of, resized
from understudy.sources.preprocess import normalisation_of
from understudy.tasks import MultiLabelClassification, task_of
from understudy.tokenizing import are_tokens, tokenization_of


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says about one sample.

    Attributes:
        top: the likeliest classes and their probabilities, the best one first.
        labels: where a sample has any number of labels those that it has, which are likelier than not, with their
            probabilities, the likeliest first; None where it has one class.
    """

    top: tuple[tuple[str, float], ...]
    labels: tuple[tuple[str, float], ...] | None = None

    @property
    def label(self) -> str:
        """The name of the likeliest class."""
        return self.top[0][0]

    @property
    def probability(self) -> float:
        """Of that class, in [0, 1]."""
        return self.top[0][1]

    def first(self, top: int) -> Prediction:
        """The same with fewer classes."""
        return Prediction(self.top[:top], self.labels)

    def as_json(self) -> dict[str, Any]:
        """``class`` and ``probability``, or the same of all ``labels``; and of the likeliest classes under ``top``."""
        top, labels = (
            [{"class": label, "probability": probability} for label, probability in each]
            for each in (self.top, self.labels or ())
        )
        return {**(top[0] if self.labels is None else {"labels": labels}), "top": top}

    def __str__(self) -> str:
        """The classes with their probabilities in per cent, behind those labels that it has, where it may have any."""
        likeliest = _shares(self.top)
        if self.labels is None:
            return likeliest
        return _shares(self.labels) if self.labels else f"none (likeliest: {likeliest})"


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers that a model answers to one sample, or the vector.

    Attributes:
        values: one or several.
        names: of each; none of a vector.
    """

    values: tuple[float, ...]
    names: tuple[str, ...]

    def first(self, top: int) -> Numbers:  # noqa: ARG002 - all are told
        """The same: no number is likelier than another."""
        return self

    def as_json(self) -> dict[str, Any]:
        """``numbers`` by name, or the ``vector``."""
        if not self.names:
            return {"vector": list(self.values)}
        return {"numbers": dict(zip(self.names, self.values, strict=True))}

    def __str__(self) -> str:
        if not self.names:
            return f"[{', '.join(f'{value:.6g}' for value in self.values)}]"
        return ", ".join(f"{name} {value:.6g}" for name, value in zip(self.names, self.values, strict=True))


Answer = Prediction | Numbers
"""What a model says about one sample."""


@final
class Predictor:
    """A network or an exported file that answers samples, one batch at a time, from any thread.

    Args:
        model: put into eval mode; it stays on its device.
        form: what a sample is.
        classes: their names, in the order of the model's outputs; numbers when not given.
        name: what to call the model.
        task: the kind of problem that it was made for, which says whether it answers classes, numbers or a vector;
            None: classes.

    Raises:
        InputError: when the model cannot be run on such samples, or has another number of outputs.
    """

    def __init__(
        self,
        model: nn.Module,
        form: SampleForm,
        *,
        classes: Sequence[str] | None = None,
        name: str = "model",
        task: str | None = None,
    ) -> None:
        self.model, self.form, self.name = model.eval(), form, name
        self._task = task_of(task, len(classes or ()))
        self._lock = threading.Lock()
        self._batch_size = model.batch_size if isinstance(model, DeployedModel) else None
        try:
            outputs = self._answered([form.example()]).shape[-1]
        except Exception as error:  # a network of anybody's, or a runtime's own
            raise InputError(f"the model {name!r} cannot be run on a sample of {form}: {error}") from error
        self.classes: tuple[str, ...] = tuple(classes) if classes is not None else tuple(map(str, range(outputs)))
        self.width = outputs
        if self._task.answers == "vectors":
            self.classes = ()
        elif len(self.classes) != outputs:
            raise InputError(f"the model {name!r} has {outputs} outputs, but {len(self.classes)} classes are named")

    def predict(self, samples: Sequence[Sample], *, top: int = 1) -> list[Answer]:
        """Answer samples, as ``form`` reads them; those of equal shapes, and texts, are computed together.

        Args:
            samples: any number.
            top: how many classes to tell of each; of numbers all are told.

        Returns:
            One answer for each sample, in order; probabilities are the softmax of the model's outputs, and where a
            sample has any number of labels the sigmoid of each.

        Raises:
            InputError: when the model cannot take a sample, or answers it with something that is not finite.
            RunError: when it fails for another reason.
        """
        answers = self.each(samples, top=top)
        for answer in answers:
            if isinstance(answer, UnderstudyError):
                raise answer
        return [answer for answer in answers if not isinstance(answer, UnderstudyError)]

    def each(self, samples: Sequence[Sample], *, top: int = 1) -> list[Answer | UnderstudyError]:
        """Answer samples like :meth:`predict`, but for those that cannot be answered give the error in their place.

        It is an :class:`InputError` where the sample is to blame and a :class:`RunError` where it may not be; what the
        network or the runtime said is its cause.
        """
        found: dict[int, Answer | UnderstudyError] = {}
        groups: dict[Any, list[int]] = {}
        for place, sample in enumerate(samples):
            groups.setdefault(self.form.shapes(sample), []).append(place)
        for places in groups.values():
            found |= zip(places, self._answers([samples[place] for place in places], top), strict=True)
        return [found[place] for place in range(len(samples))]

    def card(self) -> dict[str, Any]:
        """What somebody who is to use the model must know, as JSON."""
        names = self.form.names or ("input",) * len(self.form.tensors)
        return {
            "understudy": __version__,
            "model": self.name,
            **self._outputs(),
            "inputs": [_described(name, one) for name, one in zip(names, self.form.tensors, strict=True)],
            **_told_by(self.model),
        }

    def _outputs(self) -> dict[str, Any]:
        """What it answers, as JSON."""
        match self._task.answers:
            case "numbers":
                return {"numbers": list(self.classes)}
            case "vectors":
                return {"width": self.width}
            case _:
                return {"classes": list(self.classes)}

    def _answers(self, samples: list[Sample], top: int) -> list[Answer | UnderstudyError]:
        try:
            return self._told(self._answered(samples), top)
        except Exception as error:  # a network of anybody's, or a runtime's own
            if len(samples) > 1:
                return [answer for sample in samples for answer in self._answers([sample], top)]
            return [_failure(error)]

    def _answered(self, samples: list[Sample]) -> Tensor:
        """Probabilities, or numbers, of each sample: (samples, classes) float64 on the CPU."""
        size = self._batch_size or len(samples)
        with self._lock, torch.inference_mode():
            parts = []
            for first in range(0, len(samples), size):
                some = samples[first : first + size]
                batch = Batch(inputs=resized(self.form.batch(some), size)).to(device_of(self.model))
                parts.append(self._task.observe(self.model, batch).logits[: len(some)].float().cpu())
        logits = torch.cat(parts)
        finite = torch.isfinite(logits).flatten(1).all(1, keepdim=True)
        told = self._task.probabilities(logits.double()) if self._task.answers == "classes" else logits.double()
        return told.where(finite, torch.nan)

    def _told(self, outputs: Tensor, top: int) -> list[Answer | UnderstudyError]:
        finite = outputs.isfinite().all(1).tolist()
        found = self._likeliest(outputs, top) if self._task.answers == "classes" else self._numbers(outputs)
        refused = InputError("the model's answer is not finite for this input")
        return [answer if known else refused for known, answer in zip(finite, found, strict=True)]

    def _likeliest(self, probabilities: Tensor, top: int) -> list[Prediction]:
        several, most = isinstance(self._task, MultiLabelClassification), max(1, min(top, len(self.classes)))
        shares, order = probabilities.sort(dim=1, descending=True, stable=True)
        found = []
        for likely, indices in zip(shares.tolist(), order.tolist(), strict=True):
            named = tuple((self.classes[index], share) for share, index in zip(likely, indices, strict=True))
            labels = tuple(each for each in named if each[1] > 0.5) if several else None
            found.append(Prediction(named[:most], labels))
        return found

    def _numbers(self, values: Tensor) -> list[Numbers]:
        return [Numbers(tuple(row), self.classes) for row in values.tolist()]


def _shares(named: tuple[tuple[str, float], ...]) -> str:
    return ", ".join(f"{label} {100 * share:.4g} %" for label, share in named)


_TOLD = {"task", "normalisation", "tokens", "precision", "licence", "recipe", "weights"}
"""What the card of an exported file tells beside its classes and inputs."""


def open_predictor(
    path: str | Path, *, runtime: str | None = None, size: Sequence[int] | None = None, name: str | None = None
) -> Predictor:
    """Load a saved model or an exported file.

    Args:
        path: the folder of a saved model (or one of its two files), an exported file, or a folder with one.
        runtime: what executes an exported file, such as ``openvino``.
        size: shape of one sample, for a file from elsewhere that does not say it.
        name: what to call the model; the last part of the path when not given.

    Raises:
        InputError: when there is none, it is damaged, or cannot be run.
    """
    place = Path(path)
    if not place.exists():
        raise InputError(f"there is no file or folder {str(path)!r}{nearest(place.name, neighbours(place))}")
    name = name or (place.stem if place.is_file() else place.resolve().name)
    exported = place if place.suffix in SUFFIXES and place.is_file() else _only_exported(place)
    if exported is None:
        if runtime not in (None, "torch"):
            raise InputError(f"{place} is a saved model, which torch runs; {runtime!r} executes exported files")
        loaded = load_artifact(place)
        texts = tokenization_of(loaded.module) is not None
        if texts and are_tokens(loaded.example()):
            raise InputError(f"{place} is a language model; let it go on from a text with `understudy write {place}`")
        form = SampleForm.of_texts() if texts else SampleForm.of_record(loaded.inputs)
        return Predictor(loaded.module, form, classes=loaded.classes, name=name, task=loaded.task)
    model = open_model(exported, runtime=runtime)
    if model.card is not None:
        card = model.card
        return Predictor(model, SampleForm.of_card(card), classes=card.classes, name=name, task=card.task)
    form = SampleForm.of_ports(model.session.inputs)
    if size is not None:
        form = SampleForm((Expected(tuple(size), form.tensors[0].dtype),))
    return Predictor(model, form, name=name)


def _only_exported(folder: Path) -> Path | None:
    """The exported file of a folder that holds no saved model."""
    if not folder.is_dir() or (folder / "model.json").is_file():
        return None
    files = sorted(item for item in folder.iterdir() if item.suffix in SUFFIXES)
    if len(files) > 1:
        raise InputError(f"{folder} holds several exported files; name one of {listing([item.name for item in files])}")
    return files[0] if files else None


def _failure(error: Exception) -> UnderstudyError:
    blamed = InputError if isinstance(error, InputError | IndexError) else RunError
    failure = blamed("the model cannot take this input" if blamed is InputError else "the model failed on this input")
    failure.__cause__ = error
    return failure


def _told_by(model: nn.Module) -> dict[str, Any]:
    if isinstance(model, DeployedModel):
        told = model.card.model_dump(mode="json", include=_TOLD) if model.card is not None else {}
        return {"runtime": model.runtime, **told}
    normalisation, tokenization = normalisation_of(model), tokenization_of(model)
    told: dict[str, Any] = {"runtime": "torch", "normalisation": None}
    if normalisation is not None:
        told["normalisation"] = normalisation.model_dump(mode="json")
    return told if tokenization is None else {**told, "tokens": tokenization.spec.model_dump(mode="json")}


def _described(name: str, tensor: Expected) -> dict[str, Any]:
    what = "text" if tensor.text else "image" if tensor.form is not None else "tensor"
    return {"name": name, "kind": what, "shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
