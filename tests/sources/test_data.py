"""Data sets from real files in every form that is read, and what is said about those that cannot be."""

import csv
import json
import time

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from understudy.batch import IGNORE_INDEX
from understudy.errors import InputError
from understudy.sources.data import DataSpec, load_data
from understudy.sources.images import LazyImages
from understudy.tasks import Classification, ImageClassification

IMAGES = ImageClassification()
VECTORS = Classification()


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def image_folder(root, *, splits=("train", "test"), classes=("cat", "dog"), count=6, size=(8, 6)):
    for split in splits:
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = noise(*size, seed=hash_of(split, label, number))
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def hash_of(split, label, number):
    return len(split) * 1000 + label * 100 + number


def write_csv(path, rows, header=("height", "width", "label")):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return str(path)


def rows_of(count, classes=2):
    return [(number, number * 2.5, number % classes) for number in range(count)]


# What is read


def test_digits_come_without_a_download():
    data = load_data(DataSpec(source="sklearn/digits"), task=IMAGES)
    assert data.train.shape == (1, 8, 8)
    assert data.train.inputs.dtype == torch.uint8
    assert data.train.inputs.max() == 255
    assert [len(data.train), len(data.validation), len(data.test)] == [1294, 144, 359]
    assert data.classes == tuple("0123456789")
    assert data.train.labelled == len(data.train)


def test_a_folder_of_images(tmp_path):
    data = load_data(DataSpec(source=str(image_folder(tmp_path / "pets")), carve=2), task=IMAGES)
    assert data.classes == ("cat", "dog")
    assert data.train.inputs.shape == (10, 1, 8, 6)
    assert [split.name for split in (data.train, data.validation, data.test)] == ["train", "validation", "test"]
    assert data.validation.targets.tolist() == [0, 1]
    for label, number in ((0, 0), (1, 5)):
        sample = 12 + label * 6 + number  # ids go on from split to split
        expected = noise(8, 6, seed=hash_of("test", label, number))
        assert np.array_equal(np.asarray(data.test.preview(sample)), expected)
        assert data.test.targets[sample - 12] == label


def test_notes_beside_the_data_are_no_data(tmp_path):
    pets = image_folder(tmp_path / "pets")
    (pets / "LICENSE.txt").write_text("do what you like")
    assert load_data(DataSpec(source=str(pets), carve=2), task=IMAGES).classes == ("cat", "dog")
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "train.csv").write_text("width,height,label\n" + "1,2,0\n3,4,1\n" * 20)
    (tmp_path / "table" / "README.txt").write_text("two columns")
    assert load_data(DataSpec(source=str(tmp_path / "table")), task=VECTORS).train.shape == (2,)


@pytest.mark.e2e
def test_real_digits_are_decoded_once(shared_data):
    spec = DataSpec(source=str(shared_data / "mnist"))
    data = load_data(spec, task=IMAGES)
    assert data.train.shape == (1, 28, 28)
    assert [len(data.train), len(data.validation), len(data.test)] == [54_000, 6_000, 10_000]
    labels = torch.cat([data.train.targets, data.validation.targets])
    assert torch.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    source = datasets.load_dataset(str(shared_data / "mnist"))
    for split, index in (("train", 0), ("train", 59_999), ("test", 5_000)):
        sample = index + 60_000 * (split == "test")
        part = next(part for part in (data.train, data.validation, data.test) if sample in part.ids)
        assert np.array_equal(np.asarray(source[split][index]["image"]), np.asarray(part.preview(sample)))
    start = time.process_time()
    again = load_data(spec, task=IMAGES)
    assert time.process_time() - start < 1.5  # decoding takes more; reading takes 0.3
    assert again.fingerprint == data.fingerprint


