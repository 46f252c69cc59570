"""Which layer it is that a converter could not convert."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

from understudy.errors import InputError
from understudy.foreign import reason

_DECISIONS = ("data-dependent", "data dependent", "GuardOnDataDependent", "Python bool")
_READ_OUT = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::item")
"""Operators that turn a tensor's value into a Python number."""
_SHORTEST = 3
_TORCH = str(Path(torch.__file__).parent)


def of_decisions(error: Exception) -> bool:
    """Whether a network could not be traced because its Python code asks for the values of tensors."""
    text = f"{type(error).__name__} {error}"
    return any(words in text for words in _DECISIONS)


def blamed(what: str, error: Exception, flat: nn.Module, tensors: Sequence[Tensor]) -> InputError:
    """The error to raise when a network cannot be converted: which operator, and in which layer.

    Args:
        what: it was to be converted to.
        error: what the converter raised.
        flat: the network; it is run once to see which layer calls what.
        tensors: what it is called with.
    """
    try:
        calls, decisions = _seen(flat, tensors)
    except Exception:  # the converter's own error says more
        calls, decisions = {}, {}
    if of_decisions(error):
        return undecidable(what, next(iter(decisions.values()), None))
    text = " ".join(_texts(error))
    named = [(name, layer) for name, layer in calls.items() if _mentioned(name, text)]
    if named:
        listed = "; ".join(f"{name} in the layer {layer!r}" for name, layer in named[:4])
        return InputError(
            f"the network cannot be converted to {what}, which has no form of {listed}. Put other operators in their "
            f"place, or choose another format ({reason(_first(error))})"
        )
    return InputError(f"the network cannot be converted to {what}: {reason(_first(error))}")


def undecidable(what: str, layer: str | None) -> InputError:
    """The error to raise for a network whose Python code asks for the values of tensors.

    Args:
        what: it was to be converted to.
        layer: which asks; None where that is not known.
    """
    where = f" in the layer {layer!r}" if layer is not None else ""
    return InputError(
        f"the network cannot be converted to {what}: its forward decides by the values of its inputs{where}, and a "
        "file holds one way only. Write the decision with torch.where, or take it out of the network"
    )


def decisions_in(flat: nn.Module, tensors: Sequence[Tensor]) -> dict[tuple[str, int], str]:
    """The lines of source code that ask for the values of tensors, each with the layer that it runs in.

    Args:
        flat: the network, which is run once.
        tensors: what it is called with.
    """
    return _seen(flat, tensors)[1]


def _seen(flat: nn.Module, tensors: Sequence[Tensor]) -> tuple[dict[str, str], dict[tuple[str, int], str]]:
    """The innermost layer that is the first to call each operator, and that runs each line that reads a value."""
    operators: dict[str, str] = {}
    lines: dict[tuple[str, int], str] = {}
    inside: list[str] = []

    def keep(name: str) -> None:
        operators.setdefault(name, inside[-1])
        if name in _READ_OUT:
            lines.setdefault(_line(), inside[-1])

    with _followed(flat, inside), _Dispatched(keep), _Called(keep), torch.no_grad():
        flat(*tensors)
    return operators, lines


def _line() -> tuple[str, int]:
    """Where in the code that uses torch we are."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((_TORCH, __file__)):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


@contextmanager
def _followed(flat: nn.Module, inside: list[str]) -> Iterator[None]:
    """Keep the path of the layer that runs at the end of a list."""
    with ExitStack() as handles:
        for path, layer in flat.named_modules():
            shown = re.sub(r"^(flat\.?)?(module\.?)?", "", path) or type(layer).__name__

            def enter(*_: Any, name: str = shown) -> None:
                inside.append(name)

            def leave(*_: Any) -> None:
                inside.pop()

            handles.callback(layer.register_forward_pre_hook(enter).remove)
            handles.callback(layer.register_forward_hook(leave, always_call=True).remove)
        yield


class _Dispatched(TorchDispatchMode):
    def __init__(self, keep: Callable[[str], None]) -> None:
        super().__init__()
        self.keep = keep

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.keep(func.name().partition(".")[0])
        return func(*args, **(kwargs or {}))


class _Called(TorchFunctionMode):
    def __init__(self, keep: Callable[[str], None]) -> None:
        super().__init__()
        self.keep = keep

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = resolve_name(func) or getattr(func, "__qualname__", "")
        if name.startswith(("torch.fft", "torch.linalg", "torch.special", "torch.ops")):
            self.keep(name)
        return func(*args, **(kwargs or {}))


def _first(error: Exception) -> Exception:
    """What was raised first, of errors that were raised because of others."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def _texts(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__


def _mentioned(name: str, text: str) -> bool:
    """Whether a text speaks of an operator: ``aten::fft_fft``, ``aten.fft_fft.default``, ``aten._fft_r2c``."""
    space, _, own = name.rpartition("::") if "::" in name else (name.rpartition(".")[0], "", name.rpartition(".")[2])
    if len(own) < _SHORTEST:
        return False
    spaced = "_".join(space.split(".")[1:])  # torch.fft.fft is aten::fft_fft
    names = (own, f"{spaced}_{own}") if spaced else (own,)
    return any(re.search(rf"(::|\.|'){re.escape(each)}\b", text) for each in names)
