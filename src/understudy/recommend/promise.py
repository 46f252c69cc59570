"""How good a student a network promises to be, before anything is trained: rules of thumb, with their sources."""

from __future__ import annotations

from dataclasses import replace

from understudy.recommend.measuring import Option

EXPONENT = 0.2
"""Errors grow with this power of how many times fewer multiplications a network of the same kind has: 0.18 and 0.21 for
MobileNetV2 at half and a third of its width (28.2 % errors with 300 M, 34.6 % with 97 M, 39.7 % with 59 M)."""


def relative_error(macs: int, whole: int) -> float:
    """By how much a smaller network of the same kind has more errors than the whole one, by a rule of thumb.

    Args:
        macs: multiply-accumulates of the smaller one.
        whole: of the other.

    Example:
        >>> round(relative_error(500, 1000), 2), relative_error(2000, 1000)
        (1.15, 1.0)

    References:
        Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2, CVPR 2018 (arXiv:1801.04381), whose accuracy at several
        widths its authors publish.
    """
    return max(1.0, (whole / max(macs, 1)) ** EXPONENT)


def by_promise(options: list[Option], teacher: Option, *, teacher_error: float | None) -> list[Option]:
    """The options with what speaks for each, the most promising first.

    By the errors on ImageNet that were published, or that the rule of thumb gives for copies of a teacher whose errors
    were. Of options that are level to a point of percent, those that begin with the teacher's weights come first,
    then those that are built like it. Where nothing was published about the teacher, its copies come before the
    libraries' networks, the larger ones first.

    Args:
        options: as they were measured.
        teacher: likewise.
        teacher_error: published errors of its architecture, in percent.
    """

    def key(option: Option) -> tuple[float, ...]:
        kind = (option.channels is None, not option.same_family)
        if not option.is_copy:
            assert option.top1 is not None
            errors = 100.0 - option.top1
        elif teacher_error is None:
            return (0.0, relative_error(option.macs, teacher.macs), *kind)
        else:
            errors = teacher_error * relative_error(option.macs, teacher.macs)
        return (1.0, round(errors), *kind, errors) if teacher_error is not None else (1.0, errors, *kind)

    return [replace(option, why=_why(option, teacher, teacher_error)) for option in sorted(options, key=key)]


def _why(option: Option, teacher: Option, teacher_error: float | None) -> str:
    if not option.is_copy:
        family = "built like the teacher, hints find their layers" if option.same_family else "another family"
        return f"{option.top1:.1f} % on ImageNet as published; {family}"
    more = relative_error(option.macs, teacher.macs)
    rule = f"about {more:.2f} times the teacher's errors by the rule of thumb"
    if teacher_error is not None:
        rule += f" ({100 - more * teacher_error:.0f} % on ImageNet)"
    if option.channels is not None:
        return f"begins with the teacher's weights; {rule}"
    return f"built like the teacher, hints find their layers; {rule}"
