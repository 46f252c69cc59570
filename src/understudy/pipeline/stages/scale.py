"""Make a scaled-down copy of a trained model, with its weights or with random ones, and train it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, final

import torch
from pydantic import Field, model_validator
from torch import nn

from understudy.batch import Batch
from understudy.edits import AnyEdit
from understudy.pipeline.pruning import widths_in_words
from understudy.pipeline.recovery import Compressing, compress, counted
from understudy.pipeline.stage import Context
from understudy.pipeline.students import spec_of
from understudy.pipeline.training import evaluation_loader
from understudy.spec import refuse
from understudy.tasks.task import Task
from understudy.transfer.scaling import ScaledCopy, scaled_copy
from understudy.transfer.sources import random_copy


@final
class Scale(Compressing):
    """Make a copy of a trained model with fewer blocks and narrower layers: a student of any teacher's own kind."""

    kind: Literal["scale"] = "scale"
    width: Annotated[float, Field(ge=0.1, le=1.0)] = 1.0
    """The share of its channels, and of an attention's heads, that each layer keeps. The stream between the blocks of a
    transformer keeps its width."""
    depth: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """The share of the blocks that stay, evenly spaced, of each run of blocks that give what they are given in the same
    shape; at least one of each."""
    multiple: Annotated[int, Field(ge=1, le=1024)] = 1
    """Layers that lose channels keep a multiple of this, such as 8 for kernels that like it."""
    weights: Literal["teacher", "random"] = "teacher"
    """What the copy begins with: the weights of the blocks, channels and heads that stay, or `random` ones."""

    @model_validator(mode="after")
    def _consistent(self) -> Scale:
        if self.width == self.depth == 1.0:
            refuse([(("width",), "with width 1 and depth 1 it is the model itself; give one below 1, such as 0.5")])
        return self

    def run(self, context: Context) -> dict[str, Any]:
        """Leave the copy, its control below it, and a record of what it has left.

        Raises:
            InputError: when the network cannot be made smaller like this.
            RunError: when the teacher's weights changed while it taught.
        """
        context.progress.stage(self.name, f"a smaller copy of {self.model}, seed {context.seed}")
        example = next(iter(evaluation_loader(context, "validation")))
        told: dict[str, Any] = {}

        def step(network: nn.Module) -> tuple[nn.Module, tuple[AnyEdit, ...]]:
            made = self._scaled(network, example, context.task)
            if not told:  # the second time is the control's
                told.update(_told(made))
                context.progress.message(_in_words(made))
            smaller = made.network
            if self.weights == "random":
                torch.manual_seed(context.seed)
                path = Path(spec_of(self.model, context).path)
                smaller = random_copy(path, made.edits).to(context.process.device)
            return smaller, made.edits

        return {**compress(context, self.model, [step], self.recovery), **told}

    def tried(self, network: nn.Module, example: Batch, task: Task) -> nn.Module:
        """What becomes of a network of the same kind.

        Args:
            network: with any weights; it is left as it is.
            example: samples, for the shapes.
            task: the kind of problem.

        Raises:
            InputError: when it cannot be made smaller like this.
        """
        return self._scaled(network, example, task).network

    def _scaled(self, network: nn.Module, example: Batch, task: Task) -> ScaledCopy:
        return scaled_copy(network, example, task=task, width=self.width, depth=self.depth, multiple=self.multiple)


def _told(made: ScaledCopy) -> dict[str, Any]:
    return {
        "cost": {"before": counted(made.before), "after": counted(made.after)},
        "blocks": made.blocks,
        "widths": made.widths,
        "left": made.left,
    }


def _in_words(made: ScaledCopy) -> str:
    before, after = counted(made.before), counted(made.after)
    costs = ", ".join(f"{before[name]:,} → {after[name]:,} {name}" for name in before)
    blocks = ", ".join(f"{path or 'the network'} {many} → {few}" for path, (many, few) in made.blocks.items())
    return f"a copy of {costs}; blocks: {blocks or 'all'}; outputs and heads: {widths_in_words(made.widths)}"
