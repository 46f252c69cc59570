"""The verbs of a run, one file each."""

from typing import Annotated

from pydantic import Field

from understudy.pipeline.stage import Stage
from understudy.pipeline.stages.data_free import DataFree
from understudy.pipeline.stages.deploy import Deploy
from understudy.pipeline.stages.distill import Distill
from understudy.pipeline.stages.evaluate import Evaluate
from understudy.pipeline.stages.export import Export
from understudy.pipeline.stages.factorise import Factorise
from understudy.pipeline.stages.fit_bias import FitBias
from understudy.pipeline.stages.load import Load
from understudy.pipeline.stages.mutual import Mutual
from understudy.pipeline.stages.prune import Prune
from understudy.pipeline.stages.quantize import Quantize
from understudy.pipeline.stages.record import Record
from understudy.pipeline.stages.scale import Scale
from understudy.pipeline.stages.train import Train
from understudy.pipeline.stages.transfer import Transfer

STAGES: tuple[type[Stage], ...] = (
    Load,
    Train,
    Transfer,
    Record,
    Distill,
    Mutual,
    DataFree,
    FitBias,
    Scale,
    Prune,
    Factorise,
    Quantize,
    Evaluate,
    Export,
    Deploy,
)

AnyStage = Annotated[
    Load
    | Train
    | Transfer
    | Record
    | Distill
    | Mutual
    | DataFree
    | FitBias
    | Scale
    | Prune
    | Factorise
    | Quantize
    | Evaluate
    | Export
    | Deploy,
    Field(discriminator="kind"),
]
"""What a recipe may list under `stages`."""

__all__ = [
    "STAGES",
    "AnyStage",
    "DataFree",
    "Deploy",
    "Distill",
    "Evaluate",
    "Export",
    "Factorise",
    "FitBias",
    "Load",
    "Mutual",
    "Prune",
    "Quantize",
    "Record",
    "Scale",
    "Stage",
    "Train",
    "Transfer",
]
