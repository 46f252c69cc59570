"""Who teaches in a `distill` stage, as a recipe says it, and as a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, final

from pydantic import Discriminator, Field, Tag
from torch import nn

from understudy.errors import listing
from understudy.objective import Method
from understudy.pipeline.elsewhere import AnyElsewhere, Elsewhere
from understudy.pipeline.stage import Reference
from understudy.spec import Spec
from understudy.tasks.task import Task
from understudy.teachers import AverageTeacher, Ensemble, Teacher

Combine = Literal["mean", "confident"]
Share = Annotated[float, Field(gt=0.0)]


@final
class Average(Spec):
    """A moving average of the student's own weights: a mean teacher."""

    kind: Literal["average"] = "average"
    decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    """What is kept of the average at each step, once it has seen enough of them."""

    def of(self, student: nn.Module, task: Task) -> AverageTeacher:
        """The average of one student.

        Raises:
            InputError: for a student whose weights cannot be averaged.
        """
        return AverageTeacher(student, decay=self.decay, task=task)


Several = Annotated[tuple[Reference, ...], Field(min_length=1)]
Weighted = Annotated[dict[Reference, Share], Field(min_length=1)]


def _form(teaching: object) -> str:
    """In which form somebody said who teaches, so that an error is about that form."""
    kind = teaching.get("kind") if isinstance(teaching, Mapping) else None
    if isinstance(teaching, Average | Elsewhere) or kind is not None:
        return "kind"
    if isinstance(teaching, Mapping):
        return "weights"
    return "list" if isinstance(teaching, list | tuple) else "name"


Teaching = Annotated[
    Annotated[Reference, Tag("name")]
    | Annotated[Several, Tag("list")]
    | Annotated[Average | AnyElsewhere, Field(discriminator="kind"), Tag("kind")]
    | Annotated[Weighted, Tag("weights")],
    Discriminator(_form),
]
"""A stage's name; several of them; an average of the student; one from elsewhere; or several with their weights."""


def teacher_names(teaching: Teaching | None) -> tuple[str, ...]:
    """The earlier models that teach, as the recipe names them; none for an average, or a teacher from elsewhere."""
    if isinstance(teaching, str):
        return (teaching,)
    if isinstance(teaching, Mapping):  # not yet validated, an average may still be a mapping with its kind
        return () if "kind" in teaching else tuple(teaching)
    return teaching if isinstance(teaching, tuple) else ()


def content_of(teaching: Teaching | None) -> dict[str, str | None]:
    """A digest of the teacher from elsewhere, by its path; nothing for all others.

    Args:
        teaching: who teaches.
    """
    return {teaching.path: teaching.content} if isinstance(teaching, Elsewhere) else {}


def teacher_of(
    teaching: Teaching | None, members: Mapping[str, Teacher], *, combine: Combine
) -> Teacher | Average | None:
    """The teacher that a recipe describes.

    Args:
        teaching: who teaches.
        members: the teachers of :func:`teacher_names`; the one from elsewhere alone.
        combine: how several answer together.

    Returns:
        A teacher; the description of an average, which begins once there is a student; None for no teacher.
    """
    if teaching is None or isinstance(teaching, Average):
        return teaching
    named = members if isinstance(teaching, Elsewhere) else {name: members[name] for name in teacher_names(teaching)}
    if len(named) == 1:
        return next(iter(named.values()))
    weights = tuple(teaching.values()) if isinstance(teaching, Mapping) else None
    return Ensemble(named, weights, combine=combine)


def asking_problems(objective: Sequence[Method], teaching: Teaching | None) -> list[tuple[tuple[str | int, ...], str]]:
    """Terms that ask somebody who is not there, and a teacher whom nobody asks, each with its key.

    Args:
        objective: the terms of a stage with one student.
        teaching: who teaches, None for nobody.
    """
    problems: list[tuple[tuple[str | int, ...], str]] = []
    names = teacher_names(teaching)
    for index, term in enumerate(objective):
        path = ("objective", index)
        if term.needs_teacher and teaching is None:
            problems.append((path, f"{term.label} needs a teacher and the stage has none; name one, or drop the term"))
        elif term.teacher is not None and (len(names) < 2 or term.teacher not in names):
            known = f"expected one of {listing(names)}" if len(names) > 1 else "there is only one, leave the name out"
            problems.append(((*path, "teacher"), f"there is no teacher {term.teacher!r} to choose; {known}"))
        if term.student is not None:
            problems.append(((*path, "student"), "there is only one student, leave the name out"))
    if teaching is not None and objective and not any(term.needs_teacher for term in objective):
        problems.append((("teacher",), "no term of the objective asks a teacher; add such a term, or leave it out"))
    return problems


def teaching_problems(teaching: Teaching | None, combine: Combine) -> list[tuple[tuple[str | int, ...], str]]:
    """Teachers that are named twice, and a way to combine where there is nothing to combine."""
    names = teacher_names(teaching)
    problems: list[tuple[tuple[str | int, ...], str]] = [
        (("teacher", index), f"{name!r} is named twice; to let it count more, give weights: {{{name}: 2}}")
        for index, name in enumerate(names)
        if name in names[:index]
    ]
    if combine != "mean" and len(names) < 2:
        problems.append((("combine",), f"says how several teachers answer together; there are {len(names)}"))
    return problems