def test_colour_and_resizing_and_grey(tmp_path):
    folder = tmp_path / "pets" / "train"
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        Image.fromarray(np.full((6, 4, 3), (255, 0, 0), np.uint8)).save(folder / label / "0.png")
        Image.fromarray(np.full((9, 9, 4), 128, np.uint8), "RGBA").save(folder / label / "1.png")
    spec = DataSpec(source=str(tmp_path / "pets"), size=(3, 5), channels=3, carve=2, carve_test=0.2)
    with pytest.raises(InputError, match="takes all labelled samples"):
        load_data(spec, task=IMAGES)
    for label in ("a", "b"):
        for number in (2, 3):
            Image.fromarray(np.full((7, 7), 9, np.uint8)).save(folder / label / f"{number}.png")
    data = load_data(spec, task=IMAGES)
    parts = (data.train, data.validation, data.test)
    red = next(part for part in parts if 0 in part.ids)
    assert red.preview(0).getpixel((0, 0)) == (255, 0, 0)
    assert red.shape == (3, 3, 5)
    grey = load_data(spec.model_copy(update={"channels": 1}), task=IMAGES)
    assert grey.train.shape == (1, 3, 5)


def test_photos_are_turned_as_their_camera_says(tmp_path):
    folder = tmp_path / "photos" / "train"
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for number in range(3):
            exif = Image.Exif()
            exif[274] = 6
            Image.fromarray(np.zeros((4, 8, 3), np.uint8)).save(folder / label / f"{number}.jpg", exif=exif)
    spec = DataSpec(source=str(tmp_path / "photos"), carve=2, carve_test=2)
    assert load_data(spec, task=IMAGES).train.shape == (3, 8, 4)
    assert load_data(spec, task=IMAGES, memory_bytes=1).train.shape == (3, 8, 4)


def test_columns_of_numbers_become_vectors(tmp_path):
    source = write_csv(tmp_path / "table.csv", rows_of(40, classes=4))
    data = load_data(DataSpec(source=source), task=VECTORS)
    assert data.train.shape == (2,)
    assert data.train.inputs.dtype == torch.float32
    assert torch.equal(data.train.inputs[:, 0].long(), data.train.ids)
    assert torch.equal(data.train.inputs[:, 1], data.train.ids * 2.5)
    assert torch.equal(data.train.targets, data.train.ids % 4)
    assert data.train.preview(int(data.train.ids[0])) is None
    one = load_data(DataSpec(source=source, inputs=("width",)), task=VECTORS)
    assert one.train.shape == (1,)


def test_lists_of_numbers_and_names_of_classes(tmp_path):
    lines = [{"x": [number, 1.0], "y": ["no", "yes"][number % 2]} for number in range(20)]
    lines[3]["y"] = None
    path = tmp_path / "table.json"
    path.write_text("\n".join(map(json.dumps, lines)))
    data = load_data(DataSpec(source=str(path)), task=VECTORS)
    assert data.classes == ("no", "yes")
    assert data.train.targets[data.train.ids == 3].tolist() == [IGNORE_INDEX]
    assert data.train.labelled == len(data.train) - 1
    turned = load_data(DataSpec(source=str(path), classes=("yes", "no")), task=VECTORS)
    assert torch.equal(turned.test.ids % 2, 1 - turned.test.targets)


@pytest.mark.parametrize("style", ["keras", "medmnist", "plain"])
def test_numpy_archives(tmp_path, style):
    x, y = noise(30, 5, 5, 3), np.arange(30) % 3
    arrays = {
        "keras": {"x_train": x, "y_train": y, "x_test": x, "y_test": y},
        "medmnist": {
            f"{s}_{k}": v for s in ("train", "val", "test") for k, v in (("images", x), ("labels", y[:, None]))
        },
        "plain": {"x": x, "y": y, "classes": np.array(["a", "b", "c"])},
    }[style]
    np.savez(tmp_path / "set.npz", **arrays)
    data = load_data(DataSpec(source=str(tmp_path / "set.npz")), task=IMAGES)
    assert data.train.shape == (3, 5, 5)
    assert len(data.train) == {"keras": 27, "medmnist": 30, "plain": 21}[style]
    first = int(data.train.ids[0])
    assert np.array_equal(data.train.inputs[0].permute(1, 2, 0).numpy(), x[first])
    assert data.classes == (("a", "b", "c") if style == "plain" else ("0", "1", "2"))


