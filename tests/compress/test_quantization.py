"""Numbers of eight bits: what is rounded, what is not, and which networks cannot be."""

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn

from understudy import Classification, ImageClassification, InputError
from understudy.compress import QuantizedNetwork, quantize
from understudy.compress.quantization import calibration, check_way
from understudy.edits import Quantized, QuantizedWeights
from understudy.sources import build_model
from understudy.sources.model_specs import BuiltinModel
from understudy.sources.preprocess import Preprocess, preprocess_inputs, preprocess_of

TASK = ImageClassification()
IMAGES = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def cnn(preprocess: Preprocess | None = None) -> nn.Module:
    torch.manual_seed(0)
    spec = BuiltinModel(name="cnn", arguments={"widths": [4, 6]}, preprocess=preprocess)
    return build_model(spec, classes=3, inputs=IMAGES).eval()


def rounded(network: nn.Module | None = None, **options: object) -> QuantizedNetwork:
    return quantize(network or cnn(), [IMAGES[:16], IMAGES[16:]], task=TASK, **options)


def kinds(made: QuantizedNetwork) -> set[str]:
    assert isinstance(made.edit, Quantized)
    return {quantizer.kind for quantizer in made.edit.quantizers}


@pytest.mark.e2e
def test_all_layers_are_rounded_and_the_network_itself_is_as_it_was(capfd) -> None:
    network = cnn().train()
    network.block1.norm.eval()
    before = copy.deepcopy(network.state_dict())
    randomness = torch.get_rng_state()
    made = rounded(network)
    assert made.layers == ("block1.conv", "block2.conv", "head")
    assert made.samples == len(IMAGES)
    assert torch.equal(torch.get_rng_state(), randomness)
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert made.network.training
    assert made.network.block2.norm.training
    assert not made.network.block1.norm.training, "modes are those of the network"
    assert capfd.readouterr() == ("", ""), "NNCF says nothing"


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("machine", "vnni", "highest"), [("x86_64", True, 127), ("x86_64", False, 64), ("arm64", False, 127)]
)
def test_weights_have_as_many_values_per_channel_as_are_added_exactly(monkeypatch, machine, vnni, highest) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("torch.cpu._is_vnni_supported", lambda: vnni)
    network = cnn()
    made = rounded(network).network
    seen = []
    made.get_submodule("__nncf_hooks.pre_hooks.head/linear/0__1.0").register_forward_hook(
        lambda _m, _i, output: seen.append(output.detach())
    )
    far = (made(IMAGES) - network(IMAGES)).abs().max() / network(IMAGES).std()
    (weight,) = seen
    steps = weight / (weight.abs().amax(1, keepdim=True) / highest)
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
    assert 0 < far < 0.1


@pytest.mark.e2e
def test_equal_input_gives_equal_bits_and_only_so_many_samples_count() -> None:
    network = cnn()
    one, again = rounded(network, samples=3), rounded(network, samples=3)
    assert torch.equal(one.network(IMAGES), again.network(IMAGES))
    assert one.edit == again.edit
    alone = quantize(network, [IMAGES[:3]], task=TASK)
    assert torch.equal(one.network(IMAGES), alone.network(IMAGES))
    assert not torch.equal(one.network(IMAGES), rounded(network).network(IMAGES))


@pytest.mark.e2e
def test_the_models_own_normalisation_is_inside_and_stays_in_float() -> None:
    normalisation = Preprocess(mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3))
    inside, outside = cnn(normalisation), preprocess_inputs(cnn(normalisation), None)
    ready = (IMAGES - torch.tensor(normalisation.mean).view(3, 1, 1)) / torch.tensor(normalisation.std).view(3, 1, 1)
    made = quantize(inside, [IMAGES], task=TASK)
    assert preprocess_of(made.network) == normalisation
    expected = quantize(outside, [ready], task=TASK).network(ready)
    assert torch.equal(made.network(IMAGES), expected)


