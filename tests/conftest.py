"""What all tests share: shapes checked at call time, fixed seeds, and the real data where it is there."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from jaxtyping import install_import_hook

install_import_hook("understudy.functional", "beartype.beartype")

pytest.register_assert_rewrite("conformance")
hypothesis.settings.register_profile("understudy", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("understudy")

import torch  # noqa: E402  (the hook comes first)

from conformance.two_processes import TwoProcesses  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("UNDERSTUDY_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data sets; a test that needs it is skipped, visibly, where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"needs the real data sets in {DATA} (set UNDERSTUDY_DATA)")
    return DATA


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoProcesses]:
    """Two real processes with a gloo group between them."""
    pair = TwoProcesses(tmp_path_factory.mktemp("two_processes"))
    yield pair
    pair.close()
