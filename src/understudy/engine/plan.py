"""How a training is executed on this machine: memory format, precision, compilation; chosen by trying them."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from understudy.batch import Batch
from understudy.engine.randomness import kept_randomness
from understudy.knowledge import Knowledge
from understudy.spec import Spec
from understudy.tasks.task import Task
from understudy.teachers.module import ModuleTeacher

Precision = Literal["fp32", "bf16", "fp16"]
MemoryFormat = Literal["unchanged", "contiguous", "channels_last"]

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The autocast type of each precision; None for no autocast."""

_BUDGET_SECONDS = (5.0, 60.0)
"""A probe tries nothing more after the first; where single calls take seconds it may go on until the second."""
_WORTH = 20
"""A probe may cost one part in this many of the training that it speeds up."""
_RUNS = 3
MARGIN = 0.95
"""Something other than the first candidate must be this much faster, so that noise rarely decides."""


class Execution(Spec):
    """What the execution plan may choose from. Fixed values pin it."""

    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    """How image tensors lie in memory; the results differ by rounding, and by the units that dropout draws."""
    precisions: tuple[Literal["bf16", "fp16"], ...] = ()
    """Lower precisions that may be chosen where they are faster, beside the training's own. Processors that only
    emulate them (x86 without AVX-512) do not try them."""
    compile: bool = False
    """Whether to try ``torch.compile`` and keep it where it is faster."""


class Choice(Spec):
    """How one network is executed, and what was seen when it was chosen."""

    memory_format: MemoryFormat = "unchanged"
    precision: Precision = "fp32"
    compiled: bool = False
    timings_ms: dict[str, float] = Field(default_factory=dict)
    """Milliseconds per call (a training step of the student, a forward pass of the teacher) of what was tried."""

    @property
    def label(self) -> str:
        """The choice in words: ``"channels_last bf16"``."""
        return " ".join([self.memory_format, self.precision, *(["compiled"] if self.compiled else [])])


class Plan(Spec):
    """The execution of student and teacher."""

    student: Choice
    teacher: Choice | None = None
    probe_seconds: float = 0.0
    """What the probe took; 0 when nothing was tried."""

    def describe(self) -> str:
        """One line for people, with the timings that were seen."""
        parts = [_shown("student", self.student)]
        if self.teacher is not None:
            parts.append(_shown("teacher", self.teacher))
        return "; ".join(parts)


@dataclass(frozen=True)
class Probed:
    """A network to choose an execution for.

    Attributes:
        module: the network; only copies of it are run.
        run: one call of the work that counts, for a copy of the network and an autocast type.
    """

    module: nn.Module
    run: Callable[[nn.Module, torch.dtype | None], object]


def fixed_plan(precision: Precision, teacher: ModuleTeacher | None, execution: Execution | None) -> Plan:
    """The plan without trying anything: what is pinned, and otherwise everything as it is."""
    pinned = execution.memory_format if execution is not None else "auto"
    memory_format: MemoryFormat = "unchanged" if pinned == "auto" else pinned
    choice = Choice(memory_format=memory_format, precision=precision)
    if teacher is None:
        return Plan(student=choice)
    return Plan(student=choice, teacher=Choice(memory_format=memory_format, precision=_own_precision(teacher)))


def probe(
    student: nn.Module,
    teacher: ModuleTeacher | None,
    *,
    task: Task,
    batch: Callable[[], Batch],
    precision: Precision,
    execution: Execution,
    steps: int,
) -> Plan:
    """Try what is allowed on copies of the two networks, for a few seconds, and choose the fastest.

    Nothing of the networks, of their buffers or of any random generator changes.

    Args:
        student: the network that trains.
        teacher: a live teacher, or None for any other kind.
        task: how the networks are called.
        batch: gives a batch of the training, on the device; called only if something is tried.
        precision: the training's precision.
        execution: what may be chosen.
        steps: how many steps the training has; a probe that would not pay is not begun.
    """
    started = time.perf_counter()
    plan = fixed_plan(precision, teacher, execution)
    lower = () if _only_emulates(student) else execution.precisions
    allowed: tuple[Precision, ...] = lower if precision == "fp32" else (precision, *lower)
    example = functools.cache(batch)
    with kept_randomness():
        chosen = _choose(_student_work(student, task, example), plan.student, allowed, execution, steps)
        if teacher is None or plan.teacher is None:
            guide = None
        else:
            # Near a tie the teacher takes the student's format: inputs in two formats cost memory.
            shared = plan.teacher if chosen.memory_format == "unchanged" else chosen
            first = plan.teacher.model_copy(update={"memory_format": shared.memory_format})
            guide = _choose(_teacher_work(teacher, task, example), first, allowed, execution, steps)
    tried = chosen.timings_ms or (guide is not None and guide.timings_ms)
    return Plan(student=chosen, teacher=guide, probe_seconds=time.perf_counter() - started if tried else 0.0)


