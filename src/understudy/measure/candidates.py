"""What could be deployed, and what was measured of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from pydantic import Field

from understudy.edits import Quantized
from understudy.measure.apart import COMPILED, EAGER
from understudy.measure.latency import Latency
from understudy.sources.artifact_record import locate_artifact, read_record
from understudy.spec import Spec
from understudy.teachers.onnx_file import files_beside, read_onnx

SIMULATED = "int8, computed in float"
"""What PyTorch does with a network that NNCF has quantized: numbers are rounded, and nothing is faster by it."""


@dataclass(frozen=True)
class Candidate:
    """What could be deployed.

    Attributes:
        name: how results call it.
        path: an exported file, or a saved model, which PyTorch executes.
        before: the name of the candidate that this one was made smaller or faster from, if any.
        proved: whether its answers were compared with those of the model that it was exported from; None: not known.
        macs: multiply-accumulates of one sample, where they are known.
        params: parameters of the network, where they are known.
        compiled: whether a saved model is also run by ``torch.compile``.
    """

    name: str
    path: Path
    before: str | None = None
    proved: bool | None = None
    macs: int | None = None
    params: int | None = None
    compiled: bool = True


@final
class Measured(Spec):
    """One candidate in one runtime."""

    name: str
    """Of the candidate."""
    runtime: str
    """What executed it: ``onnxruntime``, ``openvino``, …, or ``torch eager`` and ``torch compiled``."""
    path: str
    """The file, or the saved model."""
    before: str | None = None
    """The candidate that it was made smaller or faster from."""
    proved: bool | None = None
    """Whether its answers were compared with those of the model that it was exported from."""
    precision: str | None = None
    """In which numbers it works, as it says itself."""
    bytes: int | None = None
    """All its files together."""
    macs: int | None = None
    """Multiply-accumulates of one sample."""
    params: int | None = None
    """Parameters of the network."""
    peak_memory_bytes: int | None = None
    """What opening it and running it once has added to a process that had imported the runtime."""
    quality: dict[str, dict[str, float]] = Field(default_factory=dict)
    """By split and metric."""
    timings: tuple[Latency, ...] = ()
    """One for each batch size and number of threads that it takes."""
    failed: str | None = None
    """Why it could not be measured."""

    @property
    def is_file(self) -> bool:
        """Whether it is an exported file, not a saved model."""
        return self.runtime not in (EAGER, COMPILED)

    @property
    def latency(self) -> Latency | None:
        """Single samples with the number of threads that is fastest; of the smallest batch where that is not 1."""
        if not self.timings:
            return None
        smallest = min(timing.batch for timing in self.timings)
        alone = [timing for timing in self.timings if timing.batch == smallest]
        return min(alone, key=lambda timing: timing.median_ms)

    @property
    def throughput(self) -> float | None:
        """The most samples per second, over batch sizes and threads; None where nothing was timed."""
        return max((1000.0 * timing.batch / timing.median_ms for timing in self.timings), default=None)


def files_of(path: Path) -> list[Path]:
    """All files that belong to an exported file or a saved model, itself first, without what only describes it.

    Args:
        path: the file, or the folder or record of a saved model.

    Raises:
        InputError: when one of them is not there.
    """
    if is_model(path):
        folder, name = locate_artifact(path)
        return [folder / f"{name}.json", folder / f"{name}.safetensors"]
    if path.suffix == ".xml":
        return [path, path.with_suffix(".bin")]
    return [path, *(path.parent / name for name in files_beside(read_onnx(path)))] if path.suffix == ".onnx" else [path]


def is_model(path: Path) -> bool:
    """Whether a path is that of a saved model: its folder, or one of its files."""
    return path.is_dir() or path.suffix in (".json", ".safetensors")


def is_simulated(path: Path) -> bool:
    """Whether PyTorch computes in float what a saved model has in int8."""
    return any(isinstance(edit, Quantized) for edit in read_record(*locate_artifact(path)).edits)
