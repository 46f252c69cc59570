"""Whether an exported file answers what the network answers that it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, final

import torch
from pydantic import Field
from torch import Tensor, nn

from understudy.batch import Batch, known, tensors_of
from understudy.errors import InputError, RunError, UnderstudyError
from understudy.export.operators import operators_of
from understudy.measure.quality import Predictions, predict, quality
from understudy.runtimes import open_model, runtimes_for
from understudy.sources.forward import each_tensor, resized
from understudy.spec import Spec
from understudy.tasks.task import Task
from understudy.teachers.converted import disagreement, far_apart

FLOAT_TOLERANCE = 1e-4
"""How far a logit of a float file may be from PyTorch's, in units of the logits' spread."""
INT8_DISTANCE = 0.1
"""How far a number of an int8 file may be from PyTorch's, in units of the numbers' spread, before it is another one."""
INT8_TOLERANCE = 0.01
"""Which part of the predictions of an int8 file may be others than PyTorch's."""


@final
class RuntimeProof(Spec):
    """One runtime that executed the file."""

    runtime: str
    difference: float
    """The farthest logit from PyTorch's, in units of the logits' spread."""
    changed: float
    """The part of the samples of which the likeliest class is another one, or a number is farther away than a tenth of
    its spread, or a vector than a tenth of the vectors' spread."""
    shapes: tuple[tuple[int, ...], ...]
    """Shapes of the first input that were tried, batch first; each answered as PyTorch does."""
    quality: dict[str, float] | None = None
    """Of the file itself, by the task's metrics; None where nothing was labelled."""


@final
class Proof(Spec):
    """What was seen when an exported file was run beside the network."""

    proved: bool
    """Whether all is within the bounds."""
    problems: tuple[str, ...] = ()
    """What is not, each with its figure and its bound."""
    samples: int
    data: str
    """Which samples, in words, such as ``the test split`` or ``random inputs``."""
    measure: str
    """What is bounded: ``difference`` for a float file, ``changed`` for an int8 one."""
    bound: float
    quality: dict[str, float] | None = None
    """Of the network in PyTorch."""
    runtimes: tuple[RuntimeProof, ...] = ()
    not_run: dict[str, str] = Field(default_factory=dict)
    """Runtimes that take such files and have not run this one: what to install, or what they could not do."""
    version: str
    """Of the operators, such as ``opset 18``."""
    operators: dict[str, int]
    """How often each is used."""

    def __str__(self) -> str:
        said = "difference from PyTorch" if self.measure == "difference" else "changed predictions"
        seen = ", ".join(f"{each.runtime} {getattr(each, self.measure):.1e}" for each in self.runtimes)
        word = "proved" if self.proved else "not proved"
        return f"{word} on {self.samples:,} samples of {self.data}: {said} {seen} (at most {self.bound:g})"


def prove(
    path: str | Path,
    model: nn.Module,
    samples: Iterable[Any],
    *,
    task: Task,
    data: str,
    precision: str = "float32",
    tokens: bool = False,
) -> Proof:
    """Run an exported file in every installed runtime that takes it, and compare it with the network.

    Compared are all samples as they come in batches, then 1 and 3 of them, and where the number of tokens may change
    also the first half of their tokens.

    Args:
        path: the file.
        model: the network that it was made from, on the CPU.
        samples: batches, as the task reads them.
        task: how both are called.
        data: which samples these are, in words.
        precision: ``int8`` for a file that computes in integers, whose logits differ and whose predictions may not.
        tokens: whether the number of tokens may change.

    Returns:
        What was seen, proved or not. An operator that another runtime than the file's own does not have is no problem.

    Raises:
        InputError: when there is no sample, or the network itself takes no single one.
    """
    path = Path(path)
    batches = [task.batch(raw).to("cpu") for raw in samples]
    expected = predict(model, batches, task)
    measure, bound = ("changed", INT8_TOLERANCE) if precision == "int8" else ("difference", FLOAT_TOLERANCE)
    others = _other_shapes(batches[0].inputs, tokens=tokens)
    shaped = [(inputs, _answer(model, inputs, task)) for inputs in others]
    operators = operators_of(path)
    able = runtimes_for(path)
    own = next(iter(able))  # for which the file was made; others need not have all of its operators
    not_run = {name: missing for name, missing in able.items() if missing is not None}
    proofs, problems = [], [f"{name} behaves as in training" for name in operators.training]
    for runtime in [name for name, missing in able.items() if missing is None]:
        try:
            seen = _compared(path, runtime, batches, expected, shaped, task)
        except UnderstudyError as error:
            why = str(error).replace(str(path), path.name)
            if runtime == own or isinstance(error, RunError):
                problems.append(f"{runtime} does not run it: {why}")
            else:
                not_run[runtime] = why
            continue
        proofs.append(seen)
        figure = seen.changed if measure == "changed" else seen.difference
        if not figure <= bound:
            problems.append(_beyond(runtime, measure, figure, bound))
    if not proofs and not problems:
        problems.append(f"no runtime has run it: {'; '.join(not_run.values())}")
    return Proof(
        proved=not problems,
        problems=tuple(problems),
        samples=sum(map(len, batches)),
        data=data,
        measure=measure,
        bound=bound,
        quality=_quality(expected, task),
        runtimes=tuple(proofs),
        not_run=not_run,
        version=operators.version,
        operators=operators.counts,
    )


