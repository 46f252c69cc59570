"""``understudy predict``."""

import io
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from understudy.cli.main import main
from understudy.cli.model_names import place_of
from understudy.sources import BuiltinModel, build_model, load_artifact, save_artifact

CLASSES = ("cat", "dog", "cow", "hen")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a run whose stage `student` left a model of images (1, 8, 8)."""
    inputs = torch.rand(2, 1, 8, 8)
    spec = BuiltinModel(name="mlp", arguments={"hidden": [6]})
    model = build_model(spec, classes=4, inputs=inputs)
    save_artifact(tmp_path / "run/stages/student/seed-0", model, spec=spec, classes=CLASSES, inputs=inputs)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(path, seed=0, size=(8, 8)):
    pixels = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def expected(pixels):
    model = load_artifact("run/stages/student/seed-0").module.eval()
    with torch.no_grad():
        shares = model(torch.from_numpy(pixels / np.float32(255))[None, None]).softmax(1)[0]
    return {label: float(share) for label, share in zip(CLASSES, shares, strict=True)}


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_each_input_has_a_line_in_order(here, capsys):
    pixels = {f"more/{name}.png": picture(here / f"more/{name}.png", seed) for seed, name in enumerate("cab")}
    pixels["first.png"] = picture(here / "first.png", 9)
    (here / "more/notes.txt").write_text("not an image")
    assert main(["predict", "run#student", "first.png", "more", "--json", "--top", "4", "--batch", "2"]) == 0
    found = lines(capsys)
    assert [line["input"] for line in found] == ["first.png", "more/a.png", "more/b.png", "more/c.png"]
    for line in found:
        shares = expected(pixels[line["input"]])
        assert {one["class"]: one["probability"] for one in line["top"]} == pytest.approx(shares, abs=1e-5)
        assert line["class"] == max(shares, key=lambda label: shares[label])
        assert line["probability"] == max(one["probability"] for one in line["top"])


def test_people_get_percent(here, capsys):
    shares = expected(picture(here / "first.png"))
    assert main(["predict", "run/stages/student/seed-0", "first.png"]) == 0
    best = sorted(shares, key=lambda label: -shares[label])[:3]
    told = ", ".join(f"{label} {100 * shares[label]:.4g} %" for label in best)
    assert capsys.readouterr().out == f"first.png: {told}\n"


def test_a_bad_input_is_named_and_the_others_are_answered(here, capsys):
    picture(here / "a.png")
    (here / "b.png").write_bytes((here / "a.png").read_bytes()[:40])
    (here / "empty").mkdir()
    np.save(here / "c.npy", np.stack([np.zeros((1, 8, 8)), np.full((1, 8, 8), np.nan), np.ones((1, 8, 8))]))
    assert main(["predict", "run#student", "a.png", "b.png", "gone.png", "empty", "c.npy", "--json"]) == 1
    captured = capsys.readouterr()
    found = [json.loads(line) for line in captured.out.splitlines()]
    assert [line["input"] for line in found] == [
        "a.png",
        "b.png",
        "gone.png",
        "empty",
        "c.npy[0]",
        "c.npy[1]",
        "c.npy[2]",
    ]
    assert ["error" in line for line in found] == [False, True, True, True, False, True, False]
    for words in ("b.png", "gone.png is not there", "empty is a folder without", "c.npy[1] holds NaN", "4 of 7 inputs"):
        assert f"Error: {words}" in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("kind", ["image", "array", "json"])
def test_stdin(here, capsys, monkeypatch, kind):
    pixels = picture(here / "a.png")
    stream = io.BytesIO()
    if kind == "image":
        stream.write((here / "a.png").read_bytes())
    elif kind == "array":
        np.save(stream, pixels)
    else:
        stream.write(json.dumps((pixels / 255).tolist()).encode())
    stream.seek(0)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
    assert main(["predict", "run#student", "-", "--json", "--top", "4"]) == 0
    (line,) = lines(capsys)
    assert line["input"] == "-"
    assert {one["class"]: one["probability"] for one in line["top"]} == pytest.approx(expected(pixels), abs=1e-5)


def test_a_stage_that_exported_is_found_too(here):
    folder = here / "run/stages/files/seed-0"
    folder.mkdir(parents=True)
    (folder / "student.onnx").write_bytes(b"")
    assert place_of("run#files") == folder.relative_to(here)
    assert place_of("run#student") == (here / "run/stages/student/seed-0").relative_to(here)


def test_what_is_no_model_ends_with_2(here, capsys):
    picture(here / "a.png")
    assert main(["predict", "run#studnt", "a.png"]) == 2
    assert main(["predict", "nowhere", "a.png"]) == 2
    captured = capsys.readouterr()
    assert "nearest: 'student'" in captured.err
    assert "there is no file or folder 'nowhere'" in captured.err
    assert captured.out == ""
