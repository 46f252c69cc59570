"""Replace layers of a trained model by products of smaller ones, and train what that cost back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal, final

from pydantic import Field, model_validator
from torch import nn

from understudy.batch import Batch
from understudy.compress.low_rank import CostName, FactorisedNetwork, factorise
from understudy.edits import AnyEdit
from understudy.measure.latency import compare_latency
from understudy.pipeline.recovery import Compressing, compress, counted
from understudy.pipeline.stage import Context
from understudy.pipeline.training import evaluation_loader
from understudy.spec import refuse

Share = Annotated[float, Field(gt=0.0, lt=1.0)]

SECONDS = 0.5


@final
class Factorise(Compressing):
    """Make a trained model's linear layers and convolutions products of smaller ones, and train it afterwards."""

    kind: Literal["factorise"] = "factorise"
    energy: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """The share of its squared weight that each layer keeps, such as 0.9; or give a target."""
    target: Annotated[dict[CostName, Share], Field(min_length=1)] | None = None
    """At most this share of the whole network's `macs` or `params`, such as `{macs: 0.5}`; with both, both hold. The
    highest energy that meets it is taken."""
    keep: tuple[str, ...] = ()
    """Paths of layers that are left alone, with everything below them."""

    @model_validator(mode="after")
    def _consistent(self) -> Factorise:
        if (self.energy is None) == (self.target is None):
            refuse([(("energy",), "expected exactly one of energy, such as 0.9, and target, such as {macs: 0.5}")])
        return self

    def run(self, context: Context) -> dict[str, Any]:
        """Leave the factorised model, its control below it, and a record of what became of each layer.

        Raises:
            InputError: when no layer becomes cheaper, or the target cannot be met.
            RunError: when the teacher's weights changed while it taught.
        """
        context.progress.stage(self.name, f"factorising {self.model}, seed {context.seed}")
        example = next(iter(evaluation_loader(context, "validation")))
        told: dict[str, Any] = {}

        def step(network: nn.Module) -> tuple[nn.Module, tuple[AnyEdit, ...]]:
            made = factorise(
                network, example, task=context.task, energy=self.energy, target=self.target, keep=self.keep
            )
            if not told:  # the second time is the control's, with the same weights
                told.update(_told(made), latency_ms=_latencies(network, made, example, context))
                context.progress.message(_in_words(told))
            return made.network, (made.edit,)

        return {**compress(context, self.model, [step], self.recovery), **told}


def _told(made: FactorisedNetwork) -> dict[str, Any]:
    return {
        "energy": made.energy,
        "cost": {"before": counted(made.before), "after": counted(made.after)},
        "layers": {path: asdict(layer) for path, layer in made.layers.items()},
        "left_alone": made.left_alone,
    }


def _latencies(network: nn.Module, made: FactorisedNetwork, example: Batch, context: Context) -> dict[str, Any] | None:
    """Single calls before and after, timed in turns; once for all seeds."""
    if not context.first or not context.process.is_main:
        return None
    inputs = context.task.example(example.inputs, 1)
    timed = compare_latency([("before", network), ("after", made.network)], inputs, seconds=SECONDS)
    conditions = {name: getattr(timed["after"], name) for name in ("batch", "threads", "runtime")}
    return {name: each.median_ms for name, each in timed.items()} | conditions


def _in_words(told: dict[str, Any]) -> str:
    before, after = told["cost"]["before"], told["cost"]["after"]
    parts = [f"{name} {before[name]:,} → {after[name]:,}" for name in before]
    text = f"{len(told['layers'])} layers factorised, {len(told['left_alone'])} left alone; {', '.join(parts)}"
    if (timed := told["latency_ms"]) is None:
        return text
    slower = "; it is SLOWER than before, since more layers do less each" if timed["after"] > timed["before"] else ""
    return f"{text}; latency {timed['before']:.3g} → {timed['after']:.3g} ms ({timed['runtime']}){slower}"
