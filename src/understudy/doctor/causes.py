"""Why a teacher is wrong so often: its classes in another order, its inputs normalised differently, or swapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from understudy.distiller import Distiller
from understudy.doctor.evidence import MOST_SECONDS, Answers, Observation, answers, ask, standard_error, teacher_answers
from understudy.doctor.untouched import networks

MOST_CLASSES = 2_000
"""Among how many classes another order is looked for: the table of answers grows with their square."""
SCALINGS = 5
"""How many scales of the inputs are tried at most."""
IMAGENET = {3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), 1: ((0.449,), (0.226,))}
"""Mean and standard deviation by the number of channels; for grey images the mean over the three colours."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A guess at why a teacher is bad.

    Attributes:
        check: name of the finding it makes.
        accuracy: what the teacher's accuracy is, or would be, if the guess is right.
        message: the guess in words.
        seen: the numbers behind it.
        remedy: what to do if it is right.
    """

    check: str
    accuracy: float
    message: str
    seen: str
    remedy: str


def permuted(found: Answers, names: Sequence[str] | None) -> Cause | None:
    """Whether the teacher would be good if its outputs stood for the labels in another order.

    The best one-to-one assignment of outputs to labels (Kuhn 1955, on the confusion matrix) is fitted on one half
    of the samples and judged on the other, so that a guessing teacher does not look permuted by luck. Not looked for
    among more classes than :data:`MOST_CLASSES`, such as the tokens of a language model.
    """
    if found.classes > MOST_CLASSES:
        return None
    halves = (slice(0, None, 2), slice(1, None, 2))
    first, second = (replace(found, predicted=found.predicted[half], labels=found.labels[half]) for half in halves)
    held_out = [_right(second, _assignment(first)), _right(first, _assignment(second))]
    accuracy = sum(held_out) / max(len(found), 1)
    if not _clearly_better(accuracy, found.accuracy, len(found)) or accuracy < _good(found.classes):
        return None
    assignment = _assignment(found)
    present = found.labels.unique().tolist()
    moved = [(label, int(assignment[label])) for label in present if int(assignment[label]) != label]
    shown = ", ".join(f"{_class(label, names)} is its output {output}" for label, output in moved[:5])
    more = f" and {len(moved) - 5} more" if len(moved) > 5 else ""
    order = f" with {assignment.tolist()}" if len(assignment) <= 20 else ""
    return Cause(
        check="class_order",
        accuracy=accuracy,
        message="the teacher's classes are in another order than the labels; expected the same order",
        seen=f"{accuracy:.1%} right if {shown}{more}, {found.accuracy:.1%} as it is, {len(found)} samples",
        remedy=f"index the teacher's outputs{order}, or train it on this data's order of classes",
    )


def normalised(distiller: Distiller, observations: Sequence[Observation], *, most: int = 512) -> Cause | None:
    """Whether the teacher would be good on inputs of another scale.

    Tried on up to ``most`` samples: pixels in [0, 1], [-1, 1] and [0, 255], ImageNet's mean and standard
    deviation, and the data's own. Only for float vectors and images, and a teacher that looks at its inputs.
    """
    seen, count, seconds = [], 0, 0.0
    for observation in observations:
        if not seen or (count < most and seconds < MOST_SECONDS / SCALINGS):
            seen.append(observation)
            count += len(observation.batch)
            seconds += observation.seconds
    inputs = [observation.batch.inputs for observation in seen]
    if distiller.teacher is None or not all(_is_scalable(each) for each in inputs):
        return None
    now, best = teacher_answers(distiller.task, seen), None
    for name, mean, std in _scalings(_by_channel(inputs)):
        accuracy = _accuracy_when_scaled(distiller, seen, mean, std)
        believable = accuracy >= _good(now.classes) and _clearly_better(accuracy, now.accuracy, len(now))
        if believable and (best is None or accuracy > best.accuracy):
            best = Cause(
                check="input_normalisation",
                accuracy=accuracy,
                message=f"the teacher expects inputs {name}; it is shown something else",
                seen=f"{accuracy:.1%} right on inputs {name}, {now.accuracy:.1%} as they are, {len(now)} samples",
                remedy=f"give the teacher `preprocess: {{mean: {_shown(mean)}, std: {_shown(std)}}}` of its own",
            )
    return best


def swapped(distiller: Distiller, student: Answers, teacher: Answers) -> Cause | None:
    """Whether teacher and student have changed places: the student is good already, and better than the teacher."""
    margin = 3.0 * (standard_error(student.accuracy, len(student)) + standard_error(teacher.accuracy, len(teacher)))
    if student.accuracy < _good(student.classes) or student.accuracy - teacher.accuracy < max(0.1, margin):
        return None
    sizes = parameter_counts(distiller)
    compared = f" and has {sizes[0]:,} parameters to the teacher's {sizes[1]:,}" if sizes[0] > sizes[1] > 0 else ""
    return Cause(
        check="swapped",
        accuracy=student.accuracy,
        message="teacher and student look swapped; expected a teacher that knows more than the student",
        seen=f"the student is right on {student.accuracy:.1%}{compared}; the teacher on {teacher.accuracy:.1%}",
        remedy="pass them as Distiller(student, teacher, …), the one to be trained first",
    )


def parameter_counts(distiller: Distiller) -> tuple[int, int]:
    """Numbers of parameters of student and teacher; 0 for a teacher without a network."""

    def count(modules: Sequence[nn.Module]) -> int:
        return sum(parameter.numel() for module in modules for parameter in module.parameters())

    return count([distiller.student]), count(list(networks(distiller.teacher).values()))


def _assignment(found: Answers) -> Tensor:
    """For each label, the output that stands for it, so that as many samples as possible are right.

    Among equally good assignments, labels keep their own output: the small extra weight decides nothing else.
    """
    weights = found.confusion().double().numpy() + 1e-3 / max(found.classes, 1) * np.eye(found.classes)
    return torch.from_numpy(linear_sum_assignment(weights, maximize=True)[1])


def _right(found: Answers, assignment: Tensor) -> int:
    return int((assignment[found.labels] == found.predicted).sum())


def _good(classes: int) -> float:
    """The accuracy that a one-to-one renaming must reach: clusters of an untrained network get well below it."""
    return max(0.2, min(0.8, 5.0 / max(classes, 1)))


def _clearly_better(accuracy: float, than: float, count: int) -> bool:
    margin = 3.0 * (standard_error(accuracy, count) ** 2 + standard_error(than, count) ** 2) ** 0.5
    return accuracy - than > max(0.05, margin)


def _class(label: int, names: Sequence[str] | None) -> str:
    return f"class {label} ({names[label]!r})" if names is not None and label < len(names) else f"class {label}"


def _is_scalable(inputs: object) -> bool:
    return isinstance(inputs, Tensor) and inputs.is_floating_point() and inputs.ndim in (2, 4)


def _by_channel(inputs: Sequence[Tensor]) -> Tensor:
    """All values seen, (values, channels): vectors count as one channel, images as they are."""
    images = [each.movedim(1, -1).flatten(0, -2) if each.ndim == 4 else each.reshape(-1, 1) for each in inputs]
    return torch.cat(images)


def _scalings(values: Tensor) -> list[tuple[str, Tensor, Tensor]]:
    """Ways to scale inputs as ``(inputs - mean) / std``; ``values`` is (pixels, channels) of all that is seen."""
    low, high = float(values.min()), float(values.max())
    if low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    elif low >= 0.0 and 64.0 < high <= 255.0:
        low, high = 0.0, 255.0
    span = max(high - low, 1e-12)
    mean, std = values.mean(0), values.std(0).clamp(min=1e-6)

    def constant(value: float) -> Tensor:
        return values.new_full((1,), value)

    scalings = [
        ("in [0, 1]", constant(low), constant(span)),
        ("in [-1, 1]", constant(low + span / 2.0), constant(span / 2.0)),
        ("in [0, 255]", constant(low), constant(span / 255.0)),
        ("standardised by this data's mean and standard deviation", mean, std),
    ]
    if values.shape[1] in IMAGENET:
        imagenet = [span * values.new_tensor(each) for each in IMAGENET[values.shape[1]]]
        scalings.append(("normalised by ImageNet's mean and standard deviation", low + imagenet[0], imagenet[1]))
    return scalings


def _accuracy_when_scaled(distiller: Distiller, seen: Sequence[Observation], mean: Tensor, std: Tensor) -> float:
    pairs = []
    for observation in seen:
        inputs = observation.batch.inputs
        shape = (1, -1, 1, 1) if inputs.ndim == 4 else (1, -1)
        scaled = replace(observation.batch, inputs=(inputs - mean.reshape(shape)) / std.reshape(shape))
        with torch.no_grad():
            knowledge = ask(distiller, scaled)
        assert knowledge is not None  # asked only where there is a teacher
        pairs.append((knowledge, scaled))
    return answers(distiller.task, pairs).accuracy


def _shown(values: Tensor) -> str:
    return f"[{', '.join(f'{value:.4g}' for value in values.tolist())}]"
