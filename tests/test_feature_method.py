"""What all methods on layers share: the layers they name, the forms they read, the pairs they sum over."""

import pytest
import timm
import torch
import torchvision
from pydantic import ValidationError
from torch import Size, nn

from conformance.transformers_only import TRANSFORMERS_ONLY
from understudy import Batch, Classification, CrossEntropy, Distiller, Hint, InputError, Knowledge, Method
from understudy.feature_method import FeatureMethod, common_form, shape_read
from understudy.knowledge import LayerPairs, Shapes
from understudy.methods import METHODS
from understudy.teachers import Ensemble, ModuleTeacher

IMAGES = 64


def shapes(student: dict[str, tuple[int, ...]], teacher: dict[str, tuple[int, ...]]) -> Shapes:
    return Shapes(
        student={path: Size(shape) for path, shape in student.items()},
        teacher={path: Size(shape) for path, shape in teacher.items()},
        student_logits=Size((2, 5)),
        teacher_logits=Size((2, 5)),
    )


def test_several_pairs_are_summed_and_each_has_its_adapter() -> None:
    both = Hint(student_layer=("a", "b"), teacher_layer=("x", "y"))
    features = {"a": torch.randn(4, 3), "b": torch.randn(4, 2)}, {"x": torch.randn(4, 5), "y": torch.randn(4, 5)}
    student, teacher = (Knowledge(torch.zeros(4, 5), side) for side in features)
    term = both.build(Shapes.of(student, teacher))
    assert [tuple(parameter.shape) for parameter in term.parameters()] == [(5, 3), (5, 2)]
    batch = Batch(torch.zeros(4, 1))
    singles = []
    for index, (own, other) in enumerate((("a", "x"), ("b", "y"))):
        single = Hint(student_layer=own, teacher_layer=other).build(Shapes.of(student, teacher))
        single.joined[0].load_state_dict(term.joined[index].state_dict())
        singles.append(single(student, teacher, batch))
    torch.testing.assert_close(term(student, teacher, batch), singles[0] + singles[1])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"student_layer": "a"}, "name the layers of student and teacher both"),
        ({"student_layer": ["a", "b"], "teacher_layer": ["x"]}, "names 2 layers and teacher_layer 1"),
        ({"student_layer": [], "teacher_layer": []}, "at least 1"),
    ],
)
def test_layers_come_in_pairs(layers, message) -> None:
    with pytest.raises(ValidationError, match=message):
        Hint.model_validate(layers)


def test_auto_takes_the_pairs_that_the_method_is_about() -> None:
    pairs = LayerPairs(stages=(("a", "x"), ("b", "y")), penultimate=(("p", "q"),))
    found = (3 * Hint(name="middle")).paired(pairs)
    assert found == 3 * Hint(name="middle", student_layer=("a", "b"), teacher_layer=("x", "y"))
    named = Hint(student_layer="a", teacher_layer="y")
    assert named.paired(pairs) is named


def test_nothing_to_pair_is_said_for_every_term_at_once() -> None:
    objective = Hint() + CrossEntropy() + Hint(name="second")
    with pytest.raises(InputError) as caught:
        objective.paired(lambda term: LayerPairs())
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["hint", "second"]
    assert "name them with student_layer and teacher_layer" in lines[0]


def test_auto_needs_a_teacher_with_layers() -> None:
    student, member = nn.Linear(4, 3), nn.Linear(4, 3)
    teacher = Ensemble([ModuleTeacher(member, task=Classification())])
    with pytest.raises(InputError, match=r"Ensemble has no layers to pair.*student_layer and teacher_layer"):
        Distiller(student, teacher, Hint(), example=torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("wanted", "student", "teacher", "form"),
    [
        ("any", (2, 3), (2, 5), "any"),
        ("any", (2, 3, 8, 8), (2, 5, 4, 4), "any"),
        ("any", (2, 7, 3), (2, 7, 5), "any"),
        ("any", (2, 197, 3), (2, 50, 5), "map"),
        ("any", (2, 3, 8, 8), (2, 50, 5), "map"),
        ("any", (2, 3), (2, 5, 4, 4), "any"),
        ("any", (2, 3), (2, 5, 1, 1), "vector"),
        ("vector", (2, 3), (2, 5, 4, 4), "vector"),
    ],
)
def test_two_features_are_read_in_one_form(wanted, student, teacher, form) -> None:
    assert common_form(wanted, student, teacher) == form


@pytest.mark.parametrize(
    ("form", "shape", "read"),
    [
        ("map", (2, 8, 4, 4), (2, 8, 4, 4)),
        ("map", (2, 17, 8), (2, 8, 4, 4)),
        ("map", (2, 8), (2, 8, 1, 1)),
        ("tokens", (2, 8, 4, 4), (2, 16, 8)),
        ("tokens", (2, 8), (2, 1, 8)),
        ("vector", (2, 8, 4, 4), (2, 8)),
        ("vector", (2, 17, 8), (2, 8)),
        ("first", (2, 17, 8), (2, 8)),
        ("first", (2, 8), (2, 8)),
    ],
)
def test_a_feature_is_read_as_a_form(form, shape, read) -> None:
    assert shape_read(form, shape) == read


def test_tokens_that_are_no_square_are_no_map() -> None:
    with pytest.raises(InputError, match=r"shape \(N, 31, 8\) cannot be read as a map"):
        shape_read("map", (2, 31, 8))


def test_pixels_of_patch_tokens_stay_where_they_were() -> None:
    from understudy.functional.layout import as_map, as_tokens

    feature = torch.randn(2, 3, 4, 4)
    with_class_token = torch.cat([torch.zeros(2, 1, 3), as_tokens(feature)], dim=1)
    assert torch.equal(as_map(with_class_token), feature)


def two_steps(student: nn.Module, teacher: nn.Module, method: Method) -> list[float]:
    torch.manual_seed(0)
    images, labels = torch.rand(4, 3, IMAGES, IMAGES), torch.tensor([0, 1, 2, 3])
    distiller = Distiller(student, teacher, CrossEntropy() + method, example=(images, labels))
    optimizer = torch.optim.SGD(distiller.parameters(), 1e-4)
    losses = []
    for _ in range(2):
        step = distiller((images, labels))
        optimizer.zero_grad()
        step.loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in distiller.parameters())
        optimizer.step()
        losses.append(step.terms[method.label].item())
    return losses


on_layers = pytest.mark.parametrize(
    "method",
    [m for m in METHODS if issubclass(m, FeatureMethod) and m.model_fields["kind"].default not in TRANSFORMERS_ONLY],
    ids=lambda method: method.__name__,
)


@on_layers
def test_works_from_a_resnet_to_a_mobilenet(method) -> None:
    student, teacher = torchvision.models.mobilenet_v2(num_classes=5), torchvision.models.resnet18(num_classes=5)
    assert all(torch.isfinite(torch.tensor(two_steps(student, teacher, method()))))


@on_layers
def test_works_from_a_transformer_to_a_resnet(method) -> None:
    teacher = timm.create_model("vit_tiny_patch16_224", img_size=IMAGES, num_classes=5)
    student = torchvision.models.resnet18(num_classes=5)
    assert all(torch.isfinite(torch.tensor(two_steps(student, teacher, method()))))
