"""Bring in a model that was trained elsewhere."""

from __future__ import annotations

from typing import Any, Literal, final

import torch

from understudy.pipeline.stage import Context, Stage
from understudy.pipeline.training import evaluation_loader
from understudy.sources.artifact import save_artifact
from understudy.sources.model_specs import AnyModel, ModelSpec
from understudy.sources.models import build_model


@final
class Load(Stage):
    """Take a trained model as it is: pretrained weights, a state dict of one's own, a saved artifact."""

    kind: Literal["load"] = "load"
    model: AnyModel
    """Which network, with its weights."""

    @property
    def network(self) -> ModelSpec:
        """The one the recipe describes."""
        return self.model

    def run(self, context: Context) -> dict[str, Any]:
        """Leave the model in the stage's directory."""
        inputs = context.task.example(next(iter(evaluation_loader(context, "validation"))).inputs, 1)
        torch.manual_seed(context.seed)
        spec = context.fitted(self.model)
        model = build_model(spec, classes=context.data.classes, inputs=inputs)
        if context.process.is_main:
            save_artifact(
                context.directory.path,
                model,
                spec=spec,
                classes=context.data.classes,
                task=context.task.kind,
                inputs=inputs,
            )
        context.process.wait()
        return {"models": {"model": "."}, "data": "trained elsewhere"}
