"""Each benchmark runs, times the same work, and writes what it says; no figure is judged."""

import importlib
import itertools
import json
import os
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import understudy as us
from understudy.objective import term_value

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
pytestmark = pytest.mark.e2e


def quick(name, tmp_path, *more):
    """Run a benchmark in its quick mode, from another directory, and read its file."""
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", "--out", str(tmp_path / "out"), *more]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # two threads would wait for each other where something else runs
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / f"{name}.json").read_text(encoding="utf-8"))
    assert (result["schema"], result["name"], result["quick"]) == (1, name, True)
    assert result["command"].startswith(f"python benchmarks/{name}.py --quick")
    assert {"cpu", "cores", "threads", "packages", "started"} <= result["machine"].keys()
    for case in result["cases"]:
        check_figures(case)
        assert case["name"] in done.stdout
    return result


def check_figures(case):
    """Medians and ratios follow from the rounds that are written beside them, and goals from the ratios."""
    rounds = case["rounds"]
    assert len({len(figures) for figures in rounds.values()}) == 1
    assert all(figure > 0 for figures in rounds.values() for figure in figures)
    assert case["medians"] == {name: statistics.median(figures) for name, figures in rounds.items()}
    for label, ratio in case["ratios"].items():
        ours, theirs = (rounds[name] for name in label.split(" / "))
        assert ratio["rounds"] == pytest.approx([a / b for a, b in zip(ours, theirs, strict=True)])
        assert ratio["min"] <= ratio["median"] <= ratio["max"]
    for goal in case["goals"]:
        known = {label: ratio["median"] for label, ratio in case["ratios"].items()} | case["medians"]
        assert goal["value"] == known[goal["what"]]
        met = goal["value"] <= goal["at_most"] if "at_most" in goal else goal["value"] >= goal["at_least"]
        assert goal["met"] == met


def check_same_work(result):
    """All contenders computed one loss for one batch, and the display was on."""
    peers = {"torchdistill"} if find_spec("torchdistill") else set()
    assert result["left_out"] == ([] if peers else ["torchdistill (not installed)"])
    for case in result["cases"]:
        assert case["first_loss"].keys() == {"hand-written", "understudy"} | peers
        assert list(case["first_loss"].values()) == pytest.approx(
            [case["first_loss"]["hand-written"]] * (2 + len(peers)), rel=1e-3
        )
        assert case["rounds"].keys() == case["mean_losses"].keys()
        assert {"understudy"} | peers <= case["rounds"].keys()
    assert result["bytes_displayed"] > 100


def test_step_time(tmp_path):
    result = quick("step_time", tmp_path)
    check_same_work(result)
    assert [goal["at_most"] for case in result["cases"] for goal in case["goals"]] == [1.15]


def test_resnet50_to_mobilenetv2(tmp_path):
    result = quick("resnet50_to_mobilenetv2", tmp_path)
    check_same_work(result)
    (case,) = result["cases"]
    assert [goal["at_least"] for goal in case["goals"]] == ([2.5] if find_spec("torchdistill") else [])
    assert all("student" in plan and "teacher" in plan for plan in case["plans"])


def test_memory(tmp_path):
    (case,) = quick("memory", tmp_path)["cases"]
    for contender, peaks in case["rounds"].items():
        (peak,), (before,) = peaks, case["before_training"][contender]
        assert 100 < before <= peak  # MiB; torch alone takes that
    assert [goal["at_most"] for goal in case["goals"]] == [1.05]


def test_method_time(tmp_path):
    kinds = ["soft_targets", "hint", "relational_angle", "self_relations"]
    result = quick("method_time", tmp_path, "--only", *kinds)
    assert [case["name"] for case in result["cases"]] == kinds
    text = (tmp_path / "out" / "method_time.md").read_text(encoding="utf-8")
    for case in result["cases"]:
        assert case["first_step"]["understudy"] == pytest.approx(case["first_step"]["plain"], rel=1e-4)
        assert [goal["at_most"] for goal in case["goals"]] == [1.15]
        step, alone = (case["ratios"][f"understudy, {what} / plain, {what}"] for what in ("step", "loss alone"))
        (row,) = (line for line in text.splitlines() if line.startswith(f"| {case['name']} |"))
        assert f"| {step['median']:.2f} (" in row
        assert f"| {alone['median']:.2f} (" in row
    missed = {case["name"] for case in result["cases"] if not case["goals"][0]["met"]}
    assert f"Goal not met: {', '.join(kind for kind in kinds if kind in missed) or 'none'}." in text


