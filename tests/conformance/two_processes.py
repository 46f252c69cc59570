"""Two real processes with a gloo group, and one without, started once and given any number of jobs."""

import multiprocessing
import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed

ALONE = 2


class TwoProcesses:
    """Runs `function(rank, *arguments)` in both processes and gives back both answers.

    The function is found by its import path in the children, so that it lives in a module under tests/conformance.
    """

    def __init__(self, directory: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for rank in (0, 1, ALONE):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(rank, str(directory / "rendezvous"), there), daemon=True)
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        for pipe in self._pipes[:2]:
            pipe.send((function, arguments))
        return [self._answer(rank) for rank in range(2)]

    def alone(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run `function(*arguments)` without a group, and outside of pytest with its type checks at every call."""
        self._pipes[ALONE].send((_without_rank, (function, *arguments)))
        return self._answer(ALONE)

    def _answer(self, rank: int) -> Any:
        assert self._pipes[rank].poll(240), f"process {rank} gave no answer in 240 s"
        worked, answer = self._pipes[rank].recv()
        assert worked, f"process {rank} failed:\n{answer}"
        return answer

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(20)
            if process.is_alive():
                process.kill()


def _without_rank(_rank: int, function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def _serve(rank: int, rendezvous: str, pipe: Connection) -> None:
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # no further processes for the compiler
    torch.set_num_threads(1)
    if rank != ALONE:
        torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    while (job := pipe.recv()) is not None:
        function, arguments = job
        try:
            pipe.send((True, function(rank, *arguments)))
        except BaseException:
            pipe.send((False, traceback.format_exc()))
    if rank != ALONE:
        torch.distributed.destroy_process_group()
    pipe.close()
    os._exit(0)  # without the seconds that the interpreter takes to pull all of torch down
