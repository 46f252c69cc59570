"""A small training on generated images as a program of its own, for tests that kill it or run it in two processes.

    python generated_program.py DIRECTORY [--kill-at STEP] [--plain]

It prints one JSON object: the weights of student and generator, and the step it went on from.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

import understudy as us
from understudy.engine import PlainProgress, process
from understudy.sources.builtin import cnn


class KillAt:
    """Ends the process the hard way, like an out-of-memory killer."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, moment) -> None:
        if moment.step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)

    def recorded(self, moment, record) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--kill-at", type=int, default=0)
    parser.add_argument("--plain", action="store_true")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    teacher = cnn(1, 10, widths=(4, 6))
    for _ in range(5):
        teacher(torch.rand(64, 1, 8, 8))
    # Plain ones have no batch statistics and no dropout, which differ between processes.
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    if not arguments.plain:
        student = nn.Sequential(nn.Dropout(0.2), cnn(1, 10, widths=(3, 4)))
    task, generation = us.ImageClassification(), us.Generation(latent=8, widths=(8, 4), epoch=7, every=2)
    loader = us.GeneratedLoader(student, teacher, generation, task=task, shape=(1, 8, 8), batch_size=24, seed=5)
    distiller = us.Distiller(student, teacher, us.SoftTargets(), example=(loader.images(2),), task=task)
    training = us.Training(
        steps=30,
        optimizer=us.Optimizer(kind="adam", lr=0.02),
        accumulate=1 if arguments.plain else 2,
        checkpoint_every=4,
        select="last",
    )
    fitted = us.fit(
        distiller,
        loader,
        training,
        seed=3,
        directory=arguments.directory,
        progress=PlainProgress(sys.stderr),
        callbacks=[KillAt(arguments.kill_at)] if arguments.kill_at else [],
    )
    if process().is_main:
        states = {"student": fitted.last_state, "generator": loader.state_dict()}
        weights = {
            f"{part}.{name}": tensor.flatten().tolist()
            for part, state in states.items()
            for name, tensor in state.items()
        }
        losses = [record["loss"] for record in fitted.history]
        print(json.dumps({"weights": weights, "losses": losses, "resumed_from": fitted.resumed_from}))


if __name__ == "__main__":
    main()
