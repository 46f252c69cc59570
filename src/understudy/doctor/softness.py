"""Is there anything in the soft targets, and in the labels, to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from understudy.batch import Batch
from understudy.distiller import Distiller
from understudy.doctor.evidence import Observation, labelled_rows
from understudy.doctor.findings import Finding
from understudy.objective import Method

HARD = 0.01
"""Mean entropy in nats under which soft targets say no more than a label."""
SOFT = 0.1
"""Mean entropy in nats that a suggested temperature reaches."""


def check_temperature(distiller: Distiller, observations: Sequence[Observation]) -> list[Finding]:
    """A teacher so confident at a term's temperature that its soft targets are hard labels."""
    logits = [seen.teacher.logits.flatten(0, -2).float() for seen in observations if seen.teacher is not None]
    if not logits or logits[0].shape[-1] < 2:
        return []
    together = torch.cat(logits)
    findings = []
    for term in distiller.objective.objective.terms:
        temperature = _temperature(term)
        if temperature is None or not term.needs_teacher or mean_entropy(together, temperature) >= HARD:
            continue
        findings.append(
            Finding(
                check="temperature",
                severity="note",
                message=f"at temperature {temperature:g} the teacher's soft targets equal hard labels ({term.label})",
                seen=f"mean entropy {mean_entropy(together, temperature):.2g} nats over {len(together)} rows; "
                f"expected at least {HARD:g}",
                remedy=f"raise the temperature, to about {_softer(together, temperature):g}",
            )
        )
    return findings


def check_labelled(distiller: Distiller, batches: Sequence[Batch]) -> list[Finding]:
    """Batches without any label, for an objective that reads nothing else."""
    if distiller.objective.objective.needs_teacher:
        return []
    empty = sum(labelled_rows(batch) == 0 for batch in batches)
    if not empty:
        return []
    everything = empty == len(batches)
    return [
        Finding(
            check="labelled_rows",
            severity="warning" if everything else "note",
            message="batches without a label train nothing, as no term reads a teacher",
            seen=f"{empty} of {len(batches)} batches have no labelled row",
            remedy="add a term that needs no labels, such as SoftTargets with a teacher, or larger batches",
        )
    ]


def mean_entropy(logits: Tensor, temperature: float) -> float:
    """Mean entropy in nats of softmax(logits / temperature), (rows, classes)."""
    return float(torch.distributions.Categorical(logits=logits / temperature, validate_args=False).entropy().mean())


def _temperature(term: Method) -> float | None:
    """A method's temperature, when its hyper-parameters have one."""
    values: dict[str, Any] = term.model_dump(include={"temperature"})
    return values.get("temperature")


def _softer(logits: Tensor, temperature: float) -> float:
    """The first doubling of the temperature at which the targets are soft."""
    for _ in range(20):
        if mean_entropy(logits, temperature) >= SOFT:
            break
        temperature *= 2.0
    return temperature
