"""Every method on the same small job: accuracy over five seeds, gain over the control, time and memory.

    python benchmarks/leaderboard.py mnist --data ylecun/mnist         # 500 labels, the other images unlabelled
    python benchmarks/leaderboard.py cifar10 --data uoft-cs/cifar10    # all labels, few epochs

One teacher, one student, equal steps for all. A row's objective is cross-entropy plus the method at its own settings
and the weight that its authors use, as far as WEIGHTS states one, else 1; nothing is tuned per row. Where few images
are labelled they are repeated until they are a third of each batch. The control trains without a teacher on the
labelled images for as many steps. Time and memory are those of the fastest seed's step and of the whole process, over
a training with cross-entropy alone on the same batches.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from contest import ROOT, warn_if_busy

WEIGHTS: dict[str, float] = {
    # RepDistiller's (Tian et al. 2020).
    "attention_transfer": 1000.0,
    "contrastive": 0.8,
    "hint": 100.0,
    "neuron_selectivity": 50.0,
    "probabilistic_transfer": 30000.0 / 128,  # their mean is over pairs, ours over samples
    "relational_angle": 50.0,
    "relational_distance": 25.0,
    "similarity_preserving": 3000.0,
    # The authors'; for masked_generative times the values of the teacher's last feature, as ours is a mean over them.
    "activation_boundaries": 0.003,
    "channel_wise": 50.0,
    "dist": 2.0,
    "masked_generative": 7e-5 * 64 * 7 * 7,
    "overhaul": 0.001,
}
"""Weights other than 1."""

SETTINGS: dict[str, dict[str, Any]] = {
    "mnist": {"labels": 500, "teacher": [16, 32, 64], "student": [4, 8, 16], "teacher_epochs": 4, "steps": 600},
    "cifar10": {"labels": None, "teacher": [32, 64, 128], "student": [8, 16, 32], "teacher_epochs": 12, "steps": 1500},
}


def parsed() -> argparse.Namespace:
    """What it can be told."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", choices=SETTINGS)
    parser.add_argument("--data", required=True, help="folder or hub id")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--only", nargs="*", help="kinds of methods; all when not given")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "leaderboard", help="folder of the result")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; the figures mean nothing")
    return parser.parse_args()


def in_a_process(work: dict[str, Any]) -> dict[str, Any]:
    """Run one row."""
    program = str(Path(__file__).with_name("leaderboard_process.py"))
    done = subprocess.run([sys.executable, program, json.dumps(work)], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def measured(options: argparse.Namespace, setting: dict[str, Any], methods: list[dict[str, Any]]) -> dict[str, Any]:
    """The teacher's accuracy and all rows, by name."""
    seeds = list(range(options.seeds))
    with tempfile.TemporaryDirectory() as folder:
        work = {"setting": setting, "seeds": seeds, "teacher": str(Path(folder) / "teacher.pt")}
        rows = {"teacher": in_a_process({**work, "method": "teacher"})}
        for method in ["control", "no distillation", *methods]:
            name = method if isinstance(method, str) else method["kind"]
            print(f"{name} …", file=sys.stderr, flush=True)
            rows[name] = in_a_process({**work, "method": method})
            rows[name]["objective"] = method
            print(f"{name}: {statistics.fmean(rows[name]['accuracies']):.4f}", file=sys.stderr, flush=True)
    return rows


def markdown(title: str, rows: dict[str, Any]) -> str:
    """The rows as a table, best first."""
    from understudy.report.statistics import difference, spread

    control, plain = rows["control"], rows["no distillation"]
    teacher = 100 * rows["teacher"]["accuracies"][0]
    numbered = dict(enumerate(control["accuracies"]))
    lines = [
        f"# {title}\n",
        f"Teacher {teacher:.2f} %. Gain: over the control, by seed, with its 95 % interval.\n",
        "| method | weight | accuracy, % | gain, points | step time | memory |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in sorted(rows.items(), key=lambda item: -statistics.fmean(item[1]["accuracies"])):
        if name == "teacher":
            continue
        gain = difference(dict(enumerate(row["accuracies"])), numbered)
        shown = "–"
        if gain is not None and name != "control":
            low, high = gain.interval or (float("nan"), float("nan"))
            shown = f"{100 * gain.mean:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
        weight = f"{row['objective']['weight']:g}" if isinstance(row["objective"], dict) else "–"
        mean, deviation = statistics.fmean(row["accuracies"]), spread(row["accuracies"]) or 0.0
        lines.append(
            f"| {name} | {weight} | {100 * mean:.2f} ± {100 * deviation:.2f} | {shown} "
            f"| {row['seconds_per_step'] / plain['seconds_per_step']:.2f} × "
            f"| {(row['peak_bytes'] - plain['peak_bytes']) / 2**20:+.0f} MiB |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run a table and write it."""
    from understudy.methods import METHODS
    from understudy.pipeline.environment import environment

    options, load_before = parsed(), warn_if_busy()
    setting = {"data": options.data, "batch": 128, "lr": 3e-3, **SETTINGS[options.table]}
    if options.quick:
        options.seeds, setting = 2, {**setting, "labels": 50, "steps": 3, "teacher_epochs": 0.1}
    kinds = [method.model_fields["kind"].default for method in METHODS]
    chosen = [kind for kind in kinds if kind != "cross_entropy" and (not options.only or kind in options.only)]
    rows = measured(options, setting, [{"kind": kind, "weight": WEIGHTS.get(kind, 1.0)} for kind in chosen])
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
