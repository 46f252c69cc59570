"""Train a student from a teacher, and beside it the control: the same student without the teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, final

from pydantic import model_validator

from understudy.balancing import AnyBalance
from understudy.doctor import Finding, TeacherWatch
from understudy.engine.on_policy import OnPolicy
from understudy.engine.teacher_runtime import Runtime
from understudy.engine.training import Training
from understudy.methods import AnyMethod
from understudy.objective import Objective
from understudy.pipeline.control import comparison_record, examination, harm, train_control
from understudy.pipeline.elsewhere import Elsewhere
from understudy.pipeline.recorded import asked_of, behind, shown_with, teachers_of
from understudy.pipeline.replacing import inside_of, putting_inside
from understudy.pipeline.stage import Context, Reference, Stage, stage_of
from understudy.pipeline.starting import Start, start_reads, start_record
from understudy.pipeline.students import fresh, referred, tuned
from understudy.pipeline.teacher_runtimes import on_runtime, runtime_problems
from understudy.pipeline.teaching import (
    Average,
    Combine,
    Teaching,
    asking_problems,
    content_of,
    teacher_names,
    teacher_of,
    teaching_problems,
)
from understudy.pipeline.training import train_loader, train_model
from understudy.sources.model_specs import AnyModel, ModelSpec
from understudy.sources.splits import Subset
from understudy.spec import refuse
from understudy.transfer import Tuning
from understudy.transfer.replacing import Replacing
from understudy.views import Views


@final
class Distill(Stage):
    """Train a student to stand in for a teacher, and the control that shows what the teacher was worth."""

    kind: Literal["distill"] = "distill"
    teacher: Teaching | None = None
    """The stage whose model teaches; a list of several, or a mapping with the weight of each; `cnn@2` for a snapshot;
    a `record` stage for what it recorded;
    `{kind: average}` for a moving average of the student. None where no term asks a teacher."""
    combine: Combine = "mean"
    """How several teachers answer together: the `mean` of their probabilities, or for each sample the most `confident`
    one's. A term with a `teacher` of its own asks that one alone."""
    runtime: Runtime = "pytorch"
    """What executes a live teacher: `auto` tries PyTorch's formats, OpenVINO and ONNX Runtime, as far as installed, and
    takes the fastest of those that agree; `openvino` or `onnxruntime` takes that one. Layers are PyTorch's to give."""
    model: AnyModel
    """Which network the student is."""
    objective: tuple[AnyMethod, ...]
    """Loss terms, summed with their weights."""
    balance: AnyBalance | None = None
    """How the terms' weights adapt while the student trains; they stay as written when left out."""
    subset: Subset | None = None
    """The transfer set: which part of the training data, and with how many labels; everything when left out."""
    views: Views | None = None
    """Augmentation of the transfer set; teacher and student see the same view. That of the recording, where the teacher
    was recorded."""
    on_policy: OnPolicy | None = None
    """For language models: how many of the batches are texts that the student writes itself, for the teacher to judge.
    All are the data's when left out, as they are for the control."""
    training: Training
    """How long it trains, and with which optimizer."""
    control: bool = True
    """Train the same student on the labelled part of the same data, for as many steps, without the teacher. Where the
    task has no true answers there is nothing to train it on, and none is trained."""
    control_training: Training | None = None
    """Another training for the control than the student's; the report then says so."""
    start: Reference | Start | None = None
    """An earlier stage with the same network, whose weights student and control begin with; or `{model: …}` for one
    that is wider or deeper, such as the teacher, of which as much is taken as fits. Fresh ones otherwise."""
    tuning: Tuning | None = None
    """What is frozen, slower or later, in student and control, where they begin with earlier weights: with
    `{freeze: 2}` they keep the first two units of the model that they start from, such as the teacher's stem, as they
    are. All alike when left out."""
    replacing: Replacing | None = None
    """Let the student's blocks grow inside the teacher: at each step some of the teacher's blocks are replaced by the
    student's, in the end all (BERT-of-Theseus). Both are one kind of network, the student with fewer or smaller blocks
    and `start: {model: …}` from the teacher. No term has to ask the teacher then."""
    reuse_head: bool = False
    """Give the student its teacher's own classifier, frozen, behind a projector (SimKD): compare the layer
    `LAST.projector` with the teacher's last map, where `LAST` is the student's. The control keeps its network's own."""

    @model_validator(mode="after")
    def _consistent(self) -> Distill:
        problems = asking_problems(self.objective, self.teacher) + teaching_problems(self.teacher, self.combine)
        if self.replacing is not None:
            problems = [problem for problem in problems if problem[0] != ("teacher",)]
            if not isinstance(self.teacher, str):
                problems.append((("replacing",), "is about the blocks of one teacher; name one stage as the teacher"))
            for name in ("tuning", "reuse_head"):
                if getattr(self, name):
                    problems.append((("replacing",), f"says itself what trains when, so that {name} cannot; drop one"))
        if self.reuse_head and not isinstance(self.teacher, str):
            problems.append((("reuse_head",), "is about the classifier of one teacher; name one stage as the teacher"))
        if isinstance(self.teacher, Elsewhere) and self.on_policy is not None:
            problems.append((("on_policy",), "needs a teacher that answers to new texts; name a stage as the teacher"))
        if isinstance(self.teacher, Elsewhere) and not self.teacher.has_layers:
            kind, readers = self.teacher.kind, _readers(self.objective)
            problems += [
                (("teacher",), f"{label} reads layers of its teacher, and {kind} has none") for label in readers
            ]
        if self.on_policy is not None and not any(term.needs_teacher for term in self.objective):
            problems.append((("on_policy",), "lets a teacher judge what the student writes, and no term asks one"))
        if self.training.head_chunk is not None:
            alone = Objective(self.objective, self.balance if len(self.objective) > 1 else None)
            problems += [(("training", "head_chunk"), why) for why in alone.unchunkable]
        problems += runtime_problems(self.runtime, self.teacher, _readers(self.objective))
        refuse(problems)
        if self.balance is not None:
            Objective(self.objective, self.balance)
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """The teachers' stages, and the one that it starts from."""
        return tuple(dict.fromkeys(map(stage_of, self.reads)))

    @property
    def reads(self) -> tuple[str, ...]:
        """The teachers, and what it starts from."""
        return (*teacher_names(self.teacher), *start_reads(self.start))

    @property
    def outside(self) -> dict[str, str | None]:
        """A teacher from elsewhere, and a saved model to begin with."""
        return {**super().outside, **content_of(self.teacher)}

    @property
    def asks(self) -> tuple[str, ...]:
        """The teachers, unless one gives away its classifier or its blocks."""
        return () if self.reuse_head or self.replacing else teacher_names(self.teacher)

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
        names = teacher_names(self.teacher)
        members = teachers_of(self.teacher, context)
        shown = replace(shown_with(members, self.views, split), on_policy=self.on_policy)
        members, execution = on_runtime(
            members,
            self.runtime,
            context,
            lambda: context.task.batch(next(iter(train_loader(context, split, self.training, shown)))),
            layers=bool(_readers(self.objective)),
        )
        control = None
        if self.control and context.task.labelled:
            control = train_control(
                context,
                begin=tuned(fresh(self.model, context, start=self.start), self.tuning),
                terms=self.objective,
                split=split,
                training=self.training,
                own_training=self.control_training,
                # It asks nobody, so that it sees new views as beside a live teacher, and true texts.
                shown=replace(shown, cycle=None, on_policy=None),
            )
        is_asked = self.replacing is None or any(term.needs_teacher for term in self.objective)
        teacher = teacher_of(self.teacher, members, combine=self.combine) if is_asked else None
        watch = TeacherWatch(None if isinstance(teacher, Average) else teacher)
        findings: list[Finding] = []
        look = examination(context, findings, control, train=train_loader(context, split, self.training, shown))
        reused = referred(names[0], context) if self.reuse_head else None
        begin = tuned(fresh(self.model, context, start=self.start, reuses_head_of=reused), self.tuning)
        if self.replacing is not None:
            outer = referred(names[0], context)
            begin = inside_of(outer, self.replacing, begin, context)
            look = putting_inside(outer, self.replacing, look, context)
        student = train_model(
            context,
            begin=begin,
            objective=Objective(self.objective, self.balance),
            teacher=teacher,
            split=split,
            training=self.training,
            shown=shown,
            directory=context.directory.path,
            title="student",
            before=look,
        )
        watch.check()
        findings += harm(context, student, control, terms=self.objective)
        return {
            **comparison_record(context, student, control, findings),
            **execution,
            "description": asked_of(names, context),
            "teacher": behind(names, context),
            "control_lacks": _without_teacher(self.teacher),
            **start_record(self.start, context),
            "data": subset.describe(context.data.train),
        }


def _readers(objective: tuple[AnyMethod, ...]) -> list[str]:
    """The terms that read layers of a teacher."""
    return [term.label for term in objective if term.teacher_taps or (term.wants_pairs and term.needs_teacher)]


def _without_teacher(teacher: Teaching | None) -> str | None:
    """What the control goes without, where that is not a teacher."""
    if teacher is None:
        return "its own knowledge"
    return "its own average" if isinstance(teacher, Average) else None
