"""Files from strangers are read, or refused in words; none of them does harm."""

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from conformance.uploads import encoded, npy
from understudy.errors import InputError
from understudy.serving.uploads import MAX_PIXELS, kind_of, read_array, read_image, read_json


def huge_png(width: int, height: int) -> bytes:
    """A PNG that says to be large; there are no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b" \n[1, 2]", "json"),
        (b'{"input": 3}', "json"),
        (b"-3", "json"),
        (npy(np.zeros(2)), "array"),
        (encoded(Image.new("L", (2, 2))), "image"),
        (encoded(Image.new("L", (2, 2)), "PPM"), "image"),
        (b"", "image"),
    ],
)
def test_bytes_are_known_by_how_they_begin(data, kind):
    assert kind_of(data) == kind


@pytest.mark.parametrize("side", [8_000, 12_000, 60_000])  # above our bound, Pillow's warning and Pillow's error
def test_a_pixel_bomb_is_refused_by_its_header(side):
    with pytest.raises(InputError, match=f"photo .*pixels; expected {MAX_PIXELS:,}"):
        read_image(huge_png(side, side), whose="photo")


@pytest.mark.parametrize("format", ["EPS", "PDF", "ICO", "TGA"])
def test_formats_that_no_camera_writes_are_not_opened(format):
    with pytest.raises(InputError, match=r"photo .* is no image; expected one of JPEG"):
        read_image(encoded(Image.new("RGB", (16, 16)), format), whose="photo")


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"hello"])
def test_what_is_no_image_is_said_to_be_none(data):
    with pytest.raises(InputError, match=r"photo.* is (no|a broken) image"):
        read_image(data, whose="photo").load()


def test_grey_of_16_bits_keeps_its_range():
    pixels = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    image = read_image(encoded(Image.fromarray(pixels)), whose="photo")
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), pixels >> 8)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<i8", "|u1", "|b1", "<f2"])
def test_arrays_come_back_as_they_were(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    found = read_array(npy(array), whose="it")
    assert found.dtype.isnative
    assert np.array_equal(found, array)


def test_an_array_that_says_to_be_huge_allocates_nothing():
    data = npy(np.zeros(4)).replace(b"(4,)", b"(4" + b"0" * 11 + b",)")[:160]
    with pytest.raises(InputError, match=r"it is damaged: .* are there"):
        read_array(data, whose="it")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (npy(np.zeros(4))[:-1], "is damaged"),
        (b"\x93NUMPY\x01\x00", "is no .npy file"),
        (b"\x93NUMPY\x09\x00" + b" " * 80, "is no .npy file"),
        (npy(np.array(["a"])), "expected numbers"),
        (npy(np.array([{}], dtype=object)), "expected numbers"),
    ],
)
def test_arrays_that_cannot_be_read(data, words):
    with pytest.raises(InputError, match=words):
        read_array(data, whose="it")


@pytest.mark.parametrize("data", [b"", b"[1, NaN]", b"{", b"[" * 100_000, b"\xff\xfe", b"9" * 6000, b"[1] 2"])
def test_what_is_no_json(data):
    with pytest.raises(InputError, match="it is no JSON"):
        read_json(data, whose="it")


def test_json_is_read():
    value = {"input": [[1, 2.5], [-3e2, 0]]}
    assert read_json(json.dumps(value).encode(), whose="it") == value
