"""Pure tensor maths: no classes, no configuration, no I/O. Arguments always go (student, teacher)."""

from understudy.functional.association import pearson_correlation, spearman_correlation
from understudy.functional.attention_masks import masked_feature_loss
from understudy.functional.balancing import gradient_norm_weights
from understudy.functional.class_attention import class_activation_maps, class_attention_loss
from understudy.functional.conditional import conditional_target_loss
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
    skew_kl_loss,
    soft_target_loss,
    total_variation_loss,
)
from understudy.functional.drawn_classes import drawn_target_loss
from understudy.functional.embeddings import nearest_agreement, similarity_agreement
from understudy.functional.exits import early_exit_loss
from understudy.functional.factorisation import (
    mode_spectrum,
    rank_for_energy,
    svd_factors,
    tucker2_factors,
)
from understudy.functional.factors import factor_transfer_loss
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
from understudy.functional.generation import imbalance, indecision, logit_distance, statistics_gap
from understudy.functional.logits import cross_entropy_loss, mixed_cross_entropy_loss
from understudy.functional.multilevel import multilevel_logit_loss
from understudy.functional.patches import patch_manifold_loss
from understudy.functional.rankings import margin_mse_loss
from understudy.functional.reduction import masked_mean
from understudy.functional.regression import regression_loss
from understudy.functional.relations import (
    correlation_congruence_loss,
    embedding_similarity_loss,
    probabilistic_transfer_loss,
    relational_angle_loss,
    relational_distance_loss,
    similarity_margin_loss,
    similarity_preserving_loss,
)
from understudy.functional.review import hierarchical_context_loss
from understudy.functional.sigmoid import sigmoid_target_loss
from understudy.functional.similarities import cross_sample_similarity_loss
from understudy.functional.sparsity import cubic_sparsity
from understudy.functional.temperatures import dynamic_temperature_loss
from understudy.functional.top_classes import merged_logits, tail_logit
from understudy.functional.transferability import centred_kernel_alignment, log_maximum_evidence
from understudy.functional.transformers import attention_map_loss, patient_loss, self_relation_loss
from understudy.functional.virtual_teacher import virtual_teacher_loss
from understudy.functional.vocabulary import checkpointed_head_loss, head_divergence_loss

__all__ = [
    "activation_boundary_loss",
    "attention_map_loss",
    "attention_transfer_loss",
    "centred_kernel_alignment",
    "channel_wise_loss",
    "checkpointed_head_loss",
    "class_activation_maps",
    "class_attention_loss",
    "conditional_target_loss",
    "contrastive_loss",
    "correlation_congruence_loss",
    "cosine_feature_loss",
    "cross_entropy_loss",
    "cross_sample_similarity_loss",
    "cubic_sparsity",
    "decoupled_loss",
    "dist_loss",
    "drawn_target_loss",
    "dynamic_temperature_loss",
    "early_exit_loss",
    "embedding_similarity_loss",
    "factor_transfer_loss",
    "fsp_loss",
    "gradient_norm_weights",
    "head_divergence_loss",
    "hierarchical_context_loss",
    "hint_loss",
    "imbalance",
    "indecision",
    "jensen_shannon_loss",
    "kl_divergence",
    "log_maximum_evidence",
    "logit_distance",
    "logit_mse_loss",
    "logit_standardisation_loss",
    "margin_mse_loss",
    "masked_feature_loss",
    "masked_mean",
    "merged_logits",
    "mixed_cross_entropy_loss",
    "mode_spectrum",
    "multilevel_logit_loss",
    "nearest_agreement",
    "neuron_selectivity_loss",
    "normalised_kd_loss",
    "overhaul_loss",
    "patch_manifold_loss",
    "patient_loss",
    "pearson_channel_loss",
    "pearson_correlation",
    "probabilistic_transfer_loss",
    "rank_for_energy",
    "regression_loss",
    "relational_angle_loss",
    "relational_distance_loss",
    "reverse_kl_loss",
    "self_relation_loss",
    "sigmoid_target_loss",
    "similarity_agreement",
    "similarity_margin_loss",
    "similarity_preserving_loss",
    "skew_kl_loss",
    "soft_target_loss",
    "spearman_correlation",
    "statistics_gap",
    "svd_factors",
    "tail_logit",
    "total_variation_loss",
    "tucker2_factors",
    "variational_loss",
    "virtual_teacher_loss",
    "weighted_soft_labels_loss",
]
