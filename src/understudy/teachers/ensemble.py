"""Several teachers that answer as one, and each by its name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError, listing
from understudy.knowledge import Knowledge
from understudy.taps import paths_of
from understudy.teachers.teacher import Teacher


@final
class Ensemble:
    r"""Several teachers whose class probabilities are averaged, or picked sample by sample.

    .. math:: \text{mean:}\quad z_k = \log \sum_m w_m \, \mathrm{softmax}(z^m)_k \qquad
        \text{confident:}\quad z_k = \log \mathrm{softmax}(z^{m^*})_k,\;
        m^* = \arg\max_m w_m \max_j \mathrm{softmax}(z^m)_j

    Probabilities are those at temperature 1, the quality of which is the ensemble's own, and their logarithm is
    handed on as logits. A temperature of the objective then softens that. Softening every member first and taking
    the mean of that is something else, as softening is not linear; it is not done here.

    A term of the objective that names one of the teachers gets that one's own logits and features.

    Args:
        teachers: at least one, with names if terms are to ask one of them; all with the same classes in the same
            order.
        weights: one number per teacher, zero or more; they are divided by their sum. None: all count alike.
        combine: ``mean`` of the probabilities, or for each sample those of the teacher that is most ``confident``.

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

    def __init__(
        self,
        teachers: Sequence[Teacher] | Mapping[str, Teacher],
        weights: Sequence[float] | None = None,
        *,
        combine: Literal["mean", "confident"] = "mean",
    ) -> None:
        named = isinstance(teachers, Mapping)
        self.members: dict[str, Teacher] = (
            dict(teachers) if named else {str(position): teacher for position, teacher in enumerate(teachers)}
        )
        if not self.members:
            raise InputError("an ensemble needs at least one teacher, got none")
        for name, teacher in self.members.items():
            if not isinstance(teacher, Teacher):
                hint = "; wrap it: ModuleTeacher(network, task=...)" if isinstance(teacher, nn.Module) else ""
                raise InputError(
                    f"member {name} of the ensemble is a {type(teacher).__name__}; expected a teacher{hint}"
                )
        self.weights = _shares(weights, len(self.members))
        self.combine = combine

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        """The logarithm of the ensemble's probabilities, in float32 or better, and every member's own answer.

        Args:
            batch: the samples.
            taps: layers of members, as ``name/path``.

        Raises:
            InputError: for a layer of no member, or when the members' logits differ in shape.
        """
        wanted = {name: paths_of(name, taps) for name in self.members}
        if sum(map(len, wanted.values())) < len(taps):
            unnamed = next(tap for tap in taps if tap.partition("/")[0] not in self.members)
            raise InputError(
                f"an ensemble has no layers of its own, asked for {unnamed!r}. Let the term on features name one of "
                f"the teachers, such as teacher={next(iter(self.members))!r} (there are {listing(list(self.members))})"
            )
        answers = {name: teacher.observe(batch, wanted[name]) for name, teacher in self.members.items()}
        shapes = [tuple(answer.logits.shape) for answer in answers.values()]
        if len(set(shapes)) > 1:
            raise InputError(f"the ensemble's members answer with logits of the shapes {shapes}; expected one shape")
        if any(answer.top is not None for answer in answers.values()):
            raise InputError("a member of the ensemble tells only its likeliest classes; expected all classes of each")
        logarithms = torch.stack([_log_probabilities(answer) for answer in answers.values()])
        shares = logarithms.new_tensor(self.weights).reshape(-1, *[1] * (logarithms.ndim - 1))
        logits = (logarithms + shares).logsumexp(dim=0) if self.combine == "mean" else _surest(logarithms, shares)
        return Knowledge(logits=logits, mask=next(iter(answers.values())).mask, members=answers)


def _surest(logarithms: Tensor, shares: Tensor) -> Tensor:
    """Of (members, ..., classes) for each position the member with the greatest weighted probability."""
    chosen = (logarithms + shares).amax(dim=-1, keepdim=True).argmax(dim=0, keepdim=True)
    return logarithms.gather(0, chosen.expand(1, *logarithms.shape[1:])).squeeze(0)


def _log_probabilities(answer: Knowledge) -> Tensor:
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
