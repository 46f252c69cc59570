"""Train a model on labels: a teacher, or anything else."""

from __future__ import annotations

from typing import Any, Literal, final

from pydantic import model_validator

from understudy.engine.training import Training
from understudy.methods import AnyMethod
from understudy.objective import Objective
from understudy.pipeline.snapshots import Snapshots, parts_of, snapshot_steps
from understudy.pipeline.stage import Context, Reference, Stage, stage_of
from understudy.pipeline.starting import Start, start_reads, start_record
from understudy.pipeline.students import fresh, tuned
from understudy.pipeline.teaching import asking_problems
from understudy.pipeline.training import Shown, train_model
from understudy.sources.model_specs import AnyModel, ModelSpec
from understudy.sources.splits import Subset
from understudy.spec import refuse
from understudy.transfer import Tuning
from understudy.views import Views


@final
class Train(Stage):
    """Train a model without any teacher."""

    kind: Literal["train"] = "train"
    model: AnyModel
    """Which network."""
    subset: Subset | None = None
    """Which part of the training data it sees, and with how many labels; everything when left out. Samples without a
    label are seen by terms of an `objective` alone."""
    views: Views | None = None
    """Augmentation of the training inputs."""
    objective: tuple[AnyMethod, ...] | None = None
    """Loss terms that need no teacher; the task's own supervised loss when left out."""
    training: Training
    """How long it trains, and with which optimizer."""
    start: Reference | Start | None = None
    """An earlier stage with the same network, whose weights it begins with; or `{model: …}` for one that is wider or
    deeper, of which as much is taken as fits. Fresh ones otherwise."""
    tuning: Tuning | None = None
    """What is frozen, slower or later, where it begins with earlier weights: with `{freeze: 2}` it keeps the first two
    units of the model that it starts from, such as its teacher's stem, as they are. All alike when left out."""
    snapshots: Snapshots | None = None
    """Keep its weights on the way, for teachers such as `cnn@1`: after each of so many equal parts of the training, or
    after the parts of a list, such as `[0.1, 0.5]`. Not with `patience`, which leaves the length open."""

    @model_validator(mode="after")
    def _consistent(self) -> Train:
        problems = asking_problems(self.objective or (), None)
        if self.training.head_chunk is not None and self.objective is not None:
            problems += [(("training", "head_chunk"), why) for why in Objective(self.objective).unchunkable]
        parts = parts_of(self.snapshots)
        if list(parts) != sorted(set(parts)):
            problems.append((("snapshots",), f"expected rising numbers, got {list(parts)}"))
        if parts and self.training.patience is not None:
            message = "a training with patience may end before they are due; leave one of the two out"
            problems.append((("snapshots",), message))
        refuse(problems)
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """The stage that it starts from."""
        return tuple(map(stage_of, self.reads))

    @property
    def reads(self) -> tuple[str, ...]:
        """What it starts from."""
        return start_reads(self.start)

    @property
    def snapshot_count(self) -> int:
        """As many as the recipe asks for."""
        return len(parts_of(self.snapshots))

    @property
    def network(self) -> ModelSpec:
        """The one the recipe describes."""
        return self.model

    def run(self, context: Context) -> dict[str, Any]:
        """Leave the trained model in the stage's directory."""
        subset = self.subset or Subset()
        split = context.data.train.subset(subset, context.seed)
        if self.objective is None:  # the supervised loss, of which samples without a label are no part
            split = split.select(split.known.nonzero().flatten())
        record = train_model(
            context,
            begin=tuned(fresh(self.model, context, start=self.start), self.tuning),
            objective=Objective(self.objective or (context.task.supervised,)),
            teacher=None,
            split=split,
            training=self.training,
            shown=Shown(self.views),
            directory=context.directory.path,
            title="training",
            snapshots=parts_of(self.snapshots),
        )
        return {
            "models": {"model": "."},
            **start_record(self.start, context),
            "snapshots": snapshot_steps(parts_of(self.snapshots), record["steps"]),
            "data": subset.describe(context.data.train),
            "training": record,
        }
