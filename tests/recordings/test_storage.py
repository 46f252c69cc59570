"""What is kept of answers, and what they are when read again."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from understudy.errors import InputError
from understudy.knowledge import Knowledge
from understudy.recordings import Storage
from understudy.recordings.storage import KEPT, LOGITS, SCALE, TAILS, pooled

seeds = st.integers(0, 2**31 - 1)
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
FORMS = {"rows": (5,), "vector": (5, 4), "tokens": (5, 3, 4), "map": (5, 4, 2, 3)}


def drawn(*shape: int, seed: int = 0, scale: float = 4.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def again(keep: Storage, answer: Knowledge) -> Knowledge:
    """Encoded, and decoded from the tensors that it says it needs."""
    rows = keep.encode(answer)
    assert set(rows) == set(keep.names(tuple(keep.layers)))
    assert {len(tensor) for tensor in rows.values()} == {len(answer.logits)}
    return keep.decode(rows, classes=answer.logits.shape[-1], layers=tuple(keep.layers))


@pytest.mark.parametrize("shape", [(7, 10), (7, 3, 10), (7, 2, 3, 10)])
def test_single_precision_comes_back_bit_for_bit(shape) -> None:
    logits = drawn(*shape)
    logits.view(-1)[:4] = torch.tensor([0.0, -0.0, 1e-40, 3e38])
    found = again(Storage(dtype="float32"), Knowledge(logits=logits)).logits
    assert torch.equal(found.view(torch.int32), logits.view(torch.int32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_what_the_type_makes_of_it(dtype) -> None:
    logits, rows = drawn(7, 3, 10), 7
    found = again(Storage(dtype=dtype), Knowledge(logits=logits)).logits
    assert found.dtype == torch.float32
    assert torch.equal(found, logits.to(DTYPES[dtype]).float())
    assert Storage(dtype=dtype).encode(Knowledge(logits=logits))[LOGITS].nbytes == rows * 3 * 10 * 2


@given(seeds, st.sampled_from([1e-30, 1e-3, 1.0, 1e4, 1e37]))
def test_int8_is_off_by_half_a_step_of_its_row_at_the_most(seed, scale) -> None:
    logits = drawn(4, 3, 6, seed=seed, scale=scale) * torch.tensor([1e-3, 1.0, 10.0])[:, None]
    found = again(Storage(dtype="int8"), Knowledge(logits=logits)).logits
    for sample in range(4):
        for position in range(3):
            row, back = logits[sample, position].tolist(), found[sample, position].tolist()
            step = max(abs(value) for value in row) / 127
            worst = max(abs(a - b) for a, b in zip(row, back, strict=True))
            assert worst <= step * (0.5 + 1e-4)
    tensors = Storage(dtype="int8").encode(Knowledge(logits=logits))
    assert tensors[LOGITS].dtype == torch.int8
    assert tensors[LOGITS + SCALE].shape == (4, 3)


@pytest.mark.parametrize("greatest", [0.0, 1e-45, 1e-43, 2.65e-43, 1e-40, 1.4e-36, 3.4e38])
def test_int8_of_the_smallest_and_greatest_numbers(greatest) -> None:
    logits = torch.tensor([[greatest, -greatest, 0.5 * greatest, 0.0], [1.0, 0.0, -1.0, 0.5]])
    found = again(Storage(dtype="int8"), Knowledge(logits=logits)).logits
    assert found.isfinite().all()
    assert (found[0] - logits[0]).abs().max() <= max(greatest / 127 * 0.501, 2e-36)
    assert found[0, 0] >= 0.0 >= found[0, 1]
    torch.testing.assert_close(found[1], logits[1], atol=1 / 250, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["whole", "pooled"])
@pytest.mark.parametrize("shape", FORMS.values(), ids=FORMS)
def test_layers_of_all_shapes_come_back(dtype, form, shape) -> None:
    feature, logits = drawn(*shape, seed=1), drawn(5, 10)
    keep = Storage(dtype=dtype, layers={"block.1": form})
    rows = keep.encode(Knowledge(logits=logits, features={"block.1": feature, "other": feature}))
    found = keep.decode(rows, classes=10, layers=("block.1",)).features
    assert list(found) == ["block.1"]
    expected = feature.double()
    if form == "pooled" and len(shape) == 3:
        expected = sum(feature[:, token].double() for token in range(3)) / 3
    if form == "pooled" and len(shape) == 4:
        expected = sum(feature[:, :, y, x].double() for y in range(2) for x in range(3)) / 6
    greatest = expected.abs().reshape(5, -1).amax(1).reshape(5, *[1] * (expected.ndim - 1))
    relative = {"float32": 1e-6, "float16": 2**-11, "bfloat16": 2**-8, "int8": 0.5 / 127}[dtype]
    assert found["block.1"].dtype == torch.float32
    assert ((found["block.1"] - expected).abs() <= relative * 1.001 * greatest + 1e-7).all()
    if dtype == "float32" and form == "whole":
        assert torch.equal(found["block.1"], feature)
    assert keep.decode(rows, classes=10, layers=()).features == {}
    assert rows["block.1"].dtype == DTYPES[dtype]


def test_pooling_is_the_mean_over_places() -> None:
    assert pooled(torch.arange(24.0).reshape(1, 2, 3, 4)).tolist() == [[5.5, 17.5]]
    assert pooled(torch.arange(6.0).reshape(1, 3, 2)).tolist() == [[2.0, 3.0]]
    assert pooled(torch.arange(24.0).reshape(1, 2, 3, 2, 2)).tolist() == [[5.5, 17.5]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 12), (6, 2, 12)])
def test_the_likeliest_classes_and_the_tail_at_each_temperature(dtype, shape) -> None:
    logits = drawn(*shape)
    keep = Storage(dtype=dtype, top=3, temperatures=(4.0, 0.5))
    answer = again(keep, Knowledge(logits=logits))
    assert answer.shape == logits.shape
    assert list(answer.top.tails) == [1.0, 4.0, 0.5]
    flat = zip(logits.reshape(-1, 12).tolist(), answer.top.kept.reshape(-1, 3).tolist(), strict=True)
    for number, (row, kept) in enumerate(flat):
        ordered = sorted(range(12), key=lambda k: -row[k])
        assert kept == ordered[:3]
        values = answer.logits.reshape(-1, 3)[number].tolist()
        assert values == pytest.approx([row[k] for k in ordered[:3]], abs=max(map(abs, row)) * 0.5 / 127 * 1.001)
        for temperature, tails in answer.top.tails.items():
            tail = temperature * math.log(math.fsum(math.exp(row[k] / temperature) for k in ordered[3:]))
            assert tails.reshape(-1)[number].item() == pytest.approx(tail, rel=1e-5, abs=1e-5)
    if dtype == "float32":
        assert torch.equal(answer.logits, logits.topk(3, -1).values)
        assert torch.equal(answer.dense.argmax(-1), logits.argmax(-1))


def test_a_temperature_of_one_is_there_once() -> None:
    keep = Storage(top=2, temperatures=(1.0, 3.0))
    assert keep.tail_temperatures == (1.0, 3.0)
    assert list(again(keep, Knowledge(logits=drawn(4, 5))).top.tails) == [1.0, 3.0]


@pytest.mark.parametrize(("classes", "dtype"), [(32_768, torch.int16), (32_769, torch.int32)])
def test_the_last_class_has_a_number_that_fits(classes, dtype) -> None:
    logits = torch.zeros(2, classes)
    logits[:, -1] = 5.0
    rows = Storage(top=1).encode(Knowledge(logits=logits))
    assert rows[KEPT].dtype == dtype
    assert Storage(top=1).decode(rows, classes=classes, layers=()).top.kept.tolist() == [[classes - 1]] * 2


@pytest.mark.parametrize("keep", [Storage(dtype=each, layers={"a": "whole"}) for each in DTYPES] + [Storage(top=2)])
def test_no_samples_are_no_problem(keep) -> None:
    answer = again(keep, Knowledge(logits=torch.zeros(0, 5), features={"a": torch.zeros(0, 3, 2, 2)}))
    assert answer.shape == (0, 5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_is_refused(bad, dtype) -> None:
    logits, feature = drawn(4, 5), drawn(4, 3)
    logits[2, 1] = feature[3, 2] = bad
    with pytest.raises(InputError, match="logits hold NaN or infinity"):
        Storage(dtype=dtype).encode(Knowledge(logits=logits))
    with pytest.raises(InputError, match="teacher's a hold NaN or infinity"):
        Storage(dtype=dtype, layers={"a": "whole"}).encode(Knowledge(logits=drawn(4, 5), features={"a": feature}))
    with pytest.raises(InputError, match="hold NaN or infinity"):
        Storage(dtype=dtype, top=4).encode(Knowledge(logits=logits))


def test_a_tail_of_impossible_classes_is_refused() -> None:
    logits = torch.tensor([[1.0, 2.0, -math.inf, -math.inf]])
    with pytest.raises(InputError, match="tails hold NaN or infinity"):
        Storage(top=2).encode(Knowledge(logits=logits))
    possible = torch.tensor([[1.0, 2.0, 0.0, -math.inf]])
    assert again(Storage(top=2), Knowledge(logits=possible)).top.tails[1.0].tolist() == [0.0]


def test_more_than_half_precision_holds_is_refused() -> None:
    logits = torch.tensor([[65_504.0, 0.0], [7e4, 0.0]])
    assert again(Storage(dtype="float16"), Knowledge(logits=logits[:1])).logits[0, 0] == 65_504.0
    with pytest.raises(InputError, match=r"logits reach 7e\+04, more than float16 holds; .* bfloat16 or float32"):
        Storage(dtype="float16").encode(Knowledge(logits=logits))
    again(Storage(dtype="bfloat16"), Knowledge(logits=logits))


@pytest.mark.parametrize("top", [5, 6])
def test_as_many_likeliest_classes_as_there_are_is_refused(top) -> None:
    answer = Knowledge(logits=drawn(4, 5))
    Storage(top=4).check(answer)
    with pytest.raises(InputError, match=f"top: {top} of 5 classes leaves no tail; expected fewer than 5"):
        Storage(top=top).check(answer)


def test_a_layer_without_a_row_for_each_sample_is_refused() -> None:
    answer = Knowledge(logits=drawn(4, 5), features={"fc.weight": drawn(5, 3), "fc": drawn(4, 5)})
    Storage(layers={"fc": "whole"}).check(answer)
    with pytest.raises(InputError, match=r"layer 'fc.weight' gives \(5, 3\) for 4 samples"):
        Storage(layers={"fc.weight": "whole"}).check(answer)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperatures": [2.0]}, "`temperatures` are those of the tail that `top` leaves"),
        ({"top": 0}, "greater than or equal to 1"),
        ({"top": 2, "temperatures": [0.0]}, "greater than 0"),
        ({"dtype": "float64"}, "Input should be 'float32'"),
        ({"layers": {"a": "mean"}}, "Input should be 'whole' or 'pooled'"),
        ({"layers": {"logits": "whole"}}, "two tensors called 'logits'"),
        ({"layers": {"inputs": "whole"}}, "two tensors called 'inputs'"),
        ({"layers": {"kept": "whole"}, "top": 3}, "two tensors called 'kept'"),
        ({"layers": {"a": "whole", "a.scale": "whole"}, "dtype": "int8"}, "two tensors called 'a.scale'"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, message) -> None:
    with pytest.raises(ValidationError, match=message):
        Storage(**fields)


def test_names_that_only_look_alike_are_fine() -> None:
    Storage(layers={"a": "whole", "a.scale": "whole"})
    Storage(layers={"kept": "whole", "tails": "pooled"})
    assert {KEPT, TAILS} == {"kept", "tails"}


def test_a_value_round_trips() -> None:
    keep = Storage(dtype="int8", top=4, temperatures=(2.0,), layers={"a": "pooled"})
    assert Storage.model_validate_json(keep.model_dump_json()) == keep
