"""A program that ``torch.export`` saved, executed by torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from understudy.errors import InputError
from understudy.foreign import quiet, reason
from understudy.runtimes.card import parsed_card
from understudy.runtimes.pt2 import read_program
from understudy.runtimes.session import Port, shapes_of


@final
class TorchExportSession:
    """A ``.pt2`` file that is loaded once and run many times on the CPU.

    Args:
        path: the file.
        threads: while it runs; as many as torch has at each call when not given.

    Raises:
        InputError: when it cannot be loaded, or holds more than a graph and its weights.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        with quiet():
            program, self.card = read_program(path)
            self._module = program.module(check_guards=False)
        self._threads = threads
        card = parsed_card(self.card, whose=str(path))
        signature = program.graph_signature
        values = {node.name: node.meta.get("val") for node in program.graph.nodes}
        names = [name for name in signature.user_inputs if isinstance(name, str)]
        known = [port.name for port in card.inputs] if card is not None else names
        self.inputs = tuple(_port(shown, values[name]) for shown, name in zip(known, names, strict=True))
        self.outputs = tuple(
            _port(f"output{number}" if number else "logits", values[name])
            for number, name in enumerate(signature.user_outputs)
            if isinstance(name, str)
        )

    def call(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """All outputs, on the CPU, for one tensor per input in the graph's order.

        Raises:
            InputError: when the graph cannot take them.
        """
        before = torch.get_num_threads()
        if self._threads is not None and self._threads != before:
            torch.set_num_threads(self._threads)
        try:
            with torch.no_grad():
                found = self._module(*(tensor.detach().cpu() for tensor in tensors))
        except Exception as error:  # what torch raises for other shapes and types is of many classes
            shown = shapes_of(self.inputs, tensors)
            raise InputError(f"the exported program cannot take {shown}: {reason(error)}") from error
        finally:
            if torch.get_num_threads() != before:
                torch.set_num_threads(before)
        return [found] if isinstance(found, torch.Tensor) else list(found)


def _port(name: str, value: Any) -> Port:
    shape = [size if isinstance(size, int) else None for size in value.shape]
    return Port.of(name, value.dtype, shape)
