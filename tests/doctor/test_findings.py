"""How findings are told."""

import json

import pytest

from understudy import InputError
from understudy.doctor import Finding, raise_errors, render, to_json

NOTE = Finding("temperature", "note", "targets are hard", "entropy 0.001 nats", "raise it to 8")
ERROR = Finding("labels", "error", "labels are out of range", "10 in batch 2, samples 261", "count from 0")
WARNING = Finding("student_mode", "warning", "the student is in eval mode", "training is False", "call train()")


def test_one_line_says_what_how_and_what_to_do():
    assert str(ERROR) == (
        "error (labels): labels are out of range. Seen: 10 in batch 2, samples 261. To do: count from 0"
    )


def test_the_worst_comes_first_under_a_count():
    assert render([NOTE, ERROR, WARNING, NOTE]).splitlines() == [
        "The doctor found 1 error, 1 warning, 2 notes.",
        str(ERROR),
        str(WARNING),
        str(NOTE),
        str(NOTE),
    ]


def test_nothing_found():
    assert render([]) == "The doctor found nothing wrong."


def test_json_round_trip():
    rows = json.loads(json.dumps(to_json([NOTE, ERROR])))
    assert [Finding(**row) for row in rows] == [NOTE, ERROR]


def test_errors_are_raised_together_and_the_rest_handed_back():
    assert raise_errors([NOTE, WARNING]) == [NOTE, WARNING]
    with pytest.raises(InputError) as caught:
        raise_errors([NOTE, ERROR, ERROR])
    assert str(caught.value).splitlines() == [str(ERROR), str(ERROR)]
