"""Classes that were drawn by the teacher's probabilities: what they cost in truth, how they are kept, who may learn."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import understudy as us
from understudy.errors import InputError
from understudy.functional import drawn_target_loss, soft_target_loss
from understudy.functional.drawn_classes import drawn_logits
from understudy.knowledge import Knowledge, TopClasses
from understudy.objective import Method
from understudy.recipe.loading import load_and_join, load_recipe
from understudy.recipe.problems import RecipeError
from understudy.recordings import Storage
from understudy.recordings.inspection import inspect_recording
from understudy.recordings.storage import KEPT, LOGITS
from understudy.sources import Split

CLASSES = 5


def logits(*shape: int, seed: int = 0) -> Tensor:
    return 2.0 * torch.randn(*shape, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient_of(loss: Tensor, student: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, student)
    return gradient


# The loss


def test_over_all_possible_draws_value_and_gradient_are_those_of_the_divergence() -> None:
    teacher, student = logits(1), logits(1, seed=1).requires_grad_()
    shares = teacher.softmax(-1)[0]
    value, slope = torch.zeros(1, dtype=torch.float64), torch.zeros_like(student)
    for pair in itertools.product(range(CLASSES), repeat=2):
        drawn = torch.tensor([pair])
        loss = drawn_target_loss(student, teacher.log_softmax(-1).gather(-1, drawn), drawn=drawn)
        chance = shares[pair[0]] * shares[pair[1]]
        value, slope = value + chance * loss.detach(), slope + chance * gradient_of(loss, student)
    whole = soft_target_loss(student, teacher)
    torch.testing.assert_close(value.squeeze(), whole.detach())
    torch.testing.assert_close(slope, gradient_of(whole, student))


def test_it_is_the_mean_over_draws_and_over_positions_that_count() -> None:
    teacher, student = logits(2, 3), logits(2, 3, seed=1)
    drawn = torch.tensor([[[0, 0, 4], [1, 2, 3], [2, 2, 2]], [[4, 1, 1], [0, 3, 0], [1, 4, 2]]])
    mask = torch.tensor([[True, False, True], [True, True, False]])
    logs, own = teacher.log_softmax(-1), student.log_softmax(-1)
    each = [
        math.fsum(float(logs[i, j, k] - own[i, j, k]) for k in drawn[i, j].tolist()) / 3
        for i in range(2)
        for j in range(3)
        if mask[i, j]
    ]
    found = drawn_target_loss(student, logs.gather(-1, drawn), drawn=drawn, mask=mask)
    assert float(found) == pytest.approx(math.fsum(each) / 4)
    halved = drawn_target_loss(student, logs.gather(-1, drawn), drawn=drawn, mask=mask, total=torch.tensor(8.0))
    assert float(halved) == pytest.approx(math.fsum(each) / 8)


def test_nothing_that_counts_is_a_connected_zero_and_the_teacher_gets_no_gradient() -> None:
    student, told = logits(2).requires_grad_(), logits(2, seed=1).log_softmax(-1).requires_grad_()
    drawn = torch.zeros(2, CLASSES, dtype=torch.int64)
    loss = drawn_target_loss(student, told, drawn=drawn, mask=torch.tensor([False, False]))
    assert float(loss.detach()) == 0.0
    assert torch.equal(gradient_of(loss, student), torch.zeros_like(student))
    (untaught,) = torch.autograd.grad(drawn_target_loss(student, told, drawn=drawn), told, allow_unused=True)
    assert untaught is None


def test_half_precision_is_computed_in_single() -> None:
    student, teacher = logits(4).half(), logits(4, seed=1).float().log_softmax(-1)
    drawn = torch.arange(4).unsqueeze(-1)
    found = drawn_target_loss(student, teacher.gather(-1, drawn), drawn=drawn)
    assert found.dtype == torch.float32
    assert torch.equal(found, drawn_target_loss(student.float(), teacher.gather(-1, drawn), drawn=drawn))


def test_what_was_not_drawn_shares_what_is_left() -> None:
    shares = torch.tensor([[0.5, 0.2, 0.2, 0.05, 0.05]], dtype=torch.float64)
    drawn = torch.tensor([[0, 1, 0]])
    found = drawn_logits(shares.log().gather(-1, drawn), drawn, classes=CLASSES).exp()
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.2, 0.1, 0.1, 0.1]], dtype=torch.float64))
    all_of_them = torch.arange(CLASSES).unsqueeze(0)
    torch.testing.assert_close(drawn_logits(shares.log(), all_of_them, classes=CLASSES).exp(), shares)


# What is kept


def test_draws_follow_the_probabilities_and_are_kept_with_their_logarithms() -> None:
    one = torch.tensor([2.0, 0.0, -1.0, 1.0, -math.inf])
    rows = Storage(drawn=4, dtype="float32").encode(Knowledge(logits=one.expand(5_000, CLASSES)))
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in rows.items()} == {
        LOGITS: (torch.float32, (5_000, 4)),
        KEPT: (torch.int16, (5_000, 4)),
    }
    found = Storage(drawn=4, dtype="float32").decode(rows, classes=CLASSES, layers=())
    assert found.top is not None
    assert found.top.drawn
    counts = found.top.kept.flatten().bincount(minlength=CLASSES) / 20_000
    torch.testing.assert_close(counts, one.softmax(-1), atol=0.015, rtol=0.0)  # four standard errors
    torch.testing.assert_close(found.logits, one.log_softmax(-1)[found.top.kept])


def test_each_position_draws_for_itself() -> None:
    answer = Knowledge(logits=torch.zeros(2, 50, CLASSES))
    kept = Storage(drawn=2).encode(answer)[KEPT]
    assert kept.shape == (2, 50, 2)
    assert not torch.equal(kept[0], kept[1])
    assert len({tuple(each) for each in kept[0].tolist()}) > 10


def test_the_same_seeds_draw_the_same_in_any_batch() -> None:
    answers, seeds = torch.zeros(6, CLASSES), torch.tensor([5, -3, 2**62, 0, 1, 7])
    keep = Storage(drawn=4)
    whole = keep.encode(Knowledge(logits=answers), seeds=seeds)[KEPT]
    parts = [keep.encode(Knowledge(logits=answers[i : i + 2]), seeds=seeds[i : i + 2])[KEPT] for i in (0, 2, 4)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, keep.encode(Knowledge(logits=answers), seeds=seeds + 1)[KEPT])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_answers_that_are_no_numbers_are_refused(bad) -> None:
    answers = torch.zeros(2, CLASSES)
    answers[1, 2] = bad
    with pytest.raises(InputError, match="the teacher's logits hold NaN or infinity"):
        Storage(drawn=2).encode(Knowledge(logits=answers))


def test_as_many_draws_as_classes_are_refused_and_the_likeliest_beside_them() -> None:
    answer = Knowledge(logits=torch.zeros(2, CLASSES))
    Storage(drawn=4).check(answer)
    with pytest.raises(InputError, match="drawn: 5 of 5 classes takes more room than all of them; expected fewer"):
        Storage(drawn=5).check(answer)
    with pytest.raises(ValueError, match="`top` and `drawn` are both given, expected one of them"):
        Storage(drawn=2, top=2)


# A recording


@pytest.fixture
def split() -> Split:
    inputs = torch.randn(40, 3, generator=torch.Generator().manual_seed(2))
    classes = tuple(map(str, range(CLASSES)))
    return Split(inputs, torch.arange(40) % CLASSES, torch.arange(100, 140), classes, "train")


@pytest.fixture
def teacher() -> nn.Module:
    torch.manual_seed(3)
    return nn.Linear(3, CLASSES)


def test_a_recording_of_draws_teaches_nearly_what_the_teacher_does(split, teacher, tmp_path) -> None:
    us.record(teacher, split, tmp_path / "answers", keep=Storage(drawn=4, dtype="float32"), seed=1)
    torch.manual_seed(4)
    student, terms = nn.Linear(3, CLASSES), us.SoftTargets(temperature=1.0)
    batch = next(iter(us.Loader(split, batch_size=40, shuffle=False)))
    values = [
        float(us.Distiller(student, each, terms, example=batch)(batch).loss.detach())
        for each in (us.Recorded(tmp_path / "answers"), teacher)
    ]
    assert values[0] == pytest.approx(values[1], rel=0.4)
    told = us.Recorded(tmp_path / "answers").observe(batch)
    assert told.shape == (40, CLASSES)
    assert told.dense.exp().sum(-1).allclose(torch.ones(40), atol=1e-5)


def test_an_interrupted_recording_goes_on_with_the_same_draws(split, teacher, tmp_path) -> None:
    for name, seed in (("whole", 1), ("again", 1), ("other", 2)):
        us.record(teacher, split, tmp_path / name, keep=Storage(drawn=4), seed=seed, batch_size=8 if seed == 1 else 40)
    shard = max((tmp_path / "again" / "plain").iterdir())
    shard.unlink()
    us.record(teacher, split, tmp_path / "again", keep=Storage(drawn=4), seed=1, batch_size=5)

    def kept(name: str) -> Tensor:
        recorded = us.Recorded(tmp_path / name)
        top = recorded.observe(next(iter(us.Loader(split, batch_size=40, shuffle=False)))).top
        assert top is not None
        return top.kept

    assert torch.equal(kept("whole"), kept("again"))
    assert not torch.equal(kept("whole"), kept("other"))


def test_what_is_in_it_is_told(split, teacher, tmp_path) -> None:
    us.record(teacher, split, tmp_path / "answers", keep=Storage(drawn=4))
    (found,) = inspect_recording(tmp_path / "answers").splits
    entropy = torch.distributions.Categorical(logits=teacher(split.inputs)).entropy().mean()
    assert found.entropy == pytest.approx(float(entropy.detach()), rel=0.3)
    assert found.outside_top is None
    assert found.samples == found.answers == 40


# Who may learn from it


class Drawn:
    """A teacher that tells two draws of four."""

    def observe(self, batch: us.Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        kept = torch.tensor([[0, 0], [1, 2]])
        return Knowledge(logits=torch.full((2, 2), -1.0), top=TopClasses(kept, {}, CLASSES, drawn=True))


@pytest.mark.parametrize("term", [us.SoftTargets(temperature=2.0), us.ReverseKl(), us.TotalVariation(), us.Dist()])
def test_other_terms_are_refused(term: Method) -> None:
    batch = us.Batch(inputs=torch.zeros(2, 3), ids=torch.arange(2))
    with pytest.raises(InputError, match=r"cannot learn from the 2 classes that were drawn .* temperature 1"):
        us.Distiller(nn.Linear(3, CLASSES), Drawn(), term, example=batch)


def test_soft_targets_of_some_positions_only() -> None:
    batch = us.Batch(inputs=torch.ones(2, 3), targets=torch.tensor([1, -100]), ids=torch.arange(2))
    student = nn.Linear(3, CLASSES)
    own = student(batch.inputs).log_softmax(-1).detach()
    expected = {
        "labelled": -1.0 - float(own[0, 0]),
        "unlabelled": -1.0 - float(own[1, 1] + own[1, 2]) / 2,
    }
    for rows, value in expected.items():
        term = us.SoftTargets(temperature=1.0, rows=rows)
        assert float(us.Distiller(student, Drawn(), term, example=batch)(batch).loss.detach()) == pytest.approx(value)


RECIPE = """
version: 1
name: drawn
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [8]}}
    training: &training {epochs: 1, optimizer: {lr: 0.1}}
  - {kind: record, name: answers, teacher: teacher, keep: {drawn: 4}}
  - kind: distill
    name: student
    teacher: answers
    model: {source: understudy, name: mlp, arguments: {hidden: [4]}}
    training: *training
    objective: [{kind: soft_targets, temperature: 1.0}]
"""


def test_a_recipe_says_who_cannot_before_anything_is_trained(tmp_path: Path) -> None:
    file = tmp_path / "drawn.yaml"
    file.write_text(RECIPE)
    assert load_and_join(file).name == "drawn"
    with pytest.raises(RecipeError, match=r"soft_targets cannot learn from the 4 classes that 'answers' draws"):
        load_recipe(file, ["stages.student.objective.soft_targets.temperature=2"])
    with pytest.raises(RecipeError, match=r"drawn: 12 of 10 classes takes more room than all of them"):
        load_and_join(file, ["stages.answers.keep.drawn=12"])
