"""Fewer samples, fewer labels, fewer classes: exactly what was asked, and always the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from understudy.batch import IGNORE_INDEX
from understudy.errors import InputError
from understudy.sources.selection import shared, spread
from understudy.sources.splits import Split, Subset

CLASSES = ("zero", "one", "two", "three")


def split_of(counts, *, unlabelled=0):
    targets = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    targets = torch.cat([targets, torch.full((unlabelled,), IGNORE_INDEX)])
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    targets = targets[order]
    ids = torch.arange(len(targets)) + 500
    inputs = ids.view(-1, 1, 1, 1).expand(-1, 1, 2, 2).remainder(256).to(torch.uint8)
    return Split(inputs, targets, ids, CLASSES, "train")


def labelled_by_class(split):
    return torch.bincount(split.targets[split.targets >= 0], minlength=4).tolist()


@given(counts=st.lists(st.integers(0, 20), min_size=4, max_size=4).filter(any), data=st.data(), seed=st.integers(0, 9))
@settings(max_examples=80, deadline=None)
def test_labels_are_spread_as_evenly_as_the_classes_allow(counts, data, seed):
    split = split_of(counts, unlabelled=3)
    present = sum(count > 0 for count in counts)
    labels = data.draw(st.integers(present, sum(counts)))
    limited = split.subset(Subset(labels=labels), seed)
    assert len(limited) == len(split)  # the others stay, without a label
    assert limited.labelled == labels
    kept = limited.targets >= 0
    assert torch.equal(limited.targets[kept], split.targets[kept])
    taken = labelled_by_class(limited)
    for number, count in zip(taken, counts, strict=True):
        assert number == count or number >= max(taken) - 1
        assert number >= min(count, 1)


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=6), fraction=st.floats(0.01, 0.99))
@settings(max_examples=80, deadline=None)
def test_fractions_keep_the_proportions(counts, fraction):
    available = torch.tensor(counts)
    count = max(round(fraction * sum(counts)), len(counts))
    taken = shared(available, count)
    assert taken.sum() == count
    assert (taken >= 1).all()
    assert (taken <= available).all()
    if count * min(counts) >= sum(counts):  # no class had to be lifted to one
        assert ((taken - available * count / sum(counts)).abs() < 1).all()


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=6), data=st.data())
@settings(max_examples=80, deadline=None)
def test_spreading_uses_every_sample_at_most_once(counts, data):
    count = data.draw(st.integers(0, sum(counts)))
    taken = spread(torch.tensor(counts), count)
    assert taken.sum() == count
    assert (taken <= torch.tensor(counts)).all()


@given(seed=st.integers(0, 5), small=st.integers(4, 20), more=st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_a_smaller_choice_is_part_of_a_larger_one(seed, small, more):
    split = split_of((12, 12, 12, 12))
    for field in ("labels", "samples"):
        one, other = (split.subset(Subset(**{field: number}), seed) for number in (small, small + more))
        ids = [set(part.ids[part.targets >= 0].tolist()) for part in (one, other)]
        assert ids[0] <= ids[1]


def test_the_choice_is_a_function_of_the_seed_and_the_samples():
    split = split_of((30, 30, 30, 30))
    chosen = set(split.subset(Subset(samples=20), 1).ids.tolist())
    turned = split.select(torch.arange(len(split)).flip(0))
    assert chosen == set(turned.subset(Subset(samples=20), 1).ids.tolist())
    assert chosen != set(split.subset(Subset(samples=20), 2).ids.tolist())


def test_another_seed_labels_other_samples():
    split = split_of((30, 30, 30, 30))
    one, other = (split.subset(Subset(labels=20), seed) for seed in (1, 2))
    assert not torch.equal(one.targets, other.targets)
    assert torch.equal(one.targets, split.subset(Subset(labels=20), 1).targets)


@pytest.mark.parametrize("field", ["labels", "samples"])
def test_a_fraction_is_taken_of_each_class_and_a_number_is_spread(field):
    split = split_of((80, 40, 20, 2))
    assert labelled_by_class(split.subset(Subset(**{field: 0.25}))) == [20, 10, 5, 1]
    assert labelled_by_class(split.subset(Subset(**{field: 36}))) == [12, 11, 11, 2]


def test_classes_are_left_out_and_the_others_keep_their_number():
    split = split_of((5, 6, 7, 8), unlabelled=4)
    without = split.subset(Subset(exclude_classes=("three",)))
    assert labelled_by_class(without) == [5, 6, 7, 0]
    assert len(without) == 18  # nobody knows that an unlabelled sample is not a three
    assert without.classes == CLASSES
    only = split.subset(Subset(only_classes=("one", 2)))
    assert labelled_by_class(only) == [0, 6, 7, 0]
    assert torch.equal(only.inputs[:, 0, 0, 0].long(), only.ids.remainder(256))


def test_filters_come_first_then_samples_then_labels():
    part = split_of((20, 20, 20, 20)).subset(Subset(exclude_classes=(3,), samples=30, labels=6), 0)
    assert len(part) == 30
    assert labelled_by_class(part) == [2, 2, 2, 0]


@pytest.mark.parametrize(
    ("subset", "text"),
    [
        (Subset(), "1,200 images, all labelled"),
        (Subset(labels=100), "100 of 1,200 images are labelled (25 per class)"),
        (Subset(labels=101), "101 of 1,200 images are labelled (25 to 26 per class)"),
        (Subset(labels=0.1), "120 of 1,200 images are labelled (30 per class)"),
        (Subset(samples=40), "40 of 1,200 images, all labelled"),
        (Subset(exclude_classes=(3,)), "900 of 1,200 images (without class 'three'), all labelled"),
        (Subset(only_classes=("one", 2)), "600 of 1,200 images (only classes 'one', 'two'), all labelled"),
        (
            Subset(exclude_classes=("three",), samples=0.5, labels=9),
            "450 of 1,200 images (without class 'three'); 9 of them are labelled (3 per class)",
        ),
    ],
)
def test_what_is_left_is_said_in_words(subset, text):
    assert subset.describe(split_of((300, 300, 300, 300))) == text


def test_vectors_are_called_samples():
    split = Split(torch.zeros(8, 3), torch.arange(8) % 4, torch.arange(8), CLASSES, "train")
    assert Subset(labels=4).describe(split) == "4 of 8 samples are labelled (1 per class)"


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        (
            Subset(labels=3),
            r"`labels: 3` cannot be met: there are 20 labelled samples in 4 classes; expected .* from 4",
        ),
        (Subset(labels=21), r"`labels: 21` cannot be met.* to 20"),
        (Subset(samples=25), r"`samples: 25` cannot be met"),
        (Subset(only_classes=("thre",)), "`only_classes` names class 'thre'; nearest: 'three'; the classes are 'zero'"),
        (Subset(exclude_classes=(4,)), "`exclude_classes` names class 4, expected an index from 0 to 3"),
        (Subset(exclude_classes=CLASSES), "no sample of split 'train' is left: without classes 'zero', 'one'"),
        (Subset(only_classes=()), "no sample of split 'train' is left: only classes"),
    ],
)
def test_what_cannot_be_met_is_refused(subset, message):
    split = split_of((5, 5, 5, 5), unlabelled=2)
    with pytest.raises(InputError, match=message):
        split.subset(subset)


@pytest.mark.parametrize(
    "fields",
    [
        {"labels": 0},
        {"labels": 1.0},
        {"labels": -0.1},
        {"samples": True},
        {"only_classes": (1,), "exclude_classes": (2,)},
    ],
)
def test_values_that_mean_nothing(fields):
    with pytest.raises(ValidationError):
        Subset(**fields)


def test_a_subset_is_the_same_in_a_recipe():
    subset = Subset(labels=0.5, only_classes=("one", 2))
    assert Subset.model_validate_json(subset.model_dump_json()) == subset
    assert Subset.model_validate({"labels": 10}).labels == 10
