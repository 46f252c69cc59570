from dataclasses import replace

import pytest
import torch

from understudy import IGNORE_INDEX, Batch


def test_labelled_positions_have_a_label_and_count() -> None:
    targets = torch.tensor([1, IGNORE_INDEX, 2, 0])
    assert Batch(inputs=torch.zeros(4), targets=targets).labelled.tolist() == [True, False, True, True]
    masked = Batch(inputs=torch.zeros(4), targets=targets, mask=torch.tensor([True, True, False, True]))
    assert masked.labelled.tolist() == [True, False, False, True]
    with pytest.raises(ValueError, match="no targets"):
        _ = Batch(inputs=torch.zeros(4)).labelled


def test_a_mixed_sample_has_no_label_and_is_supervised_where_both_are_known() -> None:
    plain = Batch(inputs=torch.zeros(3), targets=torch.tensor([1, IGNORE_INDEX, 2]))
    assert torch.equal(plain.supervised, plain.labelled)
    nothing = torch.full((4,), IGNORE_INDEX)
    pairs = torch.tensor([[1, 2], [IGNORE_INDEX, 2], [0, IGNORE_INDEX], [3, 3]])
    batch = Batch(inputs=torch.zeros(4), targets=nothing, label_pairs=pairs, shares=torch.full((4,), 0.3))
    assert batch.labelled.tolist() == [False] * 4
    assert batch.supervised.tolist() == [True, False, False, True]
    masked = replace(batch, mask=torch.tensor([False, True, True, True]))
    assert masked.supervised.tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    "inputs", [torch.zeros(3, 2), (torch.zeros(3), "text"), {"a": torch.zeros(3), "b": None}, [torch.zeros(3)]]
)
def test_length_and_device_come_from_any_kind_of_inputs(inputs) -> None:
    batch = Batch(inputs=inputs)
    assert len(batch) == 3
    assert batch.device == torch.device("cpu")


def test_length_and_device_need_a_tensor() -> None:
    with pytest.raises(ValueError, match="length"):
        len(Batch(inputs=("text",)))
    with pytest.raises(ValueError, match="device"):
        _ = Batch(inputs=("text",)).device


def test_everything_moves_to_another_device() -> None:
    batch = Batch(
        inputs={"a": torch.zeros(3, 2), "nested": (torch.zeros(3), "text")},
        targets=torch.zeros(3, dtype=torch.long),
        mask=torch.ones(3, dtype=torch.bool),
        ids=torch.arange(3),
        label_pairs=torch.zeros(3, 2, dtype=torch.long),
        shares=torch.ones(3),
        labelled_total=torch.tensor(3.0),
        valid_total=torch.tensor(3.0),
    )
    moved = batch.to("meta")
    assert moved.device.type == "meta"
    assert moved.inputs["nested"][0].device.type == "meta"
    assert moved.inputs["nested"][1] == "text"
    for name in ("targets", "mask", "ids", "label_pairs", "shares", "labelled_total", "valid_total"):
        assert getattr(moved, name).device.type == "meta", name
    stayed = batch.to("cpu")
    assert stayed.targets is batch.targets
