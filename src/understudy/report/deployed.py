"""Exported files that were measured, and the one that was chosen, as data."""

from __future__ import annotations

from understudy.report.part import Part


class Timed(Part):
    """How fast a file is."""

    median_ms: float
    """Median time of one call in milliseconds."""
    p90_ms: float
    """The time that nine calls in ten stay below."""
    p99_ms: float | None
    """The time that 99 calls in a hundred stay below; null where too few were timed to say."""
    batch: int
    """Samples per call."""
    threads: int
    """CPU threads."""
    runs: int
    """How many calls were timed."""


class Contender(Part):
    """One file in one runtime, or a model in PyTorch."""

    name: str
    """Of the file, or of the model."""
    runtime: str
    """What executed it; `torch eager` and `torch compiled` for a model."""
    path: str
    """The file that one can take, from the run directory."""
    before: str | None
    """What it was made smaller or faster from."""
    precision: str | None
    """In which numbers it works, as it says itself."""
    proved: bool | None
    """Whether its answers were compared with its model's when it was exported; null for a model."""
    decided: float | None
    """The metric on the split on which the bound is judged."""
    reported: float | None
    """The metric on the test split."""
    bytes: int | None
    """All its files together."""
    macs: int | None
    """Multiply-accumulates for one sample."""
    peak_memory_bytes: int | None
    """What opening it and running it once has added to a process of its own."""
    latency: Timed | None
    """Single samples, with the number of threads that is fastest."""
    throughput: float | None
    """Samples per second, at the best of the batch sizes and numbers of threads that were tried."""
    timings: list[Timed]
    """Every batch size and number of threads."""
    chosen: bool
    """Whether this is the one to deploy."""
    failed: str | None
    """Why it was not measured."""


class Deployment(Part):
    """One deploy stage with one seed."""

    run: str
    """Name of the run."""
    stage: str
    """Name of the deploy stage."""
    seed: int
    """The seed."""
    metric: str
    """The metric."""
    decided_on: str
    """The split on which the bound is judged."""
    reference: str
    """The model whose quality counts."""
    max_drop: float
    """How many points a file may be below it."""
    by: str
    """What the best file has: `latency`, `throughput` or `bytes`."""
    target: str | None
    """What the file may cost, as it was asked for."""
    kept: bool | None
    """Whether the chosen file keeps the bound; null where none was chosen."""
    met: bool | None
    """Whether it costs no more than the target allows; null where none was chosen."""
    text: str
    """The choice in one sentence."""
    file: str | None
    """Its copy, from the run directory."""
    contenders: list[Contender]
    """Everything that was measured in turns with it."""
