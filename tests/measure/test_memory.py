"""Memory of a real process: it must see a megabyte that is there."""

import pytest
import torch

from understudy.errors import InputError, RunError
from understudy.measure import peak_memory, peak_memory_of
from understudy.sources import BuiltinModel, build_model, save_artifact

pytestmark = pytest.mark.e2e  # each measurement is a process of its own

INPUTS = torch.rand(2, 256)
MEBIBYTE = 2**20


def wide(units: int) -> BuiltinModel:
    return BuiltinModel(name="mlp", arguments={"hidden": [units, units]})


def test_weights_and_activations_are_seen(tmp_path):
    peaks = {}
    for units, batch in ((64, 1), (64, 100_000), (3072, 1)):
        model = build_model(wide(units), classes=2, inputs=INPUTS)
        peaks[units, batch] = peak_memory_of(
            model, spec=wide(units), classes=("a", "b"), inputs=INPUTS, batch=batch, threads=1
        )
    weights = 4 * (3072 * 256 + 3072 * 3072)
    assert weights < peaks[3072, 1] < 3 * weights + 32 * MEBIBYTE
    assert peaks[3072, 1] - peaks[64, 1] > 0.9 * weights
    assert peaks[64, 100_000] - peaks[64, 1] > 0.9 * 4 * 100_000 * 256


def test_the_reason_of_a_failure_is_told(tmp_path):
    with pytest.raises(InputError, match="is not a saved model"):
        peak_memory(tmp_path)
    save_artifact(
        tmp_path, build_model(wide(2), classes=2, inputs=INPUTS), spec=wide(2), classes=("a", "b"), inputs=INPUTS
    )
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"failed: .*not a whole safetensors file"):
        peak_memory(tmp_path)
