import pytest
import torch
from torchvision.models import resnet18

from understudy.measure import cost
from understudy.sources import BuiltinModel, build_model, describe

IMAGES = torch.rand(2, 3, 32, 32)


def residual(**arguments) -> torch.nn.Module:
    return build_model(BuiltinModel(name="resnet", arguments=arguments), classes=10, inputs=IMAGES).eval()


def test_the_usual_resnet_computes_what_torchvisions_does_with_a_small_stem() -> None:
    own, theirs = residual(), resnet18(num_classes=10)
    theirs.conv1 = torch.nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    theirs.maxpool = torch.nn.Identity()
    # Both list their weights in the order in which they compute, the shortcuts last.
    given = list(own.state_dict().values())
    theirs.load_state_dict(dict(zip(theirs.state_dict(), given, strict=True)))
    torch.testing.assert_close(own(IMAGES), theirs.eval()(IMAGES))


def test_a_narrow_one_of_three_stages_is_resnet20() -> None:
    network = residual(widths=[16, 32, 64], blocks=3)
    assert sum(isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (3, 3) for layer in network.modules()) == 19
    assert cost(network, IMAGES).macs == pytest.approx(41e6, rel=0.02)  # the paper's table 6 has 0.27 M parameters
    assert cost(network, IMAGES).parameters == pytest.approx(0.27e6, rel=0.03)


@pytest.mark.parametrize("size", [1, 7, 32])
def test_images_may_have_any_size(size: int) -> None:
    network = residual(widths=[4, 8], blocks=1)
    assert network(torch.rand(2, 3, size, size)).shape == (2, 10)


def test_its_weights_start_so_that_the_signal_keeps_its_size() -> None:
    torch.manual_seed(0)
    weight = residual(widths=[64])[0][0].conv.weight
    assert float(weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("mlp", {"hidden": [800, 800]}, "mlp 800-800"),
        ("mlp", {"hidden": []}, "mlp linear"),
        ("cnn", {"widths": [8]}, "cnn 8"),
        ("resnet", {}, "resnet 64-128-256-512, 2 blocks each"),
        ("resnet", {"widths": [16, 32], "blocks": 3}, "resnet 16-32, 3 blocks each"),
    ],
)
def test_a_report_tells_its_sizes(name: str, arguments: dict, words: str) -> None:
    assert describe(BuiltinModel(name=name, arguments=arguments)) == words
