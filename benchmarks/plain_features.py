"""Plain losses on the features of each sample, and what a plain formula is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Seen:
    """What a plain formula is given.

    Attributes:
        student: logits (samples, classes).
        teacher: the same.
        targets: (samples,).
        own: what the method reads of the student's layers.
        others: the same of the teacher's.
        method: its settings.
        term: a copy of the module that the method built, for its weights.
    """

    student: Tensor
    teacher: Tensor
    targets: Tensor
    own: list[Tensor]
    others: list[Tensor]
    method: Any
    term: nn.Module

    @property
    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """What is compared, student's and teacher's."""
        return list(zip(self.own, self.others, strict=True))

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """The only one."""
        (pair,) = self.pairs
        return pair

    @property
    def adapted(self) -> list[tuple[Tensor, Tensor]]:
        """The pairs, with the student's through the adapter."""
        return [(joined.adapter(s), t) for joined, (s, t) in zip(self.term.joined, self.pairs, strict=True)]


def hint(seen: Seen):
    return sum(F.mse_loss(s, t) for s, t in seen.adapted)


def attention_transfer(seen: Seen):
    def attention(feature: Tensor):
        return F.normalize(feature.pow(2).mean(1).flatten(1))

    return sum((attention(s) - attention(t)).pow(2).mean() for s, t in seen.pairs)


def activation_boundaries(seen: Seen):
    m = seen.method.margin
    return sum(torch.where(t > 0, F.relu(m - s), F.relu(m + s)).pow(2).sum() / len(s) for s, t in seen.adapted)


def masked_features(seen: Seen):
    loss, method = 0, seen.method
    for s, t in seen.adapted:
        pixels, channels = [x.abs().mean(1) for x in (s, t)], [x.abs().mean((2, 3)) for x in (s, t)]
        with torch.no_grad():
            of_pixels = (sum(pixels) / method.temperature).flatten(1).softmax(1) * pixels[0][0].numel()
            of_channels = (sum(channels) / method.temperature).softmax(1) * s.shape[1]
            root = (of_channels[:, :, None, None] * of_pixels.reshape(len(s), 1, *s.shape[2:])).sqrt()
        masked = ((s - t) * root).flatten(1).norm(dim=1)
        activity = (pixels[0] - pixels[1]).flatten(1).norm(dim=1) + (channels[0] - channels[1]).norm(dim=1)
        loss += (masked + method.attention * activity).mean()
    return loss


def overhaul(seen: Seen):
    loss = 0
    for s, t in seen.adapted:
        margin = t.clamp(max=0).sum((0, 2, 3)) / (t < 0).sum((0, 2, 3)).clamp(min=1)
        target = torch.max(t, margin[:, None, None])
        loss += ((s - target).pow(2) * ((s > target) | (target > 0))).sum() / len(s)
    return loss


def variational(seen: Seen):
    loss = 0
    for joined, (s, t) in zip(seen.term.joined, seen.pairs, strict=True):
        variance = (F.softplus(joined.alpha) + 1e-5)[:, None, None]
        loss += 0.5 * ((joined.mean(s) - t).pow(2) / variance + variance.log()).mean()
    return loss


def fsp(seen: Seen):
    student = [adapter(s) for adapter, (s, _) in zip(seen.term.adapters, seen.pairs, strict=True)]

    def flow(earlier: Tensor, later: Tensor):
        earlier = F.adaptive_avg_pool2d(earlier, later.shape[2:])
        return earlier.flatten(2) @ later.flatten(2).mT / later[0, 0].numel()

    return F.mse_loss(flow(*student), flow(*(t for _, t in seen.pairs)))