def _compared(
    path: Path,
    runtime: str,
    batches: Sequence[Batch],
    expected: Predictions,
    shaped: Sequence[tuple[Any, Tensor]],
    task: Task,
) -> RuntimeProof:
    deployed = open_model(path, runtime=runtime)
    received = predict(deployed, batches, task)
    pairs = [(expected.logits, received.logits)]
    shapes = [_shape(batches[0].inputs)]
    for inputs, answer in shaped:
        pairs.append((answer, predict(deployed, [Batch(inputs=inputs)], task).logits))
        shapes.append(_shape(inputs))
    for shape, (ours, theirs) in zip(shapes, pairs, strict=True):
        if ours.shape != theirs.shape or not theirs.isfinite().all():
            kind = "of another shape" if ours.shape != theirs.shape else "not finite"
            raise RunError(f"its answers are {kind} for inputs of the shape {shape}")
    ours, theirs = (torch.cat(side) for side in zip(*pairs, strict=True))
    return RuntimeProof(
        runtime=runtime,
        difference=disagreement(ours, theirs),
        changed=_changed(ours, theirs, task),
        shapes=tuple(shapes),
        quality=_quality(received, task),
    )


def _changed(ours: Tensor, theirs: Tensor, task: Task) -> float:
    """The part of the positions whose likeliest class is another one; or whose numbers are far from the network's."""
    if task.answers == "classes":
        return float((ours.argmax(-1) != theirs.argmax(-1)).float().mean())
    return far_apart(ours, theirs, by=INT8_DISTANCE)


def _answer(model: nn.Module, inputs: Any, task: Task) -> Tensor:
    try:
        return predict(model, [Batch(inputs=inputs)], task).logits
    except InputError:
        raise
    except Exception as error:  # somebody's network
        raise InputError(f"the network itself takes no inputs of the shape {_shape(inputs)}: {error}") from error


def _other_shapes(inputs: Any, *, tokens: bool) -> list[Any]:
    shapes = [resized(inputs, 1), resized(inputs, 3)]
    if tokens:
        shapes.append(each_tensor(resized(inputs, 3), lambda tensor: tensor[:, : max(1, tensor.shape[1] // 2)]))
    return shapes


def _shape(inputs: Any) -> tuple[int, ...]:
    return tuple(tensors_of(inputs)[0].shape)


def _quality(predictions: Predictions, task: Task) -> dict[str, float] | None:
    return quality(predictions, task) if bool(known(predictions.targets).any()) else None


def _beyond(runtime: str, measure: str, figure: float, bound: float) -> str:
    if measure == "changed":
        return f"in {runtime} {figure:.2%} of the predictions are others than PyTorch's; at most {bound:.0%} may be"
    return f"in {runtime} a logit is {figure:.3g} of their spread away from PyTorch's; at most {bound:.0e} is allowed"
