"""Does the student train: its mode, its trainable parameters, and whether a gradient reaches them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from understudy.distiller import Distiller
from understudy.doctor.balance import TermGradient
from understudy.doctor.findings import Finding
from understudy.errors import listing


def check_modes(distiller: Distiller) -> list[Finding]:
    """The student in train mode: cheap enough to ask at any training step.

    Not an error as such: ``fit`` and most trainers call ``train()`` themselves.
    """
    student = distiller.student
    if not student.training:
        return [
            Finding(
                check="student_mode",
                severity="warning",
                message="the student is in eval mode; expected train mode at a training step",
                seen="student.training is False: dropout is off and batch normalisation does not learn",
                remedy="call distiller.train() before training, and again after each validation",
            )
        ]
    resting = [path for path, module in student.named_modules() if not module.training and _acts_by_mode(module)]
    if not resting:
        return []
    return [
        Finding(
            check="student_mode",
            severity="note",
            message="parts of the student stay in eval mode while it trains",
            seen=f"in eval mode: {listing(resting, most=4)}",
            remedy="call distiller.train(), unless they are meant to stay fixed",
        )
    ]


def check_trainable(distiller: Distiller) -> list[Finding]:
    """A student without parameters to train (an error), or with some frozen (a note)."""
    parameters = dict(distiller.student.named_parameters())
    frozen = [name for name, parameter in parameters.items() if not parameter.requires_grad]
    if len(frozen) < len(parameters):
        return [_partly_frozen(frozen, len(parameters))] if frozen else []
    return [
        Finding(
            check="student_trainable",
            severity="error",
            message="the student has no parameter to train; expected some with requires_grad",
            seen=f"{len(frozen)} parameters, all frozen" if frozen else "it has no parameters",
            remedy="call student.requires_grad_(True), or pass the network that is to be trained",
        )
    ]


def check_reached(distiller: Distiller, gradients: Sequence[TermGradient]) -> list[Finding]:
    """Trainable parameters of the student that no term of the objective depends on.

    Args:
        distiller: the set-up.
        gradients: of all terms, on one or more batches.
    """
    reached = {name for gradient in gradients if gradient.weighs for name in gradient.reached}
    trainable = [name for name, parameter in distiller.student.named_parameters() if parameter.requires_grad]
    missed = [name for name in trainable if name not in reached]
    if not missed or not trainable:
        return []
    return [
        Finding(
            check="student_gradient",
            severity="warning" if reached else "error",
            message="no term of the objective reaches some of the student's parameters; expected a gradient for all",
            seen=f"{len(missed)} of {len(trainable)} got none: {listing(missed, most=4)}",
            remedy="freeze them (requires_grad_(False)), or add a term that depends on them, such as a Hint",
        )
    ]


def _partly_frozen(frozen: list[str], count: int) -> Finding:
    return Finding(
        check="student_trainable",
        severity="note",
        message="part of the student is frozen and will not learn",
        seen=f"{len(frozen)} of {count} parameters do not require a gradient: {listing(frozen, most=4)}",
        remedy="nothing if meant; otherwise student.requires_grad_(True)",
    )


def _acts_by_mode(module: nn.Module) -> bool:
    """Whether train and eval mode differ for this layer itself."""
    batch_norms = nn.modules.batchnorm._BatchNorm | nn.modules.instancenorm._InstanceNorm
    return isinstance(module, batch_norms | nn.modules.dropout._DropoutNd)
