"""Train several students together that teach each other, and beside them the control: the first one alone."""

from __future__ import annotations

from typing import Annotated, Any, Literal, final

from pydantic import Field, model_validator

from understudy.engine.training import Training
from understudy.methods import AnyMethod
from understudy.objective import Method, Objective
from understudy.pipeline.control import comparison_record, harm, train_control
from understudy.pipeline.stage import Context, Stage
from understudy.pipeline.students import fresh, peer_directory
from understudy.pipeline.training import Shown, train_model
from understudy.sources.model_specs import AnyModel, ModelSpec
from understudy.sources.splits import Subset
from understudy.views import Views

Student = Annotated[str, Field(pattern=r"^[A-Za-z]\w*$", max_length=40)]


@final
class Mutual(Stage):
    """Train several students together, each of them taught by the others (deep mutual learning, Zhang et al. 2018)."""

    kind: Literal["mutual"] = "mutual"
    models: Annotated[dict[Student, AnyModel], Field(min_length=2)]
    """The students by name; the first one is the one that is shipped, and the one that the control is of."""
    objective: tuple[AnyMethod, ...]
    """Loss terms of every student; a term that needs a teacher asks each of the others, at an equal share."""
    subset: Subset | None = None
    """The transfer set: which part of the training data, and with how many labels; everything when left out."""
    views: Views | None = None
    """Augmentation; all students see the same view."""
    training: Training
    """How long they train, and with which optimizer."""
    control: bool = True
    """Train the first student on the labelled part of the same data, for as many steps, alone."""

    @model_validator(mode="after")
    def _terms_name_nobody(self) -> Mutual:
        for term in self.objective:
            if term.student is not None or term.teacher is not None:
                raise ValueError(
                    f"{term.label}: a mutual stage gives every term to every student; leave out student and teacher"
                )
        taken = {"student", "control"} & set(self.models)
        if taken:
            raise ValueError(f"a student cannot be called {taken.pop()!r}; give it a name that says which one it is")
        if not any(term.needs_teacher for term in self.objective):
            raise ValueError("no term of the objective asks another student; add one, such as kind: soft_targets")
        return self

    @property
    def network(self) -> ModelSpec:
        """The one that is shipped."""
        return next(iter(self.models.values()))

    def run(self, context: Context) -> dict[str, Any]:
        """Leave the first student in the stage's directory, the others in ``peers/``, the control in ``control/``."""
        subset = self.subset or Subset()
        split = context.data.train.subset(subset, context.seed)
        control = None
        if self.control:
            control = train_control(
                context,
                begin=fresh(next(iter(self.models.values())), context),
                terms=self.objective,
                split=split,
                training=self.training,
                shown=Shown(self.views),
            )
        student = train_model(
            context,
            begin=fresh(self.models, context),
            objective=mutual_objective(self.objective, tuple(self.models)),
            teacher=None,
            split=split,
            training=self.training,
            shown=Shown(self.views),
            directory=context.directory.path,
            title=f"students {', '.join(self.models)}",
        )
        findings = harm(
            context,
            student,
            control,
            message="learning from each other hurt; expected a student better than the same network alone",
            remedy="lower the weight of the terms that ask the others, or let better students in",
        )
        record = comparison_record(context, student, control, findings)
        peers = {name: peer_directory(name) for name in list(self.models)[1:]}
        return {
            **record,
            "models": record["models"] | peers,
            "control_lacks": "the mutual teaching",
            "data": subset.describe(context.data.train),
        }


def mutual_objective(terms: tuple[Method, ...], students: tuple[str, ...]) -> Objective:
    """Every term for every student; one that needs a teacher once for each other student, which share its weight.

    Args:
        terms: of one student.
        students: the names of all.
    """
    found: list[Method] = []
    for student in students:
        for term in terms:
            if not term.needs_teacher:
                found.append(term.model_copy(update={"student": student, "name": f"{term.label}_{student}"}))
                continue
            for peer in students:
                if peer != student:
                    names = {"student": student, "teacher": peer, "name": f"{term.label}_{student}_from_{peer}"}
                    found.append((1.0 / (len(students) - 1)) * term.model_copy(update=names))
    return Objective(tuple(found))
