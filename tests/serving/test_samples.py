"""What people send becomes exactly what the model saw in training, or is refused by name."""

import base64
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from conformance.uploads import encoded, npy
from understudy.errors import InputError
from understudy.runtimes import Card, FileInput, Port
from understudy.serving.expected import Expected
from understudy.serving.samples import SampleForm
from understudy.sources.artifact_record import input_shapes
from understudy.sources.data import DataSpec, load_data
from understudy.sources.loader import Loader
from understudy.tasks import ImageClassification

COLOUR = SampleForm((Expected((3, 6, 4), torch.float32),))
GREY = SampleForm((Expected((1, 6, 4), torch.float32),))
VECTOR = SampleForm((Expected((5,), torch.float32),))
TOKENS = SampleForm.of_record(
    input_shapes(
        {"input_ids": torch.ones(2, 7, dtype=torch.int64), "attention_mask": torch.ones(2, 7, dtype=torch.int64)}
    )
)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_become_bit_for_bit_what_the_data_set_gave_in_training(tmp_path, channels):
    """Other sizes, modes, formats and orientations: the same files go through `load_data` and through us."""
    turned = Image.Exif()
    turned[274] = 6
    palette = Image.fromarray(noise(9, 7, 3)).quantize(16)
    files = {
        "a.png": encoded(Image.fromarray(noise(11, 5, 3))),
        "b.png": encoded(Image.fromarray(noise(6, 4))),
        "c.jpg": encoded(Image.fromarray(noise(13, 17, 3)), "JPEG", exif=turned),
        "d.png": encoded(Image.fromarray(noise(8, 8, 4))),
        "e.png": encoded(palette, transparency=bytes(range(16))),
        "f.jpg": encoded(Image.fromarray(noise(12, 9, 4), mode=None).convert("CMYK"), "JPEG"),
        "g.png": encoded(Image.fromarray(noise(9, 9) > 99)),
        "h.png": encoded(Image.fromarray(noise(5, 6, 3)).convert("LA")),
        "i.gif": encoded(Image.fromarray(noise(5, 9, 3)), "GIF"),
        "j.webp": encoded(Image.fromarray(noise(15, 9, 3)), "WEBP"),
    }
    for label in ("one", "two"):
        for split in ("train", "test"):
            (tmp_path / split / label).mkdir(parents=True)
    for name, data in files.items():
        (tmp_path / "test" / "one" / name).write_bytes(data)
        (tmp_path / "train" / "one" / name).write_bytes(data)
        (tmp_path / "train" / "two" / name).write_bytes(data)
    (tmp_path / "test" / "two" / "z.png").write_bytes(files["a.png"])
    spec = DataSpec(source=str(tmp_path), size=(6, 4), channels=channels)
    seen = next(iter(Loader(load_data(spec, task=ImageClassification()).test, batch_size=99, shuffle=False))).inputs
    form = SampleForm.of_record(input_shapes(seen))
    for place, (name, data) in enumerate(files.items()):
        (sample,) = form.read(data, "image")
        assert torch.equal(sample, seen[place]), name


def test_a_photograph_held_upright_is_turned():
    exif = Image.Exif()
    exif[274] = 3
    plain = noise(6, 4)
    (turned,) = GREY.read(encoded(Image.fromarray(plain), exif=exif), "image")
    assert torch.equal(turned[0], torch.from_numpy(plain[::-1, ::-1] / np.float32(255)))


def test_truncated_files_and_modes_of_unknown_range_are_refused():
    whole = encoded(Image.fromarray(noise(40, 40, 3)), "JPEG")
    for size in (len(whole) // 2, len(whole) - 20):
        with pytest.raises(InputError, match="input cannot be decoded"):
            COLOUR.read(whole[:size], "image")
    deep = encoded(Image.fromarray(noise(6, 4).astype(np.uint16)), "TIFF")
    with pytest.raises(InputError, match="more than 8 bits a pixel"):
        COLOUR.read(deep, "image")


def test_pixels_in_json_and_arrays_are_those_of_the_image():
    pixels = noise(6, 4, 3)
    (of_image,) = COLOUR.read(encoded(Image.fromarray(pixels)), "image")
    (of_bytes,) = COLOUR.read(npy(pixels), "array")
    (of_floats,) = COLOUR.read(npy((pixels / 255).transpose(2, 0, 1)), "array")
    (of_json,) = COLOUR.of_json((pixels / 255).tolist())
    (of_text,) = COLOUR.of_json(base64.b64encode(encoded(Image.fromarray(pixels))).decode())
    assert torch.equal(of_image, of_bytes)
    assert torch.equal(of_image, of_text)
    assert torch.allclose(of_image, of_floats)
    assert torch.allclose(of_image, of_json)
    assert len(GREY.read(npy(noise(7, 1, 6, 4)), "array")) == 7


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ([1, 2, 3, 4, 5], 1),
        ([[1, 2, 3, 4, 5]] * 3, 3),
        ({"input": [1.5, 2, 3, 4, 5]}, 1),
        ({"inputs": [[1, 2, 3, 4, 5]] * 2}, 2),
        ([True, False, True, False, True], 1),
    ],
)
def test_vectors_come_alone_or_in_a_row(value, count):
    samples = VECTOR.of_json(value)
    assert len(samples) == count
    assert all(sample.shape == (5,) and sample.dtype == torch.float32 for sample in samples)


