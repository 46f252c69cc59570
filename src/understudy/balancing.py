"""Weights of an objective's terms that adapt while it trains."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, ClassVar, Literal, final

import torch
import torch.distributed
from pydantic import Field
from torch import Tensor, nn

from understudy.errors import InputError
from understudy.functional.balancing import gradient_norm_weights
from understudy.functional.geometry import precise
from understudy.gathering import process_count
from understudy.spec import Spec
from understudy.taps import unknown_layer, unwrapped

_SCALE = 1024.0
"""What losses are multiplied by while their gradients are measured, so that those do not vanish in float16."""
_COMPILED = "gradient_norm measures between the student and the loss: compile the student instead of the distiller"


class Balance(Spec):
    """How the weights of an objective's terms adapt; the weights of the terms themselves are multiplied on top."""

    paper: ClassVar[str]
    """The publication it follows."""

    kind: str

    @abstractmethod
    def build(self, terms: int) -> Balancer:
        """The module that owns what changes.

        Args:
            terms: how many terms there are, 2 or more.
        """


class Balancer(nn.Module, ABC):
    """Factors of the terms of an objective, which change while it trains."""

    @abstractmethod
    def factors(self) -> Tensor:
        """What the weight of each term is multiplied by now: (terms,), detached."""

    @abstractmethod
    def forward(self, values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """The loss to train on.

        Args:
            values: the unweighted value of each term, scalars.
            weights: the weight of each term as the objective has it, at this point of the training.
        """

    def begin(self, student: nn.Module, values: Mapping[str, Tensor]) -> None:
        """Look once, when the objective is built, at what the terms depend on.

        Args:
            student: the network that trains.
            values: each term's value for an example, by label, with its graph.

        Raises:
            InputError: when this student and these terms cannot be balanced.
        """

    def watching(self) -> AbstractContextManager[Any]:
        """What the student's forward pass has to run in."""
        return nullcontext()


@final
class LearnedUncertainty(Balance):
    r"""Each term has a variance, which is learned by the optimizer that trains the student.

    .. math:: L = \sum_i w_i \left( e^{-s_i} L_i + \tfrac{1}{2} s_i \right), \quad s_i = \log \sigma_i^2

    With :math:`s_i = 0`, where it starts, it is the plain sum. This is the paper's form for classification
    (eq. 10: :math:`L / \sigma^2 + \log \sigma`), used for all terms; the one for regression (eq. 7) has half the
    first part, which only moves :math:`s_i` by log 2. The authors' code adds :math:`s_i` unhalved: twice eq. 7.
    A constant :math:`L_i` ends at :math:`e^{s_i} = 2 L_i`, so that a term contributes :math:`w_i / 2` whatever its
    unit: weights written by the user stay relative importances, and one of 0 leaves :math:`s_i` alone. (Weighting
    only the first part, as one might read the paper, would learn the user's weights away.)

    The factors :math:`e^{-s_i}` stay between 1/``limit`` and ``limit``, as a term that is solved or has nothing to
    count would otherwise be multiplied without end. Terms must not be negative: a log-likelihood ends at the limit.
    Adam takes its time where :math:`L_i` starts in the hundreds, as it remembers the first gradients of :math:`s_i`.

    Example:
        >>> LearnedUncertainty()
        LearnedUncertainty(kind='learned_uncertainty', limit=10000.0)
    """

    paper: ClassVar[str] = (
        "Kendall, Gal, Cipolla: Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR 2018 (arXiv:1705.07115)"
    )

    kind: Literal["learned_uncertainty"] = "learned_uncertainty"
    limit: Annotated[float, Field(gt=1.0)] = 1e4
    """The largest factor; the smallest is one over it."""

    def build(self, terms: int) -> Balancer:
        """One log-variance for each term."""
        return UncertaintyFactors(self, terms)


@final
class UncertaintyFactors(Balancer):
    """The log-variances; they take no part in weight decay (see ``engine.optimizers``)."""

    def __init__(self, balance: LearnedUncertainty, terms: int) -> None:
        super().__init__()
        self.balance = balance
        self.log_variances = nn.Parameter(torch.zeros(terms))

    def factors(self) -> Tensor:
        """exp(-s)."""
        return precise(self.log_variances.detach()).neg().exp()

    def forward(self, values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """The weighted sum of scaled terms and of half the log-variances."""
        if self.training and torch.is_grad_enabled():
            most = math.log(self.balance.limit)
            with torch.no_grad():  # back from where the last step of the optimizer may have thrown them
                self.log_variances.clamp_(-most, most)
        logs = precise(self.log_variances)
        terms = [
            weight * (log.neg().exp() * value + log / 2)
            for weight, log, value in zip(weights, logs, values, strict=True)
        ]
        return torch.stack(terms).sum()


@final
class GradientNorm(Balance):
    r"""Weights at which the terms' gradients are equally long, but longer for terms that lag behind.

    .. math:: L = \sum_i w_i b_i L_i, \quad b_i \| \nabla_W L_i \| \propto r_i^\alpha, \quad \sum_i b_i = T, \quad
        r_i = \frac{L_i / L_i(0)}{\frac{1}{T} \sum_j L_j / L_j(0)}

    with the running means of norms and values. The factors :math:`b_i` balance the unweighted terms; the weights
    :math:`w_i` that the user wrote are relative importances on top, so that a schedule means what it says (with all
    weights 1 it is the paper's sum). The paper approaches these :math:`b_i` by gradient descent on
    :math:`\sum_i |b_i \|\nabla_W L_i\| - \bar G r_i^\alpha|`, with a learning rate of its own, and renormalises
    them; the sum being fixed, the minimum is known in closed form, which is what is used here. (For α of 0 and 1 it is
    the minimum. Otherwise the paper's targets do not add up to the lengths that there are, and the rest, which the
    descent leaves to some of the terms, goes to all in proportion.) It needs no learning rate, stays positive, and
    takes no longer for scales of 1 and 1000. What the paper's small steps smooth, the running means smooth here: the
    first measurement counts fully, the n-th 1/n, and no less than ``rate``.

    W is the last weight of the student that all terms reach, in the order of ``named_parameters()``: as in the
    paper a measurement then costs little, as the gradient of each term stops there. ``layer`` names another; "" is
    the whole student, at the cost of one backward pass for each term.

    Measured is in every ``every``-th forward pass in train mode with gradients, the first one included; micro-batches
    of an accumulated step are passes too. In eval mode or under ``no_grad`` nothing changes. Several processes
    measure the gradient of their common batch. A compiled student runs uncompiled in such a pass, as its compiled
    gradient can be taken only once. A term that is zero in a pass, or not finite, is left as it was, and counts 1
    until it was measured. Terms are expected to be positive; one that is not at first never counts as lagging.

    Example:
        >>> GradientNorm(alpha=0.5)
        GradientNorm(kind='gradient_norm', alpha=0.5, every=10, rate=0.1, layer=None)
    """

    paper: ClassVar[str] = (
        "Chen et al.: GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks, "
        "ICML 2018 (arXiv:1711.02257)"
    )

    kind: Literal["gradient_norm"] = "gradient_norm"
    alpha: Annotated[float, Field(ge=0.0)] = 1.5
    """How strongly terms that lag behind are favoured; 0 makes all gradients equally long."""
    every: Annotated[int, Field(ge=1)] = 10
    """Forward passes from one measurement to the next."""
    rate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """The least share of a new measurement in the running means."""
    layer: str | None = None
    """The student's layer that gradients are measured on; the last weight that all terms reach when left out."""

    def build(self, terms: int) -> Balancer:
        """Factors of 1, and nothing measured."""
        return GradientNormFactors(self, terms)


@final
class GradientNormFactors(Balancer):
    """The factors and the running means that they come from; the same in all processes.

    Attributes:
        passes: forward passes that may have been measured so far; a checkpoint has them as extra state.
    """

    weights: Tensor
    norms: Tensor
    values: Tensor
    first: Tensor
    measured: Tensor
    passes: int

    def __init__(self, balance: GradientNorm, terms: int) -> None:
        super().__init__()
        self.balance = balance
        self.register_buffer("weights", torch.ones(terms))
        for name in ("norms", "values", "first"):
            self.register_buffer(name, torch.zeros(terms))
        self.register_buffer("measured", torch.zeros(terms, dtype=torch.int64))
        self._shared: list[nn.Parameter] = []  # the student's, so that they must not become parameters of this module
        self.passes = 0  # no buffer: reading it at every step would wait for the device

    def get_extra_state(self) -> Tensor:
        """The passes that were made, for checkpoints."""
        return torch.tensor(self.passes)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on counting."""
        self.passes = int(state)

    def factors(self) -> Tensor:
        """The weights of the last measurement."""
        return precise(self.weights)

    def begin(self, student: nn.Module, values: Mapping[str, Tensor]) -> None:
        """Choose the parameters that gradients are measured on.

        Raises:
            InputError: when there is no such layer, or no parameter that all terms reach.
        """
        inner, layer = unwrapped(student), self.balance.layer
        layers = dict(inner.named_modules())
        if layer is not None and layer not in layers:
            raise InputError(f"gradient_norm: {unknown_layer(layer, layers, 'student')}")
        parameters = [each for each in layers[layer or ""].parameters() if each.requires_grad]
        reached = {
            label: [each is not None for each in _gradients(value, parameters)] for label, value in values.items()
        }
        shared = [each for each, *by in zip(parameters, *reached.values(), strict=True) if all(by)]
        if not shared:
            counts = ", ".join(f"{label} {sum(those)}" for label, those in reached.items())
            where = f"layer {layer!r}" if layer else "the student"
            raise InputError(
                f"gradient_norm compares the terms' gradients on parameters that all of them reach, and {where} has "
                f"none: of its {len(parameters)} trainable ones these many are reached by {counts}. Choose "
                f"{'another layer' if layer else 'learned_uncertainty'}, or leave out a term"
            )
        matrices = [each for each in shared if each.ndim > 1]
        self._shared = shared if layer is not None else (matrices or shared)[-1:]

    def watching(self) -> AbstractContextManager[Any]:
        """Uncompiled where a measurement is due, so that the student can be differentiated several times.

        Raises:
            InputError: inside of a compiled distiller.
        """
        if not self._due():
            return nullcontext()
        if torch.compiler.is_compiling():
            raise InputError(_COMPILED)  # torch then tries without compiling this frame
        try:
            return torch.compiler.set_stance("force_eager")
        except RuntimeError as error:
            raise InputError(_COMPILED) from error

    def forward(self, values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """The weighted sum of the terms."""
        if self._due():
            self._measure(values)
        if self.training and torch.is_grad_enabled():
            self.passes += 1
        # The factors may change in place before the backward pass, which needs only their product with the weight.
        terms = [
            (weight * factor) * value for weight, factor, value in zip(weights, self.factors(), values, strict=True)
        ]
        return torch.stack(terms).sum()

    def _due(self) -> bool:
        return self.training and torch.is_grad_enabled() and self.passes % self.balance.every == 0

    def _measure(self, values: Sequence[Tensor]) -> None:
        """Take the terms' values and gradient norms into the running means, and follow them."""
        seen = [self._seen(value) for value in values]
        with torch.no_grad():
            norms, now = (torch.stack(each).to(self.norms.dtype) for each in zip(*seen, strict=True))
            sound = (norms > 0) & norms.isfinite() & now.isfinite()
            share = (1.0 / (self.measured.to(norms.dtype) + 1.0)).clamp(min=self.balance.rate)
            self.first.copy_(torch.where(sound & (self.measured == 0), now, self.first))
            for mean, new in ((self.norms, norms), (self.values, now)):
                mean.copy_(torch.where(sound, mean + share * (new - mean), mean))
            self.measured += sound
            rates = torch.where(self.first > 0, self.values / self.first, 1.0)
            self.weights.copy_(gradient_norm_weights(precise(self.norms), precise(rates), alpha=self.balance.alpha))

    def _seen(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """A term's gradient norm and its value, of all processes together."""
        parameters = [each for each in self._shared if each.requires_grad]
        gradients = _gradients(_SCALE * value, parameters)
        parts = [
            torch.zeros_like(each) if gradient is None else precise(gradient.to_dense()) / _SCALE
            for each, gradient in zip(parameters, gradients, strict=True)
        ]
        together = torch.cat([precise(part).flatten() for part in [*parts, value.detach()]])
        if process_count() > 1:
            torch.distributed.all_reduce(together)
            together /= process_count()
        return torch.linalg.vector_norm(together[:-1]), together[-1]


def _gradients(value: Tensor, parameters: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """The gradient on each parameter, None where the value does not depend on it; the graph stays."""
    if not value.requires_grad or not parameters:
        return [None] * len(parameters)
    with torch.autocast(value.device.type, enabled=False):
        return torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)


AnyBalance = Annotated[LearnedUncertainty | GradientNorm, Field(discriminator="kind")]
"""What a recipe may write as a balance."""
