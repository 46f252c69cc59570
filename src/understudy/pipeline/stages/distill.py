"""Train a student from a teacher, and beside it the control: the same student without the teacher."""

from __future__ import annotations

from typing import Any, Literal, final

from understudy.batch import IGNORE_INDEX
from understudy.distiller import Distiller
from understudy.doctor import Finding, TeacherWatch, check_gain, check_teacher, to_json
from understudy.engine.training import Training
from understudy.methods import AnyMethod
from understudy.objective import Objective
from understudy.pipeline.stage import Context, Name, Stage
from understudy.pipeline.training import evaluation_loader, load_model, train_model
from understudy.sources.model_specs import AnyModel, ModelSpec
from understudy.sources.splits import Split, Subset
from understudy.teachers import Ensemble, ModuleTeacher
from understudy.views import Views


@final
class Distill(Stage):
    """Train a student to stand in for a teacher, and the control that shows what the teacher was worth."""

    kind: Literal["distill"] = "distill"
    teacher: Name | tuple[Name, ...]
    """The stage whose model teaches, or several of them: the mean of their probabilities teaches."""
    model: AnyModel
    """Which network the student is."""
    objective: tuple[AnyMethod, ...]
    """Loss terms, summed with their weights."""
    subset: Subset | None = None
    """The transfer set: which part of the training data, and with how many labels; everything when left out."""
    views: Views | None = None
    """Augmentation of the transfer set; teacher and student see the same view."""
    training: Training
    """How long it trains, and with which optimizer."""
    control: bool = True
    """Train the same student on the labelled part of the same data, for as many steps, without the teacher."""
    control_training: Training | None = None
    """Another training for the control than the student's; the report then says so."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The teachers' stages."""
        return (self.teacher,) if isinstance(self.teacher, str) else self.teacher

    @property
    def network(self) -> ModelSpec:
        """The one the recipe describes."""
        return self.model

    def run(self, context: Context) -> dict[str, Any]:
        """Leave the student in the stage's directory and the control in ``control/``.

        Raises:
            InputError: when the teacher is not fit to teach: at chance, worse than the control, other classes.
            RunError: when the teacher's weights changed while it taught.
        """
        subset = self.subset or Subset()
        split = context.data.train.subset(subset, context.seed)
        control = self._train_control(context, split) if self.control else None
        modules = [load_model(context.upstream[name].path, context) for name in self.needs]
        teachers = [ModuleTeacher(module, task=context.task) for module in modules]
        teacher = teachers[0] if len(teachers) == 1 else Ensemble(teachers)
        watch, findings = TeacherWatch(teacher), []

        def examine(distiller: Distiller) -> None:
            findings.extend(
                check_teacher(
                    distiller,
                    evaluation_loader(context, "validation"),
                    control_metric=control["last_metric"] if control else None,
                    classes=context.data.classes,
                )
            )

        student = train_model(
            context,
            model=self.model,
            objective=Objective(self.objective),
            teacher=teacher,
            split=split,
            training=self.training,
            views=self.views,
            directory=context.directory.path,
            title="student",
            before=examine,
        )
        watch.check()
        findings += self._judge(context, student, control)
        for finding in findings:
            context.progress.message(str(finding))
        return {
            "models": {"student": "."} | ({"control": "control"} if control else {}),
            "teacher": list(self.needs),
            "data": subset.describe(context.data.train),
            "training": student,
            "control": control,
            "findings": to_json(findings),
        }

    def _train_control(self, context: Context, split: Split) -> dict[str, Any]:
        labelled = split.select((split.targets != IGNORE_INDEX).nonzero().flatten())
        training = self.control_training or same_budget(self.training, student=split, control=labelled)
        return train_model(
            context,
            model=self.model,
            objective=Objective(self.objective).without_teacher(context.task.supervised),
            teacher=None,
            split=labelled,
            training=training,
            views=self.views,
            directory=context.directory.path / "control",
            title="control",
        )

    def _judge(self, context: Context, student: dict[str, Any], control: dict[str, Any] | None) -> list[Finding]:
        """Whether the terms that need the teacher do harm on validation data; the report tells the gain."""
        if control is None:
            return []
        found = check_gain(
            student["last_metric"],
            control["last_metric"],
            metric=context.task.metric,
            samples=len(context.data.validation),
            terms=[term.label for term in self.objective if term.needs_teacher],
        )
        return [finding for finding in found if finding.severity == "warning"]


def same_budget(training: Training, *, student: Split, control: Split) -> Training:
    """The training of a control that has fewer samples: as many steps, as many validations.

    Args:
        training: how the student trains.
        student: what the student trains on.
        control: the labelled part of it.
    """
    if len(student) == len(control):
        return training
    batches = [-(-len(split) // training.batch_size) for split in (student, control)]
    longer = batches[0] / batches[1]
    steps = training.steps or round((training.epochs or 0) * batches[0])
    return training.model_copy(
        update={"epochs": None, "steps": steps, "validate_every": training.validate_every * longer}
    )