def test_floats_can_be_images_and_must_then_be_between_zero_and_one(tmp_path):
    np.savez(tmp_path / "set.npz", x=np.linspace(0, 1, 20 * 9).reshape(20, 3, 3), y=np.arange(20) % 2)
    data = load_data(DataSpec(source=str(tmp_path / "set.npz")), task=IMAGES)
    assert data.train.inputs.dtype == torch.float32
    assert data.train.preview(int(data.train.ids[-1])).size == (3, 3)
    np.savez(tmp_path / "set.npz", x=np.linspace(-1, 1, 20 * 9).reshape(20, 3, 3), y=np.arange(20) % 2)
    with pytest.raises(InputError, match=r"values from -1 to 1; expected floats in \[0, 1\]"):
        load_data(DataSpec(source=str(tmp_path / "set.npz")), task=IMAGES)


def test_a_saved_dataset_dict(tmp_path):
    split = datasets.Dataset.from_dict({"features": [[1.0, 2.0], [3.0, 4.0]] * 10, "label": [0, 1] * 10})
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(tmp_path / "saved")
    data = load_data(DataSpec(source=str(tmp_path / "saved")), task=VECTORS)
    assert [len(data.train), len(data.validation), len(data.test)] == [18, 2, 20]


def test_images_that_do_not_fit_stay_encoded_and_look_the_same(tmp_path):
    spec = DataSpec(source=str(image_folder(tmp_path / "pets")), size=(4, 4), carve=2)
    held, encoded = (load_data(spec, task=IMAGES, memory_bytes=limit) for limit in (2**30, 12 * 16 - 1))
    assert isinstance(encoded.train.inputs, LazyImages)
    for left, right in ((held.train, encoded.train), (held.validation, encoded.validation), (held.test, encoded.test)):
        assert torch.equal(left.inputs, right.gather(torch.arange(len(right))))
        assert torch.equal(left.ids, right.ids)
        assert left.shape == right.shape
    sample = int(held.test.ids[3])
    assert np.array_equal(np.asarray(held.test.preview(sample)), np.asarray(encoded.test.preview(sample)))
    assert len(encoded.train.select(torch.tensor([1, 0]))) == 2


# Splits and fingerprint


def test_carving_is_balanced_repeatable_and_leaves_the_test_alone(tmp_path):
    spec = DataSpec(source=str(image_folder(tmp_path / "pets", count=20)), carve=0.25)
    data, again = load_data(spec, task=IMAGES), load_data(spec, task=IMAGES)
    assert data.validation.targets.bincount().tolist() == [5, 5]
    assert torch.equal(data.validation.ids, again.validation.ids)
    assert data.fingerprint == again.fingerprint
    other = load_data(spec.model_copy(update={"seed": 1}), task=IMAGES)
    assert not torch.equal(data.validation.ids, other.validation.ids)
    assert torch.equal(data.test.inputs, other.test.inputs)
    assert data.fingerprint != other.fingerprint
    ids = torch.cat([data.train.ids, data.validation.ids, data.test.ids])
    assert torch.equal(ids.sort().values, torch.arange(80))


def test_a_validation_split_that_is_there_is_used(tmp_path):
    folder = image_folder(tmp_path / "pets", splits=("train", "validation", "test"))
    data = load_data(DataSpec(source=str(folder)), task=IMAGES)
    assert [len(data.train), len(data.validation), len(data.test)] == [12, 12, 12]


