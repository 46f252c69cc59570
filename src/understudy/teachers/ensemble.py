"""Several teachers that answer as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import nn

from understudy.batch import Batch
from understudy.errors import InputError
from understudy.knowledge import Knowledge
from understudy.teachers.teacher import Teacher


@final
class Ensemble:
    r"""The mean of several teachers' class probabilities.

    .. math:: z_k = \log \sum_m w_m \, \mathrm{softmax}(z^m)_k

    The mean is taken of the probabilities at temperature 1, the quality of which is the ensemble's own, and its
    logarithm is handed on as logits. A temperature of the objective then softens that mean. Softening every
    member first and taking the mean of that is something else, as softening is not linear; it is not done here.

    Args:
        teachers: at least one; all with the same classes in the same order.
        weights: one number per teacher, zero or more; they are divided by their sum. None: all count alike.

    Raises:
        InputError: for no teachers, a network that is not wrapped as a teacher, or weights that do not fit.

    Example:
        >>> from understudy.tasks import Classification
        >>> from understudy.teachers import ModuleTeacher
        >>> members = [ModuleTeacher(nn.Linear(4, 3), task=Classification()) for _ in range(2)]
        >>> answer = Ensemble(members).observe(Batch(inputs=torch.ones(5, 4)))
        >>> answer.logits.exp().sum(-1)
        tensor([1.0000, 1.0000, 1.0000, 1.0000, 1.0000])

    References:
        Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015 (arXiv:1503.02531), section 1,
        which leaves open whether the arithmetic or the geometric mean is taken: this is the arithmetic one.
    """

    def __init__(self, teachers: Sequence[Teacher], weights: Sequence[float] | None = None) -> None:
        self.teachers = tuple(teachers)
        if not self.teachers:
            raise InputError("an ensemble needs at least one teacher, got none")
        for position, teacher in enumerate(self.teachers):
            if not isinstance(teacher, Teacher):
                hint = "; wrap it: ModuleTeacher(network, task=...)" if isinstance(teacher, nn.Module) else ""
                raise InputError(
                    f"member {position} of the ensemble is a {type(teacher).__name__}; expected a teacher{hint}"
                )
        self.weights = _shares(weights, len(self.teachers))

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        """The logarithm of the members' mean probabilities, in float32 or better, and the first member's mask.

        Raises:
            InputError: when layers are asked for, which belong to one network only, or when the members'
                logits differ in shape.
        """
        if taps:
            raise InputError(
                f"an ensemble has no layers of its own, asked for {taps[0]!r}. Expected an objective on logits; "
                "for a term on features take one of the members as the teacher"
            )
        answers = [teacher.observe(batch) for teacher in self.teachers]
        shapes = [tuple(answer.logits.shape) for answer in answers]
        if len(set(shapes)) > 1:
            raise InputError(f"the ensemble's members answer with logits of the shapes {shapes}; expected one shape")
        members = [_log_probabilities(answer) + share for answer, share in zip(answers, self.weights, strict=True)]
        return Knowledge(logits=torch.stack(members).logsumexp(dim=0), mask=answers[0].mask)


def _log_probabilities(answer: Knowledge) -> torch.Tensor:
    dtype = torch.promote_types(answer.logits.dtype, torch.float32)
    return F.log_softmax(answer.logits.detach().to(dtype), dim=-1)


def _shares(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """The logarithm of each member's share; minus infinity for a weight of zero."""
    weights = (1.0,) * count if weights is None else tuple(weights)
    if len(weights) != count:
        raise InputError(f"got {len(weights)} weights for an ensemble of {count} teachers; expected one for each")
    total = sum(weights)
    if not all(weight >= 0.0 for weight in weights) or not 0.0 < total < math.inf:
        raise InputError(f"the weights of an ensemble are zero or more, not all zero, and finite; got {list(weights)}")
    return tuple(math.log(weight / total) if weight > 0.0 else -math.inf for weight in weights)
