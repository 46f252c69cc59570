"""A saved model or an exported file in a process of its own, so that what happens there stays there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from understudy.errors import RunError
from understudy.measure.latency import enough

EAGER, COMPILED = "torch eager", "torch compiled"
"""What executes a saved model."""
_MOST_SECONDS = 600.0


@final
class Apart:
    """A file that another process opens and runs. It begins at once; :meth:`opened` waits for it.

    Args:
        path: the file, or the record of a saved model.
        runtime: what executes it: :data:`EAGER`, :data:`COMPILED` or one of ``understudy.runtimes.RUNTIMES``.
        threads: CPU threads.
        inputs: the example inputs, as :func:`write_inputs` leaves them.
        scratch: a folder for what goes to and fro; it must outlive this.
        most_seconds: how long one answer may take.
    """

    def __init__(
        self,
        path: Path,
        *,
        runtime: str,
        threads: int,
        inputs: Path,
        scratch: Path,
        most_seconds: float = _MOST_SECONDS,
    ) -> None:
        settings = {"path": str(path), "runtime": runtime, "threads": threads, "inputs": str(inputs)}
        self.failure: str | None = None
        self._most_seconds = most_seconds
        self._folder = Path(tempfile.mkdtemp(dir=scratch))
        self._errors = (self._folder / "stderr.txt").open("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "understudy.measure.apart_process", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
        )

    def opened(self) -> dict[str, Any]:
        """What there is to say about the file, once it has run for the first time.

        Returns:
            ``peak_bytes``, the memory that opening and running it has added, None where that is not known; ``card``,
            what the file says about itself, or None.

        Raises:
            RunError: when it could not be opened, or its process ended; it is then of no more use.
        """
        return self._answer(fatal=True)

    def ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Have one thing done.

        Args:
            command: what to ``do``, with what it needs, as JSON.

        Raises:
            RunError: when it could not be done; :attr:`failure` says so where nothing more can be.
        """
        if self.failure is None and self._process.stdin is not None:
            try:
                self._process.stdin.write(json.dumps(dict(command)) + "\n")
                self._process.stdin.flush()
            except OSError:
                pass  # it has ended; reading its answer finds out why
        return self._answer()

    def logits(self, inputs: Any) -> Tensor:
        """What it answers, as float32.

        Raises:
            RunError: when it cannot.
        """
        given, found = self._folder / "inputs.safetensors", self._folder / "logits.safetensors"
        write_inputs(inputs, given)
        self.ask({"do": "logits", "inputs": str(given), "to": str(found)})
        return load_file(found)["logits"]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _answer(self, *, fatal: bool = False) -> dict[str, Any]:
        if self.failure is not None or self._process.stdout is None:
            raise RunError(self.failure or "its process has ended")
        late = threading.Event()
        timer = threading.Timer(self._most_seconds, lambda: (late.set(), self._process.kill()))
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line.endswith("\n"):
            self.failure = f"it took more than {self._most_seconds:.0f} s; stopped" if late.is_set() else self._end()
            raise RunError(self.failure)
        answer = json.loads(line)
        if "error" in answer:
            self.failure = answer["error"] if fatal else None
            raise RunError(answer["error"])
        return answer

    def _end(self) -> str:
        code = self._process.wait()
        if code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        self._errors.seek(0)
        last = self._errors.read().strip().rpartition("\n")[2]
        return f"its process ended with code {code}{f': {last}' if last else ''}"


@final
class AnsweredApart(nn.Module):
    """A file in another process, called like the network that it was made from.

    Args:
        apart: it, opened.
    """

    def __init__(self, apart: Apart) -> None:
        super().__init__()
        self._apart = apart

    def forward(self, *positional: Any, **named: Any) -> Tensor:
        """Its logits.

        Raises:
            RunError: when it cannot answer.
        """
        return self._apart.logits(named or positional)


@final
class TimedApart:
    """A file in another process that is timed in turns with others. One that fails is done.

    Args:
        apart: it, opened.
        batch: samples per call.
    """

    def __init__(self, apart: Apart, *, batch: int) -> None:
        self.times: list[float] = []
        self.failure: str | None = None
        self._apart, self._batch = apart, batch

    def warm_up(self, seconds: float) -> None:
        """Run untimed."""
        self._ask({"do": "warm_up", "batch": self._batch, "seconds": seconds})

    def run_block(self) -> None:
        """Time one block of calls, over there."""
        self.times += self._ask({"do": "block"}).get("times", [])

    def done(self, seconds: float, calls: int) -> bool:
        """Whether enough was measured, or nothing more can be."""
        return self.failure is not None or enough(self.times, seconds=seconds, calls=calls)

    def _ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._apart.ask(command)
        except RunError as error:
            self.failure = str(error)
            return {}


def write_inputs(inputs: Any, path: Path) -> None:
    """Write a batch's inputs (a tensor, or a tuple or mapping of them) as safetensors."""
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    named = inputs if isinstance(inputs, Mapping) else dict(enumerate(inputs))
    save_file({str(name): tensor.detach().cpu().contiguous() for name, tensor in named.items()}, path)


def inputs_of(tensors: Mapping[str, Tensor]) -> Any:
    """The inputs that :func:`write_inputs` wrote; several by position as a tuple, by name as a mapping."""
    if all(name.isdecimal() for name in tensors):
        return tuple(tensors[str(number)] for number in range(len(tensors)))
    return dict(tensors)
