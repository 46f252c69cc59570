"""Pure tensor maths: no classes, no configuration, no I/O. Arguments always go (student, teacher)."""

from understudy.functional.contrastive import contrastive_loss
from understudy.functional.correlations import dist_loss
from understudy.functional.decoupling import (
    decoupled_loss,
    logit_standardisation_loss,
    normalised_kd_loss,
    weighted_soft_labels_loss,
)
from understudy.functional.divergences import (
    jensen_shannon_loss,
    kl_divergence,
    logit_mse_loss,
    reverse_kl_loss,
    soft_target_loss,
    total_variation_loss,
)
from understudy.functional.feature_maps import (
    activation_boundary_loss,
    fsp_loss,
    overhaul_loss,
    pearson_channel_loss,
    variational_loss,
)
from understudy.functional.features import (
    attention_transfer_loss,
    channel_wise_loss,
    cosine_feature_loss,
    hint_loss,
    neuron_selectivity_loss,
)
from understudy.functional.logits import cross_entropy_loss
from understudy.functional.multilevel import multilevel_logit_loss
from understudy.functional.rankings import margin_mse_loss
from understudy.functional.reduction import masked_mean
from understudy.functional.relations import (
    correlation_congruence_loss,
    embedding_similarity_loss,
    probabilistic_transfer_loss,
    relational_angle_loss,
    relational_distance_loss,
    similarity_preserving_loss,
)
from understudy.functional.sigmoid import sigmoid_target_loss
from understudy.functional.virtual_teacher import virtual_teacher_loss

__all__ = [
    "activation_boundary_loss",
    "attention_transfer_loss",
    "channel_wise_loss",
    "contrastive_loss",
    "correlation_congruence_loss",
    "cosine_feature_loss",
    "cross_entropy_loss",
    "decoupled_loss",
    "dist_loss",
    "embedding_similarity_loss",
    "fsp_loss",
    "hint_loss",
    "jensen_shannon_loss",
    "kl_divergence",
    "logit_mse_loss",
    "logit_standardisation_loss",
    "margin_mse_loss",
    "masked_mean",
    "multilevel_logit_loss",
    "neuron_selectivity_loss",
    "normalised_kd_loss",
    "overhaul_loss",
    "pearson_channel_loss",
    "probabilistic_transfer_loss",
    "relational_angle_loss",
    "relational_distance_loss",
    "reverse_kl_loss",
    "sigmoid_target_loss",
    "similarity_preserving_loss",
    "soft_target_loss",
    "total_variation_loss",
    "variational_loss",
    "virtual_teacher_loss",
    "weighted_soft_labels_loss",
]
