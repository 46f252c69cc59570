"""Numbers by which inputs are recognised: any bit counts, and nothing else does."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from understudy.recordings.checksums import input_checksums

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int32, torch.int64]
SHAPE = (3, 2, 5)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def drawn(dtype: torch.dtype, *shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 200, shape, generator=generator).to(dtype)


@each_dtype
def test_every_single_bit_counts(dtype) -> None:
    """All bits of a sample, one after the other; each change is in a sample of its own."""
    sample = drawn(dtype, *SHAPE)
    plain = sample.flatten().view(torch.uint8)
    bits = plain.numel() * 8
    flipped = plain.repeat(bits, 1)
    for bit in range(bits):
        flipped[bit, bit // 8] ^= 1 << bit % 8
    sums = input_checksums(flipped.view(dtype).reshape(bits, *SHAPE))
    assert sums.dtype == torch.int32
    assert sums.shape == (bits,)
    both = torch.cat([sums, input_checksums(sample[None])])
    assert len(both.unique()) == bits + 1  # and no two changes look alike


@each_dtype
def test_any_two_numbers_that_change_places_count(dtype) -> None:
    sample = torch.arange(12).to(dtype)
    swapped = [sample]
    for left in range(12):
        for right in range(left):
            other = sample.clone()
            other[[left, right]] = sample[[right, left]]
            swapped.append(other)
    assert len(input_checksums(torch.stack(swapped)).unique()) == len(swapped)


@given(st.integers(0, 2**31 - 1), st.integers(1, 200), st.integers(1, 40))
def test_a_sample_has_the_same_number_in_any_batch_and_order(seed, count, size) -> None:
    inputs = drawn(torch.float32, count, 1, size, seed=seed)
    whole = input_checksums(inputs)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(input_checksums(inputs[order]), whole[order])
    parts = [input_checksums(part) for part in inputs.split(7)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(input_checksums(inputs.transpose(0, 1).contiguous().transpose(0, 1)), whole)
    assert torch.equal(input_checksums(inputs.double().float().requires_grad_()), whole)


def test_the_number_of_threads_does_not_matter() -> None:
    inputs, before = drawn(torch.float32, 70, 3, 64, 64), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(input_checksums(inputs))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_the_numbers_are_those_of_the_format() -> None:
    """Other programs write them too, so that they may never change: the definition, with Python's whole numbers."""

    def mixed(value: int) -> int:
        value = value % 2**64
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
        return value ^ value >> 31

    gamma = 0x9E3779B97F4A7C15
    inputs = drawn(torch.float32, 3, 4)
    for row, found in zip(inputs.view(torch.int32).tolist(), input_checksums(inputs).tolist(), strict=True):
        words = sum(word * (mixed(place * gamma) | 1) for place, word in enumerate(row))
        total = mixed(words * gamma)
        expected = total >> 32
        assert found == (expected - 2**32 if expected >= 2**31 else expected)


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype.is_floating_point], ids=str)
def test_two_numbers_that_change_their_sign_count(dtype) -> None:
    sample, flipped = drawn(dtype, 1, 30), drawn(dtype, 1, 30).repeat(435, 1)
    for number, (left, right) in enumerate(itertools.combinations(range(30), 2)):
        flipped[number, [left, right]] *= -1
    assert len(torch.cat([input_checksums(sample), input_checksums(flipped)]).unique()) == 436


def test_several_inputs_count_all_and_in_order() -> None:
    first, second = drawn(torch.int64, 4, 6), drawn(torch.int64, 4, 6, seed=1)
    together = input_checksums((first, second))
    assert torch.equal(input_checksums({"ids": first, "mask": second}), together)
    assert torch.equal(input_checksums([first, second]), together)
    assert not (input_checksums((second, first)) == together).any()
    assert not (input_checksums((first,)) == together).any()
    for position in range(2):
        changed = [first.clone(), second.clone()]
        changed[position][2, 5] += 1
        assert (input_checksums(tuple(changed)) != together).tolist() == [False, False, True, False]


def test_the_scale_of_the_inputs_counts() -> None:
    images = drawn(torch.uint8, 5, 1, 4, 4)
    assert not (input_checksums(images) == input_checksums(images.float() / 255)).any()


def test_no_samples_give_no_numbers_and_no_tensor_is_refused() -> None:
    assert input_checksums(torch.zeros(0, 3, 4, 4)).shape == (0,)
    with pytest.raises(ValueError, match="at least one input tensor"):
        input_checksums({"text": ["a", "b"]})
