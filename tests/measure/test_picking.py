"""Picking a file out of measurements that are written down here: what decides, what is said, what is copied."""

import pytest

from understudy.errors import InputError, RunError
from understudy.measure import Latency, Measured
from understudy.measure.candidates import SIMULATED
from understudy.measure.picking import copy_file, is_proved, pick, steps_that_did_not_pay
from understudy.targets import parse_target


def row(name, *, accuracy=0.9, ms=1.0, size=1000, runtime="onnxruntime", **more):
    timings = (Latency(ms, ms, None, 1, 1, runtime, 50), Latency(4 * ms, 4 * ms, None, 8, 1, runtime, 50))
    quality = {"validation": {"accuracy": accuracy}, "test": {"accuracy": 0.5}}
    return Measured(
        **{"name": name, "runtime": runtime, "path": name, "bytes": size, "timings": timings, "quality": quality} | more
    )


TEACHER = row("teacher", accuracy=0.9, ms=9.0, size=9000, runtime="torch eager")


def test_the_fastest_file_within_the_bound_is_picked():
    rows = [TEACHER, row("a", accuracy=0.895, ms=2.0), row("b", accuracy=0.89, ms=3.0), row("c", accuracy=0.88, ms=1.0)]
    choice = pick(rows, reference=TEACHER, max_drop=1.0)
    assert (choice.name, choice.kept) == ("a", True)
    assert choice.drop == pytest.approx(0.5)
    assert choice.text == (
        "a in onnxruntime, 2 ms, 1,000 bytes, 0.5 points below teacher: the fastest of the files that lose at most "
        "1 point"
    )
    assert pick(rows, reference=TEACHER, max_drop=2.0).name == "c"


def test_a_drop_of_exactly_the_bound_is_kept():
    assert pick([row("a", accuracy=0.89)], reference=TEACHER, max_drop=1.0).kept


def test_the_test_split_decides_nothing():
    rows = [row("a", ms=2.0), row("b", ms=1.0, quality={"validation": {"accuracy": 0.5}, "test": {"accuracy": 0.99}})]
    assert pick(rows, reference=TEACHER, max_drop=1.0).name == "a"


def test_what_is_best_can_be_chosen():
    slow = (Latency(2.0, 2.0, None, 1, 1, "", 50), Latency(2.0, 2.0, None, 64, 2, "", 50))
    rows = [row("quick", ms=1.0, size=500), row("wide", timings=slow, size=400), row("small", ms=9.0, size=100)]
    picked = {by: pick(rows, reference=TEACHER, max_drop=1.0, by=by).name for by in ("latency", "throughput", "bytes")}
    assert picked == {"latency": "quick", "throughput": "wide", "bytes": "small"}


def test_where_no_file_keeps_the_bound_the_nearest_is_named():
    choice = pick([row("a", accuracy=0.7, ms=1.0), row("b", accuracy=0.8, ms=2.0)], reference=TEACHER, max_drop=0.5)
    assert (choice.name, choice.kept) == ("b", False)
    assert choice.text.startswith("no file is known to lose at most 0.5 points; the nearest is b in onnxruntime")


def test_saved_models_are_no_files_but_said_to_be_faster():
    choice = pick([TEACHER, row("m", ms=0.1, runtime="torch eager"), row("a")], reference=TEACHER, max_drop=1.0)
    assert choice.name == "a"
    assert "m in torch eager is faster than the chosen file: 0.1 ms against 1 ms" in choice.notes
    assert pick([TEACHER], reference=TEACHER, max_drop=1.0).name == "teacher"


def test_a_file_that_failed_is_not_picked_and_named():
    choice = pick([row("a", failed="SIGSEGV"), row("b", ms=5.0)], reference=TEACHER, max_drop=1.0)
    assert choice.name == "b"
    assert choice.notes == ("a in onnxruntime was not measured: SIGSEGV",)
    with pytest.raises(RunError, match="none of the files could be measured: a in onnxruntime: SIGSEGV"):
        pick([row("a", failed="SIGSEGV")], reference=TEACHER, max_drop=1.0)


def test_a_step_that_made_it_slower_or_not_smaller_is_told():
    rows = [
        row("float", ms=7.3, size=1000),
        row("int8", ms=14.1, size=300, before="float"),
        row("pruned", ms=3.0, size=990, before="float"),
        row("worse", ms=3.0, size=2000, before="pruned"),
        row("int8", ms=2.0, size=300, before="float", runtime="openvino"),
    ]
    assert steps_that_did_not_pay(rows) == [
        "int8 is 1.9× slower than float, the step before it, in onnxruntime: 14.1 ms after 7.3 ms",
        "pruned is as large as float, the step before it: 990 bytes after 1,000",
        "worse is bigger than pruned, the step before it: 2,000 bytes after 990",
    ]
    assert steps_that_did_not_pay([row("float"), row("int8", size=500, before="float", ms=1.04)]) == []


