"""Writing programs for ExecuTorch: phones and other small devices."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from understudy.export.blame import blamed
from understudy.export.traced import Traced, program_of
from understudy.extras import imported
from understudy.foreign import quiet
from understudy.runtimes.card import KEY

SAMPLES = 32
"""How many samples a program has room for; a larger batch goes through in parts."""
_TOKENS = 4


def write_executorch(network: Traced, path: Path, card: str, *, samples: int = SAMPLES) -> bool:
    """Write a network as a ``.pte`` file whose work XNNPACK does where it can.

    A program has room for so many samples; where the number of tokens may change, for four times the example's.
    Recurrent networks take one sample at a time: their loops are written out for one number of samples.

    Args:
        network: what to write.
        path: the file.
        card: what it carries about itself.
        samples: how many it has room for.

    Returns:
        Whether the number of tokens may change in it.

    Raises:
        InputError: when ExecuTorch is not installed, the network is quantized by NNCF, or an operator has no form
            there, naming the layer.
    """
    with quiet():
        imported("executorch", extra="phones", needed_by="writing an ExecuTorch file")
        lowering = imported("executorch.exir", extra="phones")
        xnnpack = imported("executorch.backends.xnnpack.partition.xnnpack_partitioner", extra="phones")
    program, tokens = (_one_at_a_time(network), False) if network.recurrent else _several(network, samples)
    try:
        with quiet(), torch.no_grad():
            lowered = lowering.to_edge_transform_and_lower(
                program, partitioner=[xnnpack.XnnpackPartitioner()], constant_methods={KEY: card}
            ).to_executorch()
    except Exception as error:  # ExecuTorch's own classes
        raise blamed("ExecuTorch", error, network.flat, network.tensors) from error
    path.write_bytes(lowered.buffer)
    return tokens


def _several(network: Traced, samples: int) -> tuple[Any, bool]:
    tokens = network.tensors[0].shape[-1] if not network.tokens else network.tensors[0].shape[1]
    roomy, changing = program_of(network, what="ExecuTorch", most=(samples, tokens * _TOKENS))
    if changing or not network.tokens:
        return roomy, changing
    # Its table of positions may have no room for more.
    return program_of(network, what="ExecuTorch", most=(samples, tokens))


def _one_at_a_time(network: Traced) -> Any:
    one = replace(network, tensors=tuple(tensor[:1] for tensor in network.tensors), tokens=False)
    try:
        with quiet(), torch.no_grad(), redirect_stderr(io.StringIO()):
            return torch.export.export(one.flat, one.tensors)
    except Exception as error:
        raise blamed("ExecuTorch", error, network.flat, network.tensors) from error
