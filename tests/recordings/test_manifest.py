"""What a recording says about itself, and what differs from something else."""

import json

import pytest

from conformance.recordings import flips
from understudy.errors import InputError, RunError
from understudy.recordings import Manifest, Part, Storage
from understudy.recordings.manifest import NAME, read_manifest, write_manifest
from understudy.views import Views

FULL = Manifest(
    understudy="1.2.3",
    teacher="big",
    weights="ab12",
    runtime="openvino",
    classes=("cat", "dög"),
    data="cd34",
    input_shape=(3, 8, 8),
    views=Views(shift=2, mixup=0.5),
    view_seed=7,
    mixing="ef56",
    keep=Storage(dtype="int8", top=3, temperatures=(4.0,), layers={"block.1": "pooled"}),
    samples="samples-0.safetensors",
    parts=(Part(name="train", first=0, last=80, views=3), Part(name="validation", first=80, last=90)),
)
SMALL = Manifest(teacher="big", classes=("a",), samples="s", parts=(Part(name="train", first=0, last=4),))
UNKNOWN = ("understudy", "weights", "data", "input_shape", "mixing")


@pytest.mark.parametrize("manifest", [FULL, SMALL])
def test_what_is_written_is_read(tmp_path, manifest) -> None:
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert read_manifest(tmp_path).differences(manifest) == []


def test_parts_tell_counts_and_views() -> None:
    assert FULL.count == 90
    assert [part.shown for part in FULL.parts] == [(0, 1, 2), (None,)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"understudy": "1.3.0"}, 'understudy: "1.2.3" in the recording, "1.3.0" now'),
        ({"weights": "ffff"}, 'weights: "ab12" in the recording, "ffff" now'),
        ({"classes": ("dög", "cat")}, 'classes: ["cat", "dög"] in the recording, ["dög", "cat"] now'),
        ({"probabilities": True}, "probabilities: false in the recording, true now"),
        ({"data": "0"}, 'data: "cd34" in the recording, "0" now'),
        ({"input_shape": (3, 9, 8)}, "input_shape: [3, 8, 8] in the recording, [3, 9, 8] now"),
        ({"views": Views(shift=1, mixup=0.5)}, "views.shift: 2 in the recording, 1 now"),
        ({"views": Views(shift=2)}, "views.mixup: 0.5 in the recording, 0.0 now"),
        ({"view_seed": 8}, "view_seed: 7 in the recording, 8 now"),
        ({"mixing": "00"}, 'mixing: "ef56" in the recording, "00" now'),
        ({"keep": FULL.keep.model_copy(update={"dtype": "float16"})}, 'keep.dtype: "int8" in the recording, "float16"'),
        ({"keep": FULL.keep.model_copy(update={"top": None})}, 'keep.top: 3 in the recording, "off" now'),
        ({"keep": FULL.keep.model_copy(update={"temperatures": ()})}, "keep.temperatures: [4.0] in the recording, []"),
        (
            {"keep": FULL.keep.model_copy(update={"layers": {"block.1": "whole"}})},
            'keep.layers.block.1: "pooled" in the recording, "whole" now',
        ),
        (
            {"keep": FULL.keep.model_copy(update={"layers": {}})},
            'keep.layers.block.1: "pooled" in the recording, null now',
        ),
    ],
    ids=str,
)
def test_a_difference_names_the_field_and_both_values(fields, message) -> None:
    (found,) = FULL.differences(FULL.model_copy(update=fields))
    assert found.startswith(message)
    assert len(FULL.model_copy(update=fields).differences(FULL)) == 1


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_compared_with_nothing(name) -> None:
    unknown = FULL.model_copy(update={name: None})
    assert FULL.differences(unknown) == []
    assert unknown.differences(FULL) == []
    assert unknown.differences(unknown) == []


def test_every_field_is_compared_but_for_the_samples() -> None:
    compared = set(Manifest.model_fields) - {"samples", "parts", "format", "runtime"}
    assert compared == {*UNKNOWN, "teacher", "task", "classes", "probabilities", "views", "view_seed", "keep"}
    grown = FULL.model_copy(
        update={"samples": "other", "runtime": "onnx", "parts": (Part(name="train", first=0, last=9, views=9),)}
    )
    assert FULL.differences(grown) == []


def test_the_name_of_a_teacher_counts_only_where_its_weights_are_not_known() -> None:
    assert FULL.differences(FULL.model_copy(update={"teacher": "other"})) == []
    assert SMALL.differences(SMALL.model_copy(update={"teacher": "other"})) == [
        'teacher: "big" in the recording, "other" now'
    ]
    assert len(FULL.differences(FULL.model_copy(update={"teacher": "other", "weights": None}))) == 1


def test_a_long_value_is_cut() -> None:
    other = FULL.model_copy(update={"classes": tuple(f"class {number}" for number in range(100))})
    (found,) = FULL.differences(other)
    assert len(found) < 160


def test_a_flipped_bit_in_any_byte_is_found_or_changes_nothing(tmp_path) -> None:
    write_manifest(tmp_path, FULL)
    path = tmp_path / NAME
    content = path.read_bytes()
    unchanged = 0
    for damaged in flips(content):
        path.write_bytes(damaged)
        try:
            assert read_manifest(tmp_path) == FULL
            unchanged += 1
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017 - either is right
    assert unchanged < 5


def test_a_manifest_that_is_cut_short_is_torn(tmp_path) -> None:
    write_manifest(tmp_path, SMALL)
    content = (tmp_path / NAME).read_bytes()
    for length in range(len(content) - 2):
        (tmp_path / NAME).write_bytes(content[:length])
        with pytest.raises(InputError, match="is not a manifest that this version reads"):
            read_manifest(tmp_path)


def test_a_number_that_was_changed_is_found_unless_the_digest_is_left_out(tmp_path) -> None:
    write_manifest(tmp_path, FULL)
    value = json.loads((tmp_path / NAME).read_text("utf-8"))
    value["keep"]["temperatures"] = [5.0]
    (tmp_path / NAME).write_text(json.dumps(value), "utf-8")
    with pytest.raises(InputError, match=r"manifest\.json is damaged: its digest is \w{16}, it says \w{16}\. .* leave"):
        read_manifest(tmp_path)
    del value["digest"]
    (tmp_path / NAME).write_text(json.dumps(value), "utf-8")
    assert read_manifest(tmp_path).keep.temperatures == (5.0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format: Input should be 1"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
        ({"classes": []}, "classes: Tuple should have at least 1 item"),
        ({"parts": []}, "parts: Tuple should have at least 1 item"),
        ({"keep": {"top": -1}}, r"keep\.top: Input should be greater"),
    ],
    ids=str,
)
def test_a_manifest_of_another_kind_is_refused_by_its_field(tmp_path, change, message) -> None:
    value = json.loads(SMALL.model_dump_json()) | change
    (tmp_path / NAME).write_text(json.dumps(value))
    with pytest.raises(InputError, match=rf"not a manifest that this version reads: {message}"):
        read_manifest(tmp_path)
    (tmp_path / NAME).write_text("[1, 2]")
    with pytest.raises(InputError, match="not a manifest that this version reads: the file"):
        read_manifest(tmp_path)


def test_a_place_that_cannot_be_written_is_an_error_of_the_run(tmp_path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(RunError, match=r"manifest\.json could not be written"):
        write_manifest(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
