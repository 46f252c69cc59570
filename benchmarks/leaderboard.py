"""Every method on the same small job: accuracy over some seeds, gain over the control, time and memory.

    python benchmarks/leaderboard.py mnist --data ylecun/mnist         # 500 labels, the other images unlabelled
    python benchmarks/leaderboard.py cifar10 --data uoft-cs/cifar10    # all labels, few epochs

One teacher, one student, equal steps for all. A row's objective is cross-entropy plus the method at its own settings.
Weights of methods on outputs are the authors', as far as WEIGHTS states one, else 1. Those of methods on layers do not
carry over to layers of other sizes and to few labels, so theirs are set by one rule: for a student that was trained
with cross-entropy alone for a sixth of the steps, the term's gradient is as long as that of cross-entropy, over four
batches. Nothing is tuned per row.

Where few images are labelled they are repeated until they are a third of each batch. The control trains without a
teacher on the labelled images for as many steps. Rows run side by side, with one thread each; a row's step time is the
median ratio to steps with cross-entropy alone that are taken in turns with its own, its memory that of the whole
process over a process that trains with cross-entropy alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from contest import ROOT, warn_if_busy

SETTINGS: dict[str, dict[str, Any]] = {
    "mnist": {"labels": 500, "teacher": [16, 32, 64], "student": [8, 16, 32], "teacher_epochs": 3, "steps": 500},
    "cifar10": {"labels": None, "teacher": [24, 48, 96], "student": [8, 16, 32], "teacher_epochs": 3, "steps": 400},
}


WEIGHTS = {"dist": 2.0, "dynamic_temperature": 3.0}
"""Of methods on outputs, other than 1."""

WITHOUT_A_METHOD = ("control", "no distillation")
"""The rows that all others are held against: the labelled images alone, and the same batches as the methods see."""


def parsed() -> argparse.Namespace:
    """What it can be told."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", choices=SETTINGS)
    parser.add_argument("--data", required=True, help="folder or hub id")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="rows that run side by side")
    parser.add_argument("--only", nargs="*", help="kinds of methods; all when not given")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "leaderboard", help="folder of the result")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; the figures mean nothing")
    return parser.parse_args()


def in_a_process(work: dict[str, Any]) -> dict[str, Any]:
    """Run one row."""
    program = str(Path(__file__).with_name("leaderboard_process.py"))
    told = json.dumps(work)
    done = subprocess.run(
        [sys.executable, program, told],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    row = json.loads(done.stdout)
    shown = f"{statistics.fmean(row['accuracies']):.4f}" if "accuracies" in row else row["refused"]
    print(f"{row['name']}: {shown}", file=sys.stderr, flush=True)
    return row


def measured(options: argparse.Namespace, setting: dict[str, Any], kinds: list[str]) -> dict[str, Any]:
    """The teacher's accuracy and all rows, by name."""
    seeds = list(range(options.seeds))
    with tempfile.TemporaryDirectory() as folder:
        work = {"setting": setting, "seeds": seeds, "teacher": str(Path(folder) / "teacher.pt"), "weights": WEIGHTS}
        rows = {"teacher": in_a_process({**work, "name": "teacher"})}
        with ThreadPoolExecutor(options.jobs) as pool:
            for row in pool.map(in_a_process, [{**work, "name": name} for name in [*WITHOUT_A_METHOD, *kinds]]):
                rows[row["name"]] = row
    return rows


def markdown(title: str, rows: dict[str, Any]) -> str:
    """The rows as a table, best first; below it the methods that these networks do not fit."""
    from understudy.report.statistics import difference, spread

    control, plain = rows["control"], rows["no distillation"]
    numbered = dict(enumerate(control["accuracies"]))
    lines = [
        f"# {title}\n",
        f"Teacher {100 * rows['teacher']['accuracies'][0]:.2f} %. Gain: over the control, by seed, with its 95 % "
        "interval; where the interval holds zero, the method did not help.\n",
        "| method | weight | accuracy, % | gain, points | helps | step time | memory |",
        "|---|---:|---:|---:|---|---:|---:|",
    ]
    trained = [row for name, row in rows.items() if "accuracies" in row and name != "teacher"]
    for row in sorted(trained, key=lambda row: -statistics.fmean(row["accuracies"])):
        gain = difference(dict(enumerate(row["accuracies"])), numbered)
        shown, helps = "–", "–"
        if gain is not None and gain.interval is not None and row is not control:
            low, high = gain.interval
            shown = f"{100 * gain.mean:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
            helps = "yes" if low > 0.0 else "harms" if high < 0.0 else "no"
        mean, deviation = statistics.fmean(row["accuracies"]), spread(row["accuracies"]) or 0.0
        lines.append(
            f"| {row['name']} | {format(row['weight'], '.2g') if 'weight' in row else '–'} "
            f"| {100 * mean:.2f} ± {100 * deviation:.2f} | {shown} | {helps} | {row['step_ratio']:.2f} × "
            f"| {(row['peak_bytes'] - plain['peak_bytes']) / 2**20:+.0f} MiB |"
        )
    refused = [f"- {row['name']}: {row['refused'].splitlines()[0]}" for row in rows.values() if "refused" in row]
    if refused:
        lines += ["", "Not for these networks:\n", *refused]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run a table and write it."""
    from understudy.methods import METHODS
    from understudy.pipeline.environment import environment

    options, load_before = parsed(), warn_if_busy()
    setting = {"data": options.data, "batch": 64, "lr": 0.02, **SETTINGS[options.table]}
    if options.quick:
        options.seeds, setting = 2, {**setting, "labels": 50, "steps": 3, "teacher_epochs": 0.1}
    kinds = [method.model_fields["kind"].default for method in METHODS if "classes" in method.answers]
    chosen = [kind for kind in kinds if kind != "cross_entropy" and (not options.only or kind in options.only)]
    rows = measured(options, setting, chosen)
    result = {
        "schema": 1,
        "name": options.table,
        "command": shlex.join(["python", "benchmarks/leaderboard.py", *sys.argv[1:]]),
        "quick": options.quick,
        "setting": setting,
        "seeds": options.seeds,
        "load_before": load_before,
        "rows": rows,
        "machine": environment(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{options.table}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    labels = "all labels" if setting["labels"] is None else f"{setting['labels']} labels"
    text = markdown(f"{options.table}, {labels}, {setting['steps']} steps, {options.seeds} seeds", rows)
    (options.out / f"{options.table}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
