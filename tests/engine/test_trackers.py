"""Trackers, through Accelerate."""

import importlib.util

import pytest

from understudy import CrossEntropy, Distiller, InputError
from understudy.engine import Optimizer, SilentProgress, Training, fit

TRAINING = Training(epochs=2, optimizer=Optimizer(lr=0.1, options={"momentum": 0.9}))


def trained(network, batches, val, **settings):
    distiller = Distiller(network(), None, CrossEntropy(), example=batches[0])
    return fit(distiller, batches, TRAINING, val=val, progress=SilentProgress(), **settings)


def test_tensorboard_gets_every_number(network, batches, val, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fitted = trained(network, batches, val, directory=tmp_path / "run", trackers=("tensorboard",))
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "trackers" / "run")).Reload()
    accuracy = [event.value for event in events.Scalars("val/accuracy")]
    assert accuracy == pytest.approx([record["val"]["accuracy"] for record in fitted.history])
    assert [event.step for event in events.Scalars("terms/cross_entropy")] == [8, 16]


def test_an_unknown_tracker(network, batches, val, tmp_path):
    with pytest.raises(InputError, match="no tracker 'tensorbord'; nearest: 'tensorboard'"):
        trained(network, batches, val, directory=tmp_path, trackers=("tensorbord",))


def test_one_that_is_not_installed(network, batches, val, tmp_path):
    missing = [name for name in ("wandb", "mlflow", "trackio") if importlib.util.find_spec(name) is None]
    if not missing:
        pytest.skip("wandb, mlflow and trackio are all installed")
    with pytest.raises(InputError, match=f"pip install {missing[0]}"):
        trained(network, batches, val, directory=tmp_path, trackers=(missing[0],))


def test_one_that_needs_a_directory(network, batches, val):
    with pytest.raises(InputError, match="directory"):
        trained(network, batches, val, trackers=("tensorboard",))
