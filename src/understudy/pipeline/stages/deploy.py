"""Measure exported files where they are to run, and choose the one to deploy."""

from __future__ import annotations

from typing import Annotated, Any, Literal, final

from pydantic import Field, field_validator

from understudy.measure.deployment import deploy
from understudy.measure.picking import Aim
from understudy.pipeline.exported import exported_candidates
from understudy.pipeline.stage import Context, Name, Stage
from understudy.pipeline.training import evaluation_loader
from understudy.targets import parse_target

Count = Annotated[int, Field(ge=1)]


@final
class Deploy(Stage):
    """Quality, speed, memory and size of every exported file in every runtime installed, and the best that is as good.

    The bound on quality is judged on the validation split; the test split is reported.
    """

    kind: Literal["deploy"] = "deploy"
    files: Annotated[tuple[Name, ...], Field(min_length=1)]
    """The `export` stages whose files are measured, beside the models that they came from."""
    reference: Name
    """The stage whose model's quality counts, such as the teacher, or the model before it was compressed."""
    max_drop: Annotated[float, Field(ge=0)] = 1.0
    """How many points (hundredths of the metric) the chosen file may be below the reference."""
    by: Aim = "latency"
    """What the best file has: the shortest `latency`, the highest `throughput`, or the fewest `bytes`."""
    target: str | None = None
    """What the file may cost, such as `latency<2ms, size<4MB`; the nearest is taken where none does."""
    runtimes: tuple[str, ...] | None = None
    """Those that are tried; all that are installed, when left out."""
    compiled: bool = True
    """Time the reference with `torch.compile` too, which takes up to a minute."""
    batch_sizes: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 8, 32)
    """Samples per call."""
    threads: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """CPU threads; one, and as many as there are cores, when left out."""
    seconds: Annotated[float, Field(gt=0)] = 1.0
    """How long each file is timed in each runtime, batch size and number of threads."""

    @field_validator("target")
    @classmethod
    def _readable(cls, target: str | None) -> str | None:
        if target is not None:
            parse_target(target)
        return target

    @property
    def needs(self) -> tuple[str, ...]:
        """The export stages, and that of the reference."""
        return tuple(dict.fromkeys((*self.files, self.reference)))

    @property
    def reads(self) -> tuple[str, ...]:
        """The reference."""
        return (self.reference,)

    @property
    def opens(self) -> tuple[str, ...]:
        """The export stages."""
        return self.files

    def run(self, context: Context) -> dict[str, Any]:
        """Leave ``deployment.json`` and the best file in ``chosen/``."""
        context.progress.stage(self.name, f"measuring the exported files, seed {context.seed}")
        found = None
        if context.process.is_main:
            found = deploy(
                exported_candidates(
                    [context.upstream[name] for name in self.files], reference=self.reference, seed=context.seed
                ),
                context.directory.path,
                reference=self.reference,
                loaders={split: evaluation_loader(context, split) for split in ("validation", "test")},
                task=context.task,
                classes=context.data.classes,
                max_drop=self.max_drop,
                by=self.by,
                target=self.target,
                runtimes=self.runtimes,
                compiled=self.compiled,
                batch_sizes=self.batch_sizes,
                threads=self.threads,
                seconds=self.seconds,
                tell=context.progress.message,
            )
        context.process.wait()
        told = {"description": found.choice.text} if found is not None and found.choice is not None else {}
        return {"data": "judged on the validation split, the test split is reported", **told}
