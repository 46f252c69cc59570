"""Plain losses between the samples of a batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from plain_features import Seen
from torch import Tensor


def pearson_channels(seen: Seen):
    def standard(feature: Tensor):
        x = feature.transpose(0, 1).flatten(1)
        return (x - x.mean(1, keepdim=True)) / (x.std(1, correction=0, keepdim=True) + 1e-6)

    pairs = [(joined.relation.adapter(s), t) for joined, (s, t) in zip(seen.term.joined, seen.pairs, strict=True)]
    return sum(F.mse_loss(standard(s), standard(t)) / 2 for s, t in pairs)


def similarity_preserving(seen: Seen):
    def similarities(feature: Tensor):
        flat = feature.flatten(1)
        return F.normalize(flat @ flat.T)

    s, t = seen.pair
    return F.mse_loss(similarities(s), similarities(t))


def cosines(feature: Tensor):
    rows = F.normalize(feature)
    return rows @ rows.T


def embedding_similarity(seen: Seen):
    s, t = seen.pair
    return (cosines(s) - cosines(t)).pow(2).sum() / (len(s) * (len(s) - 1))


def similarity_margins(seen: Seen):
    s, t = (cosines(side) for side in seen.pair)
    count = len(s)
    others = ~torch.eye(count, dtype=torch.bool)
    triples = others[:, :, None] & others[:, None, :] & others[None]
    margins = [side[:, :, None] - side[:, None, :] for side in (s, t)]
    return (margins[0] - margins[1])[triples].pow(2).mean()


def correlation_congruence(seen: Seen):
    g = 2 * seen.method.gamma

    def kernel(feature: Tensor):
        c = cosines(feature)
        return math.exp(-g) * (1 + g * c + g * g / 2 * c * c)

    s, t = seen.pair
    return F.mse_loss(kernel(s), kernel(t))


def probabilistic_transfer(seen: Seen):
    def neighbours(feature: Tensor):
        kernel = (1 + cosines(feature)) / 2 * (1 - torch.eye(len(feature)))
        return kernel / kernel.sum(1, keepdim=True)

    s, t = map(neighbours, seen.pair)
    return (t * ((t + 1e-12) / (s + 1e-12)).log()).sum() / len(s)


def relational_distance(seen: Seen):
    def distances(x: Tensor):
        squares = x.pow(2).sum(1)
        apart = (squares[:, None] + squares - 2 * x @ x.T).clamp(min=1e-12).sqrt() * (1 - torch.eye(len(x)))
        return apart / apart[apart > 0].mean()

    s, t = seen.pair
    return F.smooth_l1_loss(distances(s), distances(t)) * len(s) / (len(s) - 1)


def relational_angle(seen: Seen):
    def angles(x: Tensor):
        unit = F.normalize(x - x[:, None], dim=2)
        return unit @ unit.mT

    (s, t), n = seen.pair, len(seen.pair[0])
    return F.smooth_l1_loss(angles(s), angles(t)) * n * n / ((n - 1) * (n - 2))


def contrastive(seen: Seen):
    (together,), (s, t), tau = seen.term.joined, seen.pair, seen.method.temperature
    memory = together.relation
    s, t = F.normalize(memory.student_projection(s)), F.normalize(memory.teacher_projection(t))
    size, width = memory.student_memory.shape
    offset = math.log(size) + 1 / (2 * width * tau**2)
    of_student = s @ memory.teacher_memory.clone().T / tau - offset
    of_teacher = t @ memory.student_memory.clone().T / tau - offset
    right = F.logsigmoid((s * t).sum(1) / tau - offset)
    loss = -(2 * right + F.logsigmoid(-of_student).sum(1) + F.logsigmoid(-of_teacher).sum(1)).mean()
    with torch.no_grad():
        places = (memory.place + torch.arange(len(s))) % size
        memory.student_memory[places], memory.teacher_memory[places] = s, t
        memory.place.copy_((memory.place + len(s)) % size)
    return loss


def cross_sample_similarity(seen: Seen):
    (together,), (s, t) = seen.term.joined, map(F.normalize, seen.pair)
    relation = together.relation

    def scores(rows: Tensor):
        return torch.cat([(rows * t).sum(1, keepdim=True), rows @ relation.memory.clone().T], dim=1)

    student = F.log_softmax(scores(s) / seen.method.student_temperature, dim=1)
    teacher = F.log_softmax(scores(t) / seen.method.teacher_temperature, dim=1)
    with torch.no_grad():
        relation.memory[(relation.place + torch.arange(len(s))) % len(relation.memory)] = t
        relation.place.copy_((relation.place + len(s)) % len(relation.memory))
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def patch_manifold(seen: Seen):
    def apart(one: Tensor, other: Tensor):
        return F.mse_loss(one @ one.mT, other @ other.mT)

    loss, method = 0, seen.method
    for s, t in seen.pairs:
        s, t = (F.normalize(x[:, 1:], dim=2) for x in (s, t))  # without the class token
        patches = s.shape[0] * s.shape[1]
        drawn = torch.randperm(patches)[: method.drawn] if patches > method.drawn else torch.arange(patches)
        loss += method.within * apart(s, t) + method.across * apart(s.transpose(0, 1), t.transpose(0, 1))
        loss += method.anywhere * apart(s.flatten(0, 1)[drawn], t.flatten(0, 1)[drawn])
    return loss


ON_RELATIONS = (
    pearson_channels,
    similarity_preserving,
    embedding_similarity,
    similarity_margins,
    correlation_congruence,
    probabilistic_transfer,
    relational_distance,
    relational_angle,
    contrastive,
    cross_sample_similarity,
    patch_manifold,
)
