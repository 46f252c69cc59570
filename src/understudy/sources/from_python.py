"""Models that a function of the user's own returns."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from understudy.errors import InputError, nearest
from understudy.sources.model_specs import PythonModel
from understudy.sources.surgery import parameter_names

_CLASSES, _VOCABULARY = ("classes", "num_classes"), ("vocabulary", "vocab_size")


def build_python(spec: PythonModel, *, classes: int, vocabulary: int | None = None) -> nn.Module:
    """Import the module, call the function, and make sure that a network came back.

    Args:
        spec: names the function and its arguments.
        classes: handed over if the function has an argument named ``classes`` or ``num_classes``; 0 where it decides
            itself how long its vectors are.
        vocabulary: of a network for texts, how many tokens there are; handed over if the function has an argument
            named ``vocabulary`` or ``vocab_size``.

    Raises:
        InputError: when the module, the function or the arguments do not fit, when the user's code raises (its
            trace is attached), or when it returns something else.
    """
    with _current_directory_first():
        function = _function(spec)
        known = parameter_names(function)
        offered = (dict.fromkeys(_CLASSES, classes) if classes else {}) | (
            dict.fromkeys(_VOCABULARY, vocabulary) if vocabulary else {}
        )
        offered = {name: size for name, size in offered.items() if name in known and name not in spec.arguments}
        try:
            inspect.signature(function).bind(**spec.arguments, **offered)
        except TypeError as error:
            hints = "".join(nearest(name, known) for name in spec.arguments if name not in known)
            raise InputError(
                f"python {spec.target} cannot be called with arguments {spec.arguments}: {error}{hints}. "
                f"Its signature is {inspect.signature(function)}"
            ) from error
        try:
            model = function(**spec.arguments, **offered)
        except Exception as error:
            raise InputError(f"python {spec.target} failed: {_told(error)}") from error
    if not isinstance(model, nn.Module):
        raise InputError(
            f"python {spec.target} returned {type(model).__name__}, expected a torch.nn.Module; name a function (or "
            "class) that returns the network"
        )
    return model


def function_of(spec: PythonModel) -> Callable[..., Any]:
    """The function that a spec names; its module is imported.

    Args:
        spec: names it.

    Raises:
        InputError: when there is no such module or function.
    """
    with _current_directory_first():
        return _function(spec)


def _function(spec: PythonModel) -> Callable[..., Any]:
    module_name, _, path = spec.target.partition(":")
    found: Any = _module(module_name)
    for part in path.split("."):
        names = [name for name, value in vars(found).items() if callable(value) and not name.startswith("_")]
        if part not in vars(found):
            raise InputError(
                f"python {spec.target}: {module_name} has no callable {part!r}{nearest(part, names)} "
                f"(it has {', '.join(sorted(names)) or 'none'})"
            )
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"python {spec.target} is a {type(found).__name__}, expected a function that makes a network")
    return found


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise InputError(
                f"python module {name!r} imports {error.name!r}, which is not installed; install it, or run with the "
                "environment that has it"
            ) from error
        here = [path.stem for path in Path.cwd().glob("*.py")]
        raise InputError(
            f"there is no python module {name!r}, neither in the current directory ({Path.cwd()}) nor installed"
            f"{nearest(name, here)}"
        ) from error
    except Exception as error:
        raise InputError(f"importing the python module {name!r} failed: {_told(error)}") from error


def _told(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"


@contextlib.contextmanager
def _current_directory_first() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)
