"""Do the teacher's answers belong to the samples that the student is shown."""

from __future__ import annotations

from collections.abc import Sequence

from understudy.distiller import Distiller
from understudy.doctor.evidence import Answers, Observation
from understudy.doctor.findings import Finding
from understudy.teachers import Ensemble, OnnxTeacher, Recorded, Teacher
from understudy.teachers.live import live_network

MEANINGLESS = ("teacher_answers", "same_samples")
"""Findings after which it makes no sense to ask how good the teacher's answers are."""
GAP = 0.3
"""How much worse a teacher may be on the loader's labels than on validation data."""
GAP_AT_CHANCE = 0.1
"""The same when it only guesses on the loader's."""


def check_rows(distiller: Distiller, observations: Sequence[Observation]) -> list[Finding]:
    """One answer for each sample, where the objective compares the answers of both."""
    for seen in observations:
        if seen.teacher is None or not distiller.objective.objective.compares_logits:
            continue
        student, teacher = seen.student.logits.shape[:-1], seen.teacher.logits.shape[:-1]
        if student != teacher:
            return [
                Finding(
                    check="same_samples",
                    severity="error",
                    message="the teacher answers for other positions than the student; expected the same ones",
                    seen=f"teacher {tuple(teacher)}, student {tuple(student)}, on batch {seen.number}",
                    remedy="show both the same samples; look recorded answers up by `batch.ids`",
                )
            ]
    return []


def sees_the_batch(teacher: Teacher | None) -> bool:
    """Whether a teacher's answers cannot be about other samples than those of the batch.

    So it is with a network that looks at them itself, and with a recording whose inputs were compared, bit for bit.

    Args:
        teacher: after it has been asked.
    """
    if isinstance(teacher, Ensemble):
        return all(sees_the_batch(member) for member in teacher.members.values())
    if isinstance(teacher, Recorded):
        return teacher.certain
    return isinstance(teacher, OnnxTeacher) or (teacher is not None and live_network(teacher) is not None)


def check_samples(loader: Answers, val: Answers, *, augmented: bool = False, certain: bool = False) -> list[Finding]:
    """A teacher that is good on validation data and wrong on the very samples it teaches.

    Answers recorded from a shuffled loader, or under other ids, look like this; and so does a teacher that has never
    seen samples augmented as these are.

    Args:
        loader: the teacher's answers on the labelled samples of the training loader.
        val: its answers on validation data.
        augmented: whether the loader shows views of its samples.
        certain: whether the answers are known to be about the samples of the batch.
    """
    if not loader.judgeable or not val.judgeable or val.at_chance:
        return []
    gap = val.accuracy - loader.accuracy
    if gap < (GAP_AT_CHANCE if loader.at_chance else GAP):
        return []
    others, badly_read = (
        "the teacher's answers seem to belong to other samples; expected the ones in the batch",
        "the teacher reads the augmented samples much worse than samples as they are",
    )
    train = "train the teacher on the same `views`, or choose weaker ones"
    again = "record its answers again by sample id, without shuffling; check that labels and views match"
    if augmented and certain:
        message, remedy = badly_read, train
    elif augmented:
        message, remedy = f"{badly_read}, or its answers belong to other samples", f"{train}; or {again}"
    else:
        message, remedy = others, again
    return [
        Finding(
            check="augmented_samples" if augmented and certain else "same_samples",
            severity="error" if loader.at_chance else "warning",
            message=message,
            seen=f"right on {loader.accuracy:.1%} of {len(loader)} labelled samples of the loader, chance is "
            f"{loader.chance:.1%}, but on {val.accuracy:.1%} of {len(val)} validation samples",
            remedy=remedy,
        )
    ]
