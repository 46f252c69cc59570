"""Student, teacher and objective in one plain module: call it with a batch, get a loss."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from understudy.batch import Batch, rows
from understudy.cohort import Cohort
from understudy.errors import InputError, listing
from understudy.gathering import alone
from understudy.knowledge import Knowledge, LayerPairs
from understudy.last_layer import LastLayer, last_layer
from understudy.objective import BuiltObjective, Method, Objective, sides
from understudy.pairing import Anatomy, anatomy, pair_layers
from understudy.taps import Taps, is_compiled, layer_of, of_member, paths_of, unreadable, unwrapped
from understudy.tasks.classification import Classification
from understudy.tasks.task import Task
from understudy.teachers.ensemble import Ensemble
from understudy.teachers.live import live_network
from understudy.teachers.module import ModuleTeacher
from understudy.teachers.teacher import Teacher


@dataclass(frozen=True, slots=True)
class Step:
    """What one forward pass of a distiller gives.

    Attributes:
        loss: the weighted sum of the objective, a scalar to call ``backward()`` on.
        terms: each term's unweighted value by its label, detached.
        student: what the student showed, with gradients.
        teacher: what the teacher answered; None when there is no teacher.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    student: Knowledge
    teacher: Knowledge | None


@final
class Distiller(nn.Module):
    """A student that learns from a teacher. It runs in any training loop; there is none inside.

    Its parameters are the student's and those of the objective's own adapters. The teacher is not a submodule:
    ``train()``, ``state_dict()``, ``parameters()`` never reach it. The adapters are built on the student's device,
    in its type.

    Args:
        student: the network to train, or a :class:`~understudy.Cohort` of several that train together.
        teacher: a network, anything with ``observe(batch, taps)``, or None for training without a teacher.
        objective: one method, a sum of methods, or a list of them.
        example: one batch as the loader yields it. Student and teacher see it once, in eval mode, to check
            layers, shapes and classes before anything is trained; no weight, buffer or random number changes.
        task: how batches and models are read; classification when not given.
        head_chunk: positions whose logits are computed at a time while training, so that those of a whole batch are
            never held: for language models with many words. ``auto`` is about a million logits. Student and live
            teacher then stop before their last layer, and terms on logits have the same value and gradient as
            otherwise. In eval mode, and when not given, all logits are computed at once.

    Raises:
        InputError: naming every layer, student or teacher that does not exist and every pair of shapes that does
            not fit; and for a ``head_chunk`` where logits are no linear layer's, or a term needs them all.
    """

    teacher: Teacher | None
    head_chunk: int | Literal["auto"] | None
    logits_per_sample: int
    """How many logits the student gives for one sample."""

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | Teacher | None,
        objective: Objective | Method | list[Method],
        *,
        example: Any,
        task: Task | None = None,
        head_chunk: int | Literal["auto"] | None = None,
    ) -> None:
        super().__init__()
        self.task = task or Classification()
        self.head_chunk = head_chunk
        objective = Objective.of(objective)
        if isinstance(teacher, nn.Module) and not isinstance(teacher, Teacher):
            teacher = ModuleTeacher(teacher, task=self.task)
        if refused := [why for term in objective.terms if (why := self.task.refuses(term)) is not None]:
            raise InputError("\n".join(refused))
        if self.task.batch(example).label_pairs is not None and objective.unmixable:
            raise InputError("\n".join(objective.unmixable))
        if head_chunk is not None:
            _check_chunks(student, objective)
        students = _students(student)
        _check_names(objective, students, teacher)
        for module in _networks(teacher).values():
            _check_apart(student, module)
        self.student = student
        # Not an ordinary attribute: a teacher that happens to be a module must not become a submodule.
        self.__dict__["teacher"] = teacher
        if objective.wants_pairs:
            objective = objective.paired(_pairs(students, teacher, self.task.batch(example), self.task))
        taps, self.teacher_taps = _taps(objective, students)
        _check_layers(students, taps, teacher, self.teacher_taps)
        self._taps = {name: Taps(students[name], asked) for name, asked in taps.items()}
        try:
            examined = self.task.batch(example)
            if head_chunk is not None:  # where one sample's logits are many
                examined = rows(examined, slice(1))
            self.objective = self._build(objective, examined)
            self._heads = self._last_layers(examined) if head_chunk is not None else (None, None)
        except InputError:
            for installed in self._taps.values():
                installed.remove()
            raise

    def forward(self, batch: Any, *, progress: float | None = None) -> Step:
        """The loss of one batch.

        Args:
            batch: what the loader yields, or a :class:`Batch`, on the student's device.
            progress: how far the training is, 0 to 1; only scheduled weights need it.
        """
        batch = self.task.batch(batch)
        own, others = self._heads if self.head_chunk is not None and self.student.training else (None, None)
        chunk = None if self.head_chunk == "auto" else self.head_chunk
        teacher = self._asked(batch, others)
        with self.objective.watching():
            networks = _students(self.student)
            if own is None:
                student = self._observe(batch, networks)
            else:
                student = own.left_out(self.student, lambda: self._observe(batch, networks), chunk)
        _check_gradients(student)
        loss, terms = self.objective(student, teacher, batch, progress=progress)
        return Step(loss=loss, terms=terms, student=student, teacher=teacher)

    @property
    def reads_layers(self) -> bool:
        """Whether a term of the objective is about layers of the student."""
        return any(taps.paths for taps in self._taps.values())

    def _asked(self, batch: Batch, head: LastLayer | None) -> Knowledge | None:
        """What the teacher answers; a live one up to its last layer, where that is given."""
        teacher = self.teacher
        network = live_network(teacher)
        if teacher is None:
            return None
        if head is None or network is None:
            return teacher.observe(batch, self.teacher_taps)
        return head.left_out(network, lambda: teacher.observe(batch, self.teacher_taps))

    def _last_layers(self, example: Batch) -> tuple[LastLayer, LastLayer | None]:
        """Of the student, and of a teacher that is a network in PyTorch; others give all logits that they tell."""
        example, inner, teacher = beside(example, self.student), unwrapped(self.student), self.teacher
        with undisturbed(inner, example.device):
            own = last_layer(inner, lambda: self.task.observe(inner, example))
        other = None
        if isinstance(teacher, ModuleTeacher) and not is_compiled(teacher.module):
            other = last_layer(teacher.module, lambda: teacher.observe(example))
        for side, last, taps in (("student", own, self._taps[None].paths), ("teacher", other, self.teacher_taps)):
            if last is not None and last.path in map(layer_of, taps):
                raise InputError(
                    f"{side} layer {last.path!r} gives the logits, which head_chunk never computes for all positions; "
                    "take a layer before it, or leave head_chunk out"
                )
        return own, other

    def _observe(self, batch: Batch, students: Mapping[str | None, nn.Module]) -> Knowledge:
        """What the student shows; of several what the first one shows, and each under its name."""
        shown: dict[str | None, Knowledge] = {}
        for name, network in students.items():
            with self._taps[name].reading() as features:
                knowledge = self.task.observe(network, batch)
            shown[name] = replace(knowledge, features=features)
        first = next(iter(shown.values()))
        named = {name: knowledge for name, knowledge in shown.items() if name is not None}
        return replace(first, members=named) if named else first

    def _build(self, objective: Objective, example: Batch) -> BuiltObjective:
        """Run all networks once on the example, and build the objective for what they give."""
        first = next(self.student.parameters(), None)
        example = beside(example, self.student)
        bare = {name: unwrapped(network) for name, network in _students(self.student).items()}
        with undisturbed(unwrapped(self.student), example.device):
            student = self._observe(example, bare)
            teacher = self.teacher.observe(example, self.teacher_taps) if self.teacher is not None else None
        _check_gradients(student)
        self.logits_per_sample = student.shape[1:].numel()
        for term in objective.terms:
            shown, answer = sides(term, student, teacher)
            if answer is not None and term.needs_teacher and term.compares_logits:
                _check_logits(shown.shape, answer.shape, self.task)
                _check_kept(term, answer)
        built = objective.build(student, teacher)
        if first is not None:
            built.to(first.device, first.dtype if first.is_floating_point() else None)
        with undisturbed(unwrapped(self.student), example.device), alone():
            built.begin(self.student, student, teacher, example)
        return built


