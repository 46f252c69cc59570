"""Optional libraries, imported when something needs them."""

from __future__ import annotations

import importlib
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