def test_the_fingerprint_follows_the_content(tmp_path):
    x, y = noise(30, 5, 5), np.arange(30) % 3

    def fingerprint(x, y, **changes):
        np.savez(tmp_path / "set.npz", x=x, y=y)
        return load_data(DataSpec(source=str(tmp_path / "set.npz"), **changes), task=IMAGES).fingerprint

    altered = x.copy()
    altered[7, 2, 2] ^= 1
    prints = [fingerprint(x, y), fingerprint(altered, y), fingerprint(x, y[::-1]), fingerprint(x, y, carve=6)]
    prints.append(fingerprint(x, y, classes=("a", "b", "c")))
    assert len(set(prints)) == 5
    assert fingerprint(x, y) == prints[0]


# The cache


def test_decoded_images_are_kept_and_used_again(tmp_path):
    spec = DataSpec(source=str(image_folder(tmp_path / "pets")))
    first = load_data(spec, task=IMAGES)
    kept = sorted((tmp_path / "cache").iterdir())
    assert len(kept) == 2
    written = [path.stat().st_mtime_ns for path in kept]
    second = load_data(spec, task=IMAGES)
    assert [path.stat().st_mtime_ns for path in kept] == written
    assert torch.equal(first.train.inputs, second.train.inputs)
    assert first.fingerprint == second.fingerprint
    load_data(spec.model_copy(update={"size": (3, 3)}), task=IMAGES)
    assert len(list((tmp_path / "cache").iterdir())) == 4


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "nonsense"])
def test_a_damaged_cache_is_noticed_and_made_again(tmp_path, damage, caplog):
    spec = DataSpec(source=str(image_folder(tmp_path / "pets")))
    first = load_data(spec, task=IMAGES)
    for path in (tmp_path / "cache").iterdir():
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        damaged = {"cut": content[:-10], "empty": b"", "flipped": content, "nonsense": b"x" * 100}[damage]
        path.write_bytes(damaged)
    second = load_data(spec, task=IMAGES)
    assert torch.equal(first.train.inputs, second.train.inputs)
    assert torch.equal(first.test.inputs, second.test.inputs)
    assert "is made again" in caplog.text
    caplog.clear()
    load_data(spec, task=IMAGES)
    assert not caplog.text


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, monkeypatch, caplog):
    (tmp_path / "taken").write_text("a file where the folder should be")
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "taken"))
    spec = DataSpec(source=str(image_folder(tmp_path / "pets")))
    assert len(load_data(spec, task=IMAGES).test) == 12
    assert "could not be kept" in caplog.text


# What is refused


def test_files_that_are_not_there_are_named_with_what_is(tmp_path):
    (tmp_path / "digits.csv").write_text("")
    with pytest.raises(InputError, match=r"no file or folder .*digit\.csv'; nearest: 'digits\.csv'"):
        load_data(DataSpec(source=str(tmp_path / "digit.csv")), task=VECTORS)
    with pytest.raises(InputError, match="no file or folder"):
        load_data(DataSpec(source="./nowhere"), task=VECTORS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "trian"}, r"no split 'trian'; nearest: 'train'; it has 'train', 'test'"),
        ({"validation": "dev"}, "`validation`: there is no split 'dev'"),
        ({"validation": "test"}, "`validation` and `test` are both split 'test'"),
        ({"train": "test"}, "`train` and `test` are both split 'test'"),
        ({"inputs": "imag"}, r"no column 'imag'; nearest: 'image'; the columns are 'image' \(images\), 'label'"),
        ({"inputs": "label"}, "column 'label' does not hold what task 'image_classification' reads, images"),
        ({"label": "image"}, "label column 'image' has type images; expected whole numbers or names"),
        ({"classes": ("dog", "cat")}, "class 0 is 'dog' in the first and 'cat' in the second"),
        (
            {"carve": 1},
            r"`carve: 1` cannot be met: there are 12 labelled samples in 2 classes; expected a number from 2",
        ),
        ({"carve": 12}, "takes all labelled samples"),
    ],
)
def test_specs_that_do_not_fit_the_data(tmp_path, changes, message):
    folder = image_folder(tmp_path / "pets")
    with pytest.raises(InputError, match=message):
        load_data(DataSpec(source=str(folder), **changes), task=IMAGES)


