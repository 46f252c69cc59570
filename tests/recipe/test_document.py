"""YAML as plain values with lines; nothing in it runs code."""

import pytest

from understudy.errors import InputError
from understudy.recipe.document import parse_document, parse_value, read_document
from understudy.recipe.problems import RecipeError


def test_scalars_are_those_of_yaml_1_2():
    data = parse_document("a: 5e-2\nb: yes\nc: 0o17\nd: ~\ne: true\nf: 2026-01-01\ng: 1_000\n3: x\n", "r").data
    assert data == {"a": 0.05, "b": "yes", "c": 15, "d": None, "e": True, "f": "2026-01-01", "g": 1000, "3": "x"}
    assert isinstance(data["a"], float)


def test_every_value_knows_its_line():
    document = parse_document("a: 1\nb:\n  - x: 2\n    y: 3\n  - z\n", "r.yaml")
    assert document.place(("a",)) == "r.yaml:1"
    assert document.place(("b", 0, "y")) == "r.yaml:4"
    assert document.place(("b", 1)) == "r.yaml:5"
    assert document.place(("b", 0, "missing")) == "r.yaml:3", "a key that is not there is looked for around it"


def test_anchors_and_merged_mappings_are_values_with_their_own_lines():
    document = parse_document("base: &b\n  x: 1\n  y: 2\nuse:\n  <<: *b\n  y: 3\nagain: *b\n", "r.yaml")
    assert document.data["use"] == {"x": 1, "y": 3}
    assert document.data["again"] == {"x": 1, "y": 2}
    assert document.place(("use", "x")) == "r.yaml:2"
    assert document.place(("use", "y")) == "r.yaml:6"
    document.put(("again", "x"), 9, "--set")
    assert document.data["base"]["x"] == 1, "what one alias is set to is not set for the other"


def test_the_first_of_several_merged_mappings_wins():
    data = parse_document("a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc:\n  <<: [*a, *b]\n", "r").data
    assert data["c"] == {"x": 1, "y": 2}


def test_all_keys_given_twice_are_named():
    document = parse_document("a: 1\nb: {c: 1, c: 2}\na: 2\n", "r.yaml")
    assert [str(problem) for problem in document.problems] == [
        "r.yaml:2: b.c: given twice, first at r.yaml:2; keep one",
        "r.yaml:3: a: given twice, first at r.yaml:1; keep one",
    ]


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [echo]", "!!python/name:os.system", "!mine {a: 1}"])
def test_tags_are_refused(tag):
    document = parse_document(f"a: 1\nb: {tag}\n", "r.yaml")
    assert "is not allowed" in str(document.problems[0])
    assert document.problems[0].place == "r.yaml:2"
    assert document.data["b"] is None


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: [1,\nb: 2\n", 3, "flow sequence, begun in line 1"),
        ("a:\n\t- 1\n", 2, "indent with spaces"),
        ("a: b: c\n", 1, "needs quotes"),
        ("a: *nothing\n", 1, "undefined alias"),
        ("a: 1\n---\nb: 1\n", 2, "take the line '---' out"),
        ("a: 'x\n", 2, "begun in line 1"),
    ],
)
def test_text_that_is_not_yaml_is_named_with_its_line(text, line, words):
    with pytest.raises(RecipeError, match="not readable as YAML") as caught:
        parse_document(text, "r.yaml")
    assert caught.value.problems[0].place == f"r.yaml:{line}"
    assert words in str(caught.value)


def test_anchors_that_unfold_without_end_are_refused():
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(RecipeError, match="unfold without end"):
        parse_document("\n".join(lines), "r.yaml")
    with pytest.raises(RecipeError, match="contains itself"):
        parse_document("a: &a [*a]\n", "r.yaml")
    with pytest.raises(RecipeError, match="nested too deeply"):
        parse_document("[" * 5000, "r.yaml")


def test_a_value_is_read_as_in_a_file():
    assert parse_value("5e-2") == 0.05
    assert parse_value("[1, a, null]") == [1, "a", None]
    assert parse_value("") is None
    with pytest.raises(RecipeError):
        parse_value("!!python/name:os.system")


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "recipe.yaml").write_text("a: 1\n")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"nearest: 'recipe.yaml'"):
        read_document(tmp_path / "recipes.yaml")
    with pytest.raises(InputError, match="is a folder"):
        read_document(tmp_path)
    with pytest.raises(InputError, match="not text in UTF-8"):
        read_document(tmp_path / "binary.yaml")
    (tmp_path / "marked.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_document(tmp_path / "marked.yaml").data == {"a": 1}
