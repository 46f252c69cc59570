"""Properties of the losses between maps, from features.py and feature_maps.py."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import (
    activation_boundary_loss,
    attention_transfer_loss,
    channel_wise_loss,
    cosine_feature_loss,
    fsp_loss,
    neuron_selectivity_loss,
    overhaul_loss,
    pearson_channel_loss,
    variational_loss,
)

seeds = st.integers(0, 2**31 - 1)
sizes = st.integers(1, 4)
factors = st.floats(0.01, 100.0)

by_map = pytest.mark.parametrize("loss", [attention_transfer_loss, neuron_selectivity_loss, channel_wise_loss])
by_row = pytest.mark.parametrize(
    "loss",
    [
        attention_transfer_loss,
        cosine_feature_loss,
        neuron_selectivity_loss,
        channel_wise_loss,
        activation_boundary_loss,
        lambda student, teacher, **rows: variational_loss(student, teacher, variance=torch.tensor([0.5, 2.0]), **rows),
        lambda student, teacher, **rows: fsp_loss((student, student), (teacher, teacher), **rows),
    ],
)


def pair(seed: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(shape, generator=generator).double() for _ in range(2))
    return student, teacher


@by_map
@given(seed=seeds, channels=sizes, height=sizes, width=sizes)
def test_is_never_negative_and_zero_at_equality(loss, seed, channels, height, width) -> None:
    student, teacher = pair(seed, 3, channels, height, width)
    assert loss(student, teacher) > -1e-14
    assert loss(teacher, teacher).abs() < 1e-14


@by_row
@given(seed=seeds)
def test_masked_equals_the_unmasked_rest(loss, seed) -> None:
    student, teacher = pair(seed, 6, 3, 3, 2)
    mask = torch.rand(6, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[0] = True
    torch.testing.assert_close(loss(student, teacher, mask=mask), loss(student[mask], teacher[mask]))
    halved = loss(student, teacher, mask=mask, total=2.0 * mask.sum())
    torch.testing.assert_close(2.0 * halved, loss(student, teacher, mask=mask))


@given(seeds, factors, factors, st.floats(1.0, 4.0))
def test_attention_has_no_unit_and_no_sign(seed, one, other, power) -> None:
    student, teacher = pair(seed, 3, 2, 3, 2)
    value = attention_transfer_loss(student, teacher, power=power)
    assert value <= 2.0 / 6
    changed = attention_transfer_loss(-one * student, other * teacher, power=power)
    torch.testing.assert_close(changed, value)


@given(seeds, factors, factors)
def test_cosine_has_no_unit(seed, one, other) -> None:
    student, teacher = pair(seed, 5, 4)
    value = cosine_feature_loss(student, teacher)
    assert 0.0 <= value <= 2.0
    torch.testing.assert_close(cosine_feature_loss(one * student, other * teacher), value)
    torch.testing.assert_close(cosine_feature_loss(-student, teacher), 2.0 - value)


@given(seeds, st.integers(1, 5), st.integers(1, 5), sizes, sizes)
def test_selectivity_knows_neither_order_nor_unit_of_the_channels(seed, one, other, height, width) -> None:
    """Over both ways of computing it: fewer pixels than channels, and more."""
    student, teacher = pair(seed, 2, one, height, width)[0], pair(seed + 1, 2, other, height, width)[0]
    value = neuron_selectivity_loss(student, teacher)
    assert -1e-12 < value < 2.0 + 1e-12
    scales = torch.arange(1.0, one + 1.0).double()[:, None, None]
    torch.testing.assert_close(neuron_selectivity_loss((scales * student).flip(1), teacher), value)
    repeated = torch.cat([student] * 16, 1), torch.cat([teacher] * 16, 1)
    torch.testing.assert_close(neuron_selectivity_loss(*repeated), value)


@given(seeds, st.floats(-50.0, 50.0))
def test_a_constant_on_a_channel_changes_no_distribution(seed, shift) -> None:
    student, teacher = pair(seed, 3, 4, 3, 2)
    shifts = shift * torch.arange(4.0).double()[:, None, None]
    value = channel_wise_loss(student, teacher)
    torch.testing.assert_close(channel_wise_loss(student + shifts, teacher - shifts), value, rtol=1e-9, atol=1e-11)


@given(seeds, factors, st.floats(-50.0, 50.0))
def test_correlation_has_no_unit_and_no_zero_point(seed, factor, shift) -> None:
    student, teacher = pair(seed, 4, 3, 3, 2)
    value = pearson_channel_loss(student, teacher)
    scales = factor * torch.arange(1.0, 4.0).double()[:, None, None]
    torch.testing.assert_close(pearson_channel_loss(scales * student + shift, teacher / scales - shift), value)
    torch.testing.assert_close(pearson_channel_loss(-student, teacher), 2.0 - value)
    expected = [
        1.0 - torch.corrcoef(torch.stack([student[:, c].flatten(), teacher[:, c].flatten()]))[0, 1] for c in range(3)
    ]
    torch.testing.assert_close(value, torch.stack(expected).mean())


@given(seeds, factors)
def test_the_density_is_that_of_torch_less_its_constant(seed, factor) -> None:
    mean, teacher = pair(seed, 4, 5, 3)
    variance = factor * torch.tensor([0.5, 1.0, 3.0]).double()
    density = torch.distributions.Normal(mean, variance.sqrt()).log_prob(teacher)
    expected = -density.mean() - 0.5 * math.log(2.0 * math.pi)
    torch.testing.assert_close(variational_loss(mean, teacher, variance=variance), expected)


def test_the_best_variance_is_the_mean_squared_error() -> None:
    mean, teacher = pair(0, 50, 1)
    best = (mean - teacher).square().mean(0)
    values = [variational_loss(mean, teacher, variance=factor * best) for factor in (0.9, 1.0, 1.1)]
    assert values[1] < min(values[0], values[2])


@given(seeds, st.floats(0.1, 3.0))
def test_on_the_right_side_by_the_margin_nothing_is_missing(seed, margin) -> None:
    student, teacher = pair(seed, 4, 3, 2, 2)
    right = torch.where(teacher > 0, 1.0, -1.0)
    assert activation_boundary_loss(right * (margin + student.abs()), teacher, margin=margin) < 1e-24
    on_the_boundary = activation_boundary_loss(torch.zeros_like(teacher), teacher, margin=margin)
    torch.testing.assert_close(on_the_boundary.item(), 12 * margin**2)
    assert activation_boundary_loss(student, teacher, margin=margin) >= 0.0


@given(seeds, factors)
def test_a_flow_has_the_product_of_the_units(seed, factor) -> None:
    (one, other), (earlier, later) = pair(seed, 3, 4, 4, 2), pair(seed + 1, 3, 4, 2, 2)
    value = fsp_loss((one, other), (earlier, later))
    assert value > 0.0
    assert fsp_loss((one, other), (one, other)) == 0.0
    scaled = fsp_loss((factor * one, other), (earlier, factor * later))
    torch.testing.assert_close(scaled, factor**2 * value)


@pytest.mark.parametrize("dead", ["student", "teacher", "both"])
@pytest.mark.parametrize(
    "loss", [attention_transfer_loss, cosine_feature_loss, neuron_selectivity_loss, pearson_channel_loss]
)
def test_a_layer_without_activation_is_finite_and_gets_no_gradient(loss, dead) -> None:
    """Zeros have neither length nor deviation; also a constant that a mean in float32 misses a little."""
    for value in (0.0, 1.1) if loss is pearson_channel_loss else (0.0,):
        student, teacher = (each.float() for each in pair(0, 7, 3, 5, 5))
        student = torch.full_like(student, value) if dead in ("student", "both") else student
        teacher = torch.full_like(teacher, value) if dead in ("teacher", "both") else teacher
        student.requires_grad_()
        result = loss(student, teacher)
        result.backward()
        assert result.isfinite()
        assert student.grad.isfinite().all()
        assert dead == "teacher" or student.grad.abs().max() == 0.0


def test_one_dead_channel_of_three_counts_a_sixth_more() -> None:
    _, teacher = pair(0, 4, 3, 3, 3)
    student = teacher.clone()
    student[:, 1] = 0.3
    torch.testing.assert_close(pearson_channel_loss(student, teacher).item(), 1.0 / 6.0)


@pytest.mark.parametrize(
    ("power", "scale"), [(1.0, 1e-9), (1.0, 1e8), (2.0, 1e-9), (2.0, 1e8), (4.0, 1e-4), (4.0, 1e8)]
)
def test_attention_neither_overflows_nor_vanishes(power, scale) -> None:
    """The square of an activity to the fourth power would."""
    student, teacher = (each.float() for each in pair(0, 4, 8, 3, 3))
    scaled = (scale * student).requires_grad_()
    loss = attention_transfer_loss(scaled, teacher, power=power)
    loss.backward()
    assert scaled.grad.isfinite().all()
    assert scaled.grad.abs().max() > 0.0
    torch.testing.assert_close(loss.detach(), attention_transfer_loss(student, teacher, power=power))


@pytest.mark.parametrize("size", [2, 6])
def test_matrix_products_are_in_float32_also_under_autocast(size) -> None:
    student, teacher = (each.float() for each in pair(0, 4, 8, size, size))
    for loss in (neuron_selectivity_loss, lambda one, other: fsp_loss((one, one), (other, other))):
        expected = loss(student, teacher)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(loss(student, teacher), expected)


@given(seeds, st.floats(0.0, 2.0))
def test_the_partial_distance_leaves_alone_what_is_low_enough(seed, depth) -> None:
    student, teacher = pair(seed, 3, 4, 2, 2)
    margin = torch.full((4,), -depth).double()
    loss = overhaul_loss(student, teacher, margin=margin)
    whole = (student - teacher.clamp_min(-depth)).square().sum() / 3
    assert 0.0 <= loss <= whole + 1e-12
    assert overhaul_loss(teacher, teacher, margin=margin) == 0.0
    lower = torch.where(teacher > 0, student, torch.minimum(student, torch.full_like(student, -depth)))
    deeper = torch.where(teacher > 0, student, lower - 5.0)
    only_positive = ((student - teacher).square() * (teacher > 0)).sum() / 3
    for low in (lower, deeper):
        torch.testing.assert_close(overhaul_loss(low, teacher, margin=margin), only_positive)


@given(seeds, factors)
def test_the_partial_distance_has_the_square_of_the_unit_and_masks_like_slicing(seed, factor) -> None:
    student, teacher = pair(seed, 6, 4, 2, 2)
    margin = -torch.arange(4.0).double()
    mask = torch.tensor([True, False, True, True, False, False])
    value = overhaul_loss(student, teacher, margin=margin, mask=mask)
    torch.testing.assert_close(value, overhaul_loss(student[mask], teacher[mask], margin=margin))
    scaled = overhaul_loss(factor * student, factor * teacher, margin=factor * margin, mask=mask)
    torch.testing.assert_close(scaled, factor**2 * value)
