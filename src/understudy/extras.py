"""Optional libraries, imported when something needs them."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from understudy.errors import InputError


def imported(module: str, *, extra: str, needed_by: str = "this source") -> Any:
    """Import a module of an optional library.

    Args:
        module: its dotted name.
        extra: what of Understudy to install for it.
        needed_by: what needs it, in words.

    Raises:
        InputError: naming the extra, when the library is not installed.
    """
    library = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise InputError(
            f"{needed_by} needs {library}, which is not installed; install it with pip install 'understudy[{extra}]'"
        ) from error


def is_installed(library: str) -> bool:
    """Whether an optional library is there; it is not imported.

    Args:
        library: its name.

    Example:
        >>> is_installed("torch"), is_installed("no_such_library")
        (True, False)
    """
    return importlib.util.find_spec(library) is not None
