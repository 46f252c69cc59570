import copy
import hashlib
import io

import pytest
import torch
from torch import Tensor, nn

from conformance.networks import CLASSES, INPUTS, Network, Normalised, objective, pair, raw_batch
from understudy import (
    Batch,
    Classification,
    CrossEntropy,
    Distiller,
    Hint,
    InputError,
    Knowledge,
    Linear,
    ModuleTeacher,
    SoftTargets,
    Teacher,
)
from understudy.functional import cross_entropy_loss, soft_target_loss


def fingerprint(module: nn.Module) -> str:
    """Of all weights and buffers, bit by bit."""
    state = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        state.update(name.encode() + tensor.detach().numpy().tobytes())
    return state.hexdigest()


def soft() -> SoftTargets:
    return SoftTargets(temperature=2.0)


def test_a_step_is_what_one_would_write_by_hand() -> None:
    student, teacher = pair()
    inputs, targets = raw_batch()
    distiller = Distiller(student, teacher, 0.1 * CrossEntropy() + 0.9 * soft(), example=(inputs, targets))
    step = distiller((inputs, targets))
    logits, answer = student(inputs), teacher(inputs)
    kd, ce = soft_target_loss(logits, answer, temperature=2.0), cross_entropy_loss(logits, targets)
    torch.testing.assert_close(step.loss, 0.1 * ce + 0.9 * kd)
    torch.testing.assert_close(step.terms, {"cross_entropy": ce.detach(), "soft_targets": kd.detach()})
    assert torch.equal(step.student.logits, logits)
    assert torch.equal(step.teacher.logits, answer)
    assert step.student.logits.requires_grad
    assert not step.teacher.logits.requires_grad


def test_without_a_teacher_it_is_ordinary_training() -> None:
    student, _ = pair()
    distiller = Distiller(student, None, CrossEntropy(), example=raw_batch())
    step = distiller(raw_batch())
    assert step.teacher is None
    torch.testing.assert_close(step.loss, cross_entropy_loss(student(raw_batch()[0]), raw_batch()[1]))


class Averaging(nn.Module):
    """A user's own teacher that happens to be a module."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        with torch.no_grad():
            return Knowledge(logits=self.network(batch.inputs) * 0.5)


@pytest.mark.parametrize("make", [Network, Averaging])
def test_nothing_reaches_the_teacher(make) -> None:
    student, _ = pair()
    teacher = make()
    distiller = Distiller(student, teacher, soft(), example=raw_batch())
    inside = {id(parameter) for parameter in distiller.parameters()}
    assert inside == {id(parameter) for parameter in student.parameters()}
    assert not inside & {id(parameter) for parameter in teacher.parameters()}
    assert list(distiller.state_dict()) == [f"student.{name}" for name in student.state_dict()]
    assert teacher not in list(distiller.modules())
    was = teacher.training
    for mode in (False, True):
        distiller.train(mode)
        assert teacher.training is was
    distiller.double()
    assert {parameter.dtype for parameter in teacher.parameters()} == {torch.float32}


def test_a_teacher_that_is_a_module_is_asked_not_called() -> None:
    teacher = Averaging()
    assert isinstance(teacher, Teacher)
    distiller = Distiller(Network(), teacher, soft(), example=raw_batch())
    assert distiller.teacher is teacher
    torch.testing.assert_close(distiller(raw_batch()).teacher.logits, teacher.network(raw_batch()[0]).detach() * 0.5)


def test_the_teacher_stays_in_eval_mode_and_bit_identical() -> None:
    student, teacher = Normalised(), Normalised(12)
    before = fingerprint(teacher)
    both = objective("norm")
    distiller = Distiller(student, teacher, both, example=raw_batch())
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
    start = fingerprint(student)
    for step in range(4):
        distiller.train()
        if step == 2:
            teacher.train()  # somebody else's mistake
        optimizer.zero_grad()
        distiller(raw_batch()).loss.backward()
        optimizer.step()
        assert not any(module.training for module in teacher.modules())
        assert student.training
        assert student.norm.training
    assert fingerprint(teacher) == before
    assert fingerprint(student) != start
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_saved_student_knows_nothing_of_us() -> None:
    student, teacher = Normalised(), Normalised(12)
    distiller = Distiller(student, teacher, objective("norm"), example=raw_batch())
    distiller(raw_batch()).loss.backward()
    file = io.BytesIO()
    torch.save(student.state_dict(), file)
    file.seek(0)
    fresh = Normalised()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert fingerprint(fresh) == fingerprint(student)
    assert list(fresh.state_dict()) == list(student.state_dict())


def test_the_example_run_changes_nothing() -> None:
    """No weight, no buffer, no mode of any submodule, no random number, though dropout runs in its eval mode."""
    student, teacher = Normalised(), Normalised(12)
    student.dropout.eval()  # a user's own choice, to be kept
    before = fingerprint(student), fingerprint(teacher), torch.random.get_rng_state()
    Distiller(student, teacher, CrossEntropy() + soft(), example=raw_batch())
    after = fingerprint(student), fingerprint(teacher), torch.random.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])
    assert (student.training, student.norm.training, student.dropout.training) == (True, True, False)


def test_gradients_reach_the_student_and_the_adapter_and_nothing_else() -> None:
    student, teacher = pair()
    inputs, targets = raw_batch()
    distiller = Distiller(student, teacher, Hint(student_layer="block", teacher_layer="block"), example=raw_batch())
    distiller((inputs, targets)).loss.backward()
    trained = {name for name, parameter in distiller.named_parameters() if parameter.grad is not None}
    above = {"student.head.weight", "student.head.bias"}  # the hint is below them
    assert trained == {name for name, _ in distiller.named_parameters()} - above
    assert "objective.terms.hint.joined.0.adapter.weight" in trained
    assert inputs.grad is None


def test_the_adapter_has_the_type_of_the_student() -> None:
    student, teacher = pair(torch.float64)
    distiller = Distiller(student, teacher, objective(), example=raw_batch(8, torch.float64))
    assert {parameter.dtype for parameter in distiller.parameters()} == {torch.float64}
    distiller(raw_batch(8, torch.float64)).loss.backward()


def test_a_schedule_needs_the_progress_and_follows_it() -> None:
    student, teacher = pair()
    distiller = Distiller(student, teacher, Linear(start=0.0, end=2.0) * soft(), example=raw_batch())
    step = distiller(raw_batch(), progress=0.25)
    torch.testing.assert_close(step.loss, 0.5 * step.terms["soft_targets"])
    with pytest.raises(InputError, match="progress"):
        distiller(raw_batch())


class WithMask(nn.Module):
    """Takes keywords, as Transformers models do, and returns a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(INPUTS, CLASSES)

    def forward(self, values: Tensor, scale: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(values) * scale[:, None]}


