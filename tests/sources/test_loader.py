"""Batches: the right samples, in an order that is a function of seed and epoch, whoever reads them."""

import io
import multiprocessing
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from understudy.batch import IGNORE_INDEX
from understudy.errors import InputError
from understudy.sources.images import Form, lazy
from understudy.sources.loader import Loader
from understudy.sources.splits import Split
from understudy.views import Views


def split_of(count, *, shape=(1, 4, 4)):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)
    return Split(inputs, torch.arange(count) % 10, torch.arange(count) * 7 + 1000, tuple("0123456789"), "train")


def lazy_twin(split):
    """The same images, still encoded."""

    def encoded(image):
        buffer = io.BytesIO()
        Image.fromarray(image[0].numpy()).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    features = datasets.Features({"image": datasets.Image(decode=False)})
    records = datasets.Dataset.from_dict({"image": [encoded(image) for image in split.inputs]}, features)
    return Split(lazy(records, Form(), split.name), split.targets, split.ids, split.classes, split.name)


FIELDS = ("inputs", "targets", "ids", "label_pairs", "shares")


def same(left, right):
    pairs = [(getattr(left, name), getattr(right, name)) for name in FIELDS]
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs)


def mixable(count):
    """Images, some of which have no label."""
    split = split_of(count)
    return replace(split, targets=split.targets.masked_fill(torch.arange(count) % 3 == 1, IGNORE_INDEX))


@given(
    count=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    shuffle=st.booleans(),
    views=st.booleans(),
    epoch=st.integers(0, 3),
)
@settings(max_examples=40, deadline=None)
def test_it_yields_what_a_handwritten_loop_does(count, batch_size, shuffle, views, epoch):
    split = split_of(count)
    views = Views(shift=1, flip=True) if views else None
    loader = Loader(split, batch_size=batch_size, seed=3, shuffle=shuffle, views=views)
    loader.set_epoch(epoch)
    batches = list(loader)
    assert len(batches) == len(loader)
    seen = torch.cat([(batch.ids - 1000) // 7 for batch in batches])
    assert sorted(seen.tolist()) == list(range(count))
    if not shuffle:
        assert seen.tolist() == list(range(count))
    for number, batch in enumerate(batches):
        chosen = seen[number * batch_size : (number + 1) * batch_size]
        images = split.inputs[chosen]
        if views is not None:
            images = views.apply(images, split.ids[chosen], view=epoch, seed=3)
        assert batch.inputs.dtype == torch.float32
        assert torch.equal(batch.inputs, images.float() / 255)
        assert torch.equal(batch.targets, split.targets[chosen])


def test_sets_larger_than_one_chunk_are_read_whole():
    split = split_of(3000, shape=(3, 16, 16))  # 2.3 MB
    seen = torch.cat([batch.ids for batch in Loader(split, batch_size=64)])
    assert torch.equal(seen.sort().values, split.ids)


def test_the_order_is_a_function_of_seed_and_epoch():
    split = split_of(50)
    loader, twin = Loader(split, batch_size=8, seed=5), Loader(split, batch_size=8, seed=5)
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    orders = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        orders.append(torch.cat([batch.ids for batch in loader]))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0], orders[1])
    assert torch.equal(orders[0], torch.cat([batch.ids for batch in twin]))
    assert not torch.equal(orders[0], torch.cat([batch.ids for batch in Loader(split, batch_size=8, seed=6)]))


def test_an_epoch_chosen_during_an_iteration_is_for_the_next_one():
    loader = Loader(split_of(20), batch_size=4, views=Views(shift=1))
    whole = list(loader)
    running = iter(loader)
    first = next(running)
    loader.set_epoch(1)
    assert all(same(a, b) for a, b in zip(whole, [first, *running], strict=True))


