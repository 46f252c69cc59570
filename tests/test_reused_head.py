"""A student with its teacher's classifier: what is changed, what is learnt, and that it comes back from disk."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from understudy import Classification, Distiller, Hint, InputError
from understudy.edits import ReusedHead
from understudy.reused_head import reuse_head
from understudy.sources import build_model, load_artifact, save_artifact
from understudy.sources.artifact_record import read_record
from understudy.sources.model_specs import ArtifactModel, BuiltinModel, ModelSpec, TorchvisionModel

TASK = Classification()


def cnn(*widths: int) -> BuiltinModel:
    return BuiltinModel(name="cnn", arguments={"widths": list(widths)})


@dataclass
class Pair:
    student: nn.Module
    teacher: nn.Module
    batch: tuple[Tensor, Tensor]


def pair_of(student: ModelSpec = cnn(4, 6), teacher: ModelSpec = cnn(6, 10), *, size: int = 16) -> Pair:  # noqa: B008
    torch.manual_seed(0)
    batch = torch.rand(4, 3, size, size), torch.tensor([0, 1, 2, 0])
    return Pair(*(build_model(spec, classes=3, inputs=batch[0]) for spec in (student, teacher)), batch)


def reused(pair: Pair, **options: int) -> ReusedHead:
    return reuse_head(pair.student, pair.teacher, example=pair.batch, task=TASK, **options)


def test_the_student_classifies_its_projected_map_as_the_teacher_does_its_own() -> None:
    pair = pair_of()
    edit = reused(pair)
    student, teacher = pair.student.eval(), pair.teacher.eval()
    maps: list[Tensor] = []
    handle = student.get_submodule(edit.projector).register_forward_hook(lambda _m, _i, output: maps.append(output))
    logits = student(pair.batch[0])
    handle.remove()
    assert maps[0].shape[1] == 10
    torch.testing.assert_close(logits, teacher.head(maps[0].mean((2, 3))))
    assert torch.equal(student.head.weight, teacher.head.weight)
    assert student.head.weight.data_ptr() != teacher.head.weight.data_ptr()


def test_a_projector_that_gives_the_teachers_map_makes_the_student_its_teacher() -> None:
    """The whole point of the method: where the loss is 0 the answers are the teacher's."""
    pair = pair_of()
    edit = reused(pair)
    student, teacher = pair.student.eval(), pair.teacher.eval()
    last: list[Tensor] = []
    teacher.get_submodule("block2").register_forward_hook(lambda _m, _i, output: last.append(output))
    answer = teacher(pair.batch[0])
    student.get_submodule(edit.projector).register_forward_hook(lambda _m, _i, _output: last[0])
    torch.testing.assert_close(student(pair.batch[0]), answer)


def test_the_head_is_frozen_and_a_hint_trains_all_before_it() -> None:
    pair = pair_of()
    edit = reused(pair)
    hint = Hint(student_layer=edit.projector, teacher_layer="block2")
    distiller = Distiller(pair.student, pair.teacher, hint, example=pair.batch)
    assert not list(distiller.objective.parameters())  # the projector is the student's
    distiller(pair.batch).loss.backward()
    assert not any(parameter.requires_grad for parameter in pair.student.head.parameters())
    trained = {name for name, parameter in pair.student.named_parameters() if parameter.grad is not None}
    assert {name for name, _ in pair.student.named_parameters()} - trained == {"head.weight", "head.bias"}
    assert any(name.startswith("block2.projector.") for name in trained)


