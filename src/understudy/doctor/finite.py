"""Numbers that are not numbers, named by batch and sample before they spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from understudy.batch import Batch
from understudy.doctor.balance import TermGradient
from understudy.doctor.evidence import Observation, named_rows
from understudy.doctor.findings import Finding
from understudy.errors import listing


def check_inputs(batches: Sequence[Batch], *, where: str = "the loader") -> list[Finding]:
    """NaN or infinity in what the models are shown."""
    for number, batch in enumerate(batches):
        for tensor in _floats(batch.inputs):
            wrong = _bad_rows(tensor, len(batch))
            if wrong.any():
                return [
                    Finding(
                        check="finite_inputs",
                        severity="error",
                        message=f"inputs of {where} hold NaN or infinity; expected finite numbers",
                        seen=f"{int(wrong.sum())} of {len(batch)} samples: {named_rows(batch, number, wrong)}",
                        remedy="repair or drop these samples; look for a division by a zero standard deviation",
                    )
                ]
    return []


def check_logits(observations: Sequence[Observation]) -> list[Finding]:
    """NaN or infinity in what the networks answer."""
    findings = []
    for side in ("student", "teacher"):
        for seen in observations:
            knowledge = seen.student if side == "student" else seen.teacher
            wrong = None if knowledge is None else _bad_rows(knowledge.logits, len(seen.batch))
            if wrong is not None and wrong.any():
                findings.append(
                    Finding(
                        check="finite_logits",
                        severity="error",
                        message=f"the {side} answers NaN or infinity; expected finite logits",
                        seen=f"{int(wrong.sum())} of {len(seen.batch)}: {named_rows(seen.batch, seen.number, wrong)}",
                        remedy=f"check the {side}'s weights, and its precision if it is not float32",
                    )
                )
                break
    return findings


def check_loss(gradients: Sequence[TermGradient], batch: Batch, number: int) -> list[Finding]:
    """Terms whose value or gradient is not finite on one batch."""
    wrong = [each.label for each in gradients if not _is_finite(each.value) or not _is_finite(each.norm)]
    if not wrong:
        return []
    everything = torch.ones(len(batch), dtype=torch.bool, device=batch.device)
    return [
        Finding(
            check="finite_loss",
            severity="error",
            message=f"the loss or its gradient is NaN or infinite in {listing(wrong)}; expected finite numbers",
            seen=f"in train mode on {named_rows(batch, number, everything)}",
            remedy="look at this term by itself on these samples; a log, a division or a root of zero is likely",
        )
    ]


def _is_finite(number: float) -> bool:
    return abs(number) < float("inf")


def _bad_rows(tensor: Tensor, count: int) -> Tensor:
    """Bool (batch,): the rows with a value that is not finite; all of them when rows cannot be told apart."""
    bad = ~torch.isfinite(tensor)
    return bad.reshape(count, -1).any(-1) if len(tensor) == count else bad.any().expand(count)


def _floats(inputs: Any) -> list[Tensor]:
    values = [inputs] if isinstance(inputs, Tensor) else inputs.values() if isinstance(inputs, Mapping) else inputs
    return [each for each in values if isinstance(each, Tensor) and each.is_floating_point() and each.ndim]