@pytest.mark.e2e
def test_layers_that_are_kept_stay_in_float_also_inside_lists_of_blocks() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
    network = BertForSequenceClassification(BertConfig(**sizes, vocab_size=30, num_labels=3)).eval()
    inputs = {"input_ids": torch.randint(30, (4, 7)), "attention_mask": torch.ones(4, 7, dtype=torch.long)}
    made = quantize(network, [inputs], task=Classification(), keep=["bert.encoder.layer.1", "classifier"])
    assert "bert.encoder.layer.0.attention.self.query" in made.layers
    assert "bert.pooler.dense" in made.layers
    assert not [layer for layer in made.layers if layer.startswith(("bert.encoder.layer.1", "classifier"))]
    whole = quantize(network, [inputs], task=Classification())
    assert "bert.encoder.layer.1.attention.self.query" in whole.layers
    assert "classifier" in whole.layers


@pytest.mark.e2e
def test_activations_are_symmetric_unless_asked() -> None:
    assert kinds(rounded()) == {"SymmetricQuantizer"}
    assert "AsymmetricQuantizer" in kinds(rounded(activations="asymmetric"))


@pytest.mark.e2e
def test_a_vision_transformer_is_rounded_in_attention_too() -> None:
    import torchvision

    torch.manual_seed(0)
    sizes = {"image_size": 8, "patch_size": 4, "num_layers": 1, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    network = torchvision.models.VisionTransformer(**sizes, num_classes=3).eval()
    nn.init.normal_(network.heads.head.weight)
    made = rounded(network, samples=6)
    attention = "encoder.layers.encoder_layer_0.self_attention"
    assert {attention, f"{attention}.out_proj", "conv_proj", "heads.head"} <= set(made.layers)
    replayed = made.edit.replay(copy.deepcopy(network), None)
    replayed.load_state_dict(made.network.state_dict())
    assert torch.equal(replayed(IMAGES), made.network(IMAGES))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.middle, self.head = nn.Embedding(9, 6), nn.Linear(6, 6), nn.Linear(6, 9, bias=False)
        self.head.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.middle(self.words(tokens)).mean(1))


@pytest.mark.e2e
@pytest.mark.parametrize("mode", ["static", "weights"])
def test_tied_weights_stay_tied(mode: str) -> None:
    network, tokens = Tied().eval(), torch.randint(9, (4, 5))
    made = quantize(network, [tokens], task=Classification(), mode=mode)
    assert made.network.head.weight is made.network.words.weight
    assert {"middle", "words"} <= set(made.layers)
    replayed = made.edit.replay(Tied().eval(), None)
    replayed.load_state_dict(made.network.state_dict())
    assert replayed.head.weight is replayed.words.weight
    assert replayed.head.weight.dtype is made.network.head.weight.dtype
    assert torch.equal(replayed(tokens), made.network(tokens))