def test_trained_saved_and_loaded_it_answers_the_same(tmp_path: Path) -> None:
    pair = pair_of()
    edit = reused(pair)
    hint = Hint(student_layer=edit.projector, teacher_layer="block2")
    distiller = Distiller(pair.student, pair.teacher, hint, example=pair.batch)
    optimizer = torch.optim.SGD([p for p in distiller.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(2):
        step = distiller(pair.batch)
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
        losses.append(step.loss.item())
    assert losses[1] < losses[0]
    inputs, classes = pair.batch[0], ("a", "b", "c")
    save_artifact(tmp_path / "one", pair.student, spec=cnn(4, 6), classes=classes, inputs=inputs, edits=[edit])
    assert read_record(tmp_path / "one").edits == (edit,)
    expected = pair.student.eval()(inputs)
    loaded = load_artifact(tmp_path / "one").module.eval()
    assert torch.equal(loaded(inputs), expected)
    assert not loaded.head.weight.requires_grad
    # A model that was loaded is saved as what it was.
    again = ArtifactModel(path=str(tmp_path / "one"))
    save_artifact(tmp_path / "two", loaded, spec=again, classes=classes, inputs=inputs)
    assert torch.equal(load_artifact(tmp_path / "two").module.eval()(inputs), expected)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [("mobilenet_v2", "resnet18"), ("resnet18", "mobilenet_v2"), ("efficientnet_b0", "resnet18")],
)
def test_works_on_the_networks_of_torchvision(student: str, teacher: str) -> None:
    pair = pair_of(TorchvisionModel(name=student), TorchvisionModel(name=teacher), size=64)
    edit = reused(pair)
    hint = Hint(student_layer=edit.projector, teacher_layer="features" if teacher == "mobilenet_v2" else "layer4")
    assert Distiller(pair.student, pair.teacher, hint, example=pair.batch)(pair.batch).loss.isfinite()


def test_a_larger_map_of_the_student_is_averaged_down_to_the_teachers() -> None:
    pair = pair_of(cnn(4), cnn(6, 8, 10))
    edit = reused(pair, factor=5)
    assert edit.size == (4, 4)
    projector = pair.student.get_submodule(edit.projector)
    seen: list[torch.Size] = []
    projector.register_forward_hook(lambda _m, inputs, output: seen.extend([inputs[0].shape, output.shape]))
    pair.student.eval()(pair.batch[0])
    assert [tuple(shape) for shape in seen] == [(4, 4, 4, 4), (4, 10, 4, 4)]
    assert projector[0].out_channels == 2


class Convolutional(nn.Module):
    """Its classifier is a convolution of single pixels, behind the mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, kernel_size=3, stride=2)
        self.classify = nn.Conv2d(channels, 3, kernel_size=1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.conv(images).mean((2, 3), keepdim=True)).flatten(1)


def test_a_linear_and_a_convolutional_head_can_stand_for_each_other() -> None:
    pair = pair_of()
    for student, teacher in ((pair.student, Convolutional(5)), (Convolutional(5), pair.teacher)):
        edit = reused(Pair(student, teacher, pair.batch))
        own, other = student.get_submodule(edit.classifier), teacher.get_submodule(reused_name(teacher))
        assert torch.equal(own.weight.flatten(1), other.weight.flatten(1))
        assert (own.bias is None) == (other.bias is None)
        assert student.eval()(pair.batch[0]).shape == (4, 3)


def reused_name(teacher: nn.Module) -> str:
    return "classify" if isinstance(teacher, Convolutional) else "head"


class NotTheMean(Convolutional):
    """It classifies the largest values of its map."""

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.conv(images).amax((2, 3), keepdim=True)).flatten(1)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (Convolutional(4), NotTheMean(5), "the teacher's logits are not its last layer 'classify' of the mean"),
        (NotTheMean(5), Convolutional(4), "the student's logits are not its last layer 'classify' of the mean"),
        (
            Convolutional(4),
            timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=3),
            "the teacher's logits are not its last layer 'head'",
        ),
        (Convolutional(4), torchvision.models.squeezenet1_1(num_classes=3), "found none in one of them"),
    ],
    ids=["teacher", "student", "tokens", "no head"],
)
def test_another_kind_of_classifier_is_refused_and_the_student_left_alone(student, teacher, message) -> None:
    before = [name for name, _ in student.named_parameters()]
    batch = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    with pytest.raises(InputError, match=message):
        reuse_head(student, teacher, example=batch, task=TASK)
    assert [name for name, _ in student.named_parameters()] == before


def test_an_edit_of_another_network_says_so() -> None:
    edit = reused(pair_of())
    with pytest.raises(InputError, match="'block2', which Convolutional does not have"):
        edit.replay(Convolutional(4), None)
