"""Channels and heads are really taken out, the right ones, and what cannot lose any says so."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from understudy import Classification, InputError, Target, UnmetTargetError, prune
from understudy.measure import macs
from understudy.sources import Preprocess, preprocess_inputs, preprocess_of
from understudy.sources.forward import evaluating

TASK = Classification()
IMAGES = torch.rand(4, 3, 8, 8)
VECTORS = torch.rand(4, 16)


class Block(nn.Module):
    """A residual block with batch normalisation and a depthwise convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.last = nn.Conv2d(width, width, 1)

    def forward(self, inputs):
        return inputs + self.last(self.depthwise(self.first(inputs)))


def convolutional(width: int = 16) -> nn.Module:
    network = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), Block(width), nn.Flatten(),
        nn.Linear(width * 64, 12), nn.ReLU(), nn.Linear(12, 5),
    )  # fmt: skip
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 2.0)
    return network.eval()


class Attention(nn.Module):
    """Attention as timm writes it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, width // heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, inputs):
        batch, tokens, _ = inputs.shape
        parts = self.qkv(inputs).reshape(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        answer = nn.functional.scaled_dot_product_attention(*parts.unbind(0))
        return self.proj(answer.transpose(1, 2).reshape(batch, tokens, -1))


class Transformer(nn.Module):
    def __init__(self, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.inner = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))
        self.head = nn.Linear(width, 5)

    def forward(self, tokens):
        tokens = tokens + self.attention(self.norm(tokens))
        return self.head((tokens + self.inner(tokens)).mean(1))


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5))


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("kind", ["macs", "params"])
def test_a_share_of_the_cost_is_met_and_not_by_far_more_than_asked(kind, scope) -> None:
    network = convolutional()
    before = copy.deepcopy(network.state_dict())
    pruned = prune(network, IMAGES, task=TASK, target=Target.model_validate({kind: 0.5}), scope=scope, tolerance=0.05)
    name = "parameters" if kind == "params" else kind
    share = getattr(pruned.after, name) / getattr(pruned.before, name)
    assert 0.4 < share <= 0.5
    assert pruned.reached == (getattr(pruned.before, name), getattr(pruned.after, name))
    assert pruned.after.size_bytes < pruned.before.size_bytes
    assert pruned.after.parameters == sum(each.numel() for each in pruned.network.parameters())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items()), "the model was changed"
    for batch in (1, 7):
        assert pruned.network(torch.rand(batch, 3, 8, 8)).shape == (batch, 5)
    assert pruned.left == {"7": "it gives the network's output"}


def test_the_tolerance_says_when_to_stop_looking() -> None:
    costs = [
        prune(perceptron(), VECTORS, task=TASK, target=Target(macs=0.5), tolerance=tolerance).after.macs
        for tolerance in (0.0, 1.0)
    ]
    assert costs[0] > costs[1]


def test_what_is_left_is_what_the_network_was_without_the_channels() -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        network[0].weight[[1, 4]] *= 0.01  # the least important ones
        network[2].weight[:, [1, 4]] *= 0.01
    pruned = prune(network, torch.rand(2, 4), task=TASK, target=Target(channels=4 / 6))
    kept = [0, 2, 3, 5]
    assert torch.equal(pruned.network[0].weight, network[0].weight[kept])
    assert torch.equal(pruned.network[2].weight, network[2].weight[:, kept])
    assert (pruned.widths, pruned.channels) == ({"0": (6, 4)}, pytest.approx(4 / 6))


def test_the_least_important_head_goes_first_and_the_stream_keeps_its_width() -> None:
    network = Transformer()
    with torch.no_grad():
        for row in range(3):
            network.attention.qkv.weight[16 * row + 8 : 16 * row + 12] *= 0.1  # of the third of four heads
        network.attention.proj.weight[:, 8:12] *= 0.1
    example = torch.rand(2, 6, 16)
    pruned = prune(network, example, task=TASK, target=Target(macs=0.8), scope="layer")
    attention = pruned.network.attention
    assert (attention.num_heads, attention.qkv.out_features, attention.proj.in_features) == (3, 36, 12)
    kept = [*range(8), *range(12, 16)]
    assert torch.equal(attention.proj.weight, network.attention.proj.weight[:, kept])
    assert torch.equal(
        attention.qkv.weight, network.attention.qkv.weight[[16 * row + each for row in range(3) for each in kept]]
    )
    assert attention.proj.out_features == pruned.network.head.in_features == 16
    assert pruned.widths["attention"] == (4, 3)
    assert "keeps its width" in pruned.left["attention.proj"]


def test_layers_keep_a_share_a_multiple_and_what_is_named() -> None:
    pruned = prune(convolutional(), IMAGES, task=TASK, target=Target(macs=0.6), least=0.4, keep=["3.first"], multiple=4)
    assert "3.first.0" not in pruned.widths
    assert pruned.left["3.first.0"] == "it is kept, as asked"
    for wide, narrow in pruned.widths.values():
        assert narrow >= 0.4 * wide
        assert narrow % 4 == 0


def test_groups_of_channels_stay_equally_large() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.GroupNorm(4, 16), nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip
    pruned = prune(network, IMAGES, task=TASK, target=Target(macs=0.5))
    assert pruned.network[0].out_channels % 4 == pruned.network[2].out_channels % 4 == 0
    assert pruned.network[2].groups == 4
    assert pruned.after.macs <= 0.5 * pruned.before.macs


@pytest.mark.parametrize("importance", ["taylor", "hessian"])
def test_what_the_loss_does_not_depend_on_goes_first(importance) -> None:
    """Large weights that read a unit which is never on: magnitude keeps them, the loss does not."""
    network = perceptron()
    with torch.no_grad():
        network[2].weight[:8] *= 5
        network[2].bias[:8] = -1000.0
    target, batches = Target(channels=0.8), [(VECTORS, torch.arange(4)), (torch.rand(3, 16), torch.arange(3))]
    seen = prune(network, VECTORS, task=TASK, target=target, importance=importance, loader=batches, keep=["0"])
    assert seen.network[2].bias.min() > -1000.0 or (seen.network[2].bias < -100).sum() <= 2
    unseen = prune(network, VECTORS, task=TASK, target=target, keep=["0"])
    assert (unseen.network[2].bias < -100).sum() == 8


def test_hessian_squares_the_gradient_of_each_sample() -> None:
    """Two samples whose gradients cancel: to first order nothing matters, to second order it does."""
    from understudy.compress.importance import scores_of

    network = nn.Sequential(nn.Linear(1, 3, bias=False), nn.Linear(3, 2, bias=False))
    inputs, targets = torch.tensor([[1.0], [-1.0], [0.5]]), torch.tensor([0, 0, 1])
    scores_of("hessian", network, TASK, [(inputs, targets)])
    expected = torch.zeros(3, 1)
    for sample in range(3):
        loss = nn.functional.cross_entropy(network(inputs[sample : sample + 1]), targets[sample : sample + 1])
        expected += torch.autograd.grad(loss, network[0].weight)[0] ** 2 / 3
    torch.testing.assert_close(network[0].weight.grad, expected)


def test_bn_scale_takes_channels_that_are_scaled_down() -> None:
    network = convolutional()
    with torch.no_grad():
        network[3].first[1].weight[:4] = 1e-3
    pruned = prune(network, IMAGES, task=TASK, target=Target(channels=0.87), importance="bn_scale")
    assert pruned.network[3].first[1].weight.min() > 1e-2
    with pytest.raises(InputError, match="Sequential has none; use magnitude or taylor"):
        prune(perceptron(), VECTORS, task=TASK, target=Target(macs=0.5), importance="bn_scale")


def test_a_time_is_measured_with_what_is_given() -> None:
    asked: list[int] = []

    def milliseconds(network: nn.Module) -> float:
        asked.append(macs(network, VECTORS))
        return asked[-1] / 100

    whole = macs(perceptron(), VECTORS) / 100
    by_time = prune(perceptron(), VECTORS, task=TASK, target=Target(latency_ms=whole * 0.6), measure=milliseconds)
    by_share = prune(perceptron(), VECTORS, task=TASK, target=Target(latency=0.6), measure=milliseconds)
    for pruned in (by_time, by_share):
        assert 0.5 * whole < pruned.reached[1] <= 0.6 * whole
        assert pruned.reached == (whole, pruned.after.macs / 100)
    assert len(asked) < 40
    real = prune(convolutional(48), IMAGES, task=TASK, target=Target(latency_ms=1e4))
    assert real.widths == {}
    assert 0 < real.reached[0] == real.reached[1]


def test_modes_frozen_weights_and_the_normalisation_stay_as_they_were() -> None:
    network = preprocess_inputs(convolutional().train(), Preprocess(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1)))
    network[3].eval()
    network[0].requires_grad_(False)
    with torch.no_grad():
        pruned = prune(network, IMAGES, task=TASK, target=Target(macs=0.5)).network
    assert preprocess_of(pruned) == preprocess_of(network)
    assert [each.training for each in pruned.modules()] == [each.training for each in network.modules()]
    assert [each.requires_grad for each in pruned.parameters()] == [each.requires_grad for each in network.parameters()]
    assert all(each.grad is None for each in pruned.parameters())
    bare = preprocess_inputs(copy.deepcopy(pruned), None)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1)))
    with evaluating(pruned), evaluating(bare):
        torch.testing.assert_close(pruned(IMAGES), bare((IMAGES - mean) / std))


def test_more_is_always_taken_out_of_what_was_left() -> None:
    first = perceptron()
    found = [prune(first, VECTORS, task=TASK, target=Target(channels=share)).network for share in (0.8, 0.5, 0.2)]
    rows = [{tuple(row.tolist()) for row in network[0].weight} for network in found]
    assert all(fewer < more for more, fewer in pairwise(rows))


def test_the_edit_makes_the_same_network_again() -> None:
    network = convolutional()
    pruned = prune(network, IMAGES, task=TASK, target=Target(params=0.4))
    again = pruned.edit.replay(copy.deepcopy(network), IMAGES)
    again.load_state_dict(pruned.network.state_dict())
    assert torch.equal(again(IMAGES), pruned.network(IMAGES))


class Shuffled(nn.Module):
    """Reads its channels backwards, as no dependency graph knows: nothing fails, the answers are others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 5)

    def forward(self, inputs):
        hidden = self.first(inputs).relu()
        return self.head(self.second(hidden.flip(1)).relu())


