"""A small training as a program of its own, for tests that kill it, resume it, or run it in several processes.

    python training_program.py DIRECTORY DATA [--kill-at STEP [--rank RANK] [--signal NAME]] [--steps N] [--plain]
        [--head-chunk N]

It prints one JSON object: the student's weights as a hash, the records, and the step it went on from.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

from understudy import CrossEntropy, Distiller, Hint, SoftTargets
from understudy.engine import Optimizer, PlainProgress, Training, fit, process
from understudy.schedules import Cosine
from understudy.sources.loader import Loader
from understudy.sources.splits import Split


class Noisy(Dataset):
    """Samples with noise from the generators that people use in data sets: torch's and numpy's global ones."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int):
        noise = 0.1 * torch.randn(64) + 0.1 * float(np.random.rand())
        return self.inputs[index] + noise, self.targets[index]


class KillAt:
    """Sends the process a signal; SIGKILL ends it the hard way, like an out-of-memory killer."""

    def __init__(self, step: int, number: signal.Signals) -> None:
        self.step, self.number = step, number

    def stepped(self, moment) -> None:
        if moment.step == self.step:
            os.kill(os.getpid(), self.number)

    def recorded(self, moment, record) -> None: ...


def network(hidden: int, *, plain: bool) -> nn.Module:
    """A multi-layer perceptron; plain ones have no batch statistics and no dropout, which differ between ranks."""
    middle = [nn.ReLU()] if plain else [nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(0.3)]
    return nn.Sequential(nn.Linear(64, hidden), *middle, nn.Linear(hidden, 10))


def make_loader(kind: str, inputs: torch.Tensor, targets: torch.Tensor):
    """The training data behind the loader that is asked for."""
    if kind == "loader":
        current = process()
        classes = tuple(map(str, range(10)))
        split = Split(inputs=inputs, targets=targets, ids=torch.arange(len(targets)), classes=classes, name="train")
        return Loader(split, batch_size=30, seed=1, rank=current.rank, world=current.world)
    if kind == "generator":
        return DataLoader(Noisy(inputs, targets), 30, shuffle=True, generator=torch.Generator().manual_seed(9))
    if kind == "ordered":
        # Without an incomplete last batch, which Accelerate would fill up from the start.
        return DataLoader(torch.utils.data.TensorDataset(inputs[:390], targets[:390]), 30)
    return DataLoader(Noisy(inputs, targets), 30, shuffle=True, num_workers=2 if kind == "workers" else 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("data", choices=["loader", "shuffled", "generator", "workers", "ordered"])
    parser.add_argument("--kill-at", type=int, default=0)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--signal", default="SIGKILL")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--head-chunk", type=int)
    arguments = parser.parse_args()

    torch.manual_seed(0)
    inputs, targets = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(inputs / 16.0, dtype=torch.float32)[:560], torch.tensor(targets)[:560]
    targets[::3] = -100  # some have no label, so that the parts of a step do not all count alike
    teacher, student = network(48, plain=arguments.plain), network(16, plain=arguments.plain)
    loader = make_loader(arguments.data, inputs[:400], targets[:400])
    objective = CrossEntropy() + SoftTargets() + Hint(student_layer="0", teacher_layer="0")
    example = (inputs[:8], targets[:8])
    distiller = Distiller(student, teacher, objective, example=example, head_chunk=arguments.head_chunk)
    rich = {} if arguments.plain else {"ema": 0.9, "accumulate": 2, "max_norm": 2.0}
    training = Training(
        epochs=6,
        optimizer=Optimizer(kind="adam", lr=0.02),
        schedule=Cosine(),
        warmup=0.1,
        clip_norm=1.0,
        checkpoint_every=4,
        validate_every=0.7,
        **rich,
    )
    kills = arguments.kill_at and process().rank == arguments.rank
    fitted = fit(
        distiller,
        loader,
        training,
        val=[(inputs[400:], targets[400:])],
        seed=3,
        directory=arguments.directory,
        progress=PlainProgress(sys.stderr),
        callbacks=[KillAt(arguments.kill_at, signal.Signals[arguments.signal])] if kills else [],
    )
    if process().is_main:
        hashes = {
            name: hashlib.sha256(
                b"".join(
                    tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for tensor in state.values()
                )
            ).hexdigest()
            for name, state in (
                ("selected", student.state_dict()),
                ("last", fitted.last_state),
                ("adapters", distiller.objective.state_dict()),
            )
        }
        weights = {name: tensor.flatten().tolist() for name, tensor in fitted.last_state.items()}
        found = {"hashes": hashes, "history": fitted.history, "resumed_from": fitted.resumed_from, "weights": weights}
        print(json.dumps(found))


if __name__ == "__main__":
    main()
