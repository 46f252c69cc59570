"""What `import understudy` costs, and that the names which a type checker sees are the names there are."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import understudy
from understudy.methods import METHODS

INIT = Path(understudy.__file__)


def test_the_import_loads_nothing_heavy() -> None:
    code = "import sys, understudy; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "understudy" in loaded
    assert not {"torch", "numpy", "pydantic", "torchmetrics", "accelerate", "datasets"} & set(loaded)


def test_every_name_resolves_and_is_the_one_a_type_checker_sees() -> None:
    promised = set()
    for node in ast.walk(ast.parse(INIT.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.module.startswith("understudy"):
            continue
        if node.names[0].name == "*":
            promised |= {method.__name__ for method in METHODS}
            continue
        for alias in node.names:
            name = alias.asname or alias.name
            promised.add(name)
            module = __import__(node.module, fromlist=[alias.name])
            assert getattr(understudy, name) is getattr(module, alias.name), name
    assert promised == {name for name in dir(understudy) if not name.startswith("__")}


def test_an_unknown_name_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'understudy' has no attribute 'Distillers'"):
        _ = understudy.Distillers
