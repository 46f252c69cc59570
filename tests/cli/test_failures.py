"""What is said when something goes wrong."""

import pytest

from understudy.cli.failures import InterruptedRunError, explain
from understudy.errors import InputError, RunError


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (InputError("no such file; nearest: 'a'"), 2, "Error: no such file; nearest: 'a'\n"),
        (RunError("the disk is full"), 1, "Error: the disk is full\n"),
        (InterruptedRunError("Interrupted."), 130, "Interrupted.\n"),
    ],
)
def test_an_error_of_ours_is_its_own_text(error, code, text, capsys):
    assert explain(error) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", text)


def _unexpected() -> Exception:
    try:
        {}["deep inside \udcff"]
    except KeyError as error:
        return error
    raise AssertionError


def test_the_trace_of_anything_else_goes_to_a_file(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert explain(_unexpected()) == 1
    said = capsys.readouterr().err
    (log,) = tmp_path.glob("understudy-*.log")
    assert said.startswith("Error: KeyError: ")
    assert str(log) in said
    assert "Traceback" not in said
    assert "Traceback (most recent call last)" in log.read_text()
    assert "test_failures.py" in log.read_text()


def test_a_trace_that_no_file_takes_is_said(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    assert explain(_unexpected()) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err
