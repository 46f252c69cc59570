"""Are logits logits: probabilities in their place teach nothing, and nothing else complains."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from understudy.distiller import Distiller
from understudy.doctor.evidence import Observation
from understudy.doctor.findings import Finding
from understudy.doctor.untouched import networks
from understudy.teachers import Ensemble, Told

TOLERANCE = 2e-3
"""How far from 1 a row of probabilities may sum up."""
ENOUGH = 20
"""Answers within [0, 1] that are no accident, where nothing else tells probabilities from logits."""


def check_probabilities(distiller: Distiller, observations: Sequence[Observation]) -> list[Finding]:
    """Rows that sum to one within [0, 1], or whose exponentials do, or labels within [0, 1], on either side."""
    sides = {
        "student": ([seen.student.logits for seen in observations], [distiller.student]),
        "teacher": (
            [seen.teacher.logits for seen in observations if seen.teacher is not None],
            list(networks(distiller.teacher).values()),
        ),
    }
    findings = []
    for side, (logits, modules) in sides.items():
        if not logits or logits[0].shape[-1] < 2:
            continue
        values = torch.cat([each.flatten(0, -2) for each in logits]).float()
        if _are_probabilities(values):
            findings.append(
                _probabilities(side, f"all {len(values)} rows lie in [0, 1] and sum to 1", nn.Softmax, modules)
            )
        elif _are_of_labels(values):
            findings.append(_probabilities(side, f"all {len(values)} answers lie in [0, 1]", nn.Sigmoid, modules))
        elif side == "teacher" and isinstance(distiller.teacher, Ensemble | Told):
            continue  # these answer with log-probabilities, and say so
        elif bool((values <= 0.0).all()) and _are_probabilities(values.exp()):
            findings.append(_log_probabilities(side, len(values)))
    return findings


def _are_probabilities(values: Tensor) -> bool:
    inside = bool((values >= 0.0).all()) and bool((values <= 1.0 + TOLERANCE).all())
    sums = values.sum(-1)
    return (
        inside and float((sums - 1.0).abs().max()) < 10.0 * TOLERANCE and float((sums.mean() - 1.0).abs()) < TOLERANCE
    )


def _are_of_labels(values: Tensor) -> bool:
    """Whether labels that do not exclude each other, whose logits are 0 for no, seem to have probabilities for yes."""
    if len(values) < ENOUGH or values.shape[1] != 2 or bool(values[:, 0].any()):
        return False
    return bool((values[:, 1] >= 0.0).all()) and bool((values[:, 1] <= 1.0).all())


def _probabilities(side: str, seen: str, kind: type[nn.Module], modules: list[nn.Module]) -> Finding:
    name = kind.__name__
    last = [path for module in modules for path, layer in module.named_modules() if isinstance(layer, kind)]
    where = f" (its layer {last[-1]!r} is a {name})" if last else ""
    instead = ", or return the logarithm of its output" if kind is nn.Softmax else ""
    return Finding(
        check="probabilities",
        severity="error",
        message=f"the {side} gives probabilities; expected logits, the scores before the {name.lower()}",
        seen=f"{seen}{where}",
        remedy=f"take the {name.lower()} off the {side}'s end{instead}",
    )


def _log_probabilities(side: str, count: int) -> Finding:
    return Finding(
        check="probabilities",
        severity="note",
        message=f"the {side} gives log-probabilities, which softmax-based terms read as the logits they come from",
        seen=f"the exponentials of all {count} rows sum to 1",
        remedy="nothing for CrossEntropy and SoftTargets; return logits for terms that compare the scores themselves",
    )
