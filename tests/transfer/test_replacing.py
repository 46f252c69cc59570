"""A student whose blocks stand in for its teacher's while it trains."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from understudy import CrossEntropy, Distiller, Optimizer, Training, fit
from understudy.batch import Batch
from understudy.engine import SilentProgress
from understudy.errors import InputError
from understudy.transfer import Replacing, pace_of_blocks, replace_blocks
from understudy.transfer.blocks import paired_blocks

BATCH = Batch(torch.randn(16, 4), torch.randint(0, 3, (16,)))


class Block(nn.Module):
    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 6))

    def forward(self, inputs: torch.Tensor, scale: float = 1.0) -> tuple[torch.Tensor]:
        return (inputs + scale * self.inner(inputs),)


class Network(nn.Module):
    """Blocks that give tuples and are called by position, as transformers' are."""

    def __init__(self, depth: int, width: int = 6) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 6)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        state = self.stem(inputs)
        for block in self.blocks:
            (state,) = block(state, 0.5)
        return self.head(state)


def pair(depth: int = 2, width: int = 6) -> tuple[Network, Network]:
    torch.manual_seed(0)
    teacher, student = Network(4), Network(depth, width)
    student.stem.load_state_dict(teacher.stem.state_dict())
    student.head.load_state_dict(teacher.head.state_dict())
    return student, teacher


def distiller_of(student: nn.Module) -> Distiller:
    return Distiller(student, None, CrossEntropy(), example=BATCH)


def logits(distiller: Distiller, progress: float) -> torch.Tensor:
    return distiller(BATCH, progress=progress).student.logits


def test_groups_of_blocks_are_as_even_as_they_can_be() -> None:
    assert paired_blocks(Network(3), Network(8)) == {
        "blocks.0": ("blocks.0", "blocks.1", "blocks.2"),
        "blocks.1": ("blocks.3", "blocks.4"),
        "blocks.2": ("blocks.5", "blocks.6", "blocks.7"),
    }


def test_in_the_place_of_the_other_blocks_are_the_teachers() -> None:
    student, teacher = pair()
    distiller = distiller_of(student)
    own = logits(distiller, 0.0)
    replaced = replace_blocks(distiller, teacher, Replacing(start=1e-9, until=0.9), example=BATCH)
    mixed = []
    for first, second in (([student.blocks[0]], teacher.blocks[2:]), (teacher.blocks[:2], [student.blocks[1]])):
        state = teacher.stem(BATCH.inputs)
        for block in (*first, *second):
            state = type(block).forward(block, state, 0.5)[0]
        mixed.append(teacher.head(state))
    seen = set()
    for _ in range(20):
        drawn = logits(distiller, 0.0)
        seen.add(next(number for number, each in enumerate(mixed) if torch.equal(each, drawn)))
    assert seen == {0, 1}  # of two blocks at hardly any rate, one or the other is the student's
    assert torch.equal(logits(distiller, 0.9), own)  # now all are the student's
    distiller.eval()
    assert torch.equal(logits(distiller, 0.0), own)  # who is measured is always the student
    distiller.train()
    replaced.remove()
    assert torch.equal(logits(distiller, 0.0), own)


def test_as_many_blocks_are_the_students_as_the_rate_says() -> None:
    student, teacher = pair(depth=4)
    distiller = distiller_of(student)
    replace_blocks(distiller, teacher, Replacing(start=0.5, until=0.5), example=BATCH)
    for progress, rate in ((0.0, 0.516), (0.25, 0.751), (0.75, 1.0)):  # and one where none was drawn
        torch.manual_seed(1)
        used = []
        for _ in range(200):
            logits(distiller, progress).sum().backward()
            used += [next(block.parameters()).grad is not None for block in student.blocks]
            student.zero_grad(set_to_none=True)
        assert sum(used) / len(used) == pytest.approx(rate, abs=0.06)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_until_all_are_its_own_only_blocks_train_and_afterwards_all() -> None:
    student, teacher = pair()
    replacing = Replacing(until=0.5)
    pace = pace_of_blocks(student, teacher, replacing)
    assert set(pace.begins) == {"stem.weight", "stem.bias", "head.weight", "head.bias"}
    states = {}

    class Keep:
        def stepped(self, moment) -> None:
            states[moment.step] = copy.deepcopy(student.state_dict())

        def recorded(self, moment, record) -> None:
            pass

    before, others = copy.deepcopy(student.state_dict()), copy.deepcopy(teacher.state_dict())
    distiller = distiller_of(student)
    replace_blocks(distiller, teacher, replacing, example=BATCH)
    training = Training(steps=20, optimizer=Optimizer(kind="sgd", lr=0.1), execution="plain", select="last")
    fit(distiller, [BATCH], training, pace=pace, callbacks=[Keep()], progress=SilentProgress())
    assert torch.equal(states[10]["stem.weight"], before["stem.weight"])
    assert not torch.equal(states[10]["blocks.0.inner.0.weight"], before["blocks.0.inner.0.weight"])
    assert not torch.equal(states[20]["stem.weight"], before["stem.weight"])
    assert all(torch.equal(teacher.state_dict()[name], tensor) for name, tensor in others.items())


def test_a_training_that_was_interrupted_draws_the_same_blocks(tmp_path) -> None:
    def trained(folder, steps: list[int]) -> dict[str, torch.Tensor]:
        for stop in steps:
            student, teacher = pair()
            distiller = distiller_of(student)
            pace = pace_of_blocks(student, teacher, Replacing())
            replace_blocks(distiller, teacher, Replacing(), example=BATCH)

            class Stop:
                def stepped(self, moment, stop=stop) -> None:
                    if moment.step == stop:
                        raise KeyboardInterrupt

                def recorded(self, moment, record) -> None:
                    pass

            training = Training(
                steps=12, optimizer=Optimizer(kind="sgd", lr=0.1), execution="plain", select="last", checkpoint_every=1
            )
            batches = [BATCH, BATCH, BATCH, BATCH, BATCH]
            try:
                fit(
                    distiller,
                    batches,
                    training,
                    pace=pace,
                    directory=folder,
                    callbacks=[Stop()],
                    progress=SilentProgress(),
                )
            except KeyboardInterrupt:
                continue
        return student.state_dict()

    whole, resumed = trained(tmp_path / "whole", [99]), trained(tmp_path / "parts", [4, 9, 99])
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_moving_average_is_of_the_student_itself() -> None:
    student, teacher = pair()
    distiller = distiller_of(student)
    replace_blocks(distiller, teacher, Replacing(), example=BATCH)
    average = copy.deepcopy(student).eval()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert average(BATCH.inputs).any()


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (Network(5), Network(4), "has 5 blocks in 'blocks', its teacher 4"),
        (nn.Linear(4, 3), Network(4), "have no blocks of one kind"),
        (
            torchvision.models.mobilenet_v2(num_classes=3),
            torchvision.models.resnet18(num_classes=3),
            "have no blocks of one kind",
        ),
    ],
)
def test_what_has_no_blocks_to_replace(student, teacher, message) -> None:
    with pytest.raises(InputError, match=message):
        paired_blocks(student, teacher)


def test_blocks_that_do_not_fit_are_refused_and_nothing_is_left_behind() -> None:
    student, wide = pair()
    for block in wide.blocks:
        block.inner = nn.Sequential(nn.Linear(7, 7))
    distiller = distiller_of(student)
    before = logits(distiller, 0.0)
    with pytest.raises(InputError, match="the teacher's blocks do not fit between the student's other layers"):
        replace_blocks(distiller, wide, Replacing(), example=BATCH)
    assert torch.equal(logits(distiller, 0.0), before)