def review(seen: Seen):
    def normal(x: Tensor, norm: nn.Module):
        return F.batch_norm(x, None, None, norm.weight, norm.bias, training=True)

    loss, deeper = 0, None
    for fusion, (s, t) in zip(reversed(seen.term.fusions), reversed(seen.pairs), strict=True):
        x = normal(fusion.enter(s), fusion.enter_norm)
        if deeper is not None:
            deeper = F.interpolate(deeper, size=x.shape[2:])
            share = fusion.attention(torch.cat([x, deeper], dim=1)).sigmoid()
            x = share[:, :1] * x + share[:, 1:] * deeper
        made, deeper = normal(fusion.leave(x), fusion.leave_norm), x
        value, weight, weights = F.mse_loss(made, t), 1, 1
        for grid in (4, 2, 1):
            if grid < t.shape[2]:
                weight /= 2
                weights += weight
                value += weight * F.mse_loss(F.adaptive_avg_pool2d(made, grid), F.adaptive_avg_pool2d(t, grid))
        loss += value / weights
    return loss


def channel_wise(seen: Seen):
    tau, ((s, t),) = seen.method.temperature, seen.adapted
    student, teacher = (F.log_softmax(x.flatten(2) / tau, dim=2) for x in (s, t))
    return tau**2 * F.kl_div(student, teacher, reduction="sum", log_target=True) / (s.shape[0] * s.shape[1])


def class_attention(seen: Seen):
    def maps(feature: Tensor, weight: Tensor):
        cells = F.adaptive_avg_pool2d(feature, seen.method.grid).flatten(2)
        return F.normalize(weight @ cells, dim=2)

    return F.mse_loss(maps(*seen.own), maps(*seen.others))


def neuron_selectivity(seen: Seen):
    s, t = (F.normalize(feature.flatten(2), dim=2) for feature in seen.pair)
    return (s @ s.mT).pow(2).mean() + (t @ t.mT).pow(2).mean() - 2 * (s @ t.mT).pow(2).mean()


def masked_generative(seen: Seen):
    (joined,), (s, t) = seen.term.joined, seen.pair
    s = joined.adapter(s)
    kept = torch.rand(*s.shape[:2], 1, 1) >= seen.method.ratio
    return F.mse_loss(joined.network(s * kept), t)


def factor_transfer(seen: Seen):
    (joined,), (s, t) = seen.term.joined, seen.pair
    factor = joined.encoder(t)
    student, teacher = (F.normalize(x.flatten(1)) for x in (joined.translator(s), factor.detach()))
    return F.l1_loss(student, teacher) + seen.method.reconstruction * F.mse_loss(joined.decoder(factor), t)


def self_distillation(seen: Seen):
    early, late = seen.own
    (own,), method = seen.term.exits, seen.method
    reached = own.bottleneck(early)
    logits = own.classifier(reached)
    student, teacher = (F.log_softmax(x / method.temperature, dim=1) for x in (logits, seen.student.detach()))
    divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    distance = (reached - late.mean((2, 3)).detach()).pow(2).sum(1).mean()
    hard = (1 - method.alpha) * F.cross_entropy(logits, seen.targets)
    return hard + method.alpha * divergence + method.feature_weight * distance


def cosine_features(seen: Seen):
    ((s, t),) = seen.adapted
    return 1 - F.cosine_similarity(s, t).mean()


def attention_maps(seen: Seen):
    return sum(F.mse_loss(s, t) for s, t in seen.pairs)


def self_relations(seen: Seen):
    def related(x: Tensor):
        x = x.unflatten(2, (seen.method.relation_heads, -1)).transpose(1, 2)
        return F.log_softmax(x @ x.mT / x.shape[-1] ** 0.5, dim=-1).flatten(0, 2)

    pairs = [(related(s), related(t)) for s, t in seen.pairs]
    return sum(F.kl_div(s, t, reduction="batchmean", log_target=True) for s, t in pairs)


def patient(seen: Seen):
    pairs = [(joined.adapter(s[:, 0]), t[:, 0]) for joined, (s, t) in zip(seen.term.joined, seen.pairs, strict=True)]
    return sum(F.mse_loss(F.normalize(s), F.normalize(t)) for s, t in pairs)


ON_FEATURES = (
    hint,
    attention_transfer,
    activation_boundaries,
    overhaul,
    masked_features,
    variational,
    fsp,
    review,
    channel_wise,
    class_attention,
    neuron_selectivity,
    masked_generative,
    factor_transfer,
    self_distillation,
    cosine_features,
    attention_maps,
    self_relations,
    patient,
)
