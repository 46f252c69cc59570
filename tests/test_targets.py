"""Targets as people write them: units, several at once, and what cannot be read."""

import subprocess
import sys

import pytest

from understudy.errors import InputError
from understudy.targets import Limit, parse_target, shown_cost


@pytest.mark.parametrize(
    ("text", "measure", "most"),
    [
        ("latency<2ms", "latency", 2.0),
        ("Latency <= 1.5 s", "latency", 1500.0),
        ("latency≤500us", "latency", 0.5),
        ("latency<500µs", "latency", 0.5),
        ("params<1M", "params", 1e6),
        ("parameters<250000", "params", 250_000.0),
        ("params<.5m", "params", 5e5),
        ("params<1.5B", "params", 1.5e9),
        ("bytes<4MB", "bytes", 4e6),
        ("size<4mib", "bytes", 4.0 * 2**20),
        ("size<900kB", "bytes", 9e5),
        ("bytes<900B", "bytes", 900.0),
        ("macs<2G", "macs", 2e9),
    ],
)
def test_one_limit(text, measure, most) -> None:
    assert parse_target(text) == (Limit(measure, most, text),)


def test_several_and_how_much_too_much() -> None:
    first, second = parse_target("latency<2ms, params<1M")
    assert (first.measure, second.measure, second.written) == ("latency", "params", "params<1M")
    assert (first.excess(3.0), second.excess(500_000)) == (1.5, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' has an empty part; expected limits such as latency<2ms, params<1M, bytes<4MB, macs<100M"),
        ("latency<2ms,", "has an empty part"),
        ("latency>2ms", "'latency>2ms' cannot be read; expected a limit such as latency<2ms"),
        ("latency<fast", "cannot be read"),
        ("2ms", "'2ms' cannot be read"),
        ("params<-1M", "cannot be read"),
        ("latncy<2ms", "limits 'latncy'; nearest: 'latency'"),
        ("accuracy<2", "limits 'accuracy'; expected one of"),
        ("latency<2", "has the unit ''; latency has 'us', .*'ms', 's', as in latency<2ms"),
        ("latency<2MB", "has the unit 'MB'; latency has"),
        ("params<2ms", "has the unit 'ms'; params has 'k', 'K', 'M', 'G', 'B', as in params<1M"),
        ("bytes<4", "has the unit ''; bytes has 'B'"),
        ("bytes<0MB", "allows nothing; expected more than 0, as in bytes<4MB"),
        ("size<4MB,bytes<3MB", "limits 'bytes' twice; keep the lower one"),
    ],
)
def test_what_cannot_be_read(text, message) -> None:
    with pytest.raises(InputError, match=message):
        parse_target(text)


def test_costs_in_words() -> None:
    assert shown_cost("latency", 0.01234) == "0.0123 ms"
    assert shown_cost("macs", 1_822_000_000) == "1.82 G"
    assert shown_cost("bytes", 44_790_000) == "44.8 MB"
    assert shown_cost("params", 999) == "999"
    assert shown_cost("params", 999_600) == "1 M"
    assert shown_cost("bytes", 1_000) == "1 kB"


def test_no_torch_is_needed() -> None:
    code = "import sys, understudy.targets; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
