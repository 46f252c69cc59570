"""Do the terms of the objective pull about equally hard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from understudy.batch import Batch
from understudy.distiller import Distiller
from understudy.doctor.evidence import device_of
from understudy.doctor.findings import Finding
from understudy.doctor.untouched import untouched
from understudy.objective import Weight, term_value
from understudy.schedules import value_at

OUT_OF_PROPORTION = 100.0
SILENT = 1e-5
"""Value and gradient norm under which a term is at its minimum, but for rounding."""
MOMENTS = (0.0, 0.5, 1.0)
"""Progress at which scheduled weights are looked at."""


@dataclass(frozen=True, slots=True)
class TermGradient:
    """The pull of one term on the student, on one batch.

    Attributes:
        label: the term's name in logs.
        weight: its weight, as written.
        value: its unweighted value.
        norm: L2 norm of its unweighted gradient on all trainable parameters of the student.
        reached: names of the parameters that it depends on.
    """

    label: str
    weight: Weight
    value: float
    norm: float
    reached: frozenset[str]

    @property
    def weighs(self) -> bool:
        """Whether the term counts at any time."""
        return any(value_at(self.weight, moment) > 0.0 for moment in MOMENTS)


def term_balance(distiller: Distiller, batch: object, *, progress: float = 0.0) -> dict[str, float]:
    """L2 norm of the gradient of each weighted term on the student's parameters, by the term's label.

    Nothing is changed: no ``.grad``, no buffer, no mode, no random state.

    Args:
        distiller: the set-up, before it is wrapped for data-parallel training.
        batch: what the loader yields.
        progress: at which point of the training scheduled weights are taken, 0 to 1.
    """
    with untouched(distiller):
        moved = distiller.task.batch(batch).to(device_of(distiller))
        gradients = term_gradients(distiller, moved)
    return {gradient.label: value_at(gradient.weight, progress) * gradient.norm for gradient in gradients}


def term_gradients(distiller: Distiller, batch: Batch) -> list[TermGradient]:
    """Forward once as in training, and differentiate each term by itself; see ``untouched`` for what that moves."""
    names, parameters = _trainable(distiller)
    objective = distiller.objective
    with torch.enable_grad():
        step = distiller(batch, progress=0.0)
        found = []
        for method, module in zip(objective.objective.terms, objective.terms.values(), strict=True):
            value = term_value(method, module, step.student, step.teacher, batch)
            gradients = _gradients(value, parameters)
            reached = frozenset(name for name, grad in zip(names, gradients, strict=True) if grad is not None)
            found.append(TermGradient(method.label, method.weight, float(value.detach()), _norm(gradients), reached))
    return found


def check_balance(gradients: Sequence[TermGradient], *, adaptive: bool = False) -> list[Finding]:
    """Two terms whose weighted gradients differ by more than a factor of 100, at every moment both count.

    Args:
        gradients: of all terms, on one or more batches; a batch on which a term is silent does not count for it.
        adaptive: whether the objective has a balance, which evens the terms out, so that only their weights count.
    """
    weights = {gradient.label: gradient.weight for gradient in gradients if gradient.weighs}
    norms = {label: _mean([each.norm for each in gradients if each.label == label]) for label in weights}
    values = {label: _mean([abs(each.value) for each in gradients if each.label == label]) for label in weights}
    loud = {label: norm for label, norm in norms.items() if norm > SILENT or values[label] > SILENT}
    loud = {label: norm for label, norm in loud.items() if norm > 0.0}
    findings = [_silent(label) for label in norms if label not in loud]
    if adaptive:
        loud = dict.fromkeys(loud, 1.0)
    pairs = [(strong, weak) for strong in loud for weak in loud if _least_ratio(strong, weak, loud, weights) > 0.0]
    worst = max(pairs, key=lambda pair: _least_ratio(*pair, loud, weights), default=None)
    if worst is None:
        return findings
    ratio = _least_ratio(*worst, loud, weights)
    if ratio <= OUT_OF_PROPORTION:
        return findings
    strong, weak = worst
    moment = next(at for at in MOMENTS if value_at(weights[strong], at) > 0.0 and value_at(weights[weak], at) > 0.0)
    balanced = value_at(weights[weak], moment) * loud[weak] / loud[strong]
    return [
        *findings,
        Finding(
            check="term_balance",
            severity="warning",
            message=f"the term {strong} drowns the term {weak}; expected gradients within a factor of 100",
            seen=f"weighted gradient norms on the student: {strong} {ratio:.3g} times {weak}",
            remedy=f"weight {balanced:.2g} for {strong} (now {value_at(weights[strong], moment):.3g}) balances them"
            + ("" if adaptive else ", or let a balance such as gradient_norm do it"),
        ),
    ]


def _least_ratio(strong: str, weak: str, norms: dict[str, float], weights: dict[str, Weight]) -> float:
    """By how much one term's weighted gradient exceeds another's when that is least; 0 if they never meet."""
    ratios = [
        value_at(weights[strong], at) * norms[strong] / (value_at(weights[weak], at) * norms[weak])
        for at in MOMENTS
        if value_at(weights[strong], at) > 0.0 and value_at(weights[weak], at) > 0.0
    ]
    return min(ratios, default=0.0)


def _silent(label: str) -> Finding:
    return Finding(
        check="term_balance",
        severity="note",
        message=f"the term {label} gives the student no gradient",
        seen="its gradient was zero, or next to it, on every batch tried",
        remedy="nothing if student and teacher begin equal or its labels are rare; otherwise look at its layers",
    )


def _trainable(distiller: Distiller) -> tuple[list[str], list[Tensor]]:
    named = [(name, each) for name, each in distiller.student.named_parameters() if each.requires_grad]
    return [name for name, _ in named], [each for _, each in named]


def _gradients(value: Tensor, parameters: list[Tensor]) -> list[Tensor | None]:
    if not value.requires_grad or not parameters:
        return [None] * len(parameters)
    return list(torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True))


def _norm(gradients: list[Tensor | None]) -> float:
    dense = [grad.coalesce().values() if grad.is_sparse else grad for grad in gradients if grad is not None]
    norms = [torch.linalg.vector_norm(grad.detach().float()) for grad in dense]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0


def _mean(norms: list[float]) -> float:
    counted = [norm for norm in norms if norm > 0.0]
    return sum(counted) / len(counted) if counted else 0.0
