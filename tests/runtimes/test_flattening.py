"""A network becomes one from tensors in a row to tensors in a row."""

import torch
from torch import Tensor, nn

from understudy.runtimes.flattening import Call, arguments_in


class Text(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout()

    def forward(self, input_ids: Tensor, scale: float, *, attention_mask: Tensor) -> dict[str, Tensor | int]:
        shown = self.drop(input_ids * attention_mask * scale)
        return {"logits": shown, "layers": 3, "pooled": shown.sum(1)}


def test_a_call_is_seen_once_and_can_be_repeated() -> None:
    ids, mask = torch.rand(2, 3), torch.ones(2, 3)
    network = Text().train()
    call = Call(network, lambda module: module(ids, 2.0, attention_mask=mask))
    assert call.names == ["input", "attention_mask"]
    logits, pooled = call.flat(ids * 10, mask)
    torch.testing.assert_close(logits, ids * 20)  # nothing is dropped, and the scale is kept
    answer = call.answer.of([logits, pooled])
    assert answer["layers"] == 3
    assert answer["pooled"] is pooled
    assert network.training


def test_keywords_are_in_one_order_however_they_are_given() -> None:
    first, second = torch.zeros(1), torch.ones(1)
    assert arguments_in((), {"b": second, "a": first})[0] is first
    assert arguments_in((), {"a": first, "b": second})[0] is first


def test_several_positions_have_names_of_their_own() -> None:
    call = Call(nn.Bilinear(2, 3, 4), lambda module: module(torch.rand(5, 2), torch.rand(5, 3)))
    assert call.names == ["input", "input_1"]
