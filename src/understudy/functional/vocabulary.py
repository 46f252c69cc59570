"""Divergences of language models over large vocabularies, without ever holding the logits of all tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from understudy.functional.geometry import precise
from understudy.functional.reduction import positive

Divergence = Literal["kl", "reverse_kl", "skew_kl", "jensen_shannon", "total_variation"]
"""What :func:`head_divergence_loss` knows in closed form."""

_LOGITS_AT_ONCE = 2**20
"""Logits of one chunk where nobody says how many tokens it has: 4 MiB in float32, which caches hold."""


class ClosedForm(NamedTuple):
    r"""A divergence whose gradient can be written down.

    Attributes:
        divergence: which one.
        temperature: :math:`\tau`, which divides both logits; the value is not multiplied by its square.
        beta: the teacher's share of the mixture, where there is one.
    """

    divergence: Divergence
    temperature: float = 1.0
    beta: float = 0.5

    def __call__(self, student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
        """The divergence of each position (tokens,), and its gradient to the student's logits (tokens, vocabulary).

        With p of the student, q of the teacher and m of the mixture, the gradient times the temperature:

        - kl: KL(q || p), p - q
        - reverse_kl: KL(p || q), p (log p/q - KL(p || q))
        - skew_kl: KL(q || m), (beta - 1) p (q/m - sum p q/m)
        - jensen_shannon: beta KL(q || m) + (1 - beta) KL(p || m), (1 - beta) p (log p/m - KL(p || m))
        - total_variation: sum abs(p - q) / 2, p (s - sum p s) with s = sign(p - q) / 2
        """
        student = F.log_softmax(student_logits / self.temperature, dim=-1)
        teacher = F.log_softmax(teacher_logits / self.temperature, dim=-1)
        own, answered = student.exp(), teacher.exp()
        if self.divergence == "kl":
            value = (answered * (teacher - student)).sum(-1)
            slopes = own - answered
        elif self.divergence == "reverse_kl":
            ratio = student - teacher
            value = (own * ratio).sum(-1)
            slopes = own * (ratio - value[:, None])
        elif self.divergence == "total_variation":
            difference = own - answered
            value = difference.abs().sum(-1) / 2
            slopes = _through_softmax(own, difference.sign() / 2)
        else:
            mixture = torch.logaddexp(teacher + math.log(self.beta), student + math.log1p(-self.beta))
            of_teacher = (answered * (teacher - mixture)).sum(-1)
            if self.divergence == "skew_kl":
                value = of_teacher
                slopes = (self.beta - 1.0) * _through_softmax(own, (teacher - mixture).exp())
            else:
                ratio = student - mixture
                of_student = (own * ratio).sum(-1)
                value = self.beta * of_teacher + (1.0 - self.beta) * of_student
                slopes = (1.0 - self.beta) * own * (ratio - of_student[:, None])
        return value, slopes.div_(self.temperature)


class Head(NamedTuple):
    r"""A language model's last layer: :math:`z = c \tanh(s (W h + b) / c)`.

    Attributes:
        weight: (vocabulary, width); the embedding's own where they are tied.
        bias: (vocabulary,), or None.
        scale: :math:`s`, which some models multiply their logits by.
        cap: :math:`c`, the soft cap of the logits; None for none.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """In float32 or better, whatever the layer itself computes in.

        Args:
            hidden: (tokens, width).
        """
        logits = precise(F.linear(hidden, self.weight, self.bias)) * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap

    def of(self, vocabulary: int | None) -> Head:
        """The same for the first so many words only."""
        bias = self.bias if self.bias is None else self.bias[:vocabulary]
        return self._replace(weight=self.weight[:vocabulary], bias=bias)


