"""Ask a teacher once, and keep its answers for any number of students."""

from __future__ import annotations

import time
from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import Field, model_validator

from understudy.errors import InputError
from understudy.pipeline.recorded import RECORDING, summary, teachers_of
from understudy.pipeline.stage import Context, Stage, stage_of
from understudy.pipeline.teaching import (
    Average,
    Combine,
    Teaching,
    teacher_names,
    teacher_of,
    teaching_problems,
)
from understudy.recorder import Team, record
from understudy.recordings import Storage
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

        teacher = teacher_of(self.teacher, teachers_of(self.teacher, context), combine=self.combine)
        if teacher is None or isinstance(teacher, Average):
            raise InputError(f"stage {self.name!r} has no teacher to record")
        recording = record(
            teacher,
            context.data.train.subset(subset, context.seed),
            context.directory.path / RECORDING,
            views=self.views,
            count=self.count,
            seed=context.seed,
            plain=context.data.validation,
            keep=self.keep,
            task=context.task,
            batch_size=self.batch_size,
            name=", ".join(self.reads),
            data=context.data.fingerprint,
            extend=context.extend,
            device=context.process.device,
            team=Team(context.process.rank, context.process.world, context.process.wait),
            progress=tell if context.process.is_main else None,
        )
        return {
            "models": {},
            "teacher": list(self.reads),
            RECORDING: summary(recording),
            "data": subset.describe(context.data.train),
        }
