"""The process in which a model or an exported file is run: ``python -m understudy.measure.apart_process SETTINGS``.

It answers with one line of JSON when it has opened the file, and with one for each command that it reads from stdin.
Inputs and logits are safetensors files.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast, final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils import _pytree as trees

from understudy.errors import UnderstudyError
from understudy.foreign import quiet, reason
from understudy.measure.apart import COMPILED, EAGER, inputs_of
from understudy.measure.latency import CalledInTurns
from understudy.measure.resident import peak, start_of_peak
from understudy.runtimes import RUNTIMES, DeployedModel, open_model
from understudy.sources.artifact import load_artifact
from understudy.sources.forward import call, each_tensor, resized

_MODULES = {"executorch": "executorch.runtime"}
"""What is imported for a runtime, where that is not its library as a whole."""


def main(settings: dict[str, Any]) -> int:
    """Open a model or a file, and do what is asked until stdin ends.

    Args:
        settings: its ``path`` and ``runtime``, the number of ``threads``, and the file of example ``inputs``.

    Returns:
        The exit code.
    """
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers, torch.inference_mode():
        os.dup2(2, 1)  # what libraries print must not come between the answers
        served: list[_Served] = []
        print(json.dumps(_told(lambda: served.append(_Served(settings)) or served[0].about)), file=answers, flush=True)
        for line in sys.stdin if served else ():
            print(json.dumps(_told(lambda: served[0].answer(json.loads(line)))), file=answers, flush=True)  # noqa: B023
    return 0


def _told(do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return do()
    except UnderstudyError as error:
        return {"error": " ".join(str(error).split())}
    except Exception as error:  # whatever the compiler or somebody's operator raises
        return {"error": f"{type(error).__name__}: {reason(error)}"}


@final
class _Served:
    """An opened model, and what it is asked."""

    def __init__(self, settings: dict[str, Any]) -> None:
        torch.set_num_threads(settings["threads"])
        self._inputs = inputs_of(load_file(settings["inputs"]))
        self._timed: CalledInTurns | None = None
        self._open(Path(settings["path"]), settings["runtime"])

    def _open(self, path: Path, runtime: str) -> None:
        if runtime in (EAGER, COMPILED):
            before = start_of_peak()
            self._model: nn.Module = load_artifact(path).module.eval()
        else:
            with quiet():
                importlib.import_module(_MODULES.get(runtime, RUNTIMES[runtime].library))
            before = start_of_peak()
            self._model = open_model(path, runtime=runtime, threads=torch.get_num_threads())
        self._batch = self._model.batch_size if isinstance(self._model, DeployedModel) else None
        call(self._model, resized(self._inputs, self._batch or 1))
        found: dict[str, Any] = {"peak_bytes": max(peak() - before, 0), "card": None}
        if runtime == COMPILED:
            found["peak_bytes"] = None
            self._model = cast(nn.Module, torch.compile(self._model))
        if isinstance(self._model, DeployedModel) and self._model.card is not None:
            found["card"] = self._model.card.model_dump(mode="json", by_alias=True)
        self.about = found

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do one thing."""
        if command["do"] == "logits":
            save_file({"logits": self._logits(inputs_of(load_file(command["inputs"])))}, command["to"])
            return {}
        if command["do"] == "warm_up":
            self._timed = CalledInTurns(self._model, resized(self._inputs, command["batch"]))
            self._timed.warm_up(command["seconds"])
            return {}
        assert self._timed is not None
        before = len(self._timed.times)
        self._timed.run_block()
        return {"times": self._timed.times[before:]}

    def _logits(self, inputs: Any) -> Tensor:
        count = len(trees.tree_leaves(inputs)[0])
        if self._batch is None:
            return _first(call(self._model, inputs)).contiguous()
        parts = [
            _first(call(self._model, resized(each_tensor(inputs, lambda tensor: tensor[begin:]), self._batch)))  # noqa: B023
            for begin in range(0, count, self._batch)
        ]
        return torch.cat(parts)[:count].contiguous()


def _first(output: Any) -> Tensor:
    found = output["logits"] if isinstance(output, Mapping) and "logits" in output else trees.tree_leaves(output)[0]
    return found.float()


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
