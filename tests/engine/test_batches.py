"""Any loader, from any place in it, in groups of one step."""

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, TensorDataset

from understudy import IGNORE_INDEX, Batch, Classification, CrossEntropy, InputError, SoftTargets
from understudy.engine.batches import Batches, EpochLoader, with_totals
from understudy.engine.process import process
from understudy.engine.randomness import random_state, seed_all, set_random_state
from understudy.knowledge import Knowledge
from understudy.sources.loader import Loader
from understudy.sources.splits import Split


def wrapped(loader) -> Batches:
    return Batches(loader, task=Classification(), current=process())


def firsts(groups) -> list[float]:
    return [float(batch.inputs[0, 0]) for group in groups for batch in group]


def data(count: int = 20) -> TensorDataset:
    return TensorDataset(torch.arange(float(count))[:, None], torch.zeros(count, dtype=torch.int64))


@pytest.mark.parametrize("own_generator", [False, True])
def test_a_shuffling_data_loader_goes_on_in_the_same_order(own_generator):
    generator = torch.Generator().manual_seed(5) if own_generator else None
    batches = wrapped(DataLoader(data(), batch_size=2, shuffle=True, generator=generator))
    states = batches.generator_states()
    assert len(states) == own_generator
    seed_all(0, 0, 0)
    whole = firsts(batches.groups(batches.open(0, 0), 1))
    seed_all(0, 0, 0)
    batches.set_generator_states(states)
    assert firsts(batches.groups(batches.open(0, 4), 1)) == whole[4:]
    assert sorted(whole) != whole


def test_a_sampler_with_a_generator_is_kept_too():
    sampler = RandomSampler(data(), generator=torch.Generator().manual_seed(1))
    assert len(wrapped(DataLoader(data(), batch_size=2, sampler=sampler)).generator_states()) == 1


def test_our_loader_begins_anywhere():
    split = Split(
        inputs=torch.rand(20, 3),
        targets=torch.zeros(20, dtype=torch.int64),
        ids=torch.arange(20),
        classes=("a",),
        name="x",
    )
    loader = Loader(split, batch_size=2, seed=3)
    assert isinstance(loader, EpochLoader)
    batches = wrapped(loader)
    whole = firsts(batches.groups(batches.open(1, 0), 1))
    assert firsts(batches.groups(batches.open(1, 7), 1)) == whole[7:]
    assert firsts(batches.groups(batches.open(2, 0), 1)) != whole


def test_the_first_batch_disturbs_no_generator_of_the_loader():
    generator = torch.Generator().manual_seed(5)
    batches = wrapped(DataLoader(data(), batch_size=2, shuffle=True, generator=generator))
    before = batches.generator_states()
    state = random_state()
    batches.first()
    set_random_state(state)
    assert batches.generator_states() == before


def test_groups():
    batches = wrapped(DataLoader(data(10), batch_size=2))
    assert [len(group) for group in batches.groups(batches.open(0, 0), 2)] == [2, 2, 1]


class Endless(IterableDataset):
    def __iter__(self):
        return iter(data())


@pytest.mark.parametrize(
    ("loader", "message"),
    [(iter([]), "has no length"), ([], "has no batches"), (DataLoader(Endless()), "has no length")],
)
def test_loaders_that_cannot_be_trained_on(loader, message):
    with pytest.raises(InputError, match=message):
        wrapped(loader)


def test_totals_make_the_mean_of_parts_the_mean_of_the_whole():
    torch.manual_seed(0)
    logits, teacher, targets = torch.randn(12, 4), torch.randn(12, 4), torch.randint(4, (12,))
    targets[[0, 1, 2, 3, 4, 9]] = IGNORE_INDEX
    methods = [CrossEntropy(), SoftTargets(), SoftTargets(rows="labelled"), SoftTargets(rows="unlabelled")]
    slices = [slice(0, 5), slice(5, 6), slice(6, 12)]
    parts = with_totals([Batch(inputs=logits[one], targets=targets[one]) for one in slices], process())
    for method in methods:
        whole = method.loss(Knowledge(logits), Knowledge(teacher), Batch(inputs=logits, targets=targets))
        losses = [
            method.loss(Knowledge(logits[one]), Knowledge(teacher[one]), part)
            for one, part in zip(slices, parts, strict=True)
        ]
        assert torch.allclose(sum(losses) / 3, whole)


def test_totals_of_mixed_samples_make_the_mean_of_parts_the_mean_of_the_whole():
    torch.manual_seed(0)
    logits, teacher, shares = torch.randn(12, 4), torch.randn(12, 4), torch.rand(12)
    pairs, targets = torch.randint(4, (12, 2)), torch.full((12,), IGNORE_INDEX)
    pairs[[0, 1, 2, 5, 9], 1] = IGNORE_INDEX
    pairs[[3, 9], 0] = IGNORE_INDEX

    def batch(one):
        return Batch(inputs=logits[one], targets=targets[one], label_pairs=pairs[one], shares=shares[one])

    slices = [slice(0, 5), slice(5, 6), slice(6, 12)]
    parts = with_totals([batch(one) for one in slices], process())
    assert parts[0].labelled_total == 6 / 3
    for method in (CrossEntropy(), SoftTargets(rows="labelled"), SoftTargets(rows="unlabelled"), SoftTargets()):
        whole = method.loss(Knowledge(logits), Knowledge(teacher), batch(slice(0, 12)))
        losses = [
            method.loss(Knowledge(logits[one]), Knowledge(teacher[one]), part)
            for one, part in zip(slices, parts, strict=True)
        ]
        assert whole > 0
        assert torch.allclose(sum(losses) / 3, whole)


def test_totals_with_a_single_label_in_many_parts():
    logits = torch.randn(4, 3)
    targets = torch.tensor([IGNORE_INDEX, 2, IGNORE_INDEX, IGNORE_INDEX])
    parts = with_totals([Batch(inputs=logits[i : i + 1], targets=targets[i : i + 1]) for i in range(4)], process())
    losses = [
        CrossEntropy().loss(Knowledge(logits[i : i + 1]), Knowledge(logits), part) for i, part in enumerate(parts)
    ]
    whole = CrossEntropy().loss(Knowledge(logits), Knowledge(logits), Batch(inputs=logits, targets=targets))
    assert torch.allclose(sum(losses) / 4, whole)
