"""A recording as a program of its own, killed again and again, for tests of what that leaves.

    python recording_program.py DIRECTORY ROUNDS SEED

Each round is a process that records into DIRECTORY/killed and is killed: after a random time, or, in every second
round, with a file half written. The last one is left alone. Beside it DIRECTORY/whole is recorded at one go. One JSON
object is printed: for each kill how many answers were there, and every file that was visible and not whole.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from understudy import recorder
from understudy.recordings import Recording, Storage
from understudy.recordings.inspection import damaged_files
from understudy.sources.data import DataSpec, load_data
from understudy.tasks import ImageClassification
from understudy.views import Views

recorder.SHARD_ROWS = 128  # many small files, so that a kill hits every moment of one


def die_in_the_midst_of(number: int) -> None:
    """Let this process be killed when half of its file number so and so is written."""
    write, left = Path.write_bytes, [number]

    def half(path: Path, content: bytes) -> int:
        left[0] -= 1
        if left[0] == 0:
            write(path, content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(path, content)

    Path.write_bytes = half


def child(folder: Path, teacher: nn.Module, data, *, dies_in: int = 0) -> int:
    """Record in a process of its own."""
    process = os.fork()
    if process == 0:
        if dies_in:
            die_in_the_midst_of(dies_in)
        keep = Storage(dtype="float32", top=3, layers={"1": "whole"})
        views = Views(shift=1, mixup=1.0)
        recorder.record(
            teacher, data.train, folder, views=views, count=2, plain=data.validation, keep=keep, batch_size=32
        )
        os._exit(0)
    return process


def main() -> None:
    """Record, kill, look, and record again."""
    directory, rounds, generator = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).eval()
    data = load_data(DataSpec(source="sklearn/digits"), task=ImageClassification())
    begun = time.monotonic()
    assert os.waitpid(child(directory / "whole", teacher, data), 0)[1] == 0
    seconds = time.monotonic() - begun
    kills, torn, litter = [], [], 0
    for number in range(rounds):
        dies_in = generator.randint(1, 6) if number % 2 else 0
        process = child(directory / "killed", teacher, data, dies_in=dies_in)
        if not dies_in:
            time.sleep(generator.uniform(0.0, seconds / 5))
            os.kill(process, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(process, 0)[1]):
            folder = directory / "killed"
            started = (folder / "manifest.json").is_file()
            kills.append(sum(shard.last - shard.first for shard in Recording(folder).shards()) if started else -1)
            torn += damaged_files(folder).values()
            litter += len(list(folder.rglob(".*")))
    ended = os.waitpid(child(directory / "killed", teacher, data), 0)[1]
    print(json.dumps({"kills": kills, "torn": torn, "litter": litter, "ended": ended}))


if __name__ == "__main__":
    main()
