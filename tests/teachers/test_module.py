import pytest
import torch
from torch import nn

from understudy import Batch, Classification, InputError, ModuleTeacher, Teacher

TASK = Classification()


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 3))


def batch() -> Batch:
    return Batch(inputs=torch.randn(8, 4))


def test_answers_in_eval_mode_without_gradients() -> None:
    module = network()
    teacher = ModuleTeacher(module, task=TASK)
    assert isinstance(teacher, Teacher)
    assert not module.training
    samples = batch()
    answers = [teacher.observe(samples, ("0",)) for _ in range(2)]
    assert torch.equal(answers[0].logits, answers[1].logits)  # no dropout, no statistics of the batch
    assert torch.equal(answers[0].features["0"], module[0](samples.inputs))
    assert not answers[0].logits.requires_grad
    module.train()
    assert torch.equal(teacher.observe(samples).logits, answers[0].logits)
    assert not module.training


def test_layers_can_change_from_call_to_call_and_unknown_ones_are_named() -> None:
    teacher = ModuleTeacher(network(), task=TASK)
    assert [list(teacher.observe(batch(), taps).features) for taps in (("0",), ("3", "1"), (), ("1",))] == [
        ["0"],
        ["3", "1"],
        [],
        ["1"],
    ]
    assert sum(len(module._forward_hooks) for module in teacher.module.modules()) == 1
    with pytest.raises(InputError, match="no layer '7'"):
        teacher.observe(batch(), ("7",))


def test_its_precision_is_its_own() -> None:
    module = network()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(batch().inputs).dtype == torch.bfloat16
        assert ModuleTeacher(module, task=TASK).observe(batch()).logits.dtype == torch.float32
    low = ModuleTeacher(module, task=TASK, precision=torch.bfloat16)
    assert low.observe(batch()).logits.dtype == torch.bfloat16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device to follow the batch to")
def test_follows_the_batch_to_its_device() -> None:
    teacher = ModuleTeacher(network(), task=TASK)
    for device in ("cuda", "cpu"):
        assert teacher.observe(batch().to(device)).logits.device.type == device
        assert {parameter.device.type for parameter in teacher.module.parameters()} == {device}


def test_moves_when_the_batch_is_elsewhere() -> None:
    teacher = ModuleTeacher(network().to("meta"), task=TASK)
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):  # it did try
        teacher.observe(batch())
