"""One method: one file, one export line, one test; and a docstring that says what one has to know."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from conformance.memory import MemorySuite
from conformance.method_suite import BatchCoupledSuite, MethodSuite
from understudy import Method, methods
from understudy.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]

each_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)


def kind_of(method: type[Method]) -> str:
    return method.model_fields["kind"].default


@each_method
def test_has_a_file_of_its_own_named_like_its_kind(method: type[Method]) -> None:
    file = Path(inspect.getsourcefile(method))
    assert file == ROOT / "src" / "understudy" / "methods" / f"{kind_of(method)}.py"
    classes = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)]
    bases = [base for node in classes for base in map(ast.unparse, node.bases)]
    assert len([base for base in bases if base in ("Method", "FeatureMethod", "RelationMethod")]) == 1
    assert kind_of(method).replace("_", "") == method.__name__.lower()


@each_method
def test_has_a_test_that_inherits_the_suite(method: type[Method]) -> None:
    file = ROOT / "tests" / "methods" / f"test_{kind_of(method)}.py"
    text = file.read_text()
    assert re.search(
        rf"\((?:MethodSuite|BatchCoupledSuite|MemorySuite)\):\n.*?method = {method.__name__}\(", text, re.DOTALL
    ), file


def test_the_folder_holds_methods_only() -> None:
    files = {file.stem for file in (ROOT / "src" / "understudy" / "methods").glob("*.py")} - {"__init__"}
    assert files == {kind_of(method) for method in METHODS}


@each_method
def test_is_exported(method: type[Method]) -> None:
    assert getattr(methods, method.__name__) is method


@each_method
def test_its_docstring_tells_formula_scale_gradient_and_an_example(method: type[Method]) -> None:
    text = inspect.getdoc(method)
    for part in (".. math::", "Scale: ", "gradient", "Example:", ">>> "):
        assert part in text, f"{method.__name__} does not say: {part}"
    assert re.search(r"\b0\b", text), "the value at equality"


@each_method
def test_names_its_paper_with_its_year(method: type[Method]) -> None:
    assert re.search(r"(19|20)\d\d", method.paper)


@each_method
def test_every_hyper_parameter_is_described(method: type[Method]) -> None:
    own = {name: field for name, field in method.model_fields.items() if name != "kind"}
    assert [name for name, field in own.items() if not field.description] == []


@each_method
def test_is_final_and_frozen(method: type[Method]) -> None:
    assert inspect.getsource(method).startswith("@final")
    assert method.model_config["frozen"]
    assert method.model_config["extra"] == "forbid"


@pytest.mark.parametrize("suite", [MethodSuite, BatchCoupledSuite, MemorySuite])
def test_the_suite_is_abstract(suite) -> None:
    assert not hasattr(suite, "method")
