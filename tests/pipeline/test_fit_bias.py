"""The shift of class biases: found by agreement with the teacher, only for the chosen classes."""

import pytest
import torch
from torch import nn

from understudy.errors import InputError
from understudy.pipeline.stages.fit_bias import final_linear, fit_shift


def test_a_planted_shift_is_found() -> None:
    teacher = torch.randn(400, 5, dtype=torch.float64)
    student = teacher.clone()
    student[:, 1] -= 3.5
    student[:, 3] += 2.0
    shift = fit_shift(student, teacher.softmax(-1), torch.tensor([1, 3]))
    torch.testing.assert_close(shift, torch.tensor([3.5, -2.0], dtype=torch.float64), atol=1e-3, rtol=0)


def test_a_student_that_agrees_is_not_moved() -> None:
    logits = torch.randn(100, 4, dtype=torch.float64)
    assert fit_shift(logits, logits.softmax(-1), torch.tensor([2])).abs().max() < 1e-4


def test_the_head_is_the_last_layer_with_one_output_per_class() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3))
    assert final_linear(model, 3) is model[2]
    with pytest.raises(InputError, match="no final linear layer with 7 outputs"):
        final_linear(model, 7)
    with pytest.raises(InputError, match="bias"):
        final_linear(nn.Sequential(nn.Linear(4, 3, bias=False)), 3)
