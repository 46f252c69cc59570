"""A program for phones and other small devices, in ExecuTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from understudy.errors import InputError
from understudy.extras import imported
from understudy.foreign import quiet, reason
from understudy.runtimes.card import KEY, Card, parsed_card
from understudy.runtimes.session import Port, shapes_of

_FORWARD = "forward"


@final
class ExecuTorchSession:
    """A ``.pte`` file that is loaded once and run many times on the CPU.

    A program has room for a number of samples that was fixed when it was written. A larger batch goes through it in
    parts. The names of its inputs are those of the card that we write into it.

    Args:
        path: the file.
        threads: for all programs of this process; as many as torch has at that moment when not given.

    Raises:
        InputError: when ExecuTorch is not installed, or cannot load the file.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        with quiet():
            imported("executorch", extra="phones", needed_by="running an ExecuTorch file")
            runtime = imported("executorch.runtime", extra="phones")
            library = imported("executorch.extension.pybindings.portable_lib", extra="phones")
        wanted = threads or torch.get_num_threads()
        if library._threadpool_get_thread_count() != wanted:
            library._unsafe_reset_threadpool(wanted)
        try:
            # Read here, so that a file that is replaced meanwhile does not change under a program that is running.
            self._program = runtime.Runtime.get().load_program(path.read_bytes())
            self._forward = self._program.load_method(_FORWARD)
            seen = self._program.metadata(_FORWARD)
        except Exception as error:  # the library's own classes and RuntimeError
            raise InputError(f"{path} cannot be run by ExecuTorch: {reason(error)}") from error
        self.card = self._read_card()
        card = parsed_card(self.card, whose=str(path))
        self.inputs = tuple(
            _port(seen.input_tensor_meta(number), _name(card, number)) for number in range(seen.num_inputs())
        )
        self.outputs = tuple(
            _port(seen.output_tensor_meta(number), f"output{number}" if number else "logits")
            for number in range(seen.num_outputs())
        )
        self._most = seen.input_tensor_meta(0).sizes()[0] if seen.num_inputs() else 1

    def call(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """All outputs, on the CPU, for one tensor per input in the program's order.

        Raises:
            InputError: when the program cannot take them.
        """
        for port, tensor in zip(self.inputs, tensors, strict=True):
            if tensor.dtype != port.dtype:  # it would read the bytes of another type
                raise InputError(f"the ExecuTorch program takes {port}, it was given {tensor.dtype}")
        ready = [tensor.detach().cpu().contiguous() for tensor in tensors]
        parts = [self._run(list(part)) for part in zip(*(tensor.split(self._most) for tensor in ready), strict=True)]
        return parts[0] if len(parts) == 1 else [torch.cat(answers) for answers in zip(*parts, strict=True)]

    def _run(self, tensors: list[Tensor]) -> list[Tensor]:
        try:
            return list(self._forward.execute(tensors))
        except RuntimeError as error:
            shown = shapes_of(self.inputs, tensors)
            raise InputError(f"the ExecuTorch program cannot take {shown}: {reason(error)}") from error

    def _read_card(self) -> str | None:
        if KEY not in self._program.method_names:
            return None
        found = self._program.load_method(KEY).execute([])
        return found[0] if found and isinstance(found[0], str) else None


def _name(card: Card | None, number: int) -> str:
    return card.inputs[number].name if card is not None and number < len(card.inputs) else f"input{number}"


def _port(tensor: Any, name: str) -> Port:
    return Port.of(name, _DTYPES.get(tensor.dtype(), torch.float32), (None, *tensor.sizes()[1:]))


_DTYPES = {
    0: torch.uint8,
    1: torch.int8,
    2: torch.int16,
    3: torch.int32,
    4: torch.int64,
    5: torch.float16,
    6: torch.float32,
    7: torch.float64,
    11: torch.bool,
}
"""ExecuTorch's numbers of types, as in torch's own C++."""