@contextmanager
def applied(plan: Plan, student: nn.Module, teacher: ModuleTeacher | None) -> Iterator[None]:
    """Execute both networks by the plan inside this context; afterwards they are as they were, but trained."""
    with _executed(student, plan.student):
        if teacher is None or plan.teacher is None:
            yield
            return
        before = teacher.precision
        teacher.precision = DTYPES[plan.teacher.precision]
        try:
            with _executed(teacher.module, plan.teacher):
                yield
        finally:
            teacher.precision = before


def execute(module: nn.Module, choice: Choice) -> None:
    """Execute a network by a choice from now on; its precision is that of whoever calls it."""
    if choice.memory_format != "unchanged":
        _reformat(module, choice.memory_format)
    if choice.compiled:
        module.compile()


@contextmanager
def _executed(module: nn.Module, choice: Choice) -> Iterator[None]:
    before = _memory_format(module)
    execute(module, choice)
    try:
        yield
    finally:
        if choice.compiled:
            module._compiled_call_impl = None  # the inverse of `Module.compile`, which has none of its own
        if choice.memory_format not in ("unchanged", before):
            _reformat(module, before)


def _student_work(student: nn.Module, task: Task, batch: Callable[[], Batch]) -> Probed:
    def run(copied: nn.Module, dtype: torch.dtype | None) -> None:
        copied.train()
        with torch.autocast(_device(copied).type, dtype=dtype, enabled=dtype is not None):
            logits = task.observe(copied, batch()).logits
        logits.float().square().mean().backward()
        copied.zero_grad(set_to_none=True)

    return Probed(student, run)


def _teacher_work(teacher: ModuleTeacher, task: Task, batch: Callable[[], Batch]) -> Probed:
    def run(copied: nn.Module, dtype: torch.dtype | None) -> Knowledge:
        with torch.no_grad(), torch.autocast(_device(copied).type, dtype=dtype, enabled=dtype is not None):
            return task.observe(copied, batch())

    return Probed(teacher.module, run)


def _choose(work: Probed, fixed: Choice, allowed: tuple[Precision, ...], execution: Execution, steps: int) -> Choice:
    """Time the candidates in order, as many as pay; the first one is what would happen without a probe."""
    affordable = steps // (_WORTH * _RUNS)
    tried = candidates(work.module, fixed, allowed, execution)[: max(affordable, 1)]
    compiles = execution.compile and affordable > len(tried)
    if len(tried) + compiles < 2:
        return fixed
    started = time.perf_counter()
    deadline = started + _BUDGET_SECONDS[0]
    timings: dict[str, float] = {}
    best = tried[0]
    for candidate in tried:
        if timings and time.perf_counter() > deadline:
            break
        best = _faster(work, best, candidate, timings, deadline)
        training_seconds = 1e-3 * timings[best.label] * steps
        deadline = max(deadline, started + min(training_seconds / (10 * _WORTH), _BUDGET_SECONDS[1]))
    if compiles:  # only the fastest, and without a deadline: who asks for it knows that it takes a while
        from torch._dynamo.exc import TorchDynamoException  # a second that only who compiles waits for

        with suppress(TorchDynamoException):  # what cannot be compiled, such as rounded numbers, is executed without
            best = _faster(work, best, best.model_copy(update={"compiled": True}), timings, float("inf"))
    if fixed.precision != "fp32" and timings:  # asked for, and so not to be chosen away; but one should know its price
        plain = best.model_copy(update={"precision": "fp32"})
        timings[plain.label] = round(_time(work, plain, deadline), 3)
    return best.model_copy(update={"timings_ms": timings})


