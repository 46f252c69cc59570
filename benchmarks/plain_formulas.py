"""Every method's loss as one would write it for a paper: no masks, no checks, one process, float32.

Each function is called like its method and returns the same number. Those on layers are in `plain_features.py` and
`plain_relations.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from plain_features import ON_FEATURES, Seen
from plain_relations import ON_RELATIONS
from torch import Tensor


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over rows of the divergence of log probabilities."""
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def soft(logits: Tensor, temperature: Any) -> Tensor:
    return F.log_softmax(logits / temperature, dim=1)


def cross_entropy(seen: Seen):
    return F.cross_entropy(seen.student, seen.targets)


def soft_targets(seen: Seen):
    t = seen.method.temperature
    return t * t * kl(soft(seen.student, t), soft(seen.teacher, t))


def reverse_kl(seen: Seen):
    t = seen.method.temperature
    return t * t * kl(soft(seen.teacher, t), soft(seen.student, t))


def skew_kl(seen: Seen):
    beta = seen.method.beta
    student, teacher = seen.student.softmax(1), seen.teacher.softmax(1)
    return F.kl_div((beta * teacher + (1 - beta) * student).log(), teacher, reduction="batchmean")


def jensen_shannon(seen: Seen):
    beta = seen.method.beta
    student, teacher = seen.student.softmax(1), seen.teacher.softmax(1)
    mixture = (beta * teacher + (1 - beta) * student).log()
    of_teacher, of_student = (F.kl_div(mixture, p, reduction="batchmean") for p in (teacher, student))
    return beta * of_teacher + (1 - beta) * of_student


def total_variation(seen: Seen):
    return 0.5 * (seen.student.softmax(1) - seen.teacher.softmax(1)).abs().sum(1).mean()


def logit_mse(seen: Seen):
    return F.mse_loss(seen.student, seen.teacher)


def regression(seen: Seen):
    return F.huber_loss(seen.student, seen.teacher)


def margin_mse(seen: Seen):
    return 2 * (seen.student - seen.teacher).var(1).mean()


def sigmoid_targets(seen: Seen):
    p = seen.teacher.sigmoid()
    crossed = F.binary_cross_entropy_with_logits(seen.student, p, reduction="sum")
    return (crossed - F.binary_cross_entropy_with_logits(seen.teacher, p, reduction="sum")) / len(p)


def logit_standardisation(seen: Seen):
    t = seen.method.temperature

    def standard(logits: Tensor):
        return (logits - logits.mean(1, keepdim=True)) / (1e-7 + logits.std(1, correction=0, keepdim=True))

    return t * t * kl(soft(standard(seen.student), t), soft(standard(seen.teacher), t))


def curriculum_temperature(seen: Seen):
    t = 1 + 20 * seen.term.theta.sigmoid()
    t = 2 * t.detach() - t  # the gradient turned round
    return t * t * kl(soft(seen.student, t), soft(seen.teacher, t))


def dynamic_temperature(seen: Seen):
    sharp, wanted = seen.student.amax(1, keepdim=True), seen.teacher.amax(1, keepdim=True)
    t = 2 * seen.method.temperature / (sharp + wanted)
    student, teacher = soft(seen.student, t * sharp), soft(seen.teacher, t * wanted)
    value = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1, keepdim=True)
    return (t * sharp * t * wanted * value).mean()


def conditional_targets(seen: Seen):
    of_teacher = F.kl_div(soft(seen.student, 1), soft(seen.teacher, 1), reduction="none", log_target=True).sum(1)
    of_label = F.cross_entropy(seen.student, seen.targets, reduction="none")
    return torch.where(seen.teacher.argmax(1) == seen.targets, of_teacher, of_label).mean()


def decoupled(seen: Seen):
    t, method = seen.method.temperature, seen.method
    true = F.one_hot(seen.targets, seen.student.shape[1])

    def two(logits: Tensor):
        p = (logits / t).softmax(1)
        return torch.stack([(p * true).sum(1), (p * (1 - true)).sum(1)], dim=1).log()

    of_true = kl(two(seen.student), two(seen.teacher))
    of_others = kl(soft(seen.student / t - 1000 * true, 1), soft(seen.teacher / t - 1000 * true, 1))
    return t * t * (method.alpha * of_true + method.beta * of_others)


def normalised_kd(seen: Seen):
    rows, t = len(seen.targets), seen.method.temperature
    true = seen.targets[:, None]
    of_true = -(seen.teacher.softmax(1).gather(1, true) * F.log_softmax(seen.student, dim=1).gather(1, true)).mean()
    others = ~F.one_hot(seen.targets, seen.student.shape[1]).bool()
    student, teacher = (soft(logits[others].reshape(rows, -1), t) for logits in (seen.student, seen.teacher))
    return of_true - seen.method.gamma * t * t * (teacher.exp() * student).sum(1).mean()


def weighted_soft_labels(seen: Seen):
    t = seen.method.temperature
    with torch.no_grad():
        own, of_teacher = (F.cross_entropy(x, seen.targets, reduction="none") for x in (seen.student, seen.teacher))
        weight = 1 - torch.exp(-own / (of_teacher + 1e-7))
    value = F.kl_div(soft(seen.student, t), soft(seen.teacher, t), reduction="none", log_target=True).sum(1)
    return t * t * (weight * value).mean()


def teacher_free(seen: Seen):
    a, t, classes = seen.method.correct_probability, seen.method.temperature, seen.student.shape[1]
    made = torch.full_like(seen.student, (1 - a) / (classes - 1)).scatter_(1, seen.targets[:, None], a)
    return F.kl_div(F.log_softmax(seen.student, dim=1), (made / t).softmax(1), reduction="batchmean")


def dist(seen: Seen):
    student, teacher = seen.student.softmax(1), seen.teacher.softmax(1)

    def apart(one: Tensor, other: Tensor):
        centred = one - one.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
        return 1 - F.cosine_similarity(*centred).mean()

    return seen.method.beta * apart(student, teacher) + seen.method.gamma * apart(student.T, teacher.T)


def multilevel_logits(seen: Seen):
    loss = 0
    for t in seen.method.temperatures:
        student, teacher = (seen.student / t).softmax(1), (seen.teacher / t).softmax(1)
        loss += t * t * kl(soft(seen.student, t), soft(seen.teacher, t))
        loss += (student @ student.T - teacher @ teacher.T).pow(2).sum() / student.shape[0]
        loss += (student.T @ student - teacher.T @ teacher).pow(2).sum() / student.shape[1]
    return loss


ON_LOGITS = (
    cross_entropy,
    soft_targets,
    reverse_kl,
    skew_kl,
    jensen_shannon,
    total_variation,
    logit_mse,
    regression,
    margin_mse,
    sigmoid_targets,
    logit_standardisation,
    curriculum_temperature,
    dynamic_temperature,
    conditional_targets,
    decoupled,
    normalised_kd,
    weighted_soft_labels,
    teacher_free,
    dist,
    multilevel_logits,
)

PLAIN: dict[str, Callable[[Seen], Tensor]] = {
    formula.__name__: formula for formula in (*ON_LOGITS, *ON_FEATURES, *ON_RELATIONS)
}
"""The plain formula of every method, by its kind."""
