"""The generator's network: any size of image, values in [0, 1], nothing but weights."""

import pytest
import torch
from PIL import Image

from understudy import InputError
from understudy.sources.generator import image_generator, image_shape, save_grid


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 13), (1, 28, 28), (2, 31, 8)])
@pytest.mark.parametrize("widths", [(6,), (8, 4), (8, 6, 4)])
def test_it_makes_images_of_any_size(shape, widths) -> None:
    network = image_generator(5, shape, widths=widths)
    images = network(torch.randn(7, 5))
    assert images.shape == (7, *shape)
    assert images.min() >= 0.0
    assert images.max() <= 1.0
    assert images.std() > 0.05
    assert [name for name, _ in network.named_buffers()] == []
    assert [name for name, _ in network.named_children()][-1] == "paint"


def test_train_and_eval_mode_are_the_same() -> None:
    network, noise = image_generator(5, (1, 8, 8), widths=(4,)), torch.randn(6, 5)
    torch.testing.assert_close(network.eval()(noise), network.train()(noise))


@pytest.mark.parametrize("inputs", [torch.zeros(4, 64), torch.zeros(4, 1, 8, 7), torch.zeros(4, 8, 8), {"x": 1}])
def test_other_inputs_are_refused(inputs) -> None:
    with pytest.raises(InputError, match=r"a generator makes images .* 8×8 pixels or more"):
        image_shape(inputs)
    assert image_shape(torch.zeros(4, 3, 8, 9)) == (3, 8, 9)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB")])
def test_a_grid_shows_each_image_in_its_place(tmp_path, channels, mode) -> None:
    images = torch.zeros(6, channels, 8, 8)
    images[4] = 1.0  # the second in the second of two rows
    images[4, :, 0, 0] = 0.5
    save_grid(images, tmp_path / "inner" / "grid.png", columns=3)
    with Image.open(tmp_path / "inner" / "grid.png") as grid:
        assert grid.mode == mode
        assert grid.size == (3 * 34, 2 * 34)  # enlarged four times, with a gap of two
        pixels = torch.tensor(list(grid.convert("L").get_flattened_data())).reshape(68, 102)
    assert pixels[34, 34] == 128
    assert pixels[40, 40] == 255
    assert pixels[:32, :32].max() == 0
    assert pixels[33, 10] == 255
