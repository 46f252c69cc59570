"""What people ask before they choose a student, answered for the one that is recommended, with the sources."""

from __future__ import annotations

import math
from collections.abc import Sequence

from understudy.recommend.measuring import Option
from understudy.targets import Limit, shown_cost

LARGEST_STEP = 10.0
"""From one teacher to its student, in times fewer multiplications, before an assistant between is worth a try."""

SIZE = (
    "How big? As big as the target lets it be. Rules of thumb: DistilBERT kept 97 % of its teacher's score with 40 % "
    "fewer parameters (arXiv:1910.01108), TinyBERT 96.8 % with 7.5 times fewer (arXiv:1909.10351); each halving of the "
    "multiplications makes about 1.15 times the errors (MobileNetV2's widths, arXiv:1801.04381)."
)
_ASSISTANT = (
    "Mirzadeh et al. 2020 (arXiv:1902.03393) found that a student learns less from a teacher that is much larger, and "
    "more by way of a network of a size between. Cho and Hariharan 2019 (arXiv:1910.01348) found such sequences not to "
    "help, and a teacher that stops early to. Rules of thumb: train the direct way first."
)
_HINTS = (
    "features of one family have the same places and sizes, so hints find their layers by themselves (`kind: hint`)"
)


def advice(teacher: Option, first: Option | None, options: Sequence[Option], limits: Sequence[Limit]) -> list[str]:
    """Answers in whole sentences.

    Args:
        teacher: as it was measured.
        first: the first choice, if any meets the target.
        options: all that were measured.
        limits: the target.
    """
    said = []
    if limits and teacher.within:
        said.append("The teacher itself is within the target already: nothing has to be distilled for it.")
    if first is None:
        return said
    said += [SIZE, about_assistant(teacher, first, options)]
    if first.same_family:
        said.append(f"Hints? Yes: {_HINTS}.")
    else:
        said.append(
            "Hints? Not first: the first choice is of another family; soft targets need no layers, and a hint between "
            "such networks has its layers named (`understudy layers --pair TEACHER STUDENT` shows which belong "
            "together)."
        )
    return said


def about_assistant(teacher: Option, first: Option, options: Sequence[Option]) -> str:
    """Whether a teacher assistant may pay, and which.

    Args:
        teacher: as it was measured.
        first: the student.
        options: what could be an assistant.
    """
    ratio = teacher.macs / max(first.macs, 1)
    if ratio <= LARGEST_STEP:
        return (
            f"A teacher assistant? No: the first choice has 1/{ratio:.3g} of the teacher's multiplications; up to "
            f"about 1/{LARGEST_STEP:.0f} the direct way is the usual one."
        )
    steps = assistants(ratio)
    sizes = [first.macs * ratio ** (step / (steps + 1)) for step in range(steps, 0, -1)]
    between = assistant_for(teacher, first, options)
    such = f", such as {between.name}" if between is not None else ""
    plural = "assistants" if steps > 1 else "an assistant"
    named = " and ".join(shown_cost("macs", size) for size in sizes)
    return (
        f"A teacher assistant? Perhaps: the first choice has 1/{ratio:.3g} of the teacher's multiplications. Equal "
        f"steps want {plural} of {named} MACs{such}. {_ASSISTANT}"
    )


def assistants(ratio: float) -> int:
    """How many networks between make every step at most :data:`LARGEST_STEP` times smaller.

    Args:
        ratio: of the teacher's multiplications to the student's.

    Example:
        >>> assistants(8), assistants(12), assistants(150)
        (0, 1, 2)
    """
    return max(0, math.ceil(math.log(ratio, LARGEST_STEP) - 1e-9) - 1)


def assistant_for(teacher: Option, student: Option, options: Sequence[Option]) -> Option | None:
    """The option nearest to the geometric middle of both, of the teacher's family if there is one."""
    between = [each for each in options if student.macs < each.macs < teacher.macs and each.channels is None]
    middle = math.sqrt(teacher.macs * student.macs)
    return min(between, key=lambda each: (not each.same_family, abs(math.log(each.macs / middle))), default=None)


def still_to_do(option: Option, limits: Sequence[Limit]) -> str:
    """What has to be done beside training a student that is above the target.

    Args:
        option: such a network.
        limits: the target.
    """
    remedies = []
    for limit in limits:
        excess = limit.excess(option.cost_in(limit.measure))
        if excess <= 1.0:
            continue
        much = f"{limit.measure} {excess:.3g} times above"
        if limit.measure == "latency":
            remedies.append(
                f"{much}: export it (OpenVINO and ONNX Runtime are usually faster than PyTorch), quantize it to int8, "
                f"or prune it to {1 / excess:.0%} of its multiplications; then measure the file"
            )
        elif limit.measure == "bytes" and excess <= 4.0:
            remedies.append(f"{much}: quantize it, int8 weights take a quarter of the bytes")
        elif limit.measure == "bytes":
            remedies.append(f"{much}: quantize it and prune it to {4 / excess:.0%} of its parameters")
        else:
            remedies.append(f"{much}: prune it to {1 / excess:.0%}")
    return "; ".join(remedies)