@given(start=st.integers(0, 6), world=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_it_goes_on_where_it_was_left(start, world):
    loader = Loader(split_of(43), batch_size=8, views=Views(flip=True, shift=1), rank=world - 1, world=world)
    whole = list(loader)
    assert len(whole) == 6
    rest = list(loader.iterate(start))
    assert all(same(a, b) for a, b in zip(whole[start:], rest, strict=True))


@given(count=st.integers(1, 60), batch_size=st.integers(1, 20), world=st.integers(2, 5), drop_last=st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_union_of_all_ranks_is_the_single_batch(count, batch_size, world, drop_last):
    drop_last = drop_last and count >= batch_size
    split, views = split_of(count), Views(shift=1)
    alone = list(Loader(split, batch_size=batch_size, views=views, drop_last=drop_last))
    ranks = [
        list(Loader(split, batch_size=batch_size, views=views, drop_last=drop_last, rank=rank, world=world))
        for rank in range(world)
    ]
    assert {len(batches) for batches in ranks} == {len(alone)}
    for number, batch in enumerate(alone):
        parts = [batches[number] for batches in ranks]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        for name in ("inputs", "targets", "ids"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))


def test_a_last_batch_that_is_not_full_can_be_left_out():
    loader = Loader(split_of(10), batch_size=4, drop_last=True)
    assert [len(batch) for batch in loader] == [4, 4]
    assert len(loader) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_encoded_images_give_the_same_batches(workers):
    split, others = split_of(20), multiprocessing.active_children()
    views, state = Views(shift=1, flip=True), torch.random.get_rng_state()
    expected = Loader(split, batch_size=6, views=views)
    loader = Loader(lazy_twin(split), batch_size=6, views=views, workers=workers)
    for epoch in (0, 1):
        expected.set_epoch(epoch)
        loader.set_epoch(epoch)
        assert all(same(a, b) for a, b in zip(expected, loader, strict=True))
    assert all(same(a, b) for a, b in zip(expected.iterate(2), loader.iterate(2), strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert set(multiprocessing.active_children()) <= set(others)  # its workers have ended


def jitter(image):
    """Stands for any random transform of a library."""
    return image.roll(int(torch.randint(0, 4, ())), -1)


def test_a_transform_of_a_library_is_repeatable_per_sample():
    v2 = pytest.importorskip("torchvision.transforms.v2")
    split = split_of(24, shape=(3, 16, 16))
    transform = v2.Compose([v2.RandomResizedCrop(8, antialias=True), v2.RandomHorizontalFlip()])
    state = torch.random.get_rng_state()
    by_id = {}
    for batch_size, order in ((5, True), (7, False)):
        for batch in Loader(split, batch_size=batch_size, shuffle=order, transform=transform):
            assert batch.inputs.shape[1:] == (3, 8, 8)
            for sample, image in zip(batch.ids.tolist(), batch.inputs, strict=True):
                assert torch.equal(by_id.setdefault(sample, image), image)
    assert torch.equal(torch.random.get_rng_state(), state)
    later = Loader(split, batch_size=24, shuffle=False, transform=transform)
    later.set_epoch(1)
    assert not torch.equal(next(iter(later)).inputs, torch.stack(list(by_id.values())))


def test_a_transform_runs_in_workers_as_it_does_here():
    split = split_of(12)
    expected = Loader(split, batch_size=5, transform=jitter)
    loader = Loader(lazy_twin(split), batch_size=5, transform=jitter, workers=1)
    assert all(same(a, b) for a, b in zip(expected, loader, strict=True))


def test_vectors_pass_through():
    inputs = torch.randn(9, 4)
    split = Split(inputs, torch.arange(9) % 3, torch.arange(9), ("a", "b", "c"), "train")
    batches = list(Loader(split, batch_size=4, shuffle=False))
    assert torch.equal(torch.cat([batch.inputs for batch in batches]), inputs)
    with pytest.raises(InputError, match=r"`views` change images \(mirrored at random\).*shape \(4,\)"):
        Loader(split, batch_size=4, views=Views(flip=True))


def test_a_batch_does_not_change_when_the_next_is_altered():
    split = split_of(16)
    before = split.inputs.clone()
    batches = []
    for batch in Loader(split, batch_size=4, shuffle=False):
        batches.append(batch.inputs.clone())
        batch.inputs.zero_()
    assert torch.equal(torch.cat(batches), before.float() / 255)
    assert torch.equal(split.inputs, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "at least one sample per batch"),
        ({"batch_size": 4, "rank": 2, "world": 2}, "0 ≤ rank < world"),
        ({"batch_size": 11, "drop_last": True}, "10 samples, fewer than one batch of 11"),
    ],
)
def test_impossible_loaders_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Loader(split_of(10), **arguments)


def test_an_empty_split_is_refused():
    split = split_of(3).select(torch.tensor([], dtype=torch.int64))
    with pytest.raises(InputError, match="split 'train' is empty"):
        Loader(split, batch_size=1)


def test_a_picture_that_is_broken_is_named_when_it_is_asked_for():
    noise = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    features = datasets.Features({"image": datasets.Image(decode=False)})
    records = datasets.Dataset.from_dict(
        {"image": [{"bytes": data, "path": None} for data in (buffer.getvalue(), buffer.getvalue()[:150])]}, features
    )
    images = lazy(records, Form(), "train")
    split = Split(images, torch.zeros(2, dtype=torch.int64), torch.arange(2), ("a",), "train")
    with pytest.raises(InputError, match="image 1 cannot be decoded"):
        list(Loader(split, batch_size=2, workers=0))


MIXING = [Views(mixup=0.7, shift=1, flip=True), Views(cutmix=1.0, flip=True)]


@pytest.mark.parametrize("views", MIXING)
@pytest.mark.parametrize("as_float", [False, True])
def test_mixed_batches_are_what_a_handwritten_loop_makes(views, as_float):
    split = mixable(23)
    if as_float:
        split = replace(split, inputs=split.inputs / 255)
    loader = Loader(split, batch_size=5, seed=3, views=views)
    loader.set_epoch(2)
    # a labelled sample meets labelled ones, one without a label those without
    kinds = {True: [], False: []}
    for index in range(23):
        kinds[int(split.targets[index]) != IGNORE_INDEX].append(index)
    seen = []
    for batch in loader:
        assert batch.inputs.dtype == torch.float32
        assert (batch.targets == IGNORE_INDEX).all()
        for row, sample in enumerate(batch.ids.tolist()):
            index = (sample - 1000) // 7
            seen.append(index)
            one = split.ids[index : index + 1]
            possible = kinds[int(split.targets[index]) != IGNORE_INDEX]
            partner = possible[int(views.partners(one, among=len(possible), view=2, seed=3))]
            shown = [
                views.apply(split.inputs[place : place + 1], split.ids[place : place + 1], view=2, seed=3)
                for place in (index, partner)
            ]
            image, share = views.mix(*shown, one, view=2, seed=3)
            torch.testing.assert_close(batch.inputs[row], image[0] if as_float else image[0].float() / 255)
            assert batch.label_pairs[row].tolist() == [int(split.targets[index]), int(split.targets[partner])]
            assert batch.shares[row] == share
    assert sorted(seen) == list(range(23))


@pytest.mark.parametrize("views", MIXING)
def test_a_mixed_sample_is_the_same_in_every_batch_process_and_resumption(views):
    split = mixable(40)

    def shown(*loaders, start=0):
        batches = [batch for loader in loaders for batch in loader.iterate(start)]
        rows = {}
        for batch in batches:
            for number, sample in enumerate(batch.ids.tolist()):
                rows[sample] = [getattr(batch, name)[number] for name in FIELDS]
        return rows

    whole = shown(Loader(split, batch_size=40, shuffle=False, views=views))
    assert len(whole) == 40
    others = [
        shown(Loader(split, batch_size=7, views=views)),
        shown(*(Loader(split, batch_size=9, views=views, rank=rank, world=2) for rank in range(2))),
        shown(Loader(lazy_twin(split), batch_size=11, views=views, workers=0)),
        shown(Loader(lazy_twin(split), batch_size=11, views=views, workers=1)),
        shown(Loader(split, batch_size=6, views=views), start=4),
    ]
    for rows in others:
        assert all(torch.equal(a, b) for sample, row in rows.items() for a, b in zip(row, whole[sample], strict=True))
    assert [len(rows) for rows in others] == [40, 40, 40, 40, 16]


def test_as_many_mixed_samples_are_supervised_as_are_labelled():
    split = split_of(500)
    few = replace(split, targets=split.targets.masked_fill(torch.arange(500) >= 20, IGNORE_INDEX))
    for labelled, count in ((split, 500), (few, 20), (replace(split, targets=few.targets.roll(1)), 20)):
        batches = list(Loader(labelled, batch_size=64, views=Views(mixup=1.0)))
        assert sum(int(batch.supervised.sum()) for batch in batches) == count
        assert sum(int(batch.labelled.sum()) for batch in batches) == 0
    nothing = replace(split, targets=torch.full((500,), IGNORE_INDEX))
    assert sum(int(batch.supervised.sum()) for batch in Loader(nothing, batch_size=64, views=Views(mixup=1.0))) == 0


def test_the_partner_goes_through_the_transform_as_itself():
    split = split_of(30)
    plain = {}
    for batch in Loader(split, batch_size=30, transform=jitter):
        plain.update(zip(batch.ids.tolist(), batch.inputs, strict=True))
    views = Views(mixup=1.0)
    for batch in Loader(split, batch_size=8, transform=jitter, views=views):
        partners = split.ids[views.partners(batch.ids, among=30, view=0, seed=0)].tolist()
        for image, sample, other, share in zip(batch.inputs, batch.ids.tolist(), partners, batch.shares, strict=True):
            torch.testing.assert_close(image, share * plain[sample] + (1 - share) * plain[other])


def test_what_is_not_an_image_cannot_be_mixed():
    split = Split(torch.randn(9, 4), torch.arange(9) % 3, torch.arange(9), ("a", "b", "c"), "train")
    with pytest.raises(InputError, match=r"averaged with another by mixup, α = 1.*shape \(4,\)"):
        Loader(split, batch_size=4, views=Views(mixup=1.0))