def test_what_pytorch_only_simulates_is_no_step():
    rounded = row("int8", size=2000, before="float", ms=20.0, runtime="torch eager", precision=SIMULATED)
    assert steps_that_did_not_pay([row("float", runtime="torch eager"), rounded]) == []
    known = rounded.model_copy(update={"precision": None})
    assert len(steps_that_did_not_pay([row("float", runtime="torch eager"), known])) == 2


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(InputError, match="expected 0 or more"):
        pick([row("a")], reference=TEACHER, max_drop=-1.0)
    with pytest.raises(InputError, match="reference 'gone' in onnxruntime was not measured: no such file"):
        pick([row("a")], reference=row("gone", quality={}, failed="no such file"), max_drop=1.0)
    tested = row("tested", quality={"test": {"accuracy": 0.9}})
    with pytest.raises(
        InputError, match="reference 'tested' in onnxruntime was not measured: its quality on the valid"
    ):
        pick([row("a")], reference=tested, max_drop=1.0)
    with pytest.raises(InputError, match="no 'f1'; it has accuracy"):
        pick([row("a")], reference=TEACHER, max_drop=1.0, metric="f1")


def test_the_latency_of_a_row_is_that_of_its_best_number_of_threads():
    timings = (Latency(2.0, 2.0, None, 1, 1, "", 9), Latency(1.0, 1.0, None, 1, 2, "", 9))
    assert row("a", timings=timings).latency.threads == 2
    assert row("a", timings=()).latency is None


def test_a_file_is_copied_with_its_weights_and_its_proof(tmp_path):
    for name in ("m.xml", "m.bin", "m.xml.proof.json", "other.bin"):
        (tmp_path / name).write_text(name)
    (tmp_path / "chosen").mkdir()
    (tmp_path / "chosen" / "old.onnx").touch()
    copies = copy_file(row("m", path=str(tmp_path / "m.xml")), tmp_path / "chosen")
    assert copies[0] == tmp_path / "chosen" / "m.xml"
    assert sorted(path.name for path in (tmp_path / "chosen").iterdir()) == ["m.bin", "m.xml", "m.xml.proof.json"]
    assert not list(tmp_path.glob(".chosen*"))


def test_a_copy_that_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "chosen").mkdir()
    (tmp_path / "chosen" / "old.onnx").touch()
    (tmp_path / "m.xml").touch()
    with pytest.raises(RunError, match=r"could not be copied to .*No such file"):
        copy_file(row("m", path=str(tmp_path / "m.xml")), tmp_path / "chosen")
    assert [path.name for path in (tmp_path / "chosen").iterdir()] == ["old.onnx"]
    (tmp_path / "m.bin").touch()
    (tmp_path / "taken").touch()
    with pytest.raises(RunError, match="could not be copied"):
        copy_file(row("m", path=str(tmp_path / "m.xml")), tmp_path / "taken" / "chosen")


def test_a_target_limits_what_the_best_file_may_cost():
    rows = [row("a", ms=1.0, size=500, params=10), row("b", ms=2.0, size=100, params=5)]

    def picked(target, **more):
        return pick(rows, reference=TEACHER, max_drop=1.0, target=parse_target(target), **more)

    assert (picked("latency<3ms").name, picked("size<200B").name) == ("a", "b")
    assert picked("params<6").text == (
        "b in onnxruntime, 2 ms, 100 bytes, 5 params, level with teacher: the fastest of the files that lose at most "
        "1 point and keep to params<6"
    )
    missed = picked("latency<0.5ms")
    assert (missed.name, missed.kept, missed.met) == ("a", True, False)
    assert missed.text.startswith(
        "no file is known to lose at most 1 point and keep to latency<0.5ms; the nearest is a in onnxruntime"
    )
    with pytest.raises(InputError, match="the target 'macs<1k' cannot be judged: a does not say its macs"):
        picked("macs<1k")


def test_a_file_is_proved_where_its_proof_says_so(tmp_path):
    file, proof = tmp_path / "m.onnx", tmp_path / "m.onnx.proof.json"
    found = [is_proved(file)]
    for text in ('{"proved": false}', "torn", '{"proved": true}'):
        proof.write_text(text)
        found.append(is_proved(file))
    assert found == [False, False, False, True]