def _faster(work: Probed, best: Choice, candidate: Choice, timings: dict[str, float], deadline: float) -> Choice:
    milliseconds = _time(work, candidate, deadline)
    wins = not timings or milliseconds < MARGIN * timings[best.label]
    timings[candidate.label] = round(milliseconds, 3)
    return candidate if wins else best


def candidates(module: nn.Module, fixed: Choice, allowed: tuple[Precision, ...], execution: Execution) -> list[Choice]:
    """The formats and precisions that are worth trying for a network, not compiled.

    Args:
        module: the network.
        fixed: what would happen without trying; the first one.
        allowed: other precisions than that one's.
        execution: what may be chosen.
    """
    formats: tuple[MemoryFormat, ...] = (fixed.memory_format,)
    layers = list(module.modules())
    flat_images = any(isinstance(layer, nn.Conv2d) for layer in layers)
    volumes = any(isinstance(layer, nn.Conv3d) for layer in layers)  # torch cannot lay these out channels last
    if execution.memory_format == "auto" and flat_images and not volumes:
        formats = ("channels_last", "contiguous")
        if fixed.memory_format != "channels_last":
            formats = ("contiguous", "channels_last")
    precisions = dict.fromkeys((fixed.precision, *allowed))
    return [Choice(memory_format=layout, precision=precision) for precision in precisions for layout in formats]


def _time(work: Probed, choice: Choice, deadline: float) -> float:
    """Milliseconds of the fastest of a few calls, after one that warms up."""
    copied = copy.deepcopy(work.module)
    dtype = DTYPES[choice.precision]
    with _executed(copied, choice):
        seconds = []
        for _ in range(_RUNS):
            _synchronize(copied)
            begun = time.perf_counter()
            work.run(copied, dtype)
            _synchronize(copied)
            seconds.append(time.perf_counter() - begun)
            if time.perf_counter() > deadline:
                break
    return 1e3 * min(seconds[1:] or seconds)


def _reformat(module: nn.Module, memory_format: MemoryFormat) -> None:
    wanted = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    module.to(memory_format=wanted)  # pyright: ignore[reportCallIssue] - an overload that the stubs do not list


def _memory_format(module: nn.Module) -> MemoryFormat:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and not layer.weight.is_contiguous():
            return "channels_last"
    return "contiguous"


def _own_precision(teacher: ModuleTeacher) -> Precision:
    named = {dtype: name for name, dtype in DTYPES.items()}
    return named[teacher.precision]  # pyright: ignore[reportReturnType]


def _device(module: nn.Module) -> torch.device:
    first = next(module.parameters(), None)
    return first.device if first is not None else torch.device("cpu")


def _only_emulates(module: nn.Module) -> bool:
    """Whether lower precisions cannot be faster: one step in bfloat16 would take longer than all other trials."""
    return _device(module).type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2"


def _synchronize(module: nn.Module) -> None:
    if _device(module).type == "cuda":
        torch.cuda.synchronize()


def _shown(whose: str, choice: Choice) -> str:
    seen = ", ".join(f"{label} {ms:.1f} ms" for label, ms in choice.timings_ms.items())
    return f"{whose} {choice.label}" + (f" (tried: {seen})" if seen else "") + _price(choice)


def _price(choice: Choice) -> str:
    """A word on a precision that was asked for and is slower than float32, as on processors that only emulate it."""
    plain = choice.timings_ms.get(choice.model_copy(update={"precision": "fp32"}).label)
    if plain is None or plain >= MARGIN * choice.timings_ms[choice.label]:
        return ""
    times = choice.timings_ms[choice.label] / plain
    return (
        f"; {choice.precision} takes {times:.1f} times as long as fp32 here: leave `precision` out, "
        f"and let `execution: {{precisions: [{choice.precision}]}}` take it only where it is faster"
    )