@pytest.mark.parametrize(
    ("form", "value", "words"),
    [
        (VECTOR, [1, 2, 3], r"input has shape \(3,\); the model takes 5 float32"),
        (VECTOR, [[1, 2, 3, 4, 5], [1, 2, 3, 4]], r"input\[1\] has shape \(4,\)"),
        (VECTOR, [[1, 2], [3, [4]]], r"input\[0\] has shape"),
        (VECTOR, [1, 2, [3], 4, 5], "parts of different lengths"),
        (VECTOR, [1, 2, 3, 4, "5"], "holds text"),
        (VECTOR, [1, 2, 3, 4, None], "other things than numbers"),
        (VECTOR, [1, 2, 3, 4, 1e39], "holds NaN, infinity, or numbers too large"),
        (VECTOR, [1, 2, 3, 4, 10**40], "other things than numbers"),
        (VECTOR, "aGk=", "takes no images but 5 float32"),
        (VECTOR, "not base64!", "no image in base64"),
        (VECTOR, {"inputs": []}, 'no list of samples under "inputs"'),
        (VECTOR, {"x": 3}, "other things than numbers"),
        (VECTOR, [], r"has shape \(0,\)"),
        (VECTOR, 3.5, r"has shape \(\)"),
        (COLOUR, noise(3, 6, 4).tolist(), "pixels in .0, 1., so divide bytes by 255"),
        (COLOUR, noise(5, 5).tolist(), r"has shape \(1, 5, 5\); the model takes 3 × 6 × 4 float32"),
        (TOKENS, {"input_ids": [1]}, "holds 'input_ids'; the model takes 'input_ids' .7 int64., 'attention_mask'"),
        (TOKENS, {"input_ids": [1.5], "attention_mask": [1]}, "input.input_ids holds float64; .* whole numbers"),
        (TOKENS, {"input_ids": [1] * 8, "attention_mask": [1] * 8}, r"input.input_ids has shape \(8,\)"),
        (TOKENS, {"input_ids": [2**63], "attention_mask": [1]}, "9223372036854775808, a number too large"),
        (TOKENS, [3], r"input\[0\] holds int; the model takes"),
        (TOKENS, [], "holds list"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(form, value, words):
    with pytest.raises(InputError, match=words):
        form.of_json(value)


def test_tokens_may_be_fewer_and_are_taken_by_name():
    samples = TOKENS.of_json([{"input_ids": [3, 1, 2], "attention_mask": [1, 1, 0]}] * 2)
    batch = TOKENS.batch(samples)
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == {
        "input_ids": (2, 3),
        "attention_mask": (2, 3),
    }
    assert batch["input_ids"].dtype == torch.int64
    with pytest.raises(InputError, match="input is one image; the model takes 'input_ids'"):
        TOKENS.read(encoded(Image.new("L", (2, 2))), "image")


def test_inputs_by_position():
    form = SampleForm.of_record(input_shapes((torch.ones(2, 3), torch.ones(2, 2))))
    (sample,) = form.of_json([[1, 2, 3], [4, 5]])
    assert [tensor.tolist() for tensor in sample] == [[1, 2, 3], [4, 5]]
    assert [tuple(tensor.shape) for tensor in form.batch([sample, sample])] == [(2, 3), (2, 2)]
    with pytest.raises(InputError, match=r"input\[1\] has shape \(3,\)"):
        form.of_json([[1, 2, 3], [4, 5, 6]])


def test_a_file_says_what_goes_in():
    card = Card(
        understudy="1",
        task="image_classification",
        classes=("a", "b"),
        inputs=(FileInput(name="images", shape=(1, 6, 4), dtype="float32"),),
    )
    with pytest.raises(InputError, match=r"values from -1 to 0.5; the model takes pixels"):
        SampleForm.of_card(card).of_json(np.linspace(-1, 0.5, 24).reshape(1, 6, 4).tolist())
    ports = (Port("x", "tensor(float)", (None, 3, None)), Port("n", "tensor(int64)", (None,)))
    (sample,) = SampleForm.of_ports(ports).of_json({"x": [[1, 2]] * 3, "n": 4})
    assert (sample["x"].shape, sample["n"].shape) == ((3, 2), ())
    with pytest.raises(InputError, match="does not say what goes in"):
        SampleForm.of_ports((Port("x", "tensor(string)", (None,)),))


def test_what_may_take_long_is_known_before_it_is_read():
    form = SampleForm((Expected((3, 8, 8), torch.float32),))
    small, large = (encoded(Image.new("RGB", (side, side))) for side in (32, 2000))
    assert len(large) < 2**16  # few bytes, many pixels
    assert [piece.pixels for data in (small, large) for piece in form.pieces(data, "image")] == [32**2, 2000**2]
    text = json.dumps(base64.b64encode(small).decode()).encode()
    assert [piece.pixels for piece in form.pieces(text, "json")] == [math.inf]
    assert [piece.pixels for piece in form.pieces(json.dumps([[[0.5] * 8] * 8] * 3).encode(), "json")] == [0]
