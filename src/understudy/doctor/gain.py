"""Was the teacher worth it: the student against the control that had none."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.special import stdtrit

from understudy.doctor.evidence import error_of
from understudy.doctor.findings import Finding


def check_gain(
    student_metric: float | Sequence[float],
    control_metric: float | Sequence[float],
    *,
    metric: str = "accuracy",
    samples: int | None = None,
    terms: Sequence[str] = (),
    lower_is_better: bool = False,
) -> list[Finding]:
    """Terms that hurt, or do nothing, against the control: same student, data, budget and seeds, no teacher.

    With two or more seeds, the 95 % interval of the paired differences (Student's t) decides; with one, two
    standard errors of a fraction seen on ``samples``, or the bare difference when that is not given.

    Args:
        student_metric: the student's metric; one number for each seed.
        control_metric: the control's, in the same order of seeds.
        metric: what the metric is called.
        samples: how many samples it was measured on.
        terms: labels of the terms that need the teacher.
        lower_is_better: whether the metric is a loss, which is no fraction of the samples either.

    Returns:
        A warning when the student is clearly worse, a note when the difference is not clearly positive.

    Raises:
        ValueError: for different numbers of seeds.
    """
    student, control = _listed(student_metric), _listed(control_metric)
    sign = -1 if lower_is_better else 1
    differences = [sign * (ours - theirs) for ours, theirs in zip(student, control, strict=True)]
    mean = sum(differences) / len(differences)
    margin = _margin(differences, control, None if lower_is_better else samples)
    if mean > 0.0 and mean >= margin:
        return []
    hurts = mean < 0.0 and -mean >= margin
    named = f" ({', '.join(terms)})" if terms else ""
    return [
        Finding(
            check="gain",
            severity="warning" if hurts else "note",
            message=f"the teacher's terms{named} {'hurt' if hurts else 'brought nothing that can be told from noise'}; "
            "expected a student better than the control",
            seen=f"{metric} {sum(student) / len(student):.4f} against {sum(control) / len(control):.4f} of the "
            f"control: {sign * mean:+.4f} ± {margin:.4f} over {len(differences)} seed{'s' * (len(differences) > 1)}",
            remedy="lower their weight, raise the temperature or choose a better teacher"
            if hurts
            else "more seeds, fewer labels and more unlabelled inputs, or another method",
        )
    ]


def _margin(differences: list[float], control: list[float], samples: int | None) -> float:
    """Half the width of the 95 % interval of the mean difference."""
    count = len(differences)
    if count > 1:
        mean = sum(differences) / count
        variance = sum((each - mean) ** 2 for each in differences) / (count - 1)
        return float(stdtrit(count - 1, 0.975)) * (variance / count) ** 0.5
    share = min(max(control[0], 0.0), 1.0)
    return 0.0 if samples is None else 2.0 * 2.0**0.5 * error_of(share, samples)


def _listed(metric: float | Sequence[float]) -> list[float]:
    return [float(metric)] if isinstance(metric, int | float) else [float(each) for each in metric]
