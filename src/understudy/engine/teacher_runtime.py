"""What executes a frozen teacher on this machine: PyTorch in one of its formats, OpenVINO, ONNX Runtime."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn
from torch.utils import _pytree as trees

from understudy.batch import Batch
from understudy.engine.plan import DTYPES, MARGIN, Choice, Execution, candidates, execute, fixed_plan
from understudy.engine.randomness import kept_randomness
from understudy.errors import InputError, listing
from understudy.foreign import reason
from understudy.spec import Spec
from understudy.tasks.classification import Classification
from understudy.tasks.task import Task
from understudy.teachers.converted import (
    TOLERANCE,
    RuntimeTeacher,
    disagreement,
    onnxruntime_network,
    openvino_network,
)
from understudy.teachers.module import ModuleTeacher

Runtime = Literal["pytorch", "auto", "openvino", "onnxruntime"]
"""What may execute a teacher; ``auto`` is the fastest of all that answer alike."""

_PYTORCH = "pytorch"
_COMPILED = " compiled"
_TURNS = (3, 20)
"""How often each is measured: at the least, and at the most."""
_BUDGET_SECONDS = 4.0
"""No further turn begins after that."""


class Chosen(Spec):
    """What executes a teacher, and what was seen when it was chosen."""

    runtime: str
    """In words, such as ``openvino`` or ``pytorch channels_last fp32``."""
    timings_ms: dict[str, float] = Field(default_factory=dict)
    """Milliseconds for a batch of everything that was tried."""
    left_out: dict[str, str] = Field(default_factory=dict)
    """What was not, or was tried and refused, and why."""

    def describe(self) -> str:
        """One line for people."""
        seen = ", ".join(f"{name} {milliseconds:.1f} ms" for name, milliseconds in self.timings_ms.items())
        without = "; ".join(f"{name}: {why}" for name, why in self.left_out.items())
        parts = [f"tried: {seen}"] * bool(seen) + [f"left out: {without}"] * bool(without)
        return self.runtime + (f" ({'; '.join(parts)})" if parts else "")


def fastest_teacher(
    teacher: nn.Module | ModuleTeacher,
    example: Any,
    *,
    task: Task | None = None,
    runtime: Literal["auto", "openvino", "onnxruntime"] = "auto",
) -> RuntimeTeacher:
    """A frozen teacher, executed by what is fastest on this machine; its ``note`` says what was tried.

    Tried are PyTorch as it is, in the memory formats of the execution plan, on a GPU in lower precisions and compiled
    too, OpenVINO, and ONNX Runtime, as far as they are installed and can take the network. Only those count whose
    logits are within :data:`understudy.teachers.converted.TOLERANCE` of the logits' spread, on the example and on a
    smaller batch. Layers are still the network's own to give, by PyTorch.

    Nothing of the network or of any random generator changes. The winner has a copy of the weights.

    Args:
        teacher: the network, or the network as a teacher.
        example: a batch as the loader yields it, of the size and on the device of those to come.
        task: how a network is called; classification when not given.
        runtime: one to be used whatever others take, or ``auto`` for the fastest.

    Raises:
        InputError: when the runtime that was named cannot execute the network.
    """
    task = task or Classification()
    live = teacher if isinstance(teacher, ModuleTeacher) else ModuleTeacher(teacher, task=task)
    return choose_runtime(live, live.task.batch(example), runtime)[0]


def choose_runtime(live: ModuleTeacher, example: Batch, runtime: Runtime) -> tuple[RuntimeTeacher, Chosen]:
    """Try what may execute a teacher, and take the fastest.

    Args:
        live: the teacher.
        example: a batch of the size of those to come, on their device.
        runtime: one by its name, or ``auto``.

    Raises:
        InputError: when the runtime that was named cannot execute the network.
    """
    with kept_randomness():
        ways = _ways(live, example)
        if runtime != "auto":
            fast = _agreeing(runtime, ways[runtime], live, example)
            return _joined(live, fast, example, Chosen(runtime=runtime))
        others = {name: make for name, make in ways.items() if name != _PYTORCH and not name.endswith(_COMPILED)}
        teachers, left_out = _those_that_agree(others, live, example)
        teachers = {_PYTORCH: live} | teachers
        timings = _timings(teachers, example)
        best = _fastest({name: timings[name] for name in teachers if name.startswith(_PYTORCH)})
        compiled = {name: ways[name] for name in [f"{best}{_COMPILED}"] if name in ways}
        if compiled:  # only the fastest format: it takes a minute
            more, refused = _those_that_agree(compiled, live, example)
            teachers, left_out = teachers | more, left_out | refused
            timings = _timings(teachers, example)
        chosen = Chosen(runtime=_fastest(timings), timings_ms=timings, left_out=left_out)
        return _joined(live, teachers[chosen.runtime], example, chosen)


def teacher_by(live: ModuleTeacher, example: Batch, chosen: Chosen) -> RuntimeTeacher:
    """The teacher as another process, or an earlier run, has chosen it.

    Args:
        live: the teacher.
        example: a batch like those to come.
        chosen: what is to execute it.

    Raises:
        InputError: when it cannot be executed so any more.
    """
    with kept_randomness():
        ways = _ways(live, example)
        if chosen.runtime not in ways:
            raise InputError(
                f"the teacher was executed by {chosen.runtime!r}, which is not known here; there are {listing([*ways])}"
            )
        fast = _agreeing(chosen.runtime, ways[chosen.runtime], live, example)
    return _joined(live, fast, example, chosen)[0]


def _ways(live: ModuleTeacher, example: Batch) -> dict[str, Callable[[], ModuleTeacher]]:
    """How each execution of a teacher is made; as it is comes first."""
    fixed = fixed_plan("fp32", live, None).teacher
    assert fixed is not None  # it has a teacher
    gpu, pair, task = example.device.type == "cuda", _at_least_two(example), live.task
    ways: dict[str, Callable[[], ModuleTeacher]] = {_PYTORCH: lambda: live}
    formats = {_PYTORCH: fixed}
    for choice in candidates(live.module, fixed, ("bf16", "fp16") if gpu else (), Execution())[1:]:
        name = f"{_PYTORCH} {choice.label}"
        formats[name], ways[name] = choice, functools.partial(_in_pytorch, live, choice)
    ways["openvino"] = lambda: ModuleTeacher(openvino_network(live.module, pair, task), task=task)
    ways["onnxruntime"] = lambda: ModuleTeacher(onnxruntime_network(live.module, pair, task), task=task)
    for name, choice in formats.items() if gpu else ():
        compiled = choice.model_copy(update={"compiled": True})
        ways[f"{name}{_COMPILED}"] = functools.partial(_in_pytorch, live, compiled)
    return ways


def _in_pytorch(live: ModuleTeacher, choice: Choice) -> ModuleTeacher:
    module = copy.deepcopy(live.module)
    execute(module, choice)
    return ModuleTeacher(module, task=live.task, precision=DTYPES[choice.precision])


def _those_that_agree(
    ways: Mapping[str, Callable[[], ModuleTeacher]], live: ModuleTeacher, example: Batch
) -> tuple[dict[str, ModuleTeacher], dict[str, str]]:
    """What can execute the teacher, and why the rest cannot."""
    teachers: dict[str, ModuleTeacher] = {}
    left_out: dict[str, str] = {}
    for name, make in ways.items():
        try:
            teachers[name] = _agreeing(name, make, live, example)
        except InputError as error:
            left_out[name] = str(error)
    return teachers, left_out


def _agreeing(name: str, make: Callable[[], ModuleTeacher], live: ModuleTeacher, example: Batch) -> ModuleTeacher:
    """Make one execution, and compare it with the teacher as it is.

    Raises:
        InputError: when it cannot be made, or its answers are others.
    """
    smaller = Batch(live.task.example(example.inputs, (len(example) + 1) // 2))
    live.observe(smaller)  # the network is now where the batches are
    try:
        fast = make()
        for batch in (example, smaller):
            apart = disagreement(live.observe(batch).logits, fast.observe(batch).logits)
            if apart > TOLERANCE:
                raise InputError(
                    f"{name} answers {len(batch)} samples otherwise: a logit is {apart:.1g} of their spread away from "
                    f"PyTorch's, allowed are {TOLERANCE:g}"
                )
    except InputError:
        raise
    except Exception as error:  # a runtime's own, for somebody's network
        raise InputError(f"{name} cannot execute the network: {reason(error)}") from error
    return fast


def _timings(teachers: Mapping[str, ModuleTeacher], example: Batch) -> dict[str, float]:
    """Milliseconds of the fastest answer of each, asked in turns, so that all see the same machine."""
    seconds = dict.fromkeys(teachers, float("inf"))
    begun = time.perf_counter()
    for turn in range(_TURNS[1]):
        if turn >= _TURNS[0] and time.perf_counter() - begun > _BUDGET_SECONDS:
            break
        for name, teacher in teachers.items():
            started = time.perf_counter()
            teacher.observe(example).logits.cpu()  # waits for a GPU
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    return {name: round(1e3 * each, 3) for name, each in seconds.items()}


def _fastest(timings: Mapping[str, float]) -> str:
    """The first one, unless another is clearly faster."""
    best = next(iter(timings))
    for name, milliseconds in timings.items():
        best = name if milliseconds < MARGIN * timings[best] else best
    return best


def _joined(live: ModuleTeacher, fast: ModuleTeacher, example: Batch, chosen: Chosen) -> tuple[RuntimeTeacher, Chosen]:
    note = chosen.describe()
    return RuntimeTeacher(live, fast, runtime=chosen.runtime, example=example, note=note), chosen


def _at_least_two(example: Batch) -> Batch:
    """A size of 1 would be taken for a constant."""
    if len(example) > 1:
        return example
    return Batch(trees.tree_map(lambda each: torch.cat([each, each]), example.inputs))
