"""One contender of head_loss.py in a process of its own: is told its task as JSON, prints time and memory as JSON."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import Any

import torch
from resident import resident_peak
from torch import Tensor

from understudy import functional
from understudy.functional.vocabulary import Head

settings = json.loads(sys.argv[1])
divergence, contender, width = settings["divergence"], settings["contender"], settings["width"]
torch.manual_seed(0)


def drawn(words: int, tokens: int) -> tuple[Tensor, Head, Tensor, Head]:
    """Hidden states and heads of a student, which want gradients, and of a teacher."""
    heads = [Head(torch.randn(words, width) / width**0.5) for _ in range(2)]
    hidden = [torch.randn(tokens, width) for _ in range(2)]
    for wanted in (hidden[0], heads[0].weight):
        wanted.requires_grad_()
    return hidden[0], heads[0], hidden[1], heads[1]


def loss(hidden: Tensor, head: Head, teacher_hidden: Tensor, teacher_head: Head) -> Tensor:
    """By whichever way is on trial."""
    heads: dict[str, Any] = {"student_head": head, "teacher_head": teacher_head}
    if contender == "closed form":
        return functional.head_divergence_loss(
            hidden, teacher_hidden, **heads, divergence=divergence, chunk=settings["chunk"]
        )
    whole = {"kl": functional.soft_target_loss, "jensen_shannon": functional.jensen_shannon_loss}[divergence]
    if contender == "plain":
        with torch.no_grad():
            answered = teacher_head.logits(teacher_hidden)
        return whole(head.logits(hidden), answered)
    summed = partial(whole, total=torch.ones(()))
    return functional.checkpointed_head_loss(
        hidden, teacher_hidden, **heads, per_position=summed, chunk=settings["chunk"]
    )


loss(*drawn(64, settings["chunk"])).backward()  # threads and kernels are there from now on
parts = drawn(settings["words"], settings["tokens"])
before = resident_peak()  # what was there earlier was smaller, so that this is what the process holds now
begun = time.perf_counter()
value = loss(*parts)
value.backward()
seconds = time.perf_counter() - begun
held = resident_peak() - before
squares = [tensor.grad.square().sum().item() for tensor in (parts[0], parts[1].weight)]
print(json.dumps({"seconds": seconds, "bytes": held, "loss": value.item(), "squares": squares}))
