"""Showing how far a training is: live on a terminal, in lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol, TextIO, final

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

_LIVE_SECONDS = 0.25
_LINE_SECONDS = 5.0


class Progress(Protocol):
    """Whoever wants to be told how far a training is. All calls come from the thread that trains."""

    def stage(self, name: str, detail: str) -> None:
        """A stage of the run begins, such as ``("student", "seed 0")``."""
        ...

    def begin(self, epochs: float, steps: int, samples: int) -> None:
        """A training begins.

        Args:
            epochs: how many epochs it has.
            steps: how many steps.
            samples: how many samples were seen before, in a training that goes on.
        """
        ...

    def update(self, step: int, epoch: float, samples: int, terms: Mapping[str, float], loss: float) -> None:
        """The training has come this far; called a few times a second.

        Args:
            step: steps made.
            epoch: epochs made.
            samples: samples seen.
            terms: unweighted value of each term, averaged since the last update.
            loss: the weighted sum, averaged alike.
        """
        ...

    def validated(self, metrics: Mapping[str, float]) -> None:
        """The student was measured on the validation data."""
        ...

    def message(self, text: str) -> None:
        """Something that a person should read."""
        ...

    def end(self) -> None:
        """The training is over, by success or by an error."""
        ...


@final
class SilentProgress:
    """Says nothing."""

    def stage(self, name: str, detail: str) -> None:
        """Nothing."""

    def begin(self, epochs: float, steps: int, samples: int) -> None:
        """Nothing."""

    def update(self, step: int, epoch: float, samples: int, terms: Mapping[str, float], loss: float) -> None:
        """Nothing."""

    def validated(self, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class _Account:
    """The numbers behind a display: where the training is, how fast it goes, how long it will take."""

    def __init__(self) -> None:
        self.stage = "training"
        self.steps = 1
        self.step = 0
        self.epochs = 0.0
        self.epoch = 0.0
        self.quality = ""
        self.losses = ""
        self.samples_per_second = 0.0
        self._steps_per_second = 0.0
        self._last = (time.monotonic(), 0, 0)

    def begin(self, epochs: float, steps: int, samples: int) -> None:
        self.epochs, self.steps, self.step, self.epoch = epochs, steps, 0, 0.0
        self.quality = self.losses = ""
        self.samples_per_second = self._steps_per_second = 0.0
        self._last = (time.monotonic(), -1, samples)

    def update(self, step: int, epoch: float, samples: int, terms: Mapping[str, float], loss: float) -> None:
        now = time.monotonic()
        then, step_then, samples_then = self._last
        if step_then >= 0 and now > then:
            self._steps_per_second = _smoothed(self._steps_per_second, (step - step_then) / (now - then))
            self.samples_per_second = _smoothed(self.samples_per_second, (samples - samples_then) / (now - then))
        self._last = (now, step, samples)
        self.step, self.epoch = step, epoch
        shown = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
        self.losses = f"loss {loss:.4g}" + (f" ({shown})" if len(terms) > 1 else "")

    def validated(self, metrics: Mapping[str, float]) -> None:
        name, value = next(iter(metrics.items()))
        self.quality = f"{name} {value:.4g}"

    @property
    def left(self) -> str:
        if self._steps_per_second <= 0.0:
            return "-:-- left"
        minutes, seconds = divmod(int((self.steps - self.step) / self._steps_per_second), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d} left" if hours else f"{minutes}:{seconds:02d} left"

    @property
    def facts(self) -> list[str]:
        speed = f"{self.samples_per_second:,.0f} samples/s" if self.samples_per_second else ""
        epoch = f"epoch {self.epoch:.1f}/{self.epochs:g}"
        return [fact for fact in (epoch, speed, self.left, self.losses, self.quality) if fact]


@final
class RichProgress:
    """One live line on a terminal, drawn at most four times a second; messages stay above it.

    Args:
        stream: the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._account = _Account()
        self._bars: Bars | None = None
        self._task = TaskID(0)
        self._drawn = 0.0

    def stage(self, name: str, detail: str) -> None:
        """A heading above the line."""
        self._account.stage = name
        self._console.print(Text.assemble((name, "bold"), f"  {detail}"))

    def begin(self, epochs: float, steps: int, samples: int) -> None:
        """Draw the line for the first time."""
        self.end()
        self._account.begin(epochs, steps, samples)
        columns = (TextColumn("  "), BarColumn(bar_width=20), TextColumn("{task.fields[facts]}", markup=False))
        self._bars = Bars(*columns, console=self._console, auto_refresh=False, transient=True)
        self._task = self._bars.add_task("", total=steps, facts="")
        self._bars.start()
        self._drawn = 0.0

    def update(self, step: int, epoch: float, samples: int, terms: Mapping[str, float], loss: float) -> None:
        """Draw the line, unless that was done a moment ago."""
        now = time.monotonic()
        if self._bars is None or (now - self._drawn < _LIVE_SECONDS and step < self._account.steps):
            return
        self._drawn = now
        self._account.update(step, epoch, samples, terms, loss)
        self._draw(self._bars)

    def validated(self, metrics: Mapping[str, float]) -> None:
        """Show the headline metric from now on."""
        self._account.validated(metrics)

    def message(self, text: str) -> None:
        """A line above the live one."""
        self._console.print(Text(f"  {text}"))

    def end(self) -> None:
        """Leave the last state of the line behind."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            facts = [fact for fact in self._account.facts if not fact.endswith(" left")]
            self._console.print(Text("  " + " · ".join(facts), style="dim"))

    def _draw(self, bars: Bars) -> None:
        bars.update(self._task, completed=self._account.step, facts=" · ".join(self._account.facts))
        bars.refresh()


@final
class PlainProgress:
    """Lines for logs and pipes, one every few seconds, and one at the end.

    Args:
        stream: where they go.
        every: seconds between two lines.
    """

    def __init__(self, stream: TextIO, *, every: float = _LINE_SECONDS) -> None:
        self._stream = stream
        self._every = every
        self._account = _Account()
        self._running = False
        self._printed = 0.0
        self._pending = False

    def stage(self, name: str, detail: str) -> None:
        """A line with its name."""
        self._account.stage = name
        self._print(f"{name}: {detail}" if detail else name)

    def begin(self, epochs: float, steps: int, samples: int) -> None:
        """A line with the size of what begins."""
        self._account.begin(epochs, steps, samples)
        self._running, self._printed, self._pending = True, time.monotonic(), False
        self._print(f"{self._account.stage}: {epochs:g} epochs, {steps:,} steps")

    def update(self, step: int, epoch: float, samples: int, terms: Mapping[str, float], loss: float) -> None:
        """A line, unless there was one a moment ago."""
        self._account.update(step, epoch, samples, terms, loss)
        self._pending = True
        if time.monotonic() - self._printed >= self._every:
            self._line()

    def validated(self, metrics: Mapping[str, float]) -> None:
        """Show the headline metric in the next line."""
        self._account.validated(metrics)
        self._pending = True

    def message(self, text: str) -> None:
        """A line of its own."""
        self._print(f"{self._account.stage}: {text}" if self._running else text)

    def end(self) -> None:
        """A line with the last state."""
        if self._running and self._pending:
            self._line()
        self._running = False

    def _line(self) -> None:
        account = self._account
        self._printed, self._pending = time.monotonic(), False
        self._print(" · ".join([f"{account.stage}: step {account.step:,}/{account.steps:,}", *account.facts]))

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


def progress_for(stream: TextIO) -> Progress:
    """The live display for a terminal, plain lines for anything else."""
    return RichProgress(stream) if stream.isatty() else PlainProgress(stream)


def _smoothed(before: float, now: float) -> float:
    return now if before <= 0.0 else 0.7 * before + 0.3 * now
