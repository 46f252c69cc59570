"""What a person sees of a training."""

import io

import pytest

from understudy.engine import PlainProgress, RichProgress, SilentProgress, progress_for


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def tell(progress) -> None:
    progress.stage("student", "seed 0")
    progress.begin(2.0, 10, 0)
    progress.message("execution: student channels_last")
    for step in range(1, 11):
        progress.update(step, step / 5, 32 * step, {"cross_entropy": 0.5, "soft_targets": 0.25}, 0.75)
        progress.validated({"accuracy": 0.9})
    progress.end()


def test_chosen_by_the_stream():
    assert isinstance(progress_for(io.StringIO()), PlainProgress)
    assert isinstance(progress_for(Terminal()), RichProgress)


@pytest.mark.parametrize("kind", [PlainProgress, RichProgress])
def test_says_everything(kind):
    stream = Terminal()
    tell(kind(stream))
    text = stream.getvalue()
    for fact in (
        "student", "seed 0", "execution: student channels_last", "epoch 2.0/2", "samples/s", "left", "loss 0.75",
        "cross_entropy 0.5", "soft_targets 0.25", "accuracy 0.9",
    ):  # fmt: skip
        assert fact in text, fact


def test_plain_lines_are_few():
    stream = io.StringIO()
    tell(PlainProgress(stream))
    assert len(stream.getvalue().splitlines()) == 4
    assert "\x1b" not in stream.getvalue()


def test_plain_lines_come_every_so_often():
    stream = io.StringIO()
    tell(PlainProgress(stream, every=0.0))
    assert stream.getvalue().count("step ") >= 10


def test_live_line_is_drawn_at_most_four_times_a_second():
    stream = Terminal()
    progress = RichProgress(stream)
    progress.begin(1.0, 100_000, 0)
    for step in range(2000):
        progress.update(step, 0.0, step, {}, 0.5)
    progress.end()
    assert stream.getvalue().count("epoch") <= 4


def test_silent():
    tell(SilentProgress())
