"""Losses are pure functions of (student, teacher); everything else is a keyword, and the docstring is complete."""

import inspect
import re

import pytest

from understudy import functional

FUNCTIONS = [getattr(functional, name) for name in functional.__all__]

each_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
each_loss = pytest.mark.parametrize(
    "function", [f for f in FUNCTIONS if f.__name__.endswith("_loss")], ids=lambda function: function.__name__
)


@each_function
def test_everything_after_the_tensors_is_a_keyword(function) -> None:
    parameters = inspect.signature(inspect.unwrap(function)).parameters.values()
    kinds = {p.name: p.kind for p in parameters}
    assert inspect.Parameter.VAR_KEYWORD not in kinds.values()
    positional = [name for name, kind in kinds.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert 1 <= len(positional) <= 2
    assert all(p.default is inspect.Parameter.empty for p in parameters if p.name in positional)


@each_loss
def test_the_student_comes_first_and_then_the_teacher(function) -> None:
    names = list(inspect.signature(inspect.unwrap(function)).parameters)
    assert names[0].startswith("student_")
    assert names[1].startswith("teacher_") or names[1] == "targets"


@each_function
def test_the_docstring_has_arguments_result_and_example(function) -> None:
    text = inspect.getdoc(function)
    for part in ("Args:", "Returns:", "Example:", ">>> "):
        assert part in text
    for name in inspect.signature(inspect.unwrap(function)).parameters:
        assert re.search(rf"^ *{name}: ", text, re.MULTILINE), f"{name} is not described"


@each_loss
def test_a_loss_states_its_formula_scale_and_paper(function) -> None:
    text = inspect.getdoc(function)
    for part in (":math:", "Scale:", "References:"):
        assert part in text
    assert re.search(r"(19|20)\d\d", text)