def test_head_loss(tmp_path):
    cases = quick("head_loss", tmp_path)["cases"]
    assert [case["name"] for case in cases] == [
        f"{divergence}: {unit}" for divergence in ("kl", "jensen_shannon") for unit in ("seconds", "MiB")
    ]
    assert all(case["rounds"].keys() == {"plain", "checkpointed", "closed form"} for case in cases)
    assert [goal["at_most"] for case in cases for goal in case["goals"]] == [0.9, 0.1, 0.6, 0.05]


def test_head_chunk(tmp_path):
    cases = quick("head_chunk", tmp_path)["cases"]
    assert [case["name"] for case in cases] == ["a step: seconds", "a step: MiB"]
    assert all(case["rounds"].keys() == {"all logits", "head_chunk"} for case in cases)


def test_padding(tmp_path):
    cases = quick("padding", tmp_path)["cases"]
    assert [case["name"] for case in cases] == ["lstm", "bert"]
    for case in cases:
        assert case["rounds"].keys() == {"random order", "by length"}
        assert 1 > case["real_tokens"]["by length"] > 1.2 * case["real_tokens"]["random order"]


def test_start_time(tmp_path):
    (case,) = quick("start_time", tmp_path)["cases"]
    assert case["rounds"].keys() == {"understudy --help", "import understudy", "python -c pass"}
    assert case["imported_by_understudy"] == []
    assert [goal["at_most"] for goal in case["goals"]] == [0.3]


def test_recording_time(tmp_path):
    result = quick("recording_time", tmp_path)
    small, mobile, live, recorder = result["cases"]
    peers = {"torchdistill"} if find_spec("torchdistill") else set()
    for case in (small, mobile):
        assert case["rounds"].keys() == {"from a recording", "no teacher"}
        assert [goal["at_most"] for goal in case["goals"]] == [1.05]
    assert live["rounds"].keys() == {"from a recording", "live teacher", "live teacher, fastest runtime"} | peers
    assert [goal["at_least"] for goal in live["goals"]] == ([6.0, 4.0] if peers else [])
    assert list(live["first_loss"].values()) == pytest.approx(
        [live["first_loss"]["understudy"]] * (2 + len(peers)), 1e-3
    )
    for who, epochs in live["pays_after_epochs"].items():
        saved = 1 / live["medians"][who] - 1 / live["medians"]["from a recording"]
        assert epochs == pytest.approx(1 / recorder["medians"]["recorder"] / saved, abs=0.01)
    assert [goal["at_least"] for goal in recorder["goals"]] == [0.95]


def test_recording_size(tmp_path):
    result = quick("recording_size", tmp_path)
    *sizes, mnist, thousand, recording, reading = result["cases"]
    for case, classes in zip(sizes, (10, 1_000, 32_000), strict=True):
        known = {"float32": 4 * classes, "float16": 2 * classes, "int8": classes + 4}
        # The values of the likeliest, which they are, and two tails; beside all of them the checksum of the inputs.
        known |= {f"top {top}": 4 * top + 8 for top in (8, 64) if top < classes}
        assert case["medians"].keys() == known.keys()
        for name, size in known.items():
            assert size + 4 < case["medians"][name] < size + 4 + 512 / 16  # the header, of sixteen rows here
    assert [goal["at_least"] for goal in mnist["goals"] + thousand["goals"]] == [0.99] * 8
    for case in (recording, reading):
        small, large = case["processes"]
        assert large["file_bytes"] > 5 * small["file_bytes"]
        for process in (small, large):
            assert 2**26 < process["private_peak_bytes"] <= process["resident_peak_bytes"]


