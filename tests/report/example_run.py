"""Makes run directories as `understudy run` leaves them, from real small networks on digits or from plain numbers."""

import json
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score
from sklearn.neural_network import MLPClassifier

CLASSES = [str(digit) for digit in range(10)]
LABELLED = 100
RECIPE = """\
# Digits: a teacher, a student that sees few labels, a control that sees as few.
name: digits
seeds: [0, 1, 2]
data: {source: sklearn/digits}
stages:
  - {kind: train, name: teacher, model: {source: understudy, name: mlp, arguments: {hidden: [192, 96]}}}
  - {kind: distill, name: student, teacher: teacher, labels: 100}
  - {kind: evaluate, name: evaluate}
"""


def make_run(directory: Path, *, seeds: tuple[int, ...] = (0, 1, 2), name: str = "digits", student: str = "student"):
    """A whole run with results of real networks: teacher on all labels, student on the teacher's answers, control."""
    stages = [
        {"kind": "train", "name": "teacher"},
        {"kind": "distill", "name": student, "teacher": "teacher"},
        {"kind": "evaluate", "name": "evaluate"},
    ]
    _recipe(directory, name=name, seeds=seeds, stages=stages, text=RECIPE)
    images, targets = load_digits(return_X_y=True)
    for seed in seeds:
        _one_seed(directory, images / 16, targets, seed=seed, student=student)
    return directory


def _one_seed(directory: Path, images, targets, *, seed: int, student: str):
    order = np.random.default_rng(seed).permutation(len(images))
    train, val, test = order[:1300], order[1300:1500], order[1500:]
    labelled = train[:LABELLED]
    split = (images[val], targets[val])
    teacher, teacher_history = _fit(images[train], targets[train], split, hidden=(192, 96), seed=seed, epochs=10)
    control, control_history = _fit(images[labelled], targets[labelled], split, hidden=(24,), seed=seed, epochs=30)
    answers = teacher.predict(images[train])
    pupil, student_history = _fit(images[train], answers, split, hidden=(24,), seed=seed)
    folder = directory / "stages" / "teacher" / f"seed-{seed}"
    stage_file(
        folder, kind="train", seed=seed, seconds=4.2, description="train mlp 192-96", data="1,300 images, all labelled"
    )
    history_file(folder, teacher_history)
    folder = directory / "stages" / student / f"seed-{seed}"
    data = f"{LABELLED} of 1,300 images are labelled (10 per class); the others have the teacher's answers only"
    stage_file(folder, kind="distill", seed=seed, seconds=7.5, teacher=["teacher"], data=data, description="mlp 24")
    history_file(folder, student_history)
    history_file(folder / "control", control_history)
    folder = directory / "stages" / "evaluate" / f"seed-{seed}"
    stage_file(folder, kind="evaluate", seed=seed, seconds=1.1, description="on the test split")
    models = {"teacher": teacher, student: pupil, "control": control}
    evaluation_file(folder, **_evaluate(folder, models, images[test], targets[test], student=student))


