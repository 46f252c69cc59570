"""Pure tensor maths: no classes, no configuration, no I/O. Arguments always go (student, teacher)."""

from understudy.functional.divergences import kl_divergence, soft_target_loss
from understudy.functional.features import hint_loss
from understudy.functional.logits import cross_entropy_loss
from understudy.functional.reduction import masked_mean

__all__ = ["cross_entropy_loss", "hint_loss", "kl_divergence", "masked_mean", "soft_target_loss"]
