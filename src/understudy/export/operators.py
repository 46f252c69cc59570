"""Of which operators an exported file is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from understudy.extras import imported
from understudy.foreign import quiet
from understudy.runtimes.pt2 import read_program


@dataclass(frozen=True)
class Operators:
    """What stands in a file.

    Attributes:
        version: of the set of operators, such as ``opset 18``.
        counts: how often each is used, the most frequent first.
        training: those that behave as in training: a dropout that drops, a batch norm of the batch's own statistics.
    """

    version: str
    counts: dict[str, int]
    training: tuple[str, ...]


def operators_of(path: Path) -> Operators:
    """Read the operators of an exported file.

    Args:
        path: an ``.onnx``, ``.xml``, ``.pte`` or ``.pt2`` file.

    Raises:
        InputError: when the library for it is not installed, or a ``.pt2`` file is refused.
    """
    return {".onnx": _of_onnx, ".xml": _of_openvino, ".pte": _of_executorch, ".pt2": _of_torch_export}[path.suffix](
        path
    )


def _of_onnx(path: Path) -> Operators:
    onnx = imported("onnx", extra="export", needed_by="reading the operators of an ONNX file")
    model = onnx.load(path, load_external_data=False)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    training = []
    for node in model.graph.node:
        settings = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        mode = stored.get(node.input[2]) if node.op_type == "Dropout" and len(node.input) > 2 else None
        dropping = mode is not None and bool(onnx.numpy_helper.to_array(mode))
        if dropping or (node.op_type == "BatchNormalization" and settings.get("training_mode")):
            training.append(node.op_type)
    versions = ", ".join(f"{entry.domain or 'opset'} {entry.version}" for entry in model.opset_import)
    return Operators(versions, _counted(node.op_type for node in model.graph.node), tuple(training))


def _of_openvino(path: Path) -> Operators:
    openvino = imported("openvino", extra="export", needed_by="reading the operators of an OpenVINO file")
    model = openvino.Core().read_model(path)
    names = [node.get_type_name() for node in model.get_ops()]
    versions = sorted({node.get_type_info().version_id for node in model.get_ops()}, key=lambda name: (len(name), name))
    return Operators(versions[-1], _counted(names), ())  # it has none that only training uses


def _of_torch_export(path: Path) -> Operators:
    with quiet():
        program, _ = read_program(path)
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    names = [_name(node.target) for node in nodes]
    trained = [_name(node.target) for node in nodes if trains(node)]
    return Operators(f"torch {torch.__version__}", _counted(names), tuple(trained))


def _of_executorch(path: Path) -> Operators:
    with quiet():
        serialize = imported("executorch.exir._serialize._program", extra="phones")
        program = serialize.deserialize_pte_binary(path.read_bytes())
    plan = next(plan for plan in program.program.execution_plan if plan.name == "forward")
    names: list[str] = []
    for chain in plan.chains:
        for instruction in chain.instructions:
            call = vars(instruction.instr_args)
            if "op_index" in call:
                names.append(plan.operators[call["op_index"]].name)
            elif "delegate_index" in call:
                names.append(plan.delegates[call["delegate_index"]].id)
    return Operators(f"ExecuTorch {program.program.version}", _counted(names), ())  # lowering refuses training


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def trains(node: Any) -> bool:
    """Whether an operator of a torch program behaves as in training."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    names = [argument.name for argument in node.target._schema.arguments]
    values = dict(zip(names, node.args, strict=False)) | node.kwargs
    return any(values.get(name) is True for name in ("train", "training"))


def _name(target: Any) -> str:
    return str(target) if isinstance(target, torch._ops.OpOverload) else target.__name__