@pytest.mark.e2e
def test_weights_alone_take_a_quarter_and_answers_stay_near() -> None:
    network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).eval()
    rows = torch.randn(8, 64)
    made = quantize(network, [rows], task=Classification(), mode="weights")
    assert isinstance(made.edit, QuantizedWeights)
    weights = [parameter for name, parameter in made.network.named_parameters() if name.endswith("weight")]
    assert [weight.dtype for weight in weights] == [torch.int8, torch.int8]
    assert not any(weight.requires_grad for weight in weights)
    far = (made.network(rows) - network(rows)).abs().max() / network(rows).std()
    assert 0 < far < 0.05


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.words, self.recurrent, self.head = nn.Embedding(9, 6), kind(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.recurrent(self.words(tokens))[0][:, -1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("mode", ["static", "weights"])
def test_recurrent_layers_are_not_left_out_silently(kind: type[nn.RNNBase], mode: str) -> None:
    tokens = torch.randint(9, (4, 5))
    with pytest.raises(InputError, match=r"'recurrent' cannot be quantized in PyTorch.*as `onnx_dynamic`"):
        quantize(Recurrent(kind), [tokens], task=Classification(), mode=mode)


@pytest.mark.e2e
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_recurrent_networks_other_layers_can_be_quantized(kind: type[nn.RNNBase]) -> None:
    network, tokens = Recurrent(kind).eval(), torch.randint(9, (4, 5))
    made = quantize(network, [tokens], task=Classification(), keep=["recurrent"])
    assert made.layers == ("words", "head")
    assert made.network.recurrent.weight_ih_l0.dtype is torch.float32


@pytest.mark.e2e
def test_a_quantized_network_is_not_quantized_again() -> None:
    made = rounded()
    with pytest.raises(InputError, match="quantized already; expected the float network"):
        rounded(made.network)


def test_calibration_data_must_be_there_and_fit() -> None:
    with pytest.raises(InputError, match="the calibration set is empty"):
        quantize(cnn(), [], task=TASK)
    with pytest.raises(InputError, match="the calibration set is empty"):
        quantize(cnn(), [IMAGES[:0]], task=TASK)
    with pytest.raises(InputError, match="expected one calibration sample or more, got 0"):
        rounded(samples=0)
    with pytest.raises(InputError, match=r"of the shape \('N', 1, 8, 8\).*trained on"):
        quantize(cnn(), [IMAGES[:, :1]], task=TASK)


def test_a_layer_to_keep_must_exist() -> None:
    with pytest.raises(InputError, match=r"has no layer 'block3'; nearest: 'block2', 'block1'"):
        rounded(keep=["block3", "head"])


def test_as_many_samples_as_asked_are_taken_and_no_more_batches_are_read() -> None:
    def batches():
        yield IMAGES[:10]
        yield IMAGES[10:20]
        raise AssertionError("nobody asked for a third one")

    taken = calibration(cnn(), batches(), task=TASK, samples=13)
    assert [len(batch) for batch in taken] == [10, 3]


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, rows: Tensor) -> Tensor:
        rows = self.first(rows) if rows.sum() < 0 else self.middle(self.first(rows))
        return self.head(rows)


class Looping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, rows: Tensor) -> Tensor:
        state = rows.new_zeros(len(rows), 4)
        for step in rows.unbind(1):
            state = torch.tanh(self.cell(state + step))
        return self.head(state)


def test_a_way_that_depends_on_the_input_is_refused_with_its_layer() -> None:
    up, down = torch.ones(2, 4), -torch.ones(2, 4)
    with pytest.raises(InputError, match=r"another way for batch 2 .* from the layer 'middle' on"):
        quantize(Branching(), [up, down], task=Classification())
    with pytest.raises(InputError, match="the layer 'middle'"):
        quantize(Branching(), [down, up], task=Classification())
    lengths = [torch.randn(2, 3, 4), torch.randn(2, 5, 4)]
    with pytest.raises(InputError, match="the layer 'cell'"):
        quantize(Looping(), lengths, task=Classification())
    check_way(Branching(), [TASK.batch(up), TASK.batch(down)], keep=["middle"])


class OfFour(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return rows.view(4, 4)


@pytest.mark.e2e
def test_a_layer_that_nncf_cannot_follow_is_named() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), OfFour()), nn.Linear(4, 2)).eval()
    with pytest.raises(InputError, match=r"NNCF cannot quantize this network at the layer '1\.1': RuntimeError: shape"):
        quantize(network, [torch.randn(4, 4)], task=Classification())


def test_a_layer_in_torchscript_is_named() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = nn.Sequential(nn.Linear(4, 4), torch.jit.script(nn.Linear(4, 2)))
    with pytest.raises(InputError, match=r"the layers '1' are TorchScript.*expected modules written in Python"):
        quantize(network, [torch.randn(2, 4)], task=Classification())


@pytest.mark.e2e
def test_a_network_without_matrices_has_nothing_to_quantize() -> None:
    with pytest.raises(InputError, match="found nothing to quantize"):
        quantize(nn.Sequential(nn.BatchNorm1d(4), nn.ReLU()).eval(), [torch.randn(2, 4)], task=Classification())
