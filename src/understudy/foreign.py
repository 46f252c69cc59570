"""What other libraries say: hidden while they work, in short where they fail."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

from understudy.errors import InputError


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the warnings, log lines and prints of other libraries; logging is afterwards as it was."""
    root, disabled, level = logging.root, logging.root.manager.disable, logging.root.level
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.setLevel(level)  # some converters raise it for everybody


@contextlib.contextmanager
def converting(what: str) -> Iterator[None]:
    """Say in one line why a conversion failed, and hide what libraries write meanwhile.

    Args:
        what: it is converted to.

    Raises:
        InputError: for whatever is raised inside.
    """
    try:
        with quiet():
            yield
    except InputError:
        raise
    except Exception as error:  # whatever tracing somebody's network raises
        raise InputError(f"the network cannot be converted to {what}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What another library's error says, in one short line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 200 else f"{text[:199]}…"
