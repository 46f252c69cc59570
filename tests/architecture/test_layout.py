"""The rules of the house that no linter knows."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "understudy"
FILES = sorted(SOURCE.rglob("*.py"))
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
TEST_FILES = sorted((ROOT / "tests").rglob("*.py"))


def named(file: Path) -> str:
    return str(file.relative_to(ROOT))


def trees() -> Iterator[tuple[str, ast.Module]]:
    for file in FILES:
        yield named(file), ast.parse(file.read_text())


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 20


def test_no_file_is_longer_than_500_lines() -> None:
    lengths = {named(file): len(file.read_text().splitlines()) for file in FILES + TEST_FILES}
    assert {name: length for name, length in lengths.items() if length > 500} == {}


def test_no_function_is_longer_than_80_lines_with_its_docstring() -> None:
    assert [
        f"{name}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for name, tree in trees()
        for node in functions(tree)
        if node.end_lineno - node.lineno + 1 > 80
    ] == []


def test_no_file_is_a_drawer_for_everything() -> None:
    assert [named(file) for file in FILES + TEST_FILES if file.stem in FORBIDDEN_NAMES] == []


def _documented(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    """Public functions, classes and methods without a docstring."""
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            yield f"{prefix}.{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from _documented(node.body, f"{prefix}.{node.name}")


def test_everything_public_is_documented() -> None:
    missing = []
    for name, tree in trees():
        if ast.get_docstring(tree) is None:
            missing.append(name)
        missing += _documented(tree.body, name)
    assert missing == []


def _signatures(body: list[ast.stmt]) -> Iterator[ast.FunctionDef]:
    """Public functions of a module, and public methods of its classes."""
    for node in body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef):
            yield from _signatures(node.body)


def test_no_public_signature_passes_keywords_through() -> None:
    """But for ``forward``: a module that stands for another one takes whatever that one takes."""
    assert [
        f"{name}: {node.name}(**{node.args.kwarg.arg})"
        for name, tree in trees()
        for node in _signatures(tree.body)
        if node.args.kwarg is not None and node.name != "forward"
    ] == []


def _calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    for file, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
                yield f"{file}:{node.lineno}", node


@pytest.mark.parametrize("call", ["hasattr", "pickle.load", "pickle.loads", "torch.save", "eval", "exec"])
def test_nothing_is_probed_pickled_or_executed(call: str) -> None:
    assert [place for place, _ in _calls(call)] == []


def test_torch_load_reads_tensors_only() -> None:
    for place, node in _calls("torch.load"):
        safe = [keyword for keyword in node.keywords if keyword.arg == "weights_only"]
        assert safe, place
        assert ast.unparse(safe[0].value) == "True", place


def test_only_tests_may_have_no_package_file() -> None:
    folders = {file.parent for file in FILES}
    assert [named(folder) for folder in folders if not (folder / "__init__.py").exists()] == []
    assert list((ROOT / "tests").rglob("__init__.py")) == []