def pairs_of(student: nn.Module, teacher: nn.Module | Teacher | None, example: Batch, task: Task) -> LayerPairs:
    """Which layers of two networks belong together, seen in one forward pass of each.

    Args:
        student: the student; it is left as it was.
        teacher: a network, or a teacher that runs one; None pairs the student with itself.
        example: a batch.
        task: how the networks are called.

    Raises:
        InputError: for a teacher without layers.
    """
    if task.layer_pairs is not None:
        return task.layer_pairs
    if teacher is None:
        teacher = student
    network = live_network(teacher)
    network = teacher if network is None else network
    if not isinstance(network, nn.Module):
        raise InputError(
            f"a {type(teacher).__name__} has no layers to pair with the student's; expected a network as the teacher, "
            "or terms whose student_layer and teacher_layer are named"
        )

    def examined(network: nn.Module) -> Anatomy:
        batch = beside(example, network)
        with undisturbed(unwrapped(network), batch.device):
            return anatomy(network, lambda inner: task.observe(inner, batch).logits)

    return pair_layers(examined(student), examined(network))


def beside(example: Batch, network: nn.Module) -> Batch:
    """The example on the network's device."""
    first = next(network.parameters(), None)
    return example if first is None else example.to(first.device)


@contextmanager
def undisturbed(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Eval mode inside; afterwards every module's own mode and the random numbers are as before."""
    was_training = {module: module.training for module in network.modules()}
    devices = [device] if device.type == "cuda" else []
    network.eval()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, training in was_training.items():
            module.training = training


def _check_apart(student: nn.Module, teacher: nn.Module) -> None:
    """Refuse a teacher that would change while the student trains."""
    if unwrapped(teacher) is unwrapped(student):
        raise InputError("teacher and student are the same module; expected two networks")
    trained = {id(parameter) for parameter in student.parameters() if parameter.requires_grad}
    shared = [name for name, parameter in teacher.named_parameters() if id(parameter) in trained]
    if shared:
        raise InputError(
            f"teacher and student share the parameters {listing(shared)}, so that the teacher would change while "
            "the student trains. Give the teacher a copy.deepcopy of them, or freeze them (requires_grad=False)"
        )


def _check_chunks(student: nn.Module, objective: Objective) -> None:
    """Refuse what cannot be computed for a few positions at a time."""
    problems = objective.unchunkable
    if isinstance(unwrapped(student), Cohort):
        problems.append("head_chunk is for one student; leave it out where several train together")
    if is_compiled(student):
        problems.append("head_chunk and torch.compile do not go together; leave one of them out")
    if problems:
        raise InputError("\n".join(problems))


def _check_logits(student: torch.Size, teacher: torch.Size, task: Task) -> None:
    if teacher[-1] != student[-1] and task.answers != "classes":
        raise InputError(
            f"the teacher answers {teacher[-1]} numbers and the student {student[-1]}; expected as many. Vectors of "
            "two widths are compared by hint or cosine_features, which train a projection, or by embedding_similarity"
        )
    if teacher[-1] != student[-1]:
        raise InputError(
            f"the teacher has {teacher[-1]} classes and the student {student[-1]}; "
            "expected the same classes in the same order. Give the student a head of the teacher's size, or "
            "fine-tune the teacher on the student's classes first"
        )
    if teacher != student:
        raise InputError(
            f"the teacher's logits have the shape {tuple(teacher)} and the student's {tuple(student)}; expected the "
            "same positions. Both must see the same samples, cut into the same tokens or pixels"
        )


def _check_kept(term: Method, teacher: Knowledge) -> None:
    if teacher.top is None:
        return
    if teacher.top.drawn:
        if not term.learns_from_draws:
            raise InputError(
                f"{term.label} cannot learn from the {teacher.logits.shape[-1]} classes that were drawn by the "
                "teacher's probabilities; use soft_targets at temperature 1, or record all classes, or the likeliest "
                "(`top`)"
            )
        return
    if term.merges_at is None:
        raise InputError(
            f"{term.label} compares each class, and the teacher tells only its {teacher.logits.shape[-1]} likeliest of "
            f"{teacher.top.classes}; use soft_targets, reverse_kl, skew_kl, jensen_shannon or total_variation, or "
            "record all classes (leave `top` out)"
        )
    if term.merges_at not in teacher.top.tails:
        known = ", ".join(f"{temperature:g}" for temperature in sorted(teacher.top.tails))
        raise InputError(
            f"{term.label} is at temperature {term.merges_at:g}, and what the teacher leaves out is known together "
            f"only at temperature {known}; use one of these, or record with `temperatures: [{term.merges_at:g}]`"
        )


def _students(student: nn.Module) -> dict[str | None, nn.Module]:
    """The networks that train, by name; a single one has none."""
    inner = unwrapped(student)
    return dict(inner.members.items()) if isinstance(inner, Cohort) else {None: student}


def _networks(teacher: Teacher | None) -> dict[str | None, nn.Module]:
    """The live networks of a teacher, by name; a single one has none."""
    members = teacher.members if isinstance(teacher, Ensemble) else {None: teacher}
    networks = {name: live_network(one) for name, one in members.items()}
    return {name: network for name, network in networks.items() if network is not None}


def _taps(
    objective: Objective, students: Mapping[str | None, nn.Module]
) -> tuple[dict[str | None, tuple[str, ...]], tuple[str, ...]]:
    """Which layers are read of each student, and which of the teachers."""
    first = next(iter(students))
    of_student: dict[str | None, list[str]] = {name: [] for name in students}
    of_teacher = []
    for term in objective.terms:
        of_student[term.student if term.student is not None else first] += term.student_taps
        if term.teacher in students and term.teacher is not None:
            of_student[term.teacher] += term.teacher_taps
        else:
            of_teacher += [of_member(term.teacher, tap) for tap in term.teacher_taps]
    unique = {name: tuple(dict.fromkeys(taps)) for name, taps in of_student.items()}
    return unique, tuple(dict.fromkeys(of_teacher))


def _pairs(
    students: Mapping[str | None, nn.Module], teacher: Teacher | None, example: Batch, task: Task
) -> Callable[[Method], LayerPairs]:
    """Which layers of a term's student and of whoever teaches it belong together; without a teacher, its own."""

    @functools.cache
    def found(student: str | None, asked: str | None, alone: bool) -> LayerPairs:
        learner = students[student] if student in students else next(iter(students.values()))
        if alone:
            return pairs_of(learner, None, example, task)
        if asked is not None and asked in students:
            return pairs_of(learner, students[asked], example, task)
        named = teacher.members[asked] if asked is not None and isinstance(teacher, Ensemble) else teacher
        return pairs_of(learner, named, example, task)

    return lambda term: found(term.student, term.teacher, not term.needs_teacher)


def _check_names(
    objective: Objective, students: Mapping[str | None, nn.Module], teacher: Teacher | nn.Module | None
) -> None:
    """Every student and teacher that a term names must be there, and every term that needs a teacher must have one."""
    learners = [name for name in students if name is not None]
    teachers = [name for name in (teacher.members if isinstance(teacher, Ensemble) else ()) if name is not None]
    problems = [f"a student and a teacher are both called {name!r}" for name in learners if name in teachers]
    for term in objective.terms:
        if term.student is not None and term.student not in learners:
            known = f"the students are {listing(learners)}" if learners else "there is only one, which has no name"
            problems.append(f"{term.label}: there is no student {term.student!r}; {known}")
        if term.teacher is not None and term.teacher not in (*learners, *teachers):
            known = listing([*teachers, *learners])
            remedy = f"expected one of {known}" if known else "there is only one, so leave the name out"
            problems.append(f"{term.label}: there is no teacher {term.teacher!r}; {remedy}")
        if term.teacher is not None and term.teacher == (term.student or next(iter(learners), None)):
            problems.append(f"{term.label}: the student {term.teacher!r} cannot be its own teacher")
    if problems:
        raise InputError("\n".join(problems))
    needing = [term.label for term in objective.terms if term.needs_teacher and term.teacher not in learners]
    if needing and teacher is None:
        raise InputError(f"the objective's terms {', '.join(needing)} need a teacher, got None")


def _check_layers(
    students: Mapping[str | None, nn.Module],
    student_taps: Mapping[str | None, tuple[str, ...]],
    teacher: Teacher | None,
    teacher_taps: tuple[str, ...],
) -> None:
    """Name all the layers that are missing, on both sides, at once."""
    wanted = [("student", name, network, student_taps[name]) for name, network in students.items()]
    for name, network in _networks(teacher).items():
        wanted.append(("teacher", name, network, teacher_taps if name is None else paths_of(name, teacher_taps)))
    problems = []
    for side, name, network, taps in wanted:
        problems += unreadable(network, taps, side if name is None else f"{side} {name}")
    if problems:
        raise InputError("\n".join(problems))


def _check_gradients(student: Knowledge) -> None:
    """At every step, for nanoseconds: activation checkpointing is often only active in train mode."""
    named = [
        (f"{name}/{path}", feature) for name, one in student.members.items() for path, feature in one.features.items()
    ]
    for path, feature in named or student.features.items():
        frozen = not feature.requires_grad and not isinstance(feature, nn.Parameter)
        if torch.is_grad_enabled() and student.logits.requires_grad and frozen:
            raise InputError(
                f"student layer {path!r} gives a feature without a gradient, so a loss on it would train nothing. "
                "It is frozen, or inside a reentrant activation checkpoint: use checkpoint(..., use_reentrant=False)"
            )