def _fit(inputs, targets, split, *, hidden, seed, epochs=20, batch=64):
    model = MLPClassifier(
        hidden, random_state=seed, batch_size=batch, learning_rate_init=5e-3, max_iter=1, warm_start=True
    )
    history = []
    for epoch in range(1, epochs + 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(inputs, targets)
        line = {"step": epoch * len(inputs) // batch, "epoch": epoch, "loss": float(model.loss_), "lr": 5e-3}
        accuracy = float(model.score(*split))
        history.append({**line, "terms": {"cross_entropy": float(model.loss_)}, "val": {"accuracy": accuracy}})
    return model, history


def _evaluate(folder: Path, models, inputs, targets, *, student: str):
    probabilities = {name: model.predict_proba(inputs) for name, model in models.items()}
    predictions = {name: values.argmax(1) for name, values in probabilities.items()}
    rows = []
    for name, role in ((student, "student"), ("teacher", "teacher"), ("control", "control")):
        weights = models[name].coefs_ + models[name].intercepts_
        params = sum(weight.size for weight in weights)
        rows.append(
            {
                "name": name,
                "role": role,
                "stage": "teacher" if role == "teacher" else student,
                "architecture": "mlp " + "-".join(map(str, models[name].hidden_layer_sizes)),
                "metrics": {
                    "accuracy": float((predictions[name] == targets).mean()),
                    "errors": int((predictions[name] != targets).sum()),
                    "precision": float(precision_score(targets, predictions[name], average="macro")),
                    "recall": float(recall_score(targets, predictions[name], average="macro")),
                    "f1": float(f1_score(targets, predictions[name], average="macro")),
                    "agreement": float((predictions[name] == predictions["teacher"]).mean()),
                },
                "last_metrics": None,
                "params": params,
                "macs": sum(weight.size for weight in models[name].coefs_),
                "bytes": 4 * params + 512,
                "latency_ms": {
                    "median": 0.012 + params / 4e5,
                    "p90": 0.015 + params / 3e5,
                    "batch": 1,
                    "threads": 2,
                    "runtime": "torch eager",
                },
                "throughput": 4e9 / params,
                "peak_memory_bytes": 6 * params + 2_000_000,
                **({"control_of": student} if role == "control" else {}),
                **({"teacher": "teacher"} if role == "student" else {}),
            }
        )
    return {
        "samples": len(targets),
        "rows": rows,
        "confusion": {name: confusion_matrix(targets, said).tolist() for name, said in predictions.items()},
        "disagreements": _disagreements(folder, probabilities, inputs, targets, student=student),
    }


def _disagreements(folder: Path, probabilities, inputs, targets, *, student: str):
    (folder / "examples").mkdir(parents=True, exist_ok=True)
    said = {name: values.argmax(1) for name, values in probabilities.items()}
    samples = []
    for place in np.flatnonzero(said["teacher"] != said[student])[:12]:
        picture = np.uint8(np.round(inputs[place].reshape(8, 8) * 255))
        Image.fromarray(picture).save(folder / "examples" / f"{place}.png")
        sample = {"id": int(place), "image": f"examples/{place}.png", "label": str(targets[place])}
        for side, name in (("teacher", "teacher"), ("student", student)):
            best = int(said[name][place])
            probability = float(probabilities[name][place, best])
            sample[side] = {"name": name, "class": str(best), "probability": probability}
        samples.append(sample)
    return samples


def plain_run(
    directory: Path,
    accuracy: dict[str, list[float]],
    *,
    rows: dict[str, dict] | None = None,
    name: str | None = None,
    recipe: bool = True,
    **evaluation,
):
    """A run with given accuracies by role (teacher, student, control), one for each seed, and nothing else.

    `rows` overrides fields of the rows by role.
    """
    seeds = range(max(map(len, accuracy.values())))
    if recipe:
        stages = [{"kind": "distill", "name": "student"}, {"kind": "evaluate", "name": "evaluate"}]
        _recipe(directory, name=name or directory.name, seeds=tuple(seeds), stages=stages, text="plain: true\n")
    for seed in seeds:
        stage_file(directory / "stages" / "student" / f"seed-{seed}", kind="distill", seed=seed)
        folder = directory / "stages" / "evaluate" / f"seed-{seed}"
        stage_file(folder, kind="evaluate", seed=seed)
        made = [
            {**_plain_row(role), "metrics": {"accuracy": values[seed]}, **(rows or {}).get(role, {})}
            for role, values in accuracy.items()
            if seed < len(values)
        ]
        evaluation_file(folder, rows=made, **evaluation)
    return directory


def _plain_row(role: str) -> dict:
    big = role == "teacher"
    return {
        "name": role,
        "role": role,
        "stage": "teacher" if big else "student",
        "params": 9000 if big else 1000,
        "macs": 8000 if big else 800,
        "bytes": 36_000 if big else 4_000,
        "latency_ms": {"median": 0.6 if big else 0.1, "p90": 0.7, "batch": 1, "threads": 2, "runtime": "torch eager"},
        "control_of": "student" if role == "control" else None,
        "teacher": "teacher" if role == "student" else None,
    }


def _timing(ms, *, batch=1, threads=1):
    return {
        "median_ms": ms,
        "p90_ms": 1.1 * ms,
        "p99_ms": 1.5 * ms,
        "batch": batch,
        "threads": threads,
        "runtime": "",
        "runs": 300,
    }


def _deployed_row(name, runtime, *, accuracy, ms, size, before=None, **more):
    return {
        "name": name,
        "runtime": runtime,
        "path": f"../../export/seed-0/{name}",
        "before": before,
        "proved": True,
        "bytes": size,
        "macs": 1000,
        "peak_memory_bytes": 5_000_000,
        "quality": {"validation": {"accuracy": accuracy + 0.01}, "test": {"accuracy": accuracy}},
        "timings": [_timing(ms), _timing(0.9 * ms, threads=2), _timing(4 * ms, batch=8)],
        **more,
    }


DEPLOYED = [
    _deployed_row(
        "teacher",
        "torch eager",
        accuracy=0.97,
        ms=9.0,
        size=36_000,
        path="../../teacher/seed-0/model.json",
        proved=None,
    ),
    _deployed_row("student.onnx", "onnxruntime", accuracy=0.96, ms=2.0, size=4_000),
    _deployed_row(
        "student-int8.onnx", "onnxruntime", accuracy=0.955, ms=4.0, size=1_500, before="student.onnx", precision="int8"
    ),
    _deployed_row("student.onnx", "openvino", accuracy=0.96, ms=1.0, size=4_000),
    _deployed_row(
        "torn.onnx", "onnxruntime", accuracy=0.5, ms=1, size=1, quality={}, timings=[], bytes=None, failed="SIGSEGV <b>"
    ),
]
CHOICE = {
    "name": "student.onnx",
    "runtime": "openvino",
    "kept": True,
    "drop": 1.0,
    "text": "student.onnx in openvino, 1 ms: the fastest of the files that lose at most 2 points",
    "notes": ["student-int8.onnx is 2× slower than student.onnx, the step before it, in onnxruntime"],
}


def deploy_stage(run: Path, *, choice: dict | None = CHOICE, seeds: tuple[int, ...] = (0,)):
    """Adds a deploy stage, with a teacher, a student as two files, one of them in two runtimes, and a torn file."""
    for seed in seeds:
        folder = run / "stages" / "deploy" / f"seed-{seed}"
        stage_file(folder, kind="deploy", seed=seed)
        content = {"metric": "accuracy", "decided_on": "validation", "reference": "teacher", "max_drop": 2.0}
        content |= {"by": "latency", "seconds": 1.0, "rows": DEPLOYED, "choice": choice}
        content["file"] = "chosen/student.onnx" if choice else None
        _json(folder / "deployment.json", {"schema": 1, **content})
    return run


def stage_file(folder: Path, *, kind: str, seed: int, status: str = "done", **fields):
    _json(
        folder / "stage.json",
        {"schema": 1, "kind": kind, "name": folder.parent.name, "seed": seed} | {"status": status, **fields},
    )


def history_file(folder: Path, lines: list[dict]):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def evaluation_file(folder: Path, *, rows: list[dict], **fields):
    content = {"schema": 1, "split": "test", "samples": 500, "classes": CLASSES, "metric": "accuracy", "rows": rows}
    _json(folder / "evaluation.json", {**content, **fields})


def _recipe(directory: Path, *, name: str, seeds: tuple[int, ...], stages: list[dict], text: str):
    _json(directory / "recipe.json", {"name": name, "seeds": list(seeds), "stages": stages})
    (directory / "recipe.yaml").write_text(text)
    machine = {
        "platform": "Linux-6.1-x86_64",
        "cpu": "Some CPU",
        "cores": 2,
        "memory_bytes": 8_000_000_000,
        "gpu": None,
    }
    packages = {"torch": "2.15.0", "numpy": "2.4.6"}
    started = "2026-01-31T12:00:00+00:00"
    _json(
        directory / "environment.json",
        {"schema": 1, "understudy": "0.1.0", "python": "3.11.7", **machine, "packages": packages, "started": started},
    )


def _json(path: Path, value: object):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
