"""One small network as a file of every format that needs no compiler."""

from pathlib import Path

import pytest
import torch
from torch import nn

from understudy.export import export
from understudy.tasks import Classification

CLASSES = ("cat", "dog", "owl")


@pytest.fixture(scope="session")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


@pytest.fixture(scope="session")
def exported(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    return {
        Path(made.path).suffix: made.path
        for kind in ("onnx", "openvino", "torch_export")
        if (
            made := export(
                network, folder, format=kind, example=torch.rand(2, 2, 4), task=Classification(), classes=CLASSES
            )
        )
    }
