"""Every example in a docstring of the package runs, with warnings as errors like everything else."""

import doctest
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"


def module_name(file: Path) -> str:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = [module_name(file) for file in sorted(SOURCE.rglob("*.py")) if ">>> " in file.read_text()]


class Finder(doctest.DocTestFinder):
    """Looks through the decorators that check types in tests; they would hide a function from the ordinary one."""

    def _from_module(self, module: ModuleType | None, object: object) -> bool:
        return super()._from_module(module, inspect.unwrap(object) if callable(object) else object)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    written = Path(module.__file__).read_text().count(">>> ")
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for test in Finder().find(module, name):
        runner.run(test)
    assert runner.failures == 0
    assert runner.tries == written, f"{name} has {written} examples, but {runner.tries} were found and run"


def test_the_losses_are_among_them() -> None:
    assert {"understudy.functional.divergences", "understudy.methods.hint"} <= set(MODULES)
