"""Do data, student and teacher speak of the same classes."""

from __future__ import annotations

from collections.abc import Sequence

from understudy.batch import IGNORE_INDEX, Batch
from understudy.distiller import Distiller
from understudy.doctor.evidence import Observation, named_rows
from understudy.doctor.findings import Finding
from understudy.errors import listing


def check_class_names(classes: Sequence[str] | None, teacher_classes: Sequence[str] | None) -> list[Finding]:
    """The names of the data's classes and of the teacher's: the same ones, in the same order.

    Args:
        classes: names of the data's classes, by index; None when they have none.
        teacher_classes: names of the classes that the teacher was trained on, by output.
    """
    if classes is None or teacher_classes is None or list(classes) == list(teacher_classes):
        return []
    missing = [name for name in classes if name not in teacher_classes]
    if missing or len(classes) != len(teacher_classes):
        extra = [name for name in teacher_classes if name not in classes]
        return [
            Finding(
                check="class_names",
                severity="error",
                message=f"the teacher knows {len(teacher_classes)} classes and the data has {len(classes)}, not the "
                "same ones; expected the same names in the same order",
                seen=f"only in the data: {listing(missing, most=4) or 'none'}; only in the teacher: "
                f"{listing(extra, most=4) or 'none'}",
                remedy="fine-tune the teacher on this data's classes first, or select its outputs by name",
            )
        ]
    place = next(index for index, pair in enumerate(zip(classes, teacher_classes, strict=True)) if pair[0] != pair[1])
    order = f" with {[list(teacher_classes).index(name) for name in classes]}" if len(classes) <= 20 else ""
    return [
        Finding(
            check="class_order",
            severity="error",
            message="teacher and data have the same classes in another order; expected the same order",
            seen=f"class {place} is {classes[place]!r} in the data and {teacher_classes[place]!r} in the teacher",
            remedy=f"index the teacher's outputs{order}",
        )
    ]


def check_class_count(
    distiller: Distiller, observations: Sequence[Observation], classes: Sequence[str] | None
) -> list[Finding]:
    """As many outputs as there are classes, on both sides; a teacher of features only may have any number."""
    first = observations[0]
    compared = distiller.objective.objective.compares_logits
    sides = {"student": first.student, "teacher": first.teacher if compared else None}
    outputs = {side: knowledge.logits.shape[-1] for side, knowledge in sides.items() if knowledge is not None}
    expected = len(classes) if classes is not None else outputs["student"]
    wrong = {side: count for side, count in outputs.items() if count != expected}
    if not wrong:
        return []
    named = " and ".join(f"the {side} has {count} outputs" for side, count in wrong.items())
    return [
        Finding(
            check="class_count",
            severity="error",
            message=f"{named}; expected {expected}",
            seen=f"{expected} classes {'in the data' if classes is not None else 'in the student'}",
            remedy="give the network a head of that size and, for a teacher, fine-tune it on these classes",
        )
    ]


def check_labels(batches: Sequence[Batch], outputs: int) -> list[Finding]:
    """Labels that are no class: negative (other than the one for "no label"), or beyond the last output.

    Args:
        batches: what was read.
        outputs: how many classes the student can answer.
    """
    for number, batch in enumerate(batches):
        if batch.targets is None:
            continue
        labels = batch.targets if batch.mask is None else batch.targets.masked_fill(~batch.mask, IGNORE_INDEX)
        labels = labels if batch.label_pairs is None else batch.label_pairs
        wrong = (labels != IGNORE_INDEX) & ((labels < 0) | (labels >= outputs))
        if wrong.any():
            values = sorted(set(labels[wrong].tolist()))
            return [
                Finding(
                    check="labels",
                    severity="error",
                    message=f"labels are out of range; expected 0 to {outputs - 1}, or {IGNORE_INDEX} for none",
                    seen=f"{', '.join(map(str, values[:5]))} in "
                    f"{named_rows(batch, number, wrong.reshape(len(batch), -1).any(-1))}",
                    remedy="count classes from 0, mark missing labels with -100, or give the student more outputs",
                )
            ]
    return []
