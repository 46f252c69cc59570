"""Values from the command line."""

import pytest

from understudy.recipe.document import parse_document
from understudy.recipe.overrides import apply_overrides

TEXT = """\
seeds: [0, 1]
data: {source: sklearn/digits}
stages:
  - {name: teacher, kind: train}
  - name: student
    kind: distill
    training: {epochs: 3}
    objective:
      - {kind: cross_entropy}
      - {kind: soft_targets, name: soft}
  - {name: late, kind: train}
"""


def applied(*overrides: str):
    document = parse_document(TEXT, "r.yaml")
    return document, [str(problem) for problem in apply_overrides(document, overrides)]


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seeds=[4, 5]", ("seeds",), [4, 5]),
        ("seeds.1=7", ("seeds", 1), 7),
        ("stages.1.training.epochs=5e-1", ("stages", 1, "training", "epochs"), 0.5),
        ("stages.student.training.epochs=5", ("stages", 1, "training", "epochs"), 5),
        ("stages.student.objective.soft.temperature=2", ("stages", 1, "objective", 1, "temperature"), 2),
        ("stages.student.objective.cross_entropy.weight=0", ("stages", 1, "objective", 0, "weight"), 0),
        ("stages.distill.views={shift: 1}", ("stages", 1, "views"), {"shift": 1}),
        ("stages.teacher.training.optimizer.kind=sgd", ("stages", 0, "training", "optimizer", "kind"), "sgd"),
        ("data.config=a=b", ("data", "config"), "a=b"),
        ("data.config=", ("data", "config"), None),
    ],
)
def test_a_value_reaches_its_place_and_remembers_where_it_came_from(override, path, value):
    document, problems = applied(override)
    assert problems == []
    found = document.data
    for part in path:
        found = found[part]
    assert found == value
    assert document.place(path) == f"--set {override}"


def test_later_ones_win_and_neighbours_stay():
    document, problems = applied("data.source=a", "data.source=b")
    assert problems == []
    assert document.data["data"] == {"source": "b"}
    assert document.data["seeds"] == [0, 1]
    assert document.place(("seeds",)) == "r.yaml:1"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("epochs", "expected key=value"),
        ("=5", "expected key=value"),
        ("a..b=5", "expected key=value"),
        ("stages.studnt.x=1", "no item 'studnt'; nearest: 'student'"),
        ("stages.9.x=1", "has 3 items (0 to 2); there is no 9"),
        ("stages.train.x=1", "several items 'train'; take one by position: [0, 2]"),
        ("data.source.x=1", "data.source is 'sklearn/digits', which has no keys"),
        ("seeds=[1", "not readable as YAML"),
        ("seeds=!!python/name:os.system", "is not allowed"),
    ],
)
def test_what_cannot_be_applied_is_explained(override, words):
    document, problems = applied(override)
    assert len(problems) == 1
    assert problems[0].startswith(f"--set {override}: ")
    assert words in problems[0]
    assert document.data == parse_document(TEXT, "r").data


def test_a_problem_inside_an_overridden_value_is_placed_at_the_override():
    document, _ = applied("stages.teacher.training={epochs: x}", "more.deep.key=1")
    assert document.place(("stages", 0, "training", "epochs")) == "--set stages.teacher.training={epochs: x}"
    assert document.place(("more",)) == "--set more.deep.key=1", "also what was made on the way to it"
