"""Every way of passing knowledge, one file each. A new method adds its file, one line here, and its test."""

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from understudy.methods.activation_boundaries import ActivationBoundaries as ActivationBoundaries
from understudy.methods.attention_maps import AttentionMaps as AttentionMaps
from understudy.methods.attention_transfer import AttentionTransfer as AttentionTransfer
from understudy.methods.channel_wise import ChannelWise as ChannelWise
from understudy.methods.class_attention import ClassAttention as ClassAttention
from understudy.methods.conditional_targets import ConditionalTargets as ConditionalTargets
from understudy.methods.contrastive import Contrastive as Contrastive
from understudy.methods.correlation_congruence import CorrelationCongruence as CorrelationCongruence
from understudy.methods.cosine_features import CosineFeatures as CosineFeatures
from understudy.methods.cross_entropy import CrossEntropy as CrossEntropy
from understudy.methods.cross_sample_similarity import CrossSampleSimilarity as CrossSampleSimilarity
from understudy.methods.curriculum_temperature import CurriculumTemperature as CurriculumTemperature
from understudy.methods.decoupled import Decoupled as Decoupled
from understudy.methods.dist import Dist as Dist
from understudy.methods.dynamic_temperature import DynamicTemperature as DynamicTemperature
from understudy.methods.embedding_similarity import EmbeddingSimilarity as EmbeddingSimilarity
from understudy.methods.factor_transfer import FactorTransfer as FactorTransfer
from understudy.methods.fsp import Fsp as Fsp
from understudy.methods.hint import Hint as Hint
from understudy.methods.jensen_shannon import JensenShannon as JensenShannon
from understudy.methods.logit_mse import LogitMse as LogitMse
from understudy.methods.logit_standardisation import LogitStandardisation as LogitStandardisation
from understudy.methods.margin_mse import MarginMse as MarginMse
from understudy.methods.masked_features import MaskedFeatures as MaskedFeatures
from understudy.methods.masked_generative import MaskedGenerative as MaskedGenerative
from understudy.methods.multilevel_logits import MultilevelLogits as MultilevelLogits
from understudy.methods.neuron_selectivity import NeuronSelectivity as NeuronSelectivity
from understudy.methods.normalised_kd import NormalisedKd as NormalisedKd
from understudy.methods.overhaul import Overhaul as Overhaul
from understudy.methods.patch_manifold import PatchManifold as PatchManifold
from understudy.methods.patient import Patient as Patient
from understudy.methods.pearson_channels import PearsonChannels as PearsonChannels
from understudy.methods.probabilistic_transfer import ProbabilisticTransfer as ProbabilisticTransfer
from understudy.methods.regression import Regression as Regression
from understudy.methods.relational_angle import RelationalAngle as RelationalAngle
from understudy.methods.relational_distance import RelationalDistance as RelationalDistance
from understudy.methods.reverse_kl import ReverseKl as ReverseKl
from understudy.methods.review import Review as Review
from understudy.methods.self_distillation import SelfDistillation as SelfDistillation
from understudy.methods.self_relations import SelfRelations as SelfRelations
from understudy.methods.sigmoid_targets import SigmoidTargets as SigmoidTargets
from understudy.methods.similarity_margins import SimilarityMargins as SimilarityMargins
from understudy.methods.similarity_preserving import SimilarityPreserving as SimilarityPreserving
from understudy.methods.skew_kl import SkewKl as SkewKl
from understudy.methods.soft_targets import SoftTargets as SoftTargets
from understudy.methods.squared_error import SquaredError as SquaredError
from understudy.methods.teacher_free import TeacherFree as TeacherFree
from understudy.methods.total_variation import TotalVariation as TotalVariation
from understudy.methods.variational import Variational as Variational
from understudy.methods.weighted_soft_labels import WeightedSoftLabels as WeightedSoftLabels
from understudy.objective import Method

METHODS: tuple[type[Method], ...] = tuple(
    value
    for name, value in sorted(vars().items())
    if isinstance(value, type) and issubclass(value, Method) and name != "Method"
)
"""All methods that are imported above; the recipe schema, the command line and the docs pages are derived from them."""

if TYPE_CHECKING:
    AnyMethod = Method
else:
    AnyMethod = Annotated[Union[METHODS], Field(discriminator="kind")]  # noqa: UP007 - of a tuple
"""What a recipe may write in an objective."""