class Fixed(Shuffled):
    """Knows how wide its layer is."""

    def forward(self, inputs):
        return self.head(self.second(self.first(inputs).view(-1, 2, 16).flatten(1).relu()).relu())


class Stretching(nn.Module):
    """A layer of one's own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.rand(width))

    def forward(self, inputs):
        return inputs * self.factors


@pytest.mark.parametrize("network", [Shuffled(), Fixed()], ids=["reordered", "fixed"])
def test_a_use_of_channels_that_cannot_be_followed_names_the_layer(network) -> None:
    with pytest.raises(
        InputError, match=rf"what {type(network).__name__} does with the outputs of its layer 'first'.*keep"
    ):
        prune(network, VECTORS, task=TASK, target=Target(macs=0.5))
    kept = prune(network, VECTORS, task=TASK, target=Target(macs=0.8), keep=["first"])
    assert kept.widths == {"second": (16, kept.network.second.out_features)}


def test_a_layer_of_ones_own_leaves_its_inputs_whole() -> None:
    network = nn.Sequential(nn.Linear(16, 32), Stretching(32), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5))
    pruned = prune(network, VECTORS, task=TASK, target=Target(macs=0.6))
    assert list(pruned.widths) == ["2"]
    assert pruned.left["0"] == "the weight '1.factors' belongs to no layer that Torch-Pruning knows"
    with pytest.raises(InputError, match=r"has nothing to prune.*'0': the weight '1\.factors' belongs to no layer"):
        prune(network, VECTORS, task=TASK, target=Target(macs=0.6), keep=["2"])


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.rare, self.head = nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(32, 5)

    def forward(self, inputs):
        hidden = self.first(inputs).relu()
        return self.head(self.rare(hidden) if inputs.min() < -100 else hidden)


def test_a_branch_that_the_example_does_not_take_is_named() -> None:
    with pytest.raises(InputError, match=r"layer 'rare' \(Linear\) does not run for the example.*keep: \[rare\]"):
        prune(Branching(), VECTORS, task=TASK, target=Target(macs=0.5))
    assert prune(Branching(), VECTORS, task=TASK, target=Target(macs=0.5), keep=["rare"]).widths


class Splitting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4 * 64, 5)

    def forward(self, inputs):
        maps = self.first(inputs)
        mixed = maps.view(len(maps), 2, 2, 8, 8).transpose(1, 2).reshape(len(maps), 4, 8, 8)
        return self.head(mixed.flatten(1))


def test_channels_that_are_reshaped_away_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="'first'"):
        prune(Splitting(), IMAGES, task=TASK, target=Target(macs=0.5))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.second = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 24)
        self.head = nn.Linear(24, 5)
        self.again.weight = self.first.weight

    def forward(self, inputs):
        return self.head(self.second(self.again(self.first(inputs).relu()).relu()).relu())


def test_shared_weights_stay_whole_and_the_error_says_so() -> None:
    pruned = prune(Tied(), VECTORS, task=TASK, target=Target(macs=0.8))
    assert list(pruned.widths) == ["second"]
    assert pruned.network.first.weight is pruned.network.again.weight
    with pytest.raises(UnmetTargetError, match=r"shares its weights with '(first|again)'"):
        prune(Tied(), VECTORS, task=TASK, target=Target(macs=0.2))


def test_torchs_own_attention_says_that_it_cannot_lose_heads() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = layer, nn.Linear(16, 5)

        def forward(self, tokens):
            return self.head(self.layer(tokens).mean(1))

    pruned = prune(Encoder(), torch.rand(2, 6, 16), task=TASK, target=Target(macs=0.8))
    assert list(pruned.widths) == ["layer.linear1"]
    with pytest.raises(UnmetTargetError, match=r"nn\.MultiheadAttention, which cannot lose heads or width"):
        prune(Encoder(), torch.rand(2, 6, 16), task=TASK, target=Target(macs=0.2))


def test_a_target_that_cannot_be_met_has_the_closest_network_with_it() -> None:
    with pytest.raises(
        UnmetTargetError, match=r"target macs 0\.001 cannot be met.*the closest is .* Ask for macs: 0\.\d+ or"
    ) as caught:
        prune(perceptron(), VECTORS, task=TASK, target=Target(macs=0.001))
    closest = caught.value.closest
    assert closest.network(VECTORS).shape == (4, 5)
    asked = float(str(caught.value).split("Ask for macs: ")[1].split(" ")[0])
    torch.manual_seed(0)
    possible = prune(perceptron(), VECTORS, task=TASK, target=Target(macs=asked))
    assert possible.after.macs <= asked * possible.before.macs
    with pytest.raises(UnmetTargetError, match=r"expected at most 1e-06 ms, the closest is .* Ask for latency_ms"):
        prune(perceptron(), VECTORS, task=TASK, target=Target(latency_ms=1e-6), measure=lambda _: 2.0)
    with pytest.raises(UnmetTargetError, match=r"expected at most a share of 0\.01, the closest is 0\.1"):
        prune(perceptron(), VECTORS, task=TASK, target=Target(channels=0.01))


def test_wrong_input_is_refused() -> None:
    network, half = perceptron(), Target(macs=0.5)
    with pytest.raises(InputError, match=r"cannot be called with the example \(shape \(2, 7\)\)"):
        prune(network, torch.rand(4, 7), task=TASK, target=half)
    with pytest.raises(InputError, match="the network has no layer 'frist'"):
        prune(network, VECTORS, task=TASK, target=half, keep=["frist"])
    with pytest.raises(InputError, match="nothing to prune; what has to stay: '0': it gives the network's output"):
        prune(nn.Sequential(nn.Linear(16, 5)), VECTORS, task=TASK, target=half)
    with pytest.raises(InputError, match="taylor looks at labelled samples"):
        prune(network, VECTORS, task=TASK, target=half, importance="taylor")
    with pytest.raises(InputError, match="the loader gives inputs without labels"):
        prune(network, VECTORS, task=TASK, target=half, importance="taylor", loader=[VECTORS])
    with pytest.raises(InputError, match="the loader gives none"):
        prune(network, VECTORS, task=TASK, target=half, importance="hessian", loader=[])
    with pytest.raises(InputError, match=r"understudy\.sparsify"):
        prune(network, VECTORS, task=TASK, target=Target(sparsity=0.5))


@pytest.mark.parametrize("values", [{"macs": 1.5}, {"macs": 0}, {"latency_ms": -1}, {}, {"macs": 0.5, "params": 0.5}])
def test_a_target_is_one_possible_value(values) -> None:
    with pytest.raises(ValueError, match=r"less than 1|greater than 0|expected one of macs, params, latency"):
        Target.model_validate(values)
