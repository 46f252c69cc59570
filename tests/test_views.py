"""Views against a reference that treats one image at a time, pixel by pixel."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import beta

from understudy.errors import InputError
from understudy.views import Views, folded, random_below, random_bits

VIEWS = st.builds(
    Views,
    shift=st.integers(0, 3),
    crop_padding=st.integers(0, 3),
    flip=st.booleans(),
    cutout=st.integers(0, 5),
).filter(lambda views: views.changes)
ALL = Views(shift=2, crop_padding=2, flip=True, cutout=3)


def images_of(ids, *, channels=2, height=5, width=7, dtype=torch.uint8):
    """An image that depends on nothing but the sample's id, and is nowhere black."""
    pixels = torch.arange(channels * height * width).view(1, channels, height, width)
    return ((ids.view(-1, 1, 1, 1) * 31 + pixels * 7) % 254 + 1).to(dtype)


def naive(views, image, sample, *, view, seed):
    """The definition, with loops and Python integers; draws are read from the same streams."""

    def draw(bound, stream):
        return _splitmix(sample, folded(seed, view, stream), bound)

    _, height, width = image.shape
    down, right = draw(2 * views.shift + 1, 0) - views.shift, draw(2 * views.shift + 1, 1) - views.shift
    top, left = (draw(2 * views.crop_padding + 1, stream) - views.crop_padding for stream in (2, 3))
    mirrored = views.flip and draw(2, 4) == 1
    centre_y, centre_x = draw(height, 5), draw(width, 6)
    result = torch.zeros_like(image)
    for y in range(height):
        for x in range(width):
            below, beside = y - (centre_y - views.cutout // 2), x - (centre_x - views.cutout // 2)
            if 0 <= below < views.cutout and 0 <= beside < views.cutout:
                continue
            # `draw` is where the window begins in the padded image, so the picture moves the other way
            from_y, from_x = y + down, x + right
            if not (0 <= from_y < height and 0 <= from_x < width):
                continue
            if mirrored:
                from_x = width - 1 - from_x
            result[:, y, x] = image[:, _mirror(from_y + top, height), _mirror(from_x + left, width)]
    return result


def naive_mix(views, image, other, sample, *, view, seed):
    """The same for mixing: the mixed image, and the share of the first."""

    def draw(bound, stream):
        return _splitmix(sample, folded(seed, view, stream), bound)

    concentration = views.mixup or views.cutmix
    share = beta.ppf((draw(4096, 8) + 0.5) / 4096, concentration, concentration)
    channels, height, width = image.shape
    if views.mixup:
        pixels = [
            [
                [share * float(image[c, y, x]) + (1 - share) * float(other[c, y, x]) for x in range(width)]
                for y in range(height)
            ]
            for c in range(channels)
        ]
        return torch.tensor(pixels), share
    result, pasted = image.clone(), 0
    sides = [int(size * math.sqrt(1 - share)) for size in (height, width)]
    centre_y, centre_x = draw(height, 9), draw(width, 10)
    for y in range(height):
        for x in range(width):
            below, beside = y - (centre_y - sides[0] // 2), x - (centre_x - sides[1] // 2)
            if 0 <= below < sides[0] and 0 <= beside < sides[1]:
                result[:, y, x] = other[:, y, x]
                pasted += 1
    return result, 1 - pasted / (height * width)


def _mirror(position, size):
    position = abs(position)
    return 2 * (size - 1) - position if position >= size else position


def _splitmix(sample, key, bound):
    mask = 2**64 - 1
    z = (sample * 0x9E3779B97F4A7C15 + key) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    z ^= z >> 31
    return ((z >> 32) * bound) >> 32


@given(views=VIEWS, ids=st.lists(st.integers(0, 2**40), min_size=1, max_size=6), view=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_a_batch_is_what_the_loop_makes_of_each_sample(views, ids, view):
    ids = torch.tensor(ids)
    images = images_of(ids)
    expected = [naive(views, image, int(sample), view=view, seed=7) for image, sample in zip(images, ids, strict=True)]
    before = images.clone()
    assert torch.equal(views.apply(images, ids, view=view, seed=7), torch.stack(expected))
    assert torch.equal(images, before)


@given(views=VIEWS, order=st.permutations(range(9)), cut=st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_order_and_batch_do_not_matter(views, order, cut):
    ids = torch.arange(9) * 1009
    whole = views.apply(images_of(ids), ids, view=3, seed=0)
    mixed = ids[torch.tensor(order)]
    parts = [views.apply(images_of(part), part, view=3, seed=0) for part in (mixed[:cut], mixed[cut:])]
    assert torch.equal(torch.cat(parts), whole[torch.tensor(order)])


@given(views=VIEWS)
@settings(max_examples=20, deadline=None)
def test_floats_and_bytes_are_treated_alike_and_the_global_generator_is_left_alone(views):
    ids = torch.arange(16)
    state = torch.random.get_rng_state()
    of_bytes = views.apply(images_of(ids), ids, view=1, seed=2)
    of_floats = views.apply(images_of(ids, dtype=torch.float32), ids, view=1, seed=2)
    assert torch.equal(of_bytes.float(), of_floats)
    assert of_bytes.dtype == torch.uint8
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("views", [Views(shift=2), Views(crop_padding=2), Views(flip=True), Views(cutout=3), ALL])
def test_another_view_or_seed_shows_something_else(views):
    ids = torch.arange(64)
    images = images_of(ids, height=9, width=9)
    first = views.apply(images, ids, view=0, seed=0)
    assert torch.equal(first, views.apply(images.clone(), ids.clone(), view=0, seed=0))
    for view, seed in ((1, 0), (0, 1)):
        other = views.apply(images, ids, view=view, seed=seed)
        assert (other != first).flatten(1).any(1).float().mean() > 0.3


@given(shift=st.integers(1, 3), view=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_a_shift_moves_by_at_most_that_many_pixels_and_black_comes_in(shift, view):
    ids = torch.arange(100)
    dots = torch.zeros(100, 1, 9, 9)
    dots[:, 0, 4, 4] = 1.0
    moved = Views(shift=shift).apply(dots, ids, view=view, seed=0).nonzero()[:, 2:] - 4
    assert len(moved) == 100  # no dot is lost, none doubled
    assert moved.abs().max() == shift
    full = Views(shift=shift).apply(torch.ones(100, 1, 9, 9), ids, view=view, seed=0)
    assert torch.equal(full.sum((1, 2, 3)), ((9 - moved[:, 0].abs()) * (9 - moved[:, 1].abs())).float())


def test_all_offsets_are_equally_likely():
    counts = torch.bincount(random_below(5, torch.arange(50_000), 1, 2, 3), minlength=5)
    assert counts.sum() == 50_000
    chi_squared = ((counts - 10_000) ** 2 / 10_000).sum()
    assert chi_squared < 18.5  # 0.999 quantile for 4 degrees of freedom
    flips = random_below(2, torch.arange(50_000), 0, 0, 4).float().mean()
    assert abs(flips - 0.5) < 0.01


def test_consecutive_ids_views_and_streams_are_independent():
    ids = torch.arange(20_000)
    draws = [random_below(2, ids, *key).float() for key in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))]
    draws.append(draws[0].roll(1))
    correlation = torch.corrcoef(torch.stack(draws)) - torch.eye(5)
    assert correlation.abs().max() < 0.03


def test_a_shift_does_not_depend_on_what_else_is_switched_on():
    ids = torch.arange(32)
    dots = torch.zeros(32, 1, 9, 9)
    dots[:, 0, 4, 4] = 1.0  # its own mirror image
    alone = Views(shift=2).apply(dots, ids, view=0, seed=0)
    assert torch.equal(Views(shift=2, flip=True).apply(dots, ids, view=0, seed=0), alone)


def test_bits_are_those_of_splitmix64():
    """The first outputs of the published generator for seed 1234567."""
    assert _splitmix(1, 1234567, 2**32) == 6457827717110365317 >> 32
    assert _splitmix(2, 1234567, 2**32) == 3203168211198807973 >> 32


def test_known_answers_stay():
    """A recording of a teacher on views is only good as long as these do not change."""
    assert random_below(5, torch.arange(10), 0, 0, 0).tolist() == [3, 4, 3, 4, 0, 1, 0, 1, 0, 3]
    assert random_bits(torch.tensor([0]), 0).item() == -2529857523242969672


def test_nothing_asked_changes_nothing():
    images = images_of(torch.arange(3))
    assert Views().apply(images, torch.arange(3), view=5, seed=1) is images
    assert not Views().changes


def test_an_empty_batch_stays_empty():
    assert ALL.apply(torch.zeros(0, 1, 9, 9), torch.zeros(0, dtype=torch.int64), view=0, seed=0).shape == (0, 1, 9, 9)


def test_what_is_not_images_with_ids_is_refused():
    with pytest.raises(InputError, match=r"images \(N, C, H, W\) with one id each"):
        ALL.apply(torch.zeros(3, 5), torch.arange(3), view=0, seed=0)
    with pytest.raises(InputError, match="one id each"):
        ALL.apply(torch.zeros(3, 1, 9, 9), torch.arange(4), view=0, seed=0)
    with pytest.raises(InputError, match="crop_padding: 5 reflects more than images of 5×9"):
        Views(crop_padding=5).apply(torch.zeros(1, 1, 5, 9), torch.arange(1), view=0, seed=0)


def test_description_says_what_happens():
    assert Views().describe() == "shown as they are"
    assert ALL.describe() == (
        "cropped after 2 px of reflected padding, mirrored at random, shifted by up to 2 px, a square of 3 px cut out"
    )


MIXING = st.builds(Views, mixup=st.floats(0.1, 8.0)) | st.builds(Views, cutmix=st.floats(0.1, 8.0))


@given(views=MIXING, ids=st.lists(st.integers(0, 2**40), min_size=1, max_size=6), view=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_a_mixed_batch_is_what_the_loop_makes_of_each_pair(views, ids, view):
    ids = torch.tensor(ids)
    images, others = images_of(ids), images_of(ids + 1)
    before = images.clone(), others.clone()
    expected = [
        naive_mix(views, image, other, int(sample), view=view, seed=7)
        for image, other, sample in zip(images, others, ids, strict=True)
    ]
    for dtype in (torch.uint8, torch.float32):
        mixed, shares = views.mix(images.to(dtype), others.to(dtype), ids, view=view, seed=7)
        assert mixed.dtype == (dtype if views.cutmix else torch.float32)
        torch.testing.assert_close(mixed.float(), torch.stack([image for image, _ in expected]).float())
        torch.testing.assert_close(shares.double(), torch.tensor([share for _, share in expected]).double())
    assert torch.equal(images, before[0])
    assert torch.equal(others, before[1])


def test_mixing_leaves_float_images_alone():
    ids = torch.arange(4)
    images, others = images_of(ids, dtype=torch.float32), images_of(ids + 1, dtype=torch.float32)
    before = images.clone(), others.clone()
    for views in (Views(mixup=1.0), Views(cutmix=1.0)):
        views.mix(images, others, ids, view=0, seed=0)
        assert torch.equal(images, before[0])
        assert torch.equal(others, before[1])


@given(views=MIXING, order=st.permutations(range(9)), cut=st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_how_samples_are_mixed_does_not_depend_on_order_and_batch(views, order, cut):
    def mixed(ids):
        return views.mix(images_of(ids), images_of(ids + 1), ids, view=3, seed=0)

    ids = torch.arange(9) * 1009
    whole, shuffled = mixed(ids), ids[torch.tensor(order)]
    parts = [torch.cat(pair) for pair in zip(mixed(shuffled[:cut]), mixed(shuffled[cut:]), strict=True)]
    for part, everything in zip(parts, whole, strict=True):
        assert torch.equal(part, everything[torch.tensor(order)])


def test_partners_are_drawn_for_each_sample_from_as_many_as_it_may_meet():
    ids, among = torch.arange(2000) * 31, torch.arange(2000) % 7 + 1
    drawn = Views(mixup=1.0).partners(ids, among=among, view=2, seed=5)
    expected = [
        _splitmix(sample, folded(5, 2, 7), bound) for sample, bound in zip(ids.tolist(), among.tolist(), strict=True)
    ]
    assert drawn.tolist() == expected
    assert all(drawn[among == bound].unique().tolist() == list(range(bound)) for bound in range(1, 8))
    other = Views(mixup=1.0).partners(ids, among=2000, view=3, seed=5)
    assert (other != Views(mixup=1.0).partners(ids, among=2000, view=2, seed=5)).float().mean() > 0.99


@pytest.mark.parametrize("concentration", [1e-4, 0.1, 0.4, 1.0, 8.0, 1e4])
def test_shares_are_distributed_as_beta(concentration):
    ids = torch.arange(50_000)
    images = torch.zeros(50_000, 1, 1, 1)
    shares = Views(mixup=concentration).mix(images, images, ids, view=0, seed=0)[1].double()
    assert abs(shares.mean() - 0.5) < 0.01
    torch.testing.assert_close(shares.var(), torch.tensor(0.25 / (2 * concentration + 1)).double(), rtol=0.03, atol=0.0)
    near_the_ends = ((shares < 0.01) | (shares > 0.99)).double().mean()
    assert abs(near_the_ends - 2 * beta.cdf(0.01, concentration, concentration)) < 0.01


def test_a_share_of_one_is_the_image_and_of_zero_the_other():
    ids = torch.arange(200)
    images, others = images_of(ids, dtype=torch.float32), images_of(ids + 1, dtype=torch.float32)
    for views in (Views(mixup=1e-6), Views(cutmix=1e-6)):
        mixed, shares = views.mix(images, others, ids, view=0, seed=0)
        first = shares == 1.0
        assert 60 < first.sum() < 140
        assert torch.equal(mixed[first], images[first])
        assert views.cutmix or torch.equal(mixed[shares == 0.0], others[shares == 0.0])


def test_known_mixes_stay():
    """A recording of a teacher on mixed views is only good as long as these do not change."""
    ids, images = torch.arange(4), torch.zeros(4, 1, 1, 1)
    assert Views(mixup=1.0).partners(ids, among=1000, view=0, seed=0).tolist() == [545, 676, 735, 557]
    assert (Views(mixup=1.0).mix(images, images, ids, view=0, seed=0)[1] * 8192).tolist() == [
        3337.0,
        6633.0,
        295.0,
        1547.0,
    ]


def test_impossible_mixing_is_refused():
    with pytest.raises(ValidationError, match="`mixup` and `cutmix` are both given, expected one of them"):
        Views(mixup=1.0, cutmix=1.0)
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValidationError, match="mixup"):
            Views(mixup=wrong)
    assert not ALL.mixes
    assert Views(mixup=0.2).mixes
    assert Views(cutmix=0.2).changes
    assert Views(mixup=0.2, flip=True).describe() == "mirrored at random, averaged with another by mixup, α = 0.2"
    assert Views(cutmix=1.0).describe() == "a box of another pasted in by cutmix, α = 1"
