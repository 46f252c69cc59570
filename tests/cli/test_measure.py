"""``understudy measure``."""

import json

import pytest

from understudy.cli.main import main


@pytest.mark.e2e
def test_cost_speed_and_quality(capsys):
    arguments = ["--size", "1,8,8", "--data", "sklearn/digits", "--seconds", "0.05", "--json"]
    assert main(["measure", "understudy:mlp:4", *arguments]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert set(found) == {
        "schema",
        "model",
        "parameters",
        "macs",
        "bytes",
        "latency_ms",
        "throughput",
        "peak_memory_bytes",
        "quality",
    }
    assert found["parameters"] == 64 * 4 + 4 + 4 * 10 + 10
    assert found["macs"] == 64 * 4 + 4 * 10
    assert set(found["latency_ms"]) == {"median", "p90", "batch", "threads", "runtime"}
    assert found["quality"]["samples"] == 359
    assert found["peak_memory_bytes"] >= 0
    assert "timing" in captured.err


def test_people_get_a_table(capsys):
    assert main(["measure", "understudy:mlp:4", "--size", "1,8,8", "--seconds", "0.05", "--no-memory"]) == 0
    out = capsys.readouterr().out
    assert "multiply-adds per sample" in out
    assert "batch 1" in out


def test_a_bad_split_ends_with_2(capsys):
    assert main(["measure", "understudy:mlp:4", "--split", "train"]) == 2
    assert "expected 'test' or 'validation'" in capsys.readouterr().err
