"""Train a model on labels: a teacher, or anything else."""

from __future__ import annotations

from typing import Any, Literal, final

from understudy.engine.training import Training
from understudy.methods import AnyMethod
from understudy.objective import Objective
from understudy.pipeline.stage import Context, Stage
from understudy.pipeline.training import train_model
from understudy.sources.model_specs import AnyModel, ModelSpec
from understudy.sources.splits import Subset
from understudy.views import Views


@final
class Train(Stage):
    """Train a model without any teacher."""

    kind: Literal["train"] = "train"
    model: AnyModel
    """Which network."""
    subset: Subset | None = None
    """Which part of the training data it sees, and with how many labels; everything when left out."""
    views: Views | None = None
    """Augmentation of the training inputs."""
    objective: tuple[AnyMethod, ...] | None = None
    """Loss terms that need no teacher; the task's own supervised loss when left out."""
    training: Training
    """How long it trains, and with which optimizer."""

    @property
    def network(self) -> ModelSpec:
        """The one the recipe describes."""
        return self.model

    def run(self, context: Context) -> dict[str, Any]:
        """Leave the trained model in the stage's directory."""
        subset = self.subset or Subset()
        split = context.data.train.subset(subset, context.seed)
        record = train_model(
            context,
            model=self.model,
            objective=Objective(self.objective or (context.task.supervised,)),
            teacher=None,
            split=split,
            training=self.training,
            views=self.views,
            directory=context.directory.path,
            title="training",
        )
        return {"models": {"model": "."}, "data": subset.describe(context.data.train), "training": record}
