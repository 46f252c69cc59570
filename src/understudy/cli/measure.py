"""``understudy measure``: what a model costs, and how good it is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from understudy.cli.failures import tell
from understudy.cli.model_names import Built, Classes, ModelName, Size, build_named
from understudy.cli.output import AsJson, columns, write, write_json
from understudy.errors import InputError


def measure_model(
    model: ModelName,
    size: Size = None,
    classes: Classes = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="SOURCE", help="Measure quality on this set too: a folder, a file, a hub id."),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Which split of the data: test or validation.")] = "test",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Samples in one timed call.")] = 1,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads of the timed calls.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.01, help="How long to time for.")] = 1.0,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Measure the peak memory.")] = True,
    as_json: AsJson = False,
) -> None:
    """Measure a model: parameters, MACs, bytes, latency, throughput, memory; with --data also its quality.

    Example: [bold]understudy measure runs/demo#student --data sklearn/digits[/bold]
    """
    if split not in ("test", "validation"):
        raise InputError(f"--split {split!r}: expected 'test' or 'validation'")
    built = build_named(model, size=size, classes=classes)
    result = {"schema": 1, "model": model, **_cost(built)}
    tell(f"timing for {seconds:g} s")
    result |= _speed(built, batch, threads, seconds)
    result["peak_memory_bytes"] = _memory(built, batch, threads) if memory else None
    result["quality"] = _quality(built, data, split) if data is not None else None
    if as_json:
        write_json(result)
    else:
        write(_table(result))


def _cost(built: Built) -> dict[str, Any]:
    from understudy.measure.cost import cost
    from understudy.sources.forward import resized

    found = cost(built.module, resized(built.inputs, 1))
    return {"parameters": found.parameters, "macs": found.macs, "bytes": found.size_bytes}


def _speed(built: Built, batch: int, threads: int | None, seconds: float) -> dict[str, Any]:
    from understudy.measure.latency import latency, throughput

    timed = latency(built.module, built.inputs, batch=batch, threads=threads, seconds=seconds)
    return {
        "latency_ms": {
            "median": timed.median_ms,
            "p90": timed.p90_ms,
            "batch": timed.batch,
            "threads": timed.threads,
            "runtime": timed.runtime,
        },
        "throughput": throughput(built.module, built.inputs),
    }


def _memory(built: Built, batch: int, threads: int | None) -> int:
    from understudy.measure.memory import peak_memory_of

    return peak_memory_of(
        built.module, spec=built.spec, classes=built.classes, inputs=built.inputs, batch=batch, threads=threads
    )


def _quality(built: Built, data: str, split: str) -> dict[str, float]:
    from understudy.measure.quality import judge

    return judge({"model": built.module}, built.loader(data, split), built.task)["model"].quality()


def _table(result: dict[str, Any]) -> str:
    timed = result["latency_ms"]
    conditions = f"batch {timed['batch']}, {timed['threads']} threads, {timed['runtime']}"
    rows = [
        ("parameters", f"{result['parameters']:,}"),
        ("multiply-adds per sample", f"{result['macs']:,}"),
        ("size on disk", f"{result['bytes']:,} bytes"),
        ("latency, median", f"{timed['median']:.3g} ms ({conditions})"),
        ("latency, 90 %", f"{timed['p90']:.3g} ms"),
        ("throughput", f"{result['throughput']:,.0f} samples/s"),
    ]
    if result["peak_memory_bytes"] is not None:
        rows.append(("peak memory", f"{result['peak_memory_bytes'] / 2**20:,.1f} MiB"))
    rows += [(name.replace("_", " "), f"{value:.6g}") for name, value in (result["quality"] or {}).items()]
    return columns(rows, headers=("measured", result["model"]))