def head_divergence_loss(
    student_hidden: Float[Tensor, "*positions student_width"],
    teacher_hidden: Float[Tensor, "*positions teacher_width"],
    *,
    student_head: Head,
    teacher_head: Head,
    divergence: Divergence = "kl",
    temperature: float = 1.0,
    beta: float = 0.5,
    vocabulary: int | None = None,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
    chunk: int | None = None,
) -> Float[Tensor, ""]:
    r"""A divergence between two language models, from what goes into their last layers, averaged over positions.

    Logits, divergence and gradients are computed for a few tokens at a time, the gradients at once and in closed form,
    so that no more than one chunk of logits is ever in memory. The closed forms stand beside the code; for the
    generalised Jensen-Shannon divergence, with :math:`g = \log (p^S / m)` and :math:`m = \beta p^T + (1 - \beta) p^S`,

    .. math:: \frac{\partial L}{\partial z} = (1 - \beta) \, p^S \left(g - \sum_k p^S_k g_k\right)

    Args:
        student_hidden: (..., student's width), the last hidden states, at positions whose next token is meant.
        teacher_hidden: (..., teacher's width); a constant of the loss.
        student_head: the student's last layer; its weight and bias get gradients.
        teacher_head: the teacher's last layer; a constant of the loss.
        divergence: which one.
        temperature: :math:`\tau > 0` divides both logits; the loss is multiplied by its square.
        beta: the teacher's share of the mixture, in (0, 1), where there is one.
        vocabulary: how many words the tokenizer has; what the layers have beyond is padding, and left out. None:
            both layers have as many, and all are words.
        mask: which positions count; nothing is computed for the others.
        total: see :func:`masked_mean`.
        chunk: tokens at a time; None: about a million logits.

    Returns:
        A scalar, the same as the divergence of all logits at once. It can be differentiated once.

    Raises:
        ValueError: when the two layers tell different numbers of words.

    Scale:
        As of the divergences of all logits: 0 at equality, in nats times :math:`\tau^2`.

    Example:
        >>> hidden = torch.tensor([[1.0]])
        >>> flat, steep = Head(torch.tensor([[0.0], [0.0]])), Head(torch.tensor([[0.0], [1.0986123]]))
        >>> head_divergence_loss(hidden, hidden, student_head=flat, teacher_head=steep)  # 1/4 and 3/4
        tensor(0.1308)

    References:
        Hsu et al.: Liger Kernel, 2024 (arXiv:2410.10989), for gradients in the forward pass; Wijmans et al.: Cut Your
        Losses in Large-Vocabulary Language Models, ICLR 2025 (arXiv:2411.09009). The divergences: see those.
    """
    student_head, teacher_head = _alike(student_head, teacher_head, vocabulary)
    student, teacher = _valid(student_hidden, teacher_hidden, mask)
    form = ClosedForm(divergence, temperature, beta)

    def judged(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        answered = teacher_head.logits(teacher[rows])
        values, slopes = form(logits, answered)
        return values.sum(), slopes

    summed = sum_in_chunks(student, head=student_head, judged=judged, chunk=chunk)
    return temperature**2 * summed / positive(summed.new_tensor(len(student)) if total is None else total)


def sum_in_chunks(
    hidden: Float[Tensor, "tokens width"],
    *,
    head: Head,
    judged: Callable[[Tensor, slice], tuple[Tensor, Tensor]],
    chunk: int | None = None,
) -> Float[Tensor, "..."]:
    """A sum over tokens of something about their logits, of which no more than a chunk is ever in memory.

    Args:
        hidden: (tokens, width), what goes into the last layer.
        head: that layer; its weight and bias get gradients.
        judged: called without gradients, with the logits (some tokens, vocabulary) and which tokens they are; what is
            summed, of any shape, and the gradient of its first value to these logits.
        chunk: tokens at a time; None: about a million logits.

    Returns:
        The sum. Only the first value, in the order of memory, can be differentiated, and once.
    """
    return _SumInChunks.apply(
        hidden,
        head.weight,
        head.bias,
        (head.scale, head.cap),
        judged,
        _tokens_at_once(chunk, head),
        torch.is_grad_enabled(),
    )


def checkpointed_head_loss(
    student_hidden: Float[Tensor, "*positions student_width"],
    teacher_hidden: Float[Tensor, "*positions teacher_width"],
    *,
    student_head: Head,
    teacher_head: Head,
    per_position: Callable[[Tensor, Tensor], Tensor],
    vocabulary: int | None = None,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
    chunk: int | None = None,
) -> Float[Tensor, ""]:
    r"""Any loss of single positions, in chunks whose logits are computed again in the backward pass.

    .. math:: \frac{1}{N} \sum_i l(z^S_i, z^T_i)

    For what has no closed form in :func:`head_divergence_loss`: as slow as all logits at once, about half the memory.

    Args:
        student_hidden: as there.
        teacher_hidden: as there.
        student_head: as there.
        teacher_head: as there.
        per_position: :math:`l`, a value for each position, of the two networks' logits (tokens, vocabulary).
        vocabulary: as there.
        mask: as there.
        total: as there.
        chunk: as there.

    Returns:
        A scalar.

    Raises:
        ValueError: when the two layers tell different numbers of words.

    Scale:
        That of :math:`l`.

    Example:
        >>> from understudy.functional import kl_divergence
        >>> hidden = torch.tensor([[1.0]])
        >>> heads = Head(torch.tensor([[0.0], [0.0]])), Head(torch.tensor([[0.0], [1.0986123]]))
        >>> checkpointed_head_loss(
        ...     hidden, hidden, student_head=heads[0], teacher_head=heads[1], per_position=kl_divergence
        ... )
        tensor(0.1308)

    References:
        Chen, Xu, Zhang, Guestrin: Training Deep Nets with Sublinear Memory Cost, 2016 (arXiv:1604.06174).
    """
    student_head, teacher_head = _alike(student_head, teacher_head, vocabulary)
    student, teacher = _valid(student_hidden, teacher_hidden, mask)

    def summed(own: Tensor, answered: Tensor) -> Tensor:
        with torch.no_grad():
            logits = teacher_head.logits(answered)
        return per_position(student_head.logits(own), logits).sum()

    chunk = _tokens_at_once(chunk, student_head)
    pairs = zip(student.split(chunk), teacher.split(chunk), strict=True)  # one of no tokens where there are none
    parts: list[Any] = [checkpoint(summed, *pair, use_reentrant=False) for pair in pairs]
    value = torch.stack(parts).sum()
    return value / positive(value.new_tensor(len(student)) if total is None else total)


def _through_softmax(probabilities: Tensor, slopes: Tensor) -> Tensor:
    """The gradient to logits from that to their probabilities."""
    return probabilities * (slopes - (probabilities * slopes).sum(-1, keepdim=True))


class _SumInChunks(torch.autograd.Function):
    """The sum over tokens; its gradients are computed beside it, and kept instead of the logits."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        shape: tuple[float, float | None],
        judged: Callable[[Tensor, slice], tuple[Tensor, Tensor]],
        chunk: int,
        grad_enabled: bool,
    ) -> Tensor:
        head = Head(weight, bias, *shape)
        wanted = [wants and grad_enabled for wants in ctx.needs_input_grad[:3]]
        sums = []
        # Gradients of single tokens are too small for float16 before a loss is scaled.
        factors = weight.to(torch.float32 if hidden.dtype == torch.float16 else hidden.dtype)
        of_hidden = torch.empty_like(hidden, dtype=factors.dtype) if wanted[0] else None
        of_weight = precise(torch.zeros_like(weight)) if wanted[1] else None
        of_bias = precise(torch.zeros_like(bias)) if wanted[2] and bias is not None else None
        for start in range(0, max(len(hidden), 1), chunk):  # one chunk of nothing where there is nothing
            rows = slice(start, start + chunk)
            own = hidden[rows]
            logits = head.logits(own)
            value, slopes = judged(logits, rows)
            sums.append(value)
            slopes *= head.scale
            if head.cap is not None:
                slopes *= 1.0 - (logits / head.cap).square()
            if of_hidden is not None:
                with torch.autocast(hidden.device.type, enabled=False):
                    of_hidden[rows] = slopes.to(factors.dtype) @ factors
            if of_weight is not None:
                of_weight.addmm_(slopes.T, own.to(slopes.dtype))
            if of_bias is not None:
                of_bias += slopes.sum(0)
        ctx.save_for_backward(of_hidden, of_weight, of_bias)
        ctx.types = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        return torch.stack(sums).sum(0)

    @staticmethod
    @once_differentiable  # whose stub takes names from the arguments
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        factor = gradients[0].flatten()[0]
        found = [
            None if gradient is None else (gradient * factor).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.types, strict=True)
        ]
        return (*found, None, None, None, None)


def _alike(student_head: Head, teacher_head: Head, vocabulary: int | None) -> tuple[Head, Head]:
    heads = student_head.of(vocabulary), teacher_head.of(vocabulary)
    own, answered = (len(head.weight) for head in heads)
    if own != answered or vocabulary not in (None, own):
        sizes = f"{len(student_head.weight):,} and {len(teacher_head.weight):,} words"
        raise ValueError(
            f"the heads of student and teacher tell {sizes}; give vocabulary=, the number of words that their "
            "tokenizer has, which is at most the smaller of the two"
        )
    return heads


def _valid(student: Tensor, teacher: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The positions that count, in a row."""
    if mask is None:
        return student.flatten(0, -2), teacher.flatten(0, -2)
    return student[mask], teacher[mask]


def _tokens_at_once(chunk: int | None, head: Head) -> int:
    return chunk if chunk is not None else max(1, _LOGITS_AT_ONCE // len(head.weight))