def test_batches_of_keyword_arguments_work_alike() -> None:
    inputs, targets = raw_batch()
    raw = {"values": inputs, "scale": torch.ones(8), "labels": targets}
    distiller = Distiller(WithMask(), WithMask(), 0.5 * CrossEntropy() + 0.5 * soft(), example=raw)
    distiller(raw).loss.backward()
    assert distiller.student.head.weight.grad.abs().sum() > 0


def test_a_mask_of_the_batch_reaches_every_term() -> None:
    student, teacher = pair()
    inputs, targets = raw_batch()
    distiller = Distiller(student, teacher, objective(), example=(inputs, targets))
    keep = torch.arange(8) < 3
    masked = distiller(Batch(inputs=inputs, targets=targets, mask=keep))
    sliced = distiller((inputs[:3], targets[:3]))
    torch.testing.assert_close(masked.terms, sliced.terms)


# What is refused, before anything is trained.


def test_missing_layers_of_both_are_named_at_once() -> None:
    student, teacher = pair()
    wrong = Hint(student_layer="blok", teacher_layer="blocks.1") + Hint(
        student_layer="block.7", teacher_layer="block", name="b"
    )
    with pytest.raises(InputError) as caught:
        Distiller(student, teacher, wrong, example=raw_batch())
    lines = str(caught.value).splitlines()
    assert [line.split(" has ")[0] for line in lines] == ["student", "student", "teacher"]
    assert lines[0].startswith("student has no layer 'blok'; nearest: 'block'")


def test_a_term_on_the_teacher_needs_one() -> None:
    with pytest.raises(InputError, match="soft_targets need a teacher"):
        Distiller(Network(), None, CrossEntropy() + soft(), example=raw_batch())


def test_teacher_and_student_are_two_networks() -> None:
    student, _ = pair()
    for same in (student, torch.compile(student), ModuleTeacher(student, task=Classification())):
        with pytest.raises(InputError, match="same module"):
            Distiller(student, same, soft(), example=raw_batch())
    sharing = Network()
    sharing.block = student.block
    with pytest.raises(InputError, match=r"share the parameters 'block\.0\.weight'.*deepcopy"):
        Distiller(student, sharing, soft(), example=raw_batch())
    student.block.requires_grad_(False)  # a frozen trunk may be shared
    Distiller(student, sharing, soft(), example=raw_batch())
    Distiller(student, copy.deepcopy(student), soft(), example=raw_batch())


def other_classes() -> Network:
    network = Network()
    network.head = nn.Linear(6, CLASSES + 1)
    return network


def test_other_classes_are_refused_for_terms_on_logits_only() -> None:
    student, _ = pair()
    with pytest.raises(InputError, match="teacher has 4 classes and the student 3"):
        Distiller(student, other_classes(), CrossEntropy() + soft(), example=raw_batch())
    hint = CrossEntropy() + Hint(student_layer="block", teacher_layer="block")
    distiller = Distiller(student, other_classes(), hint, example=raw_batch())
    distiller(raw_batch()).loss.backward()


class OtherSamples:
    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        return Knowledge(logits=torch.zeros(1, CLASSES))


def test_an_answer_for_other_positions_is_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(1, 3\) and the student's \(8, 3\)"):
        Distiller(Network(), OtherSamples(), soft(), example=raw_batch())


def test_a_hint_on_a_frozen_layer_is_refused() -> None:
    student, teacher = pair()
    student.stem.requires_grad_(False)
    with pytest.raises(InputError, match=r"'stem' gives a feature without a gradient.*frozen"):
        Distiller(student, teacher, objective("stem"), example=raw_batch())


def test_a_refused_objective_leaves_the_student_as_it_was() -> None:
    student, _ = pair()
    wrong = Hint(student_layer="block", teacher_layer="block") + soft()
    with pytest.raises(InputError):
        Distiller(student, other_classes(), wrong, example=raw_batch())
    assert not any(module._forward_hooks for module in student.modules())
    assert student.training


def test_validation_without_gradients_works_between_steps() -> None:
    student, teacher = pair()
    distiller = Distiller(student, teacher, objective(), example=raw_batch())
    distiller.eval()
    with torch.no_grad():
        quiet = distiller(raw_batch())
    assert not quiet.loss.requires_grad
    distiller.train()
    torch.testing.assert_close(distiller(raw_batch()).loss, quiet.loss)
