"""What validation finds, in the user's own words and at the user's own keys."""

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from understudy.errors import listing
from understudy.methods import METHODS, AnyMethod
from understudy.recipe.translation import problems_of
from understudy.schedules import AnySchedule
from understudy.spec import Spec

KINDS = sorted(method.model_fields["kind"].default for method in METHODS)


class Inner(Spec):
    epochs: float = 1.0
    rate: Annotated[float, Field(gt=0.0)] = 0.1
    labels: int | float | None = None
    schedule: AnySchedule | None = None
    kept: bool = True
    """Whether it is kept."""

    @model_validator(mode="after")
    def _never_seven(self) -> "Inner":
        if self.epochs == 7:
            raise ValueError("epochs must not be 7")
        return self


class Outer(Spec):
    name: str
    """What it is called."""
    count: int = 1
    inner: Inner = Inner()
    objective: tuple[AnyMethod, ...] = ()
    teacher: str | tuple[str, ...] = "t"
    execution: Literal["auto", "plain"] | Inner = "auto"
    anything: dict[str, Any] = Field(default_factory=dict)


def told(**data: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate_json(json.dumps({"name": "n", **data}), strict=True)
    return [str(problem) for problem in problems_of(caught.value, Outer)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"count": "3"}, "count: expected a whole number, got the text '3'; write 3 without quotes"),
        ({"count": 3.0}, "count: expected a whole number, got 3.0; write 3"),
        ({"count": True}, "count: expected a whole number, got true"),
        ({"count": None}, "count: expected a whole number, got null"),
        ({"name": 3}, "name: expected a text, got 3; write '3' in quotes"),
        ({"inner": {"kept": "yes"}}, "inner.kept: expected true or false, got the text 'yes'; write true"),
        ({"inner": {"rate": -1}}, "inner.rate: expected a number greater than 0, got -1"),
        ({"inner": {"labels": "x"}}, "inner.labels: expected a number, got the text 'x'"),
        ({"inner": {"labels": "none"}}, "inner.labels: expected a number, got the text 'none'; write null for none"),
        ({"inner": {"epoch": 1}}, "inner.epoch: unknown key 'epoch'; nearest: 'epochs'"),
        ({"inner": 3}, "inner: expected a mapping, got 3"),
        ({"inner": {"epochs": 7}}, "inner: epochs must not be 7"),
        (
            {"inner": {"schedule": {"kind": "linea", "start": 0}}},
            "inner.schedule.kind: unknown kind 'linea'; nearest: 'linear', 'cosine'; "
            "expected one of 'linear', 'cosine', 'step', 'one_cycle'",
        ),
        (
            {"objective": [{"temperature": 4.0}]},
            f"objective.0: needs 'kind', one of {listing(KINDS, most=30)}",
        ),
        (
            {"objective": {"kind": "hint"}},
            "objective: expected a list, got a mapping with 'kind'; begin each item with '- '",
        ),
        (
            {"objective": [{"kind": "soft_targets", "temperature": "4"}]},
            "objective.0.temperature: expected a number, got the text '4'; write 4 without quotes",
        ),
        (
            {"objective": [{"kind": "soft_targets", "weight": "x"}]},
            "objective.0.weight: expected a number or a mapping with 'kind', one of 'linear', 'cosine', 'step', "
            "'one_cycle', got the text 'x'",
        ),
        (
            {"objective": [{"kind": "soft_targets", "weight": {"kind": "linear", "start": "a", "end": 1}}]},
            "objective.0.weight.start: expected a number, got the text 'a'",
        ),
        ({"teacher": 3}, "teacher: expected a text or a list, got 3"),
        ({"teacher": ["a", 3]}, "teacher.1: expected a text, got 3; write '3' in quotes"),
        ({"execution": "aut"}, "execution: expected 'auto' or 'plain' or a mapping, got the text 'aut'"),
        ({"execution": {"rate": 0}}, "execution.rate: expected a number greater than 0, got 0"),
        ({"anything": 5}, "anything: expected a mapping, got 5"),
        ({"epochs": 5}, "epochs: unknown key 'epochs'; it belongs further down: 'inner.epochs', 'execution.epochs'"),
    ],
)
def test_one_fault_gives_one_problem(data, expected):
    assert told(**data) == [expected]


def test_a_missing_key_is_named_with_its_meaning():
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate_json("{}", strict=True)
    assert [str(problem) for problem in problems_of(caught.value, Outer)] == ["name: is missing: What it is called."]


def test_a_misspelt_key_is_not_also_reported_as_missing():
    problems = told(objective=[{"kind": "hint", "student_layr": "a", "teacher_layer": "b"}])
    assert problems == [
        "objective.0.student_layr: unknown key 'student_layr'; nearest: 'student_layer', 'student', 'teacher_layer'"
    ]


def test_all_faults_are_found_at_once():
    problems = told(count="x", inner={"rate": 0, "foo": 1}, objective=[{"kind": "sof"}, 3], teacher={})
    assert [problem.split(":")[0] for problem in problems] == [
        "count",
        "inner.rate",
        "inner.foo",
        "objective.0.kind",
        "objective.1",
        "teacher",
    ]