def test_columns_that_are_not_clear_are_listed(tmp_path):
    source = write_csv(tmp_path / "a.csv", [(1, 2, 0)] * 9, header=("x", "label", "target"))
    with pytest.raises(InputError, match=r"`label` is not clear: 'label' and 'target' could all be meant"):
        load_data(DataSpec(source=source), task=VECTORS)
    source = write_csv(tmp_path / "b.csv", [("some text", 0)] * 9, header=("sentence", "label"))
    with pytest.raises(InputError, match=r"no column of images or numbers .* 'sentence' \(text\)"):
        load_data(DataSpec(source=source), task=IMAGES)
    source = write_csv(tmp_path / "c.csv", [(1, 2)] * 9, header=("x", "z"))
    with pytest.raises(InputError, match="`label` is not clear: no column could be meant"):
        load_data(DataSpec(source=source), task=VECTORS)
    source = write_csv(tmp_path / "d.csv", rows_of(9))
    with pytest.raises(InputError, match="does not hold what task 'image_classification' reads, images"):
        load_data(DataSpec(source=source), task=IMAGES)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (
            [0, 1, -3, 1],
            None,
            r"1 labels of split 'train' are out of range \(sample 2 has -3\); expected 0 to 1, or -100",
        ),
        ([0, 1, 2, 7], ("a", "b"), r"2 labels .* \(sample 2 has 2, sample 3 has 7\)"),
        ([1, 2, 2, 1], None, "labels go up to 2 but no sample has '0'; expected numbers from 0 without a gap"),
        ([0, 1, 0.5, 1], None, "label 0.5 of sample 2 in split 'train' is not a whole number"),
        ([-100, -100, -100, -100], None, "no sample has a label"),
        (["a", "b", "bb", "a"], ("a", "b"), "there are samples of 'bb'; nearest: 'b'"),
    ],
)
def test_labels_that_are_no_classes(tmp_path, labels, classes, message):
    source = write_csv(tmp_path / "table.csv", [(1.5, label) for label in labels], header=("x", "label"))
    with pytest.raises(InputError, match=message):
        load_data(DataSpec(source=source, classes=classes), task=VECTORS)


def test_splits_with_their_classes_in_another_order(tmp_path):
    def split(names):
        features = datasets.Features(
            {"x": datasets.List(datasets.Value("float32")), "label": datasets.ClassLabel(names=names)}
        )
        return datasets.Dataset.from_dict({"x": [[1.0], [2.0]] * 5, "label": [0, 1] * 5}, features)

    saved = datasets.DatasetDict({"train": split(["cat", "dog"]), "test": split(["dog", "cat"])})
    saved.save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match=r"'train' and 'test' do not have the same classes in the same order: class 0"):
        load_data(DataSpec(source=str(tmp_path / "saved")), task=VECTORS)


