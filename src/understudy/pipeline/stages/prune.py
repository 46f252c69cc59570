"""Take channels and heads out of a trained model, or make single weights zeros, and train what that cost back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Literal, final

from pydantic import Field, model_validator
from torch import nn

from understudy.batch import Batch
from understudy.compress.importance import NEEDS_LABELS, Importance
from understudy.compress.pruning import Pruned, prune
from understudy.compress.sparsity import gzip_bytes, sparsify
from understudy.compress.target import Target
from understudy.compress.trials import Scope
from understudy.doctor import Finding, to_json
from understudy.functional import cubic_sparsity
from understudy.measure import compare_latency
from understudy.pipeline.pruning import Pruning, in_words, one_sample
from understudy.pipeline.recovery import Compressing, Step, compress
from understudy.pipeline.stage import Context, artifact_of, stage_of
from understudy.pipeline.students import load_model
from understudy.pipeline.training import evaluation_loader
from understudy.sources.loader import Loader
from understudy.sources.splits import Subset
from understudy.spec import refuse
from understudy.tasks.task import Task

SECONDS = 0.5
"""How long each network is timed."""


@final
class Prune(Compressing):
    """Make a trained model smaller by taking out its least important channels and heads, in one step or in several."""

    kind: Literal["prune"] = "prune"
    target: Target
    """What it may cost at most: a share of its `macs`, `params` or `latency`, or `latency_ms` on this machine;
    `channels` for a share of the channels. `sparsity` for single weights, which makes nothing smaller or faster."""
    importance: Importance = "magnitude"
    """What is least important: the `magnitude` of weights, the `bn_scale` of batch normalisation, or what the loss
    would change by, to first (`taylor`) or second order (`hessian`)."""
    scope: Scope = "global"
    """`global`: the least important of the whole network; `layer`: the same share of each layer."""
    keep: tuple[str, ...] = ()
    """Paths of layers whose outputs stay, with everything below them."""
    steps: Annotated[int, Field(ge=1, le=100)] = 1
    """In how many steps, with a training after each."""
    multiple: Annotated[int, Field(ge=1, le=1024)] = 1
    """Layers that lose channels keep a multiple of this, such as 8 for kernels that like it."""
    samples: Annotated[int, Field(ge=1)] = 512
    """How many labelled training samples `taylor` and `hessian` look at."""

    @model_validator(mode="after")
    def _consistent(self) -> Prune:
        problems: list[tuple[tuple[str | int, ...], str]] = []
        if self.steps > 1 and self.recovery is None:
            problems.append(
                (("steps",), "several steps are for the training between them; add recovery, or leave it out")
            )
        if self.target.sparsity is not None:
            for name, value in (("importance", "magnitude"), ("scope", "global"), ("multiple", 1)):
                if getattr(self, name) != value:
                    problems.append(((name,), "is about channels; single weights are compared by their magnitude"))
        refuse(problems)
        return self

    def run(self, context: Context) -> dict[str, Any]:
        """Leave the pruned model, its control below it, and a record of what was taken out.

        Raises:
            InputError: when the network cannot be pruned, or not as far as asked; nothing was trained then.
            RunError: when the teacher's weights changed while it taught.
        """
        context.progress.stage(self.name, f"pruning {self.model}, seed {context.seed}")
        if self.target.sparsity is not None:
            steps = [self._sparser(number) for number in range(1, self.steps + 1)]
            record = compress(context, self.model, steps, self.recovery)
            zeros = self._zeros(context)
            return _completed(context, record, zeros, _zeros_in_words(zeros), [])
        pruning = Pruning(context, self.model, self.target, self.steps, partial(self._pruned, context))
        record = compress(context, self.model, [pruning.step(each) for each in range(1, self.steps + 1)], self.recovery)
        told = pruning.told()
        return _completed(context, record, told, in_words(told), pruning.missed(self.name))

    def tried(self, network: nn.Module, example: Batch, task: Task) -> nn.Module:
        """What becomes of a network of the same kind; nothing is timed, and no label is asked for.

        Args:
            network: with any weights; it is left as it is.
            example: samples, for the shapes.
            task: the kind of problem.

        Raises:
            InputError: when it cannot be pruned like this.
        """
        if self.target.sparsity is not None:
            return sparsify(network, self.target.sparsity, keep=self.keep).network
        target = Target(channels=0.5) if self.target.is_time else self.target
        importance = "magnitude" if self.importance in NEEDS_LABELS else self.importance
        return prune(
            network,
            example,
            task=task,
            target=target,
            importance=importance,
            scope=self.scope,
            keep=self.keep,
            multiple=self.multiple,
        ).network

    def _sparser(self, number: int) -> Step:
        assert self.target.sparsity is not None
        sparsity = cubic_sparsity(number / self.steps, final=self.target.sparsity)
        return lambda network: (sparsify(network, sparsity, keep=self.keep).network, ())

    def _zeros(self, context: Context) -> dict[str, Any]:
        """What the zeros are worth, counted and measured in the files themselves."""
        source = context.upstream[stage_of(self.model)].path
        names = {"before": (source, artifact_of(self.model)), "after": (context.directory.path, "model")}
        files = {when: folder / f"{name}.safetensors" for when, (folder, name) in names.items()}
        networks = {when: load_model(folder, context, name=name) for when, (folder, name) in names.items()}
        weights = [each for each in networks["after"].parameters() if each.ndim > 1]
        timed = compare_latency(list(networks.items()), one_sample(context), seconds=SECONDS)
        return {
            "zeros": sum(int((weight == 0).sum()) for weight in weights),
            "weights": sum(weight.numel() for weight in weights),
            "bytes": {when: path.stat().st_size for when, path in files.items()},
            "gzip_bytes": {when: gzip_bytes(path) for when, path in files.items()},
            "latency_ms": {when: each.median_ms for when, each in timed.items()},
        }

    def _pruned(self, context: Context, network: nn.Module, target: Target) -> Pruned:
        return prune(
            network,
            next(iter(evaluation_loader(context, "validation"))).to(context.process.device),
            task=context.task,
            target=target,
            importance=self.importance,
            scope=self.scope,
            keep=self.keep,
            loader=self._labelled(context) if self.importance in NEEDS_LABELS else None,
            multiple=self.multiple,
        )

    def _labelled(self, context: Context) -> Iterator[Batch]:
        subset = self.recovery.subset if self.recovery is not None else None
        split = context.data.train.subset(subset or Subset(), context.seed)
        split = split.select(split.known.nonzero().flatten())
        loader = Loader(split, batch_size=min(64, self.samples), seed=context.seed)
        return itertools.islice(iter(loader), -(-self.samples // loader.batch_size))


def _completed(
    context: Context, record: dict[str, Any], told: dict[str, Any], words: str, findings: list[Finding]
) -> dict[str, Any]:
    """The stage's record with what was taken out."""
    for line in (words, *map(str, findings)):
        context.progress.message(line)
    description = "; ".join(filter(None, [record.get("description"), words]))
    found = [*record.get("findings", []), *to_json(findings)]
    return record | {"pruning": told, "description": description} | ({"findings": found} if found else {})


def _zeros_in_words(zeros: dict[str, Any]) -> str:
    """What the zeros are worth, in a few sentences."""
    size, packed, time = zeros["bytes"], zeros["gzip_bytes"], zeros["latency_ms"]
    return (
        f"{zeros['zeros']:,} of {zeros['weights']:,} weights are zeros ({zeros['zeros'] / zeros['weights']:.1%}). "
        f"Nothing is smaller or faster by that: the file has {size['after']:,} bytes (before: {size['before']:,}), one "
        f"call takes {time['after']:.3g} ms (before: {time['before']:.3g}). gzip would make {packed['after']:,} bytes "
        f"of the file (before: {packed['before']:,})"
    )
