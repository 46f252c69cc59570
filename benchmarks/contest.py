"""How contenders are compared: in turns, in one run, by the ratio within each round."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUSY = 0.5
"""Load per core above which a warning says that something else is running."""


def arguments(description: str, *, data: str | None = None, only: str | None = None) -> argparse.Namespace:
    """What every benchmark can be told.

    Args:
        description: the first line of ``--help``.
        data: what ``--data`` may name; None for a benchmark without data.
        only: what ``--only`` may name; None for a benchmark that is run as a whole.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks", help="folder of the JSON file")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; the figures mean nothing")
    if data is not None:
        parser.add_argument("--data", help=f"{data}: folder, file or hub id; random pixels when not given")
    if only is not None:
        parser.add_argument("--only", nargs="+", metavar="NAME", help=f"{only}; all when not given")
    return parser.parse_args()


def in_turns(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run all contenders once in each round, a different one first each time.

    Args:
        contenders: each runs once and returns its figure.
        rounds: how often.

    Returns:
        The figures of each contender, one per round.
    """
    names = list(contenders)
    figures: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            figures[name].append(contenders[name]())
            print(f"  round {number + 1}/{rounds}  {name}: {figures[name][-1]:.4g}", file=sys.stderr, flush=True)
    return figures


def case(name: str, unit: str, figures: Mapping[str, list[float]], **settings: Any) -> dict[str, Any]:
    """One table of a result.

    Args:
        name: what was compared on.
        unit: of the figures.
        figures: those of each contender, one per round.
        settings: whatever else there is to record.
    """
    medians = {contender: statistics.median(values) for contender, values in figures.items()}
    measured = {"rounds": dict(figures), "medians": medians, "ratios": {}, "goals": []}
    return {"name": name, "unit": unit, **settings, **measured}


def compare(
    table: dict[str, Any], name: str, baseline: str, *, at_most: float | None = None, at_least: float | None = None
) -> None:
    """Add to a table the ratio of two contenders, taken within each round, and the goal for its median."""
    rounds = table["rounds"]
    if name not in rounds or baseline not in rounds:
        return
    ratios = [ours / theirs for ours, theirs in zip(rounds[name], rounds[baseline], strict=True)]
    median = statistics.median(ratios)
    label = f"{name} / {baseline}"
    table["ratios"][label] = {"rounds": ratios, "min": min(ratios), "median": median, "max": max(ratios)}
    add_goal(table, label, median, at_most=at_most, at_least=at_least)


def add_goal(
    table: dict[str, Any], label: str, value: float, *, at_most: float | None = None, at_least: float | None = None
) -> None:
    """Add a goal to a table, and whether it is met."""
    if at_most is not None:
        table["goals"].append({"what": label, "at_most": at_most, "value": value, "met": value <= at_most})
    if at_least is not None:
        table["goals"].append({"what": label, "at_least": at_least, "value": value, "met": value >= at_least})


def warn_if_busy() -> float | None:
    """The machine's load over the last minute, with a warning when it is not idle; None where it is not known."""
    if sys.platform == "win32":
        return None
    load = os.getloadavg()[0]
    if load > BUSY * (os.cpu_count() or 1):
        print(f"warning: the machine is busy (load {load:.1f}); the figures will be off", file=sys.stderr)
    return round(load, 2)


def finish(name: str, options: argparse.Namespace, tables: list[dict[str, Any]], **more: Any) -> None:
    """Print the tables and write ``NAME.json``.

    Args:
        name: of the file.
        options: as parsed.
        tables: what :func:`case` made.
        more: further entries of the file.
    """
    # Imported only now: the processes that measure must not hold what they do not need.
    from understudy.pipeline.environment import environment

    result = {
        "schema": 1,
        "name": name,
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "quick": options.quick,
        **more,
        "cases": tables,
        "machine": environment(),
    }
    for table in tables:
        print(_text(table))
    if options.quick:
        print("\na quick run: these figures mean nothing")
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / f"{name}.json"
    target.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\n{target}")


def _text(table: dict[str, Any]) -> str:
    lines = [f"\n{table['name']}, {table['unit']}"]
    for name, values in table["rounds"].items():
        lines.append(f"  {name:<32}{table['medians'][name]:10.4g}   ({min(values):.4g} to {max(values):.4g})")
    for name, ratio in table["ratios"].items():
        lines.append(f"  {name:<48}{ratio['median']:6.3f}   ({ratio['min']:.3f} to {ratio['max']:.3f})")
    for goal in table["goals"]:
        bound = f"≤ {goal['at_most']:g}" if "at_most" in goal else f"≥ {goal['at_least']:g}"
        lines.append(f"  goal {goal['what']} {bound}: {goal['value']:.4g}, {'met' if goal['met'] else 'NOT MET'}")
    return "\n".join(lines)