@pytest.mark.parametrize("memory_bytes", [2**30, 1])
def test_images_of_mixed_size_or_mode(tmp_path, memory_bytes):
    folder = image_folder(tmp_path / "pets")
    Image.fromarray(noise(5, 5)).save(folder / "train" / "cat" / "3.png")
    Image.fromarray(noise(8, 6, 3)).save(folder / "train" / "dog" / "1.png")
    spec = DataSpec(source=str(folder))
    expected = r"of split 'train' are not alike: the first is 8×6 grey, image 3 is 5×5 grey and image 7 is 8×6 colour.*"
    with pytest.raises(InputError, match=expected + r"give `size: \[8, 6\]` and `channels: 3`"):
        load_data(spec, task=IMAGES, memory_bytes=memory_bytes)
    fixed = spec.model_copy(update={"size": (8, 6), "channels": 3})
    assert load_data(fixed, task=IMAGES, memory_bytes=memory_bytes).train.shape == (3, 8, 6)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "image 2 of split 'train' cannot be decoded"),
        (lambda path: Image.fromarray(noise(8, 6).astype(np.uint16)).save(path), "image 2 .* more than 8 bits a pixel"),
        (lambda path: Image.fromarray(noise(8, 6, 4)).save(path), "image 2 .* has mode RGBA; expected grey"),
    ],
)
def test_images_that_cannot_be_used(tmp_path, write, message):
    folder = image_folder(tmp_path / "pets")
    write(folder / "train" / "cat" / "2.png")
    with pytest.raises(InputError, match=message):
        load_data(DataSpec(source=str(folder)), task=IMAGES)


def test_numbers_that_are_not_finite(tmp_path):
    rows = rows_of(40)
    rows[5], rows[8] = ("nan", 1.0, 1), (1.0, "inf", 0)
    with pytest.raises(InputError, match="2 samples of split 'train' hold NaN or infinity: samples '5', '8'"):
        load_data(DataSpec(source=write_csv(tmp_path / "table.csv", rows)), task=VECTORS)


def test_empty_splits(tmp_path):
    x, y = noise(9, 4, 4), np.arange(9) % 3
    np.savez(tmp_path / "set.npz", x_train=x, y_train=y, x_test=x[:0], y_test=y[:0])
    with pytest.raises(InputError, match="split 'test' is empty"):
        load_data(DataSpec(source=str(tmp_path / "set.npz")), task=IMAGES)
    row = {"x": [[1.0], [2.0]] * 5, "label": [0, 1] * 5}
    for name, rows in (("train", row), ("test", {"x": [], "label": []})):
        features = datasets.Features({"x": datasets.List(datasets.Value("float32")), "label": datasets.Value("int64")})
        (tmp_path / "tables").mkdir(exist_ok=True)
        datasets.Dataset.from_dict(rows, features).to_parquet(str(tmp_path / "tables" / f"{name}.parquet"))
    with pytest.raises(InputError, match=r'cannot be opened: .*"test" corresponds to no data'):
        load_data(DataSpec(source=str(tmp_path / "tables")), task=VECTORS)


def test_archives_that_hold_something_else(tmp_path):
    np.savez(tmp_path / "odd.npz", weights=np.zeros(3))
    with pytest.raises(InputError, match="has arrays 'weights'; expected inputs and labels"):
        load_data(DataSpec(source=str(tmp_path / "odd.npz")), task=IMAGES)
    np.savez(tmp_path / "pickled.npz", x=np.array([{}, {}], dtype=object), y=np.array([0, 1]))
    with pytest.raises(InputError, match="cannot be read as a NumPy archive"):
        load_data(DataSpec(source=str(tmp_path / "pickled.npz")), task=IMAGES)
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(InputError, match="cannot be read as a NumPy archive"):
        load_data(DataSpec(source=str(tmp_path / "torn.npz")), task=IMAGES)
    np.savez(tmp_path / "short.npz", x=noise(9, 4, 4), y=np.arange(8) % 2)
    with pytest.raises(InputError, match="has 9 inputs and 8 labels"):
        load_data(DataSpec(source=str(tmp_path / "short.npz")), task=IMAGES)


def test_files_of_an_unknown_kind(tmp_path):
    (tmp_path / "set.doc").write_text("words")
    with pytest.raises(InputError, match=r"set\.doc has an ending that is not known; expected \.parquet"):
        load_data(DataSpec(source=str(tmp_path / "set.doc")), task=VECTORS)
    (tmp_path / "set.parquet").write_text("not parquet")
    with pytest.raises(InputError, match="cannot be opened"):
        load_data(DataSpec(source=str(tmp_path / "set.parquet")), task=VECTORS)
