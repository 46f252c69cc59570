"""Pruning in steps: how far each goes, and what it has taken out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from understudy.compress.pruning import Pruned, UnmetTargetError
from understudy.compress.target import Target
from understudy.doctor import Finding
from understudy.edits import AnyEdit, Resized
from understudy.errors import listing
from understudy.measure import cost, latency
from understudy.pipeline.directory import read_json, write_json
from understudy.pipeline.recovery import Step, counted
from understudy.pipeline.stage import Context, Reference
from understudy.pipeline.students import referred
from understudy.pipeline.training import evaluation_loader

DECISIONS = "pruning.json"
"""What was taken out at each step, so that a run that goes on takes out the same."""
LAYERS = 12
"""How many layers are named in words."""

Pruner = Callable[[nn.Module, Target], Pruned]


class Pruning:
    """The steps of a stage that prunes, and what each has taken out.

    Args:
        context: the run.
        model: the earlier model.
        target: what it may cost after the last step.
        count: in how many steps; costs fall from each to the next by the same factor.
        pruned: prunes a network to a target.
    """

    def __init__(self, context: Context, model: Reference, target: Target, count: int, pruned: Pruner) -> None:
        self._context, self._target, self._count, self._pruned = context, target, count, pruned
        self._original = referred(model, context)
        self._example = next(iter(evaluation_loader(context, "validation"))).to(context.process.device)
        self._path = context.directory.path / DECISIONS
        self._made: list[dict[str, Any]] = []
        """Of every step that was taken, in order: those of the control first."""
        kept = read_json(self._path) if self._path.is_file() else {}
        self._known: list[dict[str, Any]] = kept.get("steps", [])
        self._first_ms: float | None = kept.get("first_ms")

    def step(self, number: int) -> Step:
        """The step of this number, from 1."""

        def take(network: nn.Module) -> tuple[nn.Module, tuple[AnyEdit, ...]]:
            known = self._known[len(self._made)] if len(self._made) < len(self._known) else None
            process = self._context.process
            found: Pruned | None = None
            if known is None:
                if process.is_main:
                    found, known = self._found(network, number)
                known = process.told(known)
            if found is None and known["channels"] < 1.0:
                found = self._pruned(network, Target(channels=known["channels"]))
            self._made.append(known)
            self._known = [*self._made, *self._known[len(self._made) :]]
            if process.is_main:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_json(self._path, {"first_ms": self._first_ms, "steps": self._known})
            smaller = network if found is None else found.network
            return smaller, (Resized.between(self._original, smaller),)

        return take

    def told(self) -> dict[str, Any]:
        """What the student's steps have taken out."""
        steps = self._made[-self._count :]
        return {"target": self._target.model_dump(mode="json", exclude_unset=True), "steps": steps}

    def missed(self, name: str) -> list[Finding]:
        """What to say where the last step could not go as far as it should.

        Args:
            name: of the stage.
        """
        return [
            Finding(
                check="pruning_target",
                severity="warning",
                message=f"{name!r} is not as small as its target asks; the closest was trained",
                seen=made["missed"],
                remedy="ask for more, keep fewer layers, or take fewer steps",
            )
            for made in self.told()["steps"][-1:]
            if made["missed"]
        ]

    def _found(self, network: nn.Module, number: int) -> tuple[Pruned | None, dict[str, Any]]:
        if not self._made and number < self._count:
            self._pruned(network, self._target)  # what cannot be reached is found before anything is trained
        missed = None
        target = self._target_of(network, number)
        try:
            found = self._pruned(network, target) if target is not None else None
        except UnmetTargetError as error:
            if not self._made:
                raise
            found, missed = error.closest, str(error)
        return found, {
            "channels": found.channels if found is not None else 1.0,
            "cost": {"before": self._cost(network), "after": self._cost(network if found is None else found.network)},
            "widths": found.widths if found is not None else {},
            "left": found.left if found is not None else {},
            "missed": missed,
        }

    def _target_of(self, network: nn.Module, number: int) -> Target | None:
        """What a step begins with may cost afterwards; None where it costs no more already."""
        target, part = self._target, number / self._count
        if self._count == 1:
            return target
        if target.channels is not None:
            return Target(channels=target.channels ** (1 / self._count))
        whole = self._cost(self._original)
        if target.is_time:
            if self._first_ms is None:
                self._first_ms = latency(self._original, one_sample(self._context)).median_ms
            first = self._first_ms
            wanted = target.latency_ms if target.latency_ms is not None else first * target.value
            return Target(latency_ms=first * (min(wanted, first) / first) ** part)
        share = whole[target.name] * target.value**part / self._cost(network)[target.name]
        return Target.model_validate({target.name: share}) if share < 1 else None

    def _cost(self, network: nn.Module) -> dict[str, int]:
        return counted(cost(network, self._example.inputs))


def in_words(told: dict[str, Any]) -> str:
    """What the steps took out, in a few sentences."""
    steps = told["steps"]
    before, after = steps[0]["cost"]["before"], steps[-1]["cost"]["after"]
    names = {"macs": "multiply-accumulates", "params": "parameters", "bytes": "bytes"}
    costs = ", ".join(
        f"{before[key]:,} → {after[key]:,} {name} ({after[key] / before[key]:.1%})" for key, name in names.items()
    )
    way = "in one step" if len(steps) == 1 else f"in {len(steps)} steps"
    widths: dict[str, list[int]] = {}
    for step in steps:
        for layer, (wider, narrower) in step["widths"].items():
            widths[layer] = [widths.get(layer, [wider])[0], narrower]
    left = listing(list(steps[-1]["left"]), most=4)
    return f"pruned {way}: {costs}; outputs and heads: {widths_in_words(widths)}; left whole: {left or 'none'}"


def widths_in_words(widths: Mapping[str, Sequence[int]]) -> str:
    """How wide layers were and are.

    Args:
        widths: before and after, by layer.
    """
    layers = [f"{layer} {wider} → {narrower}" for layer, (wider, narrower) in widths.items()]
    more = f" and {len(layers) - LAYERS} more layers" if len(layers) > LAYERS else ""
    return f"{', '.join(layers[:LAYERS]) or 'all as before'}{more}"


def one_sample(context: Context) -> Any:
    """Inputs of one validation sample, on the run's device."""
    inputs = next(iter(evaluation_loader(context, "validation"))).to(context.process.device).inputs
    return context.task.example(inputs, 1)
