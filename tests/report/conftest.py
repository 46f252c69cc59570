import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from understudy.report import build_report, read_run


@pytest.fixture(scope="session")
def example():
    """The functions that make run directories."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "example_run.py")))


@pytest.fixture(scope="session")
def digits_run(example, tmp_path_factory):
    """A whole run of three seeds, with the results of real networks."""
    return example.make_run(tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture
def report_of(example, tmp_path):
    """Makes a plain run of the given accuracies and reports it."""

    def make(accuracy, **fields):
        return build_report([read_run(example.plain_run(tmp_path / "run", accuracy, **fields))])

    return make
