"""Ask a teacher once, and keep its answers for any number of students."""

from __future__ import annotations

import time
from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import Field, model_validator

from understudy.engine.teacher_runtime import Runtime
from understudy.errors import InputError
from understudy.pipeline.directory import StageDirectory
from understudy.pipeline.elsewhere import Elsewhere
from understudy.pipeline.recorded import RECORDING, is_whole, summary, teachers_of
from understudy.pipeline.stage import Context, Stage, stage_of
from understudy.pipeline.teacher_runtimes import on_runtime, runtime_problems
from understudy.pipeline.teaching import (
    Average,
    Combine,
    Teaching,
    content_of,
    teacher_names,
    teacher_of,
    teaching_problems,
)
from understudy.recorder import Team, record
from understudy.recordings import Storage
from understudy.sources.loader import Loader
from understudy.sources.splits import Subset
from understudy.spec import refuse
from understudy.views import Views

_SECONDS = 5.0
"""Between two messages."""


@final
class Record(Stage):
    """Show the samples to a teacher once, in some views, and keep its answers on disk.

    A `distill` stage that names this one as its teacher does not run the teacher. The samples of the validation split
    are recorded too, as they are.
    """

    answers: ClassVar[bool] = True

    kind: Literal["record"] = "record"
    teacher: Teaching
    """The stage whose model is asked; a list of several, or a mapping with the weight of each."""
    combine: Combine = "mean"
    """How several teachers answer together, see `distill`."""
    runtime: Runtime = "pytorch"
    """What executes a live teacher: `auto` tries PyTorch's formats, OpenVINO and ONNX Runtime, as far as installed, and
    takes the fastest of those that agree; `openvino` or `onnxruntime` takes that one. Layers are PyTorch's to give."""
    subset: Subset | None = None
    """Which part of the training data; everything when left out."""
    views: Views | None = None
    """Augmentation; students see exactly these views."""
    count: Annotated[int, Field(ge=1)] = 1
    """How many views of each sample; students see them in turns, another one in each epoch."""
    keep: Storage = Storage()
    """What is kept of the answers, and how."""
    batch_size: Annotated[int, Field(ge=1)] = 256
    """Samples that the teacher is shown at once."""

    @model_validator(mode="after")
    def _consistent(self) -> Record:
        problems = teaching_problems(self.teacher, self.combine)
        if isinstance(self.teacher, Average):
            problems.append((("teacher",), "an average of the student exists only while it trains; name a stage"))
        if self.count > 1 and (self.views is None or not self.views.changes):
            problems.append((("count",), f"{self.count} views without augmentation are all the same; give `views`"))
        if self.keep.layers and isinstance(self.teacher, Elsewhere) and not self.teacher.has_layers:
            problems.append((("keep", "layers"), f"{self.teacher.kind} has none; only a PyTorch model has layers"))
        problems += runtime_problems(self.runtime, self.teacher, ["keep.layers"] * bool(self.keep.layers))
        if self.keep.layers and len(teacher_names(self.teacher)) > 1:
            problems.append((("keep", "layers"), "several teachers have no layers in common; record each by itself"))
        refuse(problems)
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """The teachers' stages."""
        return tuple(dict.fromkeys(map(stage_of, self.reads)))

    @property
    def reads(self) -> tuple[str, ...]:
        """The teachers."""
        return teacher_names(self.teacher)

    @property
    def outside(self) -> dict[str, str | None]:
        """A teacher from elsewhere."""
        return content_of(self.teacher)

    def is_whole(self, directory: StageDirectory) -> bool:
        """Whether every answer is there.

        Raises:
            InputError: when the recording cannot be read, or is not the one that the stage has made.
        """
        return is_whole(directory)

    def run(self, context: Context) -> dict[str, Any]:
        """Leave the recording in ``recording/``.

        Raises:
            InputError: when the teacher's answers cannot be recorded so.
            RunError: when the disk does not take them; what was recorded before is intact.
        """
        context.progress.stage(self.name, f"recording, seed {context.seed}")
        subset, last = self.subset or Subset(), time.monotonic()

        def tell(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > _SECONDS or done == total:
                last = time.monotonic()
                context.progress.message(f"{self.name}: {done:,} of {total:,} answers")

        split = context.data.train.subset(subset, context.seed)
        members, execution = on_runtime(
            teachers_of(self.teacher, context),
            self.runtime,
            context,
            lambda: next(iter(Loader(split, batch_size=self.batch_size, shuffle=False, views=self.views))),
            layers=bool(self.keep.layers),
        )
        teacher = teacher_of(self.teacher, members, combine=self.combine)
        if teacher is None or isinstance(teacher, Average):
            raise InputError(f"stage {self.name!r} has no teacher to record")
        name = self.teacher.path if isinstance(self.teacher, Elsewhere) else ", ".join(self.reads)
        recording = record(
            teacher,
            split,
            context.directory.path / RECORDING,
            views=self.views,
            count=self.count,
            seed=context.seed,
            plain=context.data.validation,
            keep=self.keep,
            task=context.task,
            batch_size=self.batch_size,
            name=name,
            data=context.data.fingerprint,
            extend=context.extend,
            device=context.process.device,
            team=Team(context.process.rank, context.process.world, context.process.wait, context.process.gathered),
            progress=tell if context.process.is_main else None,
        )
        found = summary(recording)
        shown = f"in {self.count} view{'s' * (self.count > 1)}" if found["views"] else "as they are"
        return {
            "models": {},
            "description": f"recorded the answers of {name} for {found['samples']:,} samples {shown}",
            **execution,
            "teacher": list(self.reads),
            RECORDING: found,
            "data": subset.describe(context.data.train),
        }
