"""What all tests share: shapes checked at call time, fixed seeds, and the real data where it is there."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook("understudy.functional", "beartype.beartype")

import torch  # noqa: E402  (the hook comes first)

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
