"""A teacher of which only the answers are there."""

import dataclasses

import pytest
import torch

from understudy import Batch, Classification, Distiller, Hint, InputError, Knowledge, LogitMse, SoftTargets
from understudy.identity import identity_of
from understudy.knowledge import TopClasses
from understudy.teachers import Teacher, Told

IDS = torch.tensor([7, 3, 900, 0])
LOGITS = torch.arange(12.0).reshape(4, 3).square() / 30


def batch(*ids: int, **more) -> Batch:
    return Batch(inputs=torch.zeros(len(ids), 5), ids=torch.tensor(ids, dtype=torch.int64), **more)


def top() -> Knowledge:
    kept = torch.tensor([[2, 0], [0, 1], [1, 3], [3, 2]])
    tails = {1.0: torch.tensor([-3.0, -4.0, -5.0, -6.0])}
    return Knowledge(logits=torch.arange(8.0).reshape(4, 2), top=TopClasses(kept, tails, 4))


def test_each_sample_gets_its_own_row_in_any_order_and_view() -> None:
    teacher = Told(IDS, Knowledge(logits=LOGITS))
    assert isinstance(teacher, Teacher)
    for ids in ((0, 7, 900), (900,), (3, 3, 7), ()):
        for view in (None, 0, 12):
            told = teacher.observe(batch(*ids, view=view)).logits
            assert told.tolist() == [LOGITS[IDS.tolist().index(each)].tolist() for each in ids]


def test_the_likeliest_classes_come_with_their_tails() -> None:
    told = Told(IDS, top()).observe(batch(900, 7))
    assert told.top is not None
    assert (told.logits.tolist(), told.top.kept.tolist()) == ([[4.0, 5.0], [0.0, 1.0]], [[1, 3], [2, 0]])
    assert (told.top.tails[1.0].tolist(), told.shape) == ([-5.0, -3.0], (2, 4))


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (lambda teacher: teacher.observe(batch(3, 4, 5)), r"the table has no answer for 2 of 3 samples \(ids 4, 5\)"),
        (
            lambda teacher: teacher.check_answers(torch.tensor([1])),
            r"no answer for 1 of 1 samples \(ids 1\); add their",
        ),
        (lambda teacher: teacher.observe(Batch(inputs=torch.zeros(2, 5))), "the batch has none; use us.Loader"),
        (lambda teacher: teacher.observe(batch(3), ("fc",)), "holds answers and no layers, asked for 'fc'"),
        (
            lambda teacher: teacher.observe(batch(3, label_pairs=torch.zeros(1, 2), shares=torch.ones(1))),
            "these are mixed of two, of which nobody told anything",
        ),
    ],
)
def test_what_it_cannot_answer_is_said(question, message) -> None:
    with pytest.raises(InputError, match=message):
        question(Told(IDS, Knowledge(logits=LOGITS)))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.tensor([1, 2, 1, 2]), r"answers more than once for 2 samples \(ids 1, 2\); expected each id once"),
        (torch.tensor([1, 2, 3]), r"ids \(3,\) torch.int64 for answers \(4, 3\)"),
        (torch.tensor([1.0, 2.0, 3.0, 4.0]), "torch.float32 for answers"),
    ],
)
def test_ids_that_do_not_fit_are_refused(ids, message) -> None:
    with pytest.raises(InputError, match=message):
        Told(ids, Knowledge(logits=LOGITS))


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(InputError, match="and at least one"):
        Told(torch.zeros(0, dtype=torch.int64), Knowledge(logits=torch.zeros(0, 3)))


def test_its_identity_follows_every_id_and_number() -> None:
    def identity(ids: torch.Tensor, answers: Knowledge) -> str | None:
        return identity_of(Told(ids, answers))

    first = identity(IDS, top())
    assert first == identity(IDS.clone(), top())
    whole = top()
    assert whole.top is not None
    kept, tails = whole.top.kept.clone(), {1.0: whole.top.tails[1.0] + 1e-6}
    kept[3, 1] = 0
    others = [
        identity(IDS + 1, top()),
        identity(IDS, dataclasses.replace(whole, logits=whole.logits + 1e-6)),
        identity(IDS, dataclasses.replace(whole, top=TopClasses(kept, whole.top.tails, 4))),
        identity(IDS, dataclasses.replace(whole, top=TopClasses(whole.top.kept, tails, 4))),
        identity(IDS, Knowledge(logits=whole.logits)),
    ]
    assert len({first, *others}) == 6


def test_a_student_learns_from_it_what_it_would_from_a_network_that_answers_so() -> None:
    torch.manual_seed(0)
    student, example = torch.nn.Linear(5, 3), batch(900, 3, targets=torch.tensor([0, 1]))
    distiller = Distiller(
        student,
        Told(IDS, Knowledge(logits=LOGITS)),
        SoftTargets(temperature=1.0),
        example=example,
        task=Classification(),
    )
    expected = 0.0
    for row, sample in enumerate((900, 3)):
        told = LOGITS[IDS.tolist().index(sample)].softmax(-1)
        shown = student(example.inputs)[row].log_softmax(-1).detach()
        expected += float(sum(told[k] * (told[k].log() - shown[k]) for k in range(3))) / 2
    assert float(distiller(example).loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_terms_that_it_cannot_serve_are_refused_when_they_are_built() -> None:
    student, example = torch.nn.Linear(5, 4), batch(900, 3, targets=torch.tensor([0, 1]))
    with pytest.raises(InputError, match="tells only its 2 likeliest of 4"):
        Distiller(student, Told(IDS, top()), LogitMse(), example=example, task=Classification())
    with pytest.raises(InputError, match="known together only at temperature 1"):
        Distiller(student, Told(IDS, top()), SoftTargets(temperature=4.0), example=example, task=Classification())
    with pytest.raises(InputError, match="holds answers and no layers, asked for 'fc'"):
        Distiller(
            student,
            Told(IDS, top()),
            Hint(student_layer="", teacher_layer="fc"),
            example=example,
            task=Classification(),
        )