def test_serving(tmp_path):
    result = quick("serving", tmp_path)
    assert [case["clients"] for case in result["cases"]] == [1, 1, 1, 4, 4, 4, 16, 16, 16]
    for case in result["cases"]:
        assert case["rounds"].keys() == {"understudy", "understudy, no batches", "FastAPI"}
        bare = case["answers"]["FastAPI"]
        for answer in case["answers"].values():
            assert answer["class"] == bare["class"]
            assert answer["probability"] == pytest.approx(bare["probability"], abs=1e-5)
    goals = [goal for case in result["cases"] for goal in case["goals"]]
    assert [goal["what"] for goal in goals] == ["understudy / FastAPI"] * 2
    assert (goals[0]["at_least"], goals[1]["at_most"]) == (1.0, 1.0)


def test_int8_time(tmp_path):
    result = quick("int8_time", tmp_path)
    (case,) = result["cases"]
    assert result["left_out"] == ([] if find_spec("executorch") else ["executorch (not installed)"])
    assert set(case["apart"]) == set(case["rounds"])
    assert case["apart"]["ONNX Runtime float"] < 1e-3 < case["apart"]["ONNX Runtime int8"] < 1.0
    (goal,) = case["goals"]
    best = min((name for name in case["medians"] if "int8" in name), key=case["medians"].get)
    assert (goal["what"], goal["at_least"]) == (f"PyTorch eager / {best}", 3.0)
    others = set(case["rounds"]) - {"PyTorch eager"}
    assert set(case["ratios"]) == {f"PyTorch eager / {name}" for name in others}


def test_leaderboard_weighs_a_layer_term_by_its_gradient(monkeypatch):
    """With its weight the term pulls on the student as hard as the labels do, on the mean of four batches."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    process = importlib.import_module("leaderboard_process")
    setting = process.Setting("sklearn/digits", 500, (8, 16), (4, 8), teacher_epochs=1, steps=12, batch=64, lr=0.01)
    data = process.load_data(process.DataSpec(source=setting.data), task=process.TASK)
    teacher = process.network(setting.teacher, data, seed=100)
    method = process.balanced(setting, data, teacher, us.Hint())
    split, _ = process.student_split(setting, data, "hint", seed=0)
    loader = us.Loader(split, batch_size=setting.batch, seed=0)
    begun = process.joined(setting, data, teacher, None, loader, seed=0)
    us.fit(begun, loader, process.training(setting, steps=2), progress=process.SilentProgress())
    distiller = process.joined(setting, data, teacher, method, loader, seed=0)
    distiller.student.load_state_dict(begun.student.state_dict())
    lengths = {"hint": 0.0, "cross_entropy": 0.0}
    for batch in itertools.islice(loader, 4):
        for term in distiller.objective.objective.terms:
            step = distiller(batch)
            loss = term_value(term, distiller.objective.terms[term.label], step.student, step.teacher, batch)
            gradients = torch.autograd.grad(term.weight * loss, list(distiller.student.parameters()), allow_unused=True)
            squares = sum(float(gradient.square().sum()) for gradient in gradients if gradient is not None)
            lengths[term.label] += squares**0.5
    assert lengths["hint"] == pytest.approx(lengths["cross_entropy"], rel=0.06)  # the weight has two digits


def test_leaderboard(tmp_path):
    program = [sys.executable, str(BENCHMARKS / "leaderboard.py"), "mnist", "--data", "sklearn/digits", "--quick"]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*program, "--only", "soft_targets", "hint", "attention_maps", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "mnist.json").read_text(encoding="utf-8"))
    assert set(result["rows"]) == {"teacher", "control", "no distillation", "soft_targets", "hint", "attention_maps"}
    assert "refused" in result["rows"].pop("attention_maps")  # there is no transformer among the networks
    assert result["rows"]["soft_targets"]["weight"] == 1.0  # the authors'
    assert result["rows"]["hint"]["weight"] not in (0.0, 1.0)  # by the rule
    for name, row in result["rows"].items():
        assert len(row["accuracies"]) == (1 if name == "teacher" else 2)
        assert all(0.0 <= accuracy <= 1.0 for accuracy in row["accuracies"])
        assert name == "teacher" or (row["step_ratio"] > 0.0 and row["peak_bytes"] > 2**20)
    lines = (tmp_path / "mnist.md").read_text(encoding="utf-8").splitlines()
    gain = 100 * statistics.fmean(
        a - b for a, b in zip(*(result["rows"][row]["accuracies"] for row in ("soft_targets", "control")), strict=True)
    )
    assert f"{gain:+.2f} (" in next(line for line in lines if line.startswith("| soft_targets |"))
