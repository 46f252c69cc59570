"""Train a student without any data: a generator, trained against the teacher, makes the images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, final

import torch
from pydantic import Field, model_validator

from understudy.batch import IGNORE_INDEX, Batch
from understudy.distiller import Distiller
from understudy.doctor import Finding, TeacherWatch
from understudy.engine.fit import Fitted, fit
from understudy.engine.generated import GeneratedLoader
from understudy.engine.generation import Generation
from understudy.engine.plan import Execution
from understudy.engine.training import Training
from understudy.methods import AnyMethod
from understudy.methods.soft_targets import SoftTargets
from understudy.objective import Objective
from understudy.pipeline.control import CONTROL, comparison_record, examination, harm
from understudy.pipeline.directory import read_json, write_json
from understudy.pipeline.stage import Context, Reference, Stage, stage_of
from understudy.pipeline.students import referred
from understudy.pipeline.training import SUMMARY, evaluation_loader, training_record
from understudy.sources.artifact import save_artifact
from understudy.sources.generator import image_shape, save_grid
from understudy.sources.model_specs import AnyModel, ModelSpec
from understudy.sources.models import build_model
from understudy.spec import refuse
from understudy.teachers import ModuleTeacher

PICTURE = "generated.png"
"""A hundred images of the generator as it is at the end, in the directory of what learnt from it."""
LACKS = "the training of the generator"
"""What the control does without."""


@final
class DataFree(Stage):
    """Train a student on images that a generator makes, trained against the teacher; no image of the data is used.

    The control is the same student with the same teacher, steps and seeds, on images of the same generator that is
    never trained: the gain over it is what training the generator was worth. Validation data judge the teacher before
    the first step and show the student's progress; nothing is selected on them.
    """

    among_classes: ClassVar[bool] = True

    kind: Literal["data_free"] = "data_free"
    teacher: Reference
    """The stage whose model teaches, a network whose gradient reaches its images."""
    model: AnyModel
    """Which network the student is."""
    objective: Annotated[tuple[AnyMethod, ...], Field(min_length=1)] = (SoftTargets(),)
    """Loss terms that need no labels, summed with their weights."""
    generator: Generation = Generation()
    """The generator, and what it is trained for."""
    training: Training
    """How long the student trains, and with which optimizer. With `select: last`."""
    control: bool = True
    """Train the same student for as many steps on images of a generator that is never trained."""

    @model_validator(mode="after")
    def _without_data(self) -> DataFree:
        problems: list[tuple[tuple[str | int, ...], str]] = []
        for index, term in enumerate(self.objective):
            if not term.needs_teacher:
                message = f"{term.label} learns from labels, and generated images have none; drop the term"
                problems.append((("objective", index), message))
        if self.training.select != "last":
            message = "write select: last; choosing weights by their quality on labelled images would not be data-free"
            problems.append((("training", "select"), message))
        if self.training.patience is not None:
            message = "stopping by the quality on labelled images would not be data-free; leave it out"
            problems.append((("training", "patience"), message))
        if isinstance(self.training.execution, Execution) and self.training.execution.compile:
            message = "the generator reads layers inside the teacher, which a compiled one hides; leave compile out"
            problems.append((("training", "execution", "compile"), message))
        refuse(problems)
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """The teacher's stage."""
        return (stage_of(self.teacher),)

    @property
    def reads(self) -> tuple[str, ...]:
        """The teacher."""
        return (self.teacher,)

    @property
    def network(self) -> ModelSpec:
        """The one the recipe describes."""
        return self.model

    def run(self, context: Context) -> dict[str, Any]:
        """Leave the student in the stage's directory and the control in ``control/``, each with what it learnt from.

        Raises:
            InputError: for samples that are not images, or a teacher that is not fit to teach: at chance, worse than
                the control, other classes.
            RunError: when the teacher's weights changed while it taught.
        """
        teacher = ModuleTeacher(referred(self.teacher, context), task=context.task)
        watch = TeacherWatch(teacher)
        findings: list[Finding] = []
        control = None
        if self.control:
            untrained = self.model_copy(update={"generator": self.generator.model_copy(update={"steps": 0})})
            place = context.directory.path / CONTROL
            before = examination(context, [], None)
            control = untrained._trained(context, teacher, place, title=CONTROL, before=before)
        before = examination(context, findings, control)
        student = self._trained(context, teacher, context.directory.path, title="student", before=before)
        watch.check()
        findings += harm(
            context,
            student,
            control,
            message="training the generator hurt; expected a student better than the control on untrained images",
            remedy="train longer, or give its terms other weights: look at generated.png and the teacher's batch norms",
        )
        return {
            **comparison_record(context, student, control, findings),
            "teacher": list(self.needs),
            "control_lacks": LACKS,
            "data": f"no training images and no labels; {student['samples']:,} generated images",
            "pictures": {"generated images": PICTURE}
            | ({"images of the generator that is not trained": f"{CONTROL}/{PICTURE}"} if control else {}),
        }

    def distiller(self, context: Context, teacher: ModuleTeacher) -> tuple[Distiller, GeneratedLoader]:
        """The student with its first weights, teacher and objective, and the images it is to learn from.

        Raises:
            InputError: for samples that are not images, or networks that do not go together.
        """
        shape = image_shape(next(iter(evaluation_loader(context, "validation"))).inputs)
        torch.manual_seed(context.seed)
        student = build_model(self.model, classes=context.data.classes, inputs=torch.zeros(2, *shape))
        student.to(context.process.device)
        loader = GeneratedLoader(
            student,
            teacher,
            self.generator,
            task=context.task,
            shape=shape,
            batch_size=self.training.batch_size,
            seed=context.seed,
            current=context.process,
        )
        example = Batch(inputs=loader.images(2), targets=torch.full((2,), IGNORE_INDEX))
        chunk = self.training.head_chunk
        terms = Objective(self.objective)
        return Distiller(student, teacher, terms, example=example, task=context.task, head_chunk=chunk), loader

    def _trained(
        self,
        context: Context,
        teacher: ModuleTeacher,
        directory: Path,
        *,
        title: str,
        before: Callable[[Distiller], None],
    ) -> dict[str, Any]:
        """Train a student and leave it in a directory, with a picture of what it learnt from; its record."""
        summary = directory / SUMMARY
        if summary.is_file():
            return read_json(summary)
        distiller, loader = self.distiller(context, teacher)
        context.progress.stage(self.name, f"{title}, seed {context.seed}")
        before(distiller)

        def save(fitted: Fitted) -> None:
            if not context.process.is_main:
                return
            samples = fitted.steps * self.training.accumulate * self.training.batch_size
            record = training_record(fitted, self.training, samples=samples, labelled=0)
            save_artifact(
                directory,
                distiller.student,
                spec=self.model,
                classes=context.data.classes,
                task=context.task.kind,
                inputs=loader.images(1),
                metadata={"training": record},
            )
            save_grid(loader.images(100), directory / PICTURE)
            write_json(summary, record)

        fit(
            distiller,
            loader,
            self.training,
            val=evaluation_loader(context, "validation"),
            seed=context.seed,
            directory=directory,
            progress=context.progress,
            trackers=context.trackers,
            finished=save,
        )
        context.process.wait()
        return read_json(summary)
