"""``understudy recommend``."""

import json

import pytest

from understudy.cli.main import main

TEACHER = ("--teacher", "understudy:mlp:64-64", "--size", "1,8,8", "--seconds", "60")


@pytest.mark.e2e
def test_people_get_tables_reasons_and_lines_to_paste(capsys) -> None:
    assert main(["recommend", *TEACHER, "--target", "params<4k"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Students for understudy:mlp:64-64 within params<4k (batch 1")
    assert "the teacher" in out.splitlines()[3]
    assert "Nearest outside the target" in out
    assert "A teacher assistant?" in out
    assert "- kind: " in out
    assert "  name: student" in out


@pytest.mark.e2e
def test_json_has_all_of_it(capsys) -> None:
    assert main(["recommend", *TEACHER, "--target", "params<4k, latency<1s", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert found["teacher"]["parameters"] == 64 * 64 + 64 + 64 * 64 + 64 + 650
    assert [limit["measure"] for limit in found["limits"]] == ["params", "latency"]
    assert all(each["parameters"] < 4000 and each["latency_ms"] > 0 for each in found["options"])
    assert all(each["excess"] > 1 for each in found["outside"])
    assert found["recipe"].startswith("- kind: ")


@pytest.mark.e2e
def test_a_target_that_none_meets_is_no_failure(capsys) -> None:
    assert main(["recommend", *TEACHER, "--target", "bytes<100B"]) == 0
    out = capsys.readouterr().out
    assert "None of the candidates meets the target." in out
    assert "bytes " in out
    assert "- kind" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "latency<2"], "has the unit ''"),
        (["--target", "speed<2ms"], "limits 'speed'"),
        (["--size", "big"], "expected whole numbers"),
    ],
)
def test_bad_input_ends_with_2_before_anything_is_measured(arguments, message, capsys) -> None:
    assert main(["recommend", *TEACHER, *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "measuring" not in captured.err


def test_a_teacher_that_is_no_model_ends_with_2(capsys) -> None:
    assert main(["recommend", "--teacher", "resnet18"]) == 2
    assert "torchvision:resnet18" in capsys.readouterr().err


@pytest.mark.e2e
def test_the_data_say_how_large_inputs_are(capsys) -> None:
    arguments = ["--teacher", "understudy:cnn:8-16", "--data", "sklearn/digits", "--seconds", "60", "--json"]
    assert main(["recommend", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["teacher"]["macs"] == 8 * 9 * 64 + 16 * 8 * 9 * 16 + 160
