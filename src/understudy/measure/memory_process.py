"""The process in which memory is measured: ``python -m understudy.measure.memory_process SETTINGS``."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from understudy.errors import UnderstudyError
from understudy.extras import imported
from understudy.measure.resident import peak, start_of_peak
from understudy.sources.artifact import load_artifact, save_artifact
from understudy.sources.artifact_record import read_record
from understudy.sources.forward import call, moved
from understudy.sources.model_specs import BuiltinModel
from understudy.sources.models import build_model


def main(settings: dict[str, Any]) -> int:
    """Print the peak of memory as one line of JSON.

    Args:
        settings: arguments of ``peak_memory``.

    Returns:
        The exit code.
    """
    if settings["threads"] is not None:
        torch.set_num_threads(settings["threads"])
    try:
        measure = _on_cpu if settings["device"] == "cpu" else _on_cuda
        print(json.dumps({"peak_bytes": measure(settings)}))
    except UnderstudyError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return error.exit_code
    return 0


def _on_cpu(settings: dict[str, Any]) -> int:
    _import_what_is_needed(settings)
    before = start_of_peak()
    _load_and_run(settings)
    return max(peak() - before, 0)


def _on_cuda(settings: dict[str, Any]) -> int:
    torch.cuda.reset_peak_memory_stats(settings["device"])
    _load_and_run(settings)
    return torch.cuda.max_memory_allocated(settings["device"])


def _load_and_run(settings: dict[str, Any]) -> None:
    loaded = load_artifact(settings["directory"], name=settings["name"])
    model = loaded.module.to(settings["device"]).eval()
    with torch.inference_mode():
        call(model, moved(loaded.example(settings["batch"]), settings["device"]))


def _import_what_is_needed(settings: dict[str, Any]) -> None:
    """Libraries, and what torch sets up at its first convolution, are part of the baseline, not of the model."""
    source = read_record(Path(settings["directory"]), settings["name"]).architecture.source
    libraries = {"torchvision": "vision", "timm": "vision", "transformers": "text"}
    if source in libraries:
        imported(source, extra=libraries[source])
    tiny, images = BuiltinModel(name="cnn", arguments={"widths": [2]}), torch.zeros(1, 3, 8, 8)
    with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
        model = build_model(tiny, classes=2, inputs=images)
        save_artifact(folder, model, spec=tiny, classes=("0", "1"), inputs=images)
        _load_and_run({"directory": folder, "name": "model", "batch": 1, "device": "cpu"})


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
