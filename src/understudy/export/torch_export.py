"""Writing programs of ``torch.export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from understudy.export.blame import blamed
from understudy.export.traced import Traced, program_of
from understudy.foreign import quiet
from understudy.runtimes.card import KEY
from understudy.runtimes.pt2 import NAMESPACES


def write_torch_export(network: Traced, path: Path, card: str) -> bool:
    """Write a network as a ``.pt2`` file: operations and weights, without anything of Python's or of this machine's.

    Args:
        network: what to write.
        path: the file.
        card: what it carries about itself.

    Returns:
        Whether the number of tokens may change in it.

    Raises:
        InputError: when it cannot be traced, naming the layer.
    """
    program, tokens = program_of(network, what="torch.export")
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            _refuse_strange(node.target, network)
            node.meta = {key: value for key, value in node.meta.items() if key == "val"}
    program._guards_code = []  # Python code that would run when it is loaded; the proof tries the shapes instead
    program._example_inputs = None
    with quiet(), path.open("wb") as file:
        torch.export.save(program, file, extra_files={KEY: card})
    return tokens


def _refuse_strange(target: Any, network: Traced) -> None:
    if isinstance(target, torch._ops.OpOverload) and target.namespace not in NAMESPACES:
        error = RuntimeError(f"{target.name()} is not one of torch's own operators")
        raise blamed("torch.export", error, network.flat, network.tensors)
