"""One split of a data set, held as tensors, and the parts of it that a training is given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, final

import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor

from understudy.batch import IGNORE_INDEX, known, unknown
from understudy.errors import InputError, listing, nearest
from understudy.sources.images import LazyImages
from understudy.sources.pairs import Pairs
from understudy.sources.selection import chosen
from understudy.sources.texts import Texts
from understudy.spec import Spec
from understudy.tokenizing import are_tokens

Amount = Annotated[int, Field(ge=1, strict=True)] | Annotated[float, Field(gt=0.0, lt=1.0, strict=True)]
"""A number of samples, or a fraction of them."""

_SAMPLES, _LABELS = 1, 2
"""What a random choice is for, so that the two are independent."""


@final
@dataclass(frozen=True, eq=False, slots=True)
class Split:
    """Samples and labels in memory; images that are too large for it stay encoded and look the same.

    Attributes:
        inputs: images, uint8 or float in [0, 1], (N, channels, height, width); or vectors, float32 (N, features);
            or :class:`LazyImages`; or :class:`~understudy.sources.texts.Texts`; or tokens, int64 (N, tokens); or
            :class:`~understudy.sources.pairs.Pairs` of such.
        targets: int64 (N,), of tokens (N, tokens), of several labels (N, labels) of 0 and 1; ``IGNORE_INDEX`` where
            there is none, or one is not known. Of numbers float32 (N, numbers); NaN where nobody knows them.
        ids: int64 (N,), unique in the whole data set, the same in every run.
        classes: names of the classes, in the order of the targets; also of those that no sample has. Of numbers
            theirs, and none where the data have no true answers.
        name: how the source calls it, or ``validation`` and ``test`` for what was carved out.
    """

    inputs: Tensor | LazyImages | Texts | Pairs
    targets: Tensor
    ids: Tensor
    classes: tuple[str, ...]
    name: str

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.inputs.shape[1:])

    @property
    def images(self) -> bool:
        """Whether the samples are images."""
        return len(self.shape) == 3

    @property
    def noun(self) -> str:
        """What the samples are called in a sentence."""
        if isinstance(self.inputs, Pairs):
            return "pairs"
        if are_tokens(self.inputs):
            return "windows"
        return "images" if self.images else "texts" if isinstance(self.inputs, Texts) else "samples"

    @property
    def known(self) -> Tensor:
        """Bool (N,): which samples have a label, of their own or at one of their positions."""
        return _grouped(self.targets) != IGNORE_INDEX

    @property
    def groups(self) -> Tensor:
        """Int64 (N,): the class by which each sample is chosen; ``IGNORE_INDEX`` where it has no label.

        Samples with numbers, and those with a label at each position, are one class; so are all samples of data that
        have no true answers.
        """
        return _grouped(self.targets) if self.classes else torch.zeros_like(self.ids)

    @property
    def labelled(self) -> int:
        """How many samples have a label."""
        return int(self.known.sum())

    def gather(self, indices: Tensor) -> Any:
        """The inputs of some samples, in the type in which they are held.

        Raises:
            InputError: for an image that is decoded only now, and cannot be.
        """
        if isinstance(self.inputs, LazyImages | Texts | Pairs):
            return self.inputs.gather(indices)
        return self.inputs.index_select(0, indices)

    def select(self, indices: Tensor) -> Split:
        """Some of the samples, in the order given."""
        kept = self.inputs[indices] if isinstance(self.inputs, Tensor) else self.inputs.select(indices)
        return replace(self, inputs=kept, targets=self.targets[indices], ids=self.ids[indices])

    def to(self, device: torch.device | str) -> Split:
        """The same split held on another device; images that stay encoded remain where they are."""
        if isinstance(self.inputs, LazyImages):
            return self
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device), ids=self.ids.to(device))

    def subset(self, subset: Subset, seed: int = 0) -> Split:
        """What is left of the split for a training: fewer samples, fewer labels.

        Raises:
            InputError: for a class that does not exist, an amount that cannot be met, or nothing left.
        """
        targets, indices = subset.apply(self, seed)
        if len(indices) == len(self):
            return replace(self, targets=targets)
        return replace(self.select(indices), targets=targets)

    def preview(self, sample: int) -> Image.Image | None:
        """The picture of the sample with this id; None when the samples are not images.

        Raises:
            InputError: when the split has no such sample.
        """
        indices = (self.ids == sample).nonzero().flatten()
        if not len(indices):
            raise InputError(f"split {self.name!r} has no sample with id {sample}")
        if not self.images:
            return None
        pixels = self.gather(indices)[0]
        if pixels.is_floating_point():
            pixels = pixels.mul(255).round().to(torch.uint8)
        array = pixels.permute(1, 2, 0).cpu().numpy()
        return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


@final
class Subset(Spec):
    """Which part of the training data is used. Classes are filtered first, then samples, then labels.

    Numbers are spread over the classes as evenly as they allow, fractions are taken of each class. A smaller
    subset is always contained in a larger one with the same seed.

    Example:
        >>> Subset(labels=100).labels
        100
    """

    labels: Amount | None = None
    """How many samples keep their label (a number, or a fraction in (0, 1)); the others stay, unlabelled."""
    only_classes: tuple[str | int, ...] | None = None
    """Samples of other classes are left out; names, or indices. So are samples that have no label."""
    exclude_classes: tuple[str | int, ...] | None = None
    """Samples of these classes are left out, and samples that have no label."""
    samples: Amount | None = None
    """How many samples are kept (a number, or a fraction in (0, 1))."""

    @model_validator(mode="after")
    def _one_filter(self) -> Subset:
        if self.only_classes is not None and self.exclude_classes is not None:
            raise ValueError("`only_classes` and `exclude_classes` are both given, expected one of them")
        return self

    def apply(self, split: Split, seed: int) -> tuple[Tensor, Tensor]:
        """The targets and the indices of the samples that are left (see :meth:`Split.subset`)."""
        kept = self._kept_classes(split).nonzero().flatten()
        if not len(kept):
            raise InputError(f"no sample of split {split.name!r} is left: {self._filter(split.classes)}")
        if self.samples is not None:
            groups, ids = split.groups[kept], split.ids[kept]
            kept = kept[chosen(groups, ids, self.samples, (seed, _SAMPLES), what="samples")]
        targets = split.targets[kept]
        if self.labels is not None:
            labelled = chosen(_grouped(targets), split.ids[kept], self.labels, (seed, _LABELS), what="labels")
            limited = unknown(targets)
            limited[labelled] = targets[labelled]
            targets = limited
        return targets, kept

    def describe(self, split: Split) -> str:
        """One line for a report about what is left of ``split``: how many samples, how many labels.

        Raises:
            InputError: as :meth:`Split.subset` does.
        """
        targets, kept = self.apply(split, 0)
        groups = _grouped(targets)
        counts = groups[groups != IGNORE_INDEX].unique(return_counts=True)[1]
        labelled, all_of_them = int(counts.sum()), len(kept) == len(split)
        noun, kept_classes = split.noun, self._filter(split.classes)
        per_class = _per_class(counts) if targets.ndim == 1 else ""
        if not split.classes:
            return f"{len(kept):,} of {len(split):,} {noun}" if not all_of_them else f"all {len(split):,} {noun}"
        conditions = f" ({kept_classes})" if kept_classes else ""
        if all_of_them and labelled < len(kept):
            return f"{labelled:,} of {len(split):,} {noun} are labelled{per_class}"
        samples = f"{len(split):,} {noun}" if all_of_them else f"{len(kept):,} of {len(split):,} {noun}{conditions}"
        if labelled == len(kept):
            return f"{samples}, all labelled"
        return f"{samples}; {labelled:,} of them are labelled{per_class}"

    def _filter(self, classes: tuple[str, ...]) -> str:
        names = self.only_classes if self.only_classes is not None else self.exclude_classes
        if names is None:
            return ""
        shown = listing([name if isinstance(name, str) else classes[name] for name in names])
        word = "without" if self.only_classes is None else "only"
        return f"{word} {'class' if len(names) == 1 else 'classes'} {shown}"

    def _kept_classes(self, split: Split) -> Tensor:
        names = self.only_classes if self.only_classes is not None else self.exclude_classes
        if names is None:
            return torch.ones(len(split), dtype=torch.bool)
        if split.targets.ndim > 1:
            of_language = isinstance(split.inputs, Pairs) or are_tokens(split.inputs)
            several = split.noun if of_language else f"{split.noun} with several labels"
            what = "numbers" if split.targets.is_floating_point() else several
            raise InputError(
                f"`only_classes` and `exclude_classes` choose samples by their class, and {what} have none"
            )
        field = "exclude_classes" if self.only_classes is None else "only_classes"
        indices = [_class_index(name, split.classes, field) for name in names]
        among = torch.isin(split.targets, torch.tensor(indices, dtype=torch.int64))
        return among if self.only_classes is not None else ~among & known(split.targets)


def _grouped(targets: Tensor) -> Tensor:
    """Of each sample the class by which it is chosen, int64 (N,): those with several targets are one class.

    Args:
        targets: (N,), or (N, positions), or numbers (N, numbers).
    """
    if targets.ndim == 1:
        return targets
    there = known(targets)
    return torch.where(there if there.ndim == 1 else there.any(1), 0, IGNORE_INDEX)


def _per_class(counts: Tensor) -> str:
    if not len(counts):
        return ""
    least, most = int(counts.min()), int(counts.max())
    return f" ({least:,} per class)" if least == most else f" ({least:,} to {most:,} per class)"


def _class_index(name: str | int, classes: tuple[str, ...], field: str) -> int:
    if isinstance(name, int):
        if 0 <= name < len(classes):
            return name
        raise InputError(f"`{field}` names class {name}, expected an index from 0 to {len(classes) - 1}")
    if name in classes:
        return classes.index(name)
    raise InputError(f"`{field}` names class {name!r}{nearest(name, classes)}; the classes are {listing(classes)}")
