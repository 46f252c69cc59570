"""What a narrower, shallower or factorised student gets of its teacher, and what it computes with it."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn

from understudy.compress.low_rank import factorise
from understudy.errors import InputError
from understudy.tasks import Classification
from understudy.transfer import transfer_weights

TASK = Classification()
IMAGES = torch.rand(2, 3, 32, 32)


def transferred(student, teacher, example=IMAGES, **options):
    torch.manual_seed(1)
    return transfer_weights(student, teacher, example=example, task=TASK, **options)


def resnet(width: int = 16, blocks: int = 2) -> nn.Module:
    from understudy.sources import BuiltinModel, build_model

    arguments = {"widths": [width, 2 * width], "blocks": blocks}
    return build_model(BuiltinModel(name="resnet", arguments=arguments), classes=10, inputs=IMAGES)


def vit(**options) -> nn.Module:
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 6, "num_heads": 4, "num_classes": 10} | options
    return timm.create_model("vit_tiny_patch16_224", **sizes)


def bert(layers: int, width: int = 32, heads: int = 4) -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(
        BertConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=2 * width,
            vocab_size=50,
            max_position_embeddings=16,
        )
    )


@pytest.mark.parametrize("build", [resnet, vit, lambda: torchvision.models.mobilenet_v2(num_classes=10)])
def test_between_equal_networks_everything_is_copied_exactly(build) -> None:
    torch.manual_seed(0)
    teacher, student = build(), build()
    with torch.no_grad():
        teacher.train()(IMAGES)  # so that running statistics are not those of a fresh network
    before = copy.deepcopy(teacher.state_dict())
    found = transferred(student, teacher)
    assert (found.share, found.left, found.selected, found.sliced) == (1.0, {}, (), ())
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        assert torch.equal(teacher.state_dict()[name], before[name]), name
        assert tensor.data_ptr() != teacher.state_dict()[name].data_ptr()


@pytest.mark.parametrize(
    ("depth", "kept"),
    [("even", [0, 2, 5]), ("first", [0, 1, 2]), ("last", [3, 4, 5]), ({"blocks": (1, 1, 4)}, [1, 1, 4])],
)
def test_a_shallower_transformer_computes_what_the_kept_blocks_compute(depth, kept) -> None:
    torch.manual_seed(0)
    teacher, student = vit().eval(), vit(depth=3).eval()
    found = transferred(student, teacher, depth=depth)
    assert found.share == 1.0
    assert found.blocks == {"blocks": {str(place): str(number) for place, number in enumerate(kept)}}
    original = list(teacher.blocks)
    teacher.blocks = nn.Sequential(*[original[number] for number in kept])
    assert torch.equal(student(IMAGES), teacher(IMAGES))


def test_a_shallower_language_model_computes_what_the_kept_layers_compute() -> None:
    torch.manual_seed(0)
    teacher, student = bert(5).eval(), bert(2).eval()
    tokens = torch.randint(0, 50, (2, 7))
    found = transferred(student, teacher, tokens)
    assert found.blocks == {"bert.encoder.layer": {"0": "0", "1": "4"}}
    layers = teacher.bert.encoder.layer
    teacher.bert.encoder.layer = nn.ModuleList([layers[0], layers[4]])
    assert torch.equal(student(tokens).logits, teacher(tokens).logits)


def test_channels_that_nobody_needs_are_not_missed() -> None:
    """Half of the inner channels are dead: without them the narrower network computes the same."""
    torch.manual_seed(0)
    teacher = nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 8, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()
    dead = torch.tensor([0, 1, 4, 7, 8, 9, 13, 15])
    with torch.no_grad():
        teacher[0].weight[dead], teacher[0].bias[dead], teacher[1].bias[dead], teacher[1].weight[dead] = 0, 0, 0, 0
        teacher[3].weight[:, dead] = 0
    student = copy.deepcopy(teacher)
    student[0], student[1], student[3] = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3)
    found = transferred(student.eval(), teacher)
    assert set(found.selected) >= {"0.weight", "1.running_mean", "3.weight"}
    torch.testing.assert_close(student(IMAGES), teacher(IMAGES))
    first = copy.deepcopy(student)
    assert "0.weight" in transferred(first, teacher, width="first").sliced
    assert not torch.allclose(first(IMAGES), teacher(IMAGES))


def test_narrower_residual_networks_take_all_they_can() -> None:
    torch.manual_seed(0)
    found = transferred(resnet(8), resnet(16))
    assert (found.share, found.sliced, found.left) == (1.0, (), {})


def test_narrower_transformers_lose_heads_and_the_end_of_their_stream() -> None:
    torch.manual_seed(0)
    teacher, student = vit(), vit(embed_dim=24, num_heads=2)
    found = transferred(student, teacher)
    assert found.share == 1.0
    assert found.left == {}
    assert {"pos_embed", "blocks.0.attn.qkv.weight", "norm.weight", "head.weight"} <= set(found.sliced)
    assert torch.equal(student.norm.weight, teacher.norm.weight[:24])
    text = transferred(bert(2, 16, 2), bert(4), torch.randint(0, 50, (2, 7)))
    assert text.share == 1.0


def test_the_heads_of_an_attention_in_one_matrix_stay_apart() -> None:
    class Reader(nn.Module):
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.embed, self.attention = nn.Linear(3, width), nn.MultiheadAttention(width, heads, batch_first=True)
            self.head = nn.Linear(width, 2)

        def forward(self, inputs):
            tokens = self.embed(inputs)
            return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))

    teacher, student = Reader(16, 4), Reader(8, 2)
    transferred(student, teacher, torch.rand(2, 5, 3))
    whole, part = teacher.attention.in_proj_weight, student.attention.in_proj_weight
    for place in range(3):
        assert torch.equal(part[8 * place : 8 * place + 8], whole[16 * place : 16 * place + 8, :8])


def test_factors_begin_as_the_best_ones_of_the_teachers_weight() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(3072, 32), nn.ReLU(), nn.Linear(32, 4))
    student = factorise(copy.deepcopy(teacher), IMAGES, task=TASK, energy=0.6).network
    expected = copy.deepcopy(student)
    for parameter in student.parameters():
        nn.init.zeros_(parameter)
    found = transferred(student, teacher)
    assert found.factorised
    assert found.share == 1.0
    torch.testing.assert_close(student(IMAGES), expected(IMAGES))


def test_a_head_for_other_classes_is_left_alone_and_any_head_if_asked() -> None:
    teacher, student = resnet(), torch.nn.Sequential()
    from understudy.sources import BuiltinModel, build_model

    spec = BuiltinModel(name="resnet", arguments={"widths": [16, 32], "blocks": 2})
    student = build_model(spec, classes=3, inputs=IMAGES)
    found = transferred(student, teacher)
    assert found.left
    assert all("for 3 classes, the teacher's for 10" in reason for reason in found.left.values())
    assert len(transferred(resnet(), teacher, head=False).left) == 2


def test_what_a_student_has_more_of_stays_as_it_was() -> None:
    torch.manual_seed(0)
    student, teacher = resnet(16, blocks=3), resnet(16, blocks=2)
    before = copy.deepcopy(student.state_dict())
    found = transferred(student, teacher)
    assert found.left
    assert 0.3 < found.share < 1.0
    assert all(torch.equal(student.state_dict()[name], before[name]) for name in found.left)
    wider = transferred(resnet(32), resnet(16))
    assert any("its shape is" in reason for reason in wider.left.values())


def test_where_channels_belong_to_a_layer_of_ones_own_the_first_are_taken() -> None:
    class Stretching(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.factors = nn.Parameter(torch.rand(width))

        def forward(self, inputs):
            return inputs * self.factors

    def network(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(5, width), Stretching(width), nn.Linear(width, 2))

    teacher, student = network(16), network(8)
    found = transferred(student, teacher, torch.rand(2, 5))
    assert found.sliced == ("0.weight", "0.bias", "1.factors", "2.weight")
    assert torch.equal(student[1].factors, teacher[1].factors[:8])
    assert torch.equal(student[2].weight, teacher[2].weight[:, :8])


def test_where_the_graph_cannot_follow_the_first_channels_are_taken_and_it_is_said() -> None:
    class Idle(nn.Module):
        """Has a layer that does not run, of which nobody knows what it would read."""

        def __init__(self, width: int) -> None:
            super().__init__()
            self.first, self.idle, self.head = nn.Linear(5, width), nn.Linear(width, width), nn.Linear(width, 2)

        def forward(self, inputs):
            return self.head(self.first(inputs).relu())

    found = transferred(Idle(8), Idle(16), torch.rand(2, 5))
    assert "first.weight" in found.sliced
    assert "layer 'idle' (Linear) does not run" in found.told()["unfollowed"]
    assert "the first channels were taken, as layer 'idle'" in str(found)


def test_another_network_is_refused_and_nothing_changes() -> None:
    student = vit()
    before = copy.deepcopy(student.state_dict())
    with pytest.raises(InputError, match=r"0 % of the student's weights .* of 'cls_token': the teacher has none"):
        transferred(student, torchvision.models.mobilenet_v2(num_classes=10))
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        ({"block": (0, 1, 2)}, "'block', which is no row of blocks; nearest: 'blocks'"),
        ({"blocks": (0, 1)}, "expected 3 numbers, one for each block of the student, from 0 to 5"),
        ({"blocks": (0, 1, 6)}, "from 0 to 5"),
    ],
)
def test_maps_of_blocks_that_are_not_there_are_refused(depth, message) -> None:
    with pytest.raises(InputError, match=message):
        transferred(vit(depth=3), vit(), depth=depth)


def test_what_came_from_where_can_be_told() -> None:
    found = transferred(vit(depth=3), vit())
    assert str(found).startswith("100% of the weights come from the teacher (tensors: ")
    assert found.told()["share"] == 1.0
