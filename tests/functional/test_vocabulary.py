"""Losses over large vocabularies in chunks: the same as of whole logits, in value and gradient, and small."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from understudy.functional import (
    checkpointed_head_loss,
    head_divergence_loss,
    jensen_shannon_loss,
    kl_divergence,
    reverse_kl_loss,
    skew_kl_loss,
    soft_target_loss,
    total_variation_loss,
)
from understudy.functional.vocabulary import Head, sum_in_chunks

TOKENS, WORDS, WIDTHS = 10, 13, (7, 5)
WHOLE = {
    "kl": soft_target_loss,
    "reverse_kl": reverse_kl_loss,
    "skew_kl": partial(skew_kl_loss, beta=0.3),
    "jensen_shannon": partial(jensen_shannon_loss, beta=0.3),
    "total_variation": total_variation_loss,
}
divergences = pytest.mark.parametrize("divergence", WHOLE)
chunks = pytest.mark.parametrize("chunk", [1, 3, None])


def drawn(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def networks(*, bias: bool = True, **settings) -> tuple[Tensor, Head, Tensor, Head]:
    """Hidden states and heads of a student, which want gradients, and of a teacher, which could take them."""
    parts = []
    for side, width in enumerate(WIDTHS):
        head = [drawn(WORDS, width, seed=side), drawn(WORDS, seed=4 + side) if bias else None]
        hidden = 2.0 * drawn(TOKENS, width, seed=2 + side)
        for tensor in (*head, hidden):
            if tensor is not None:
                tensor.requires_grad_()
        parts += [hidden, Head(*head, **settings)]
    return tuple(parts)


def closed(hidden: Tensor, head: Head, teacher_hidden: Tensor, teacher_head: Head, **settings) -> Tensor:
    return head_divergence_loss(hidden, teacher_hidden, student_head=head, teacher_head=teacher_head, **settings)


def checkpointed(hidden: Tensor, head: Head, teacher_hidden: Tensor, teacher_head: Head, **settings) -> Tensor:
    heads = {"student_head": head, "teacher_head": teacher_head}
    return checkpointed_head_loss(hidden, teacher_hidden, **heads, **{"per_position": kl_divergence, **settings})


def leaves(hidden: Tensor, head: Head) -> list[Tensor]:
    return [part for part in (hidden, head.weight, head.bias) if part is not None]


def gradients(loss: Tensor, parts: tuple[Tensor, Head, Tensor, Head]) -> list[Tensor]:
    (2.5 * loss).backward()
    assert all(tensor.grad is None for tensor in leaves(*parts[2:])), "the teacher is a constant"
    return [tensor.grad for tensor in leaves(*parts[:2])]


@chunks
@divergences
@pytest.mark.parametrize("settings", [{}, {"bias": False}, {"scale": 0.5, "cap": 3.0}], ids=["bias", "bare", "capped"])
def test_value_and_gradient_are_those_of_whole_logits(divergence, chunk, settings) -> None:
    parts, plain = networks(**settings), networks(**settings)
    temperature = {} if divergence == "total_variation" else {"temperature": 1.7}
    loss = closed(*parts, divergence=divergence, beta=0.3, chunk=chunk, **temperature)
    hidden, head, teacher_hidden, teacher_head = plain
    whole = WHOLE[divergence](head.logits(hidden), teacher_head.logits(teacher_hidden), **temperature)
    torch.testing.assert_close(loss, whole, rtol=1e-12, atol=1e-14)
    for found, wanted in zip(gradients(loss, parts), gradients(whole, plain), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-13)


@chunks
@divergences
def test_the_closed_form_is_the_gradient(divergence, chunk) -> None:
    hidden, head, *teacher = networks(cap=4.0)

    def loss(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return closed(hidden, Head(weight, bias, cap=4.0), *teacher, divergence=divergence, chunk=chunk)

    assert torch.autograd.gradcheck(loss, (hidden, head.weight, head.bias))


@chunks
def test_any_loss_of_positions_can_be_computed_in_chunks(chunk) -> None:
    parts, plain = networks(), networks()
    loss = checkpointed(*parts, per_position=partial(kl_divergence, temperature=2.0), chunk=chunk)
    whole = closed(*plain, temperature=2.0) / 4.0
    torch.testing.assert_close(loss, whole, rtol=1e-12, atol=1e-14)
    for found, wanted in zip(gradients(loss, parts), gradients(whole, plain), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-13)


both = pytest.mark.parametrize("loss", [closed, checkpointed])


@both
def test_what_is_masked_is_as_if_it_were_not_there(loss) -> None:
    mask = drawn(TOKENS, seed=7) > 0
    parts, rest = networks(), networks()
    masked = loss(*parts, mask=mask, chunk=3)
    sliced = loss(rest[0][mask], rest[1], rest[2][mask], rest[3])
    torch.testing.assert_close(masked, sliced, rtol=1e-12, atol=1e-14)
    found = gradients(masked, parts)
    for gradient, wanted in zip(found, gradients(sliced, rest), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-13)
    assert not found[0][~mask].any()


@both
def test_nothing_that_counts_is_a_zero_with_gradients(loss) -> None:
    parts = networks()
    value = loss(*parts, mask=torch.zeros(TOKENS, dtype=torch.bool))
    assert value == 0.0
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients(value, parts))


@both
def test_a_total_of_the_whole_step_makes_parts_add_up(loss) -> None:
    parts = networks()
    hidden, head, teacher_hidden, teacher_head = parts
    total = torch.tensor(TOKENS / 2)
    cut = [
        loss(hidden[part], head, teacher_hidden[part], teacher_head, total=total)
        for part in (slice(0, 3), slice(3, None))
    ]
    torch.testing.assert_close(sum(cut) / 2, loss(*parts))


@both
def test_positions_may_have_any_shape(loss) -> None:
    parts = networks()
    hidden, head, teacher_hidden, teacher_head = parts
    folded = loss(hidden.unflatten(0, (2, -1)), head, teacher_hidden.unflatten(0, (2, -1)), teacher_head)
    torch.testing.assert_close(folded, loss(*parts))


@both
def test_words_that_the_tokenizer_does_not_have_are_left_out(loss) -> None:
    hidden, head, teacher_hidden, teacher_head = networks()
    padded = Head(torch.cat([head.weight, drawn(3, WIDTHS[0], seed=9)]), torch.cat([head.bias, drawn(3, seed=9)]))
    found = loss(hidden, padded, teacher_hidden, teacher_head, vocabulary=WORDS - 1)
    wanted = loss(hidden, head.of(WORDS - 1), teacher_hidden, teacher_head.of(WORDS - 1))
    torch.testing.assert_close(found, wanted)
    for vocabulary in (None, WORDS + 1, WORDS + 3):
        with pytest.raises(ValueError, match=r"tell 16 and 13 words; give vocabulary="):
            loss(hidden, padded, teacher_hidden, teacher_head, vocabulary=vocabulary)


def test_tied_weights_get_the_gradients_of_both_their_uses() -> None:
    found = []
    for loss in (closed, lambda *parts: soft_target_loss(parts[1].logits(parts[0]), parts[3].logits(parts[2]))):
        embedding = drawn(WORDS, WIDTHS[0], seed=0).requires_grad_()
        hidden = torch.tanh(embedding[torch.arange(TOKENS)])
        loss(hidden, Head(embedding), *networks()[2:]).backward()
        found.append(embedding.grad)
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-13)


@divergences
def test_half_precision_is_computed_in_float32(divergence) -> None:
    """As far from the truth as the rounded weights are, and not as their sums in half precision would be."""
    parts = [
        part._replace(weight=part.weight.bfloat16(), bias=part.bias.bfloat16())
        if isinstance(part, Head)
        else part.bfloat16()
        for part in networks()
    ]
    rounded = [Head(*(t.double() for t in part[:2])) if isinstance(part, Head) else part.double() for part in parts]
    loss = closed(*parts, divergence=divergence, chunk=3)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), closed(*rounded, divergence=divergence), rtol=2e-2, atol=0)
    loss.backward()


def test_gradients_of_float16_survive_until_the_loss_is_scaled() -> None:
    """Each is a part of one over the tokens of a step, below what float16 can say."""
    hidden = drawn(TOKENS, WIDTHS[0], seed=2).half().requires_grad_()
    weight = drawn(WORDS, WIDTHS[0], seed=0).half().requires_grad_()
    small, scale = 1e-9, 2.0**28

    def judged(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        return small * logits.sum(), torch.full_like(logits, small)

    with torch.autocast("cpu", dtype=torch.float16):
        (scale * sum_in_chunks(hidden, head=Head(weight), judged=judged, chunk=3)).backward()
    wanted = scale * small * weight.detach().double().sum(0)
    torch.testing.assert_close(hidden.grad.double(), wanted.expand(TOKENS, -1), rtol=1e-2, atol=1e-3)
    wanted = scale * small * hidden.detach().double().sum(0)
    torch.testing.assert_close(weight.grad.double(), wanted.expand(WORDS, -1), rtol=1e-2, atol=1e-3)


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that anything made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


@both
def test_no_more_than_a_chunk_of_logits_is_ever_made(loss) -> None:
    words, width, tokens, chunk = 500, 2, 64, 4
    heads = [Head(drawn(words, width, seed=side).requires_grad_()) for side in range(2)]
    hidden = [drawn(tokens, width, seed=2 + side).requires_grad_() for side in range(2)]
    with Largest() as seen:
        loss(hidden[0], heads[0], hidden[1], heads[1], chunk=chunk).backward()
    assert seen.elements == chunk * words
    with Largest() as seen:
        loss(hidden[0], heads[0], hidden[1], heads[1], chunk=tokens).backward()
    assert seen.elements == tokens * words


def test_nothing_is_computed_for_gradients_that_nobody_wants() -> None:
    hidden, head, *teacher = networks()
    with torch.no_grad():
        value = closed(hidden, head, *teacher)
    assert not value.requires_grad
    frozen = Head(head.weight.detach(), head.bias.detach())
    closed(hidden, frozen, *teacher).backward()
    assert hidden.grad is not None
    assert frozen.weight.grad is None


def test_it_can_be_differentiated_once() -> None:
    hidden, head, *teacher = networks()
    factor = torch.ones((), dtype=torch.float64, requires_grad=True)
    loss = factor * closed(hidden, head, *teacher)
    (gradient,) = torch.autograd.grad(loss, hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_graph_that_is_kept_gives_the_same_again() -> None:
    parts = networks()
    loss = closed(*parts)
    once = torch.autograd.grad(loss, leaves(*parts[:2]), grad_outputs=torch.tensor(3.0).double(), retain_graph=True)
    again = torch.autograd.grad(loss, leaves(*parts[:2]))
    for first, second in zip(once, again, strict=True):
        torch.testing.assert_close(first, 3.0 * second, rtol=1e-12, atol=1e-14)
