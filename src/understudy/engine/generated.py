"""Batches of images that nobody took: a generator, trained against the teacher while the student learns from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn

from understudy.batch import IGNORE_INDEX, Batch
from understudy.engine.checkpoints import flat, optimizer_tensors, part, restore_optimizer
from understudy.engine.generation import Generation, generator_terms
from understudy.engine.optimizers import build_optimizer
from understudy.engine.process import Process, process
from understudy.errors import InputError
from understudy.functional.generation import statistics_gap
from understudy.functional.reduction import connected_zero
from understudy.sources.forward import device_of, evaluating
from understudy.sources.generator import image_generator
from understudy.tasks.task import Task
from understudy.teachers.module import ModuleTeacher
from understudy.views import folded

BatchNorm = nn.modules.batchnorm._BatchNorm

_WEIGHTS, _NOISE, _PREVIEW = 31, 32, 33
_FOR_THE_STUDENT = 0
"""Keys of noise; the generator's own steps before a batch count on from the last."""


@final
class GeneratedLoader:
    """Generated images as training data: reading it trains the generator, in turns with the student.

    Each batch comes from new noise, a pure function of seed, epoch, and number of the batch. Before every
    ``generation.every``-th batch the generator makes its steps (see :class:`Generation`) against the student as it is
    at that moment. For that, student and teacher run in eval mode, and gradients are taken for the generator alone:
    their weights, buffers, modes and gradients stay as they are, and no global generator of random numbers is drawn
    from. DFAD's own code leaves the student in train mode, where these passes move its batch statistics too.

    With several processes each makes the whole batch, trains the generator on all of it with the gradient averaged
    over the processes, so that it is the same everywhere, and hands out its own part.

    Args:
        student: the network that learns from the images; the generator follows it to its device.
        teacher: a network, or a teacher that runs one.
        generation: the generator, and what it is trained for.
        task: how the two networks are called.
        shape: (channels, height, width) of the images.
        batch_size: images of a batch, over all processes.
        seed: of the generator's first weights and of the noise.
        current: this process; the one that runs, when not given.

    Raises:
        InputError: for a teacher that is no network, fewer images than processes, or an optimizer that does not exist.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | ModuleTeacher,
        generation: Generation,
        *,
        task: Task,
        shape: tuple[int, int, int],
        batch_size: int,
        seed: int = 0,
        current: Process | None = None,
    ) -> None:
        self._student, self._teacher = student, _network(teacher)
        self._generation, self._task = generation, task
        self._shape, self._batch_size, self._seed, self.epoch = shape, batch_size, seed, 0
        self._process = current or process()
        if batch_size < self._process.world:
            raise InputError(
                f"batch_size={batch_size} images for {self._process.world} processes; expected one or more"
            )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(folded(seed, _WEIGHTS) >> 1)
            self.generator = image_generator(generation.latent, shape, widths=generation.widths)
        self._follow()
        self._parameters = list(self.generator.parameters())
        self._optimizer = build_optimizer(generation.optimizer, [self.generator])
        self._norms = _norms(self._teacher) if generation.statistics else {}

    def set_epoch(self, epoch: int) -> None:
        """Choose the noise of the iterations that begin from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._generation.epoch

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate()

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """The batches of this epoch from number ``start`` on; those before it must have been read already."""
        self._follow()
        return self._batches(self.epoch, start)

    def images(self, count: int) -> Tensor:
        """Images that the generator makes now, (count, channels, height, width) in [0, 1], the same at each call."""
        self._follow()
        return self._made(count, self._seed, _PREVIEW)

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to be gone on from, as JSON."""
        generation = self._generation.model_dump(mode="json")
        return {
            "generation": generation,
            "shape": list(self._shape),
            "batch_size": self._batch_size,
            "seed": self._seed,
        }

    def state_dict(self) -> dict[str, Tensor]:
        """The generator's weights and the state of its optimizer."""
        moments, _ = optimizer_tensors(self._optimizer)
        return {**flat("generator.", self.generator.state_dict()), **flat("optimizer.", moments)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state_dict` gave."""
        self._follow()
        self.generator.load_state_dict(part("generator.", state))
        restore_optimizer(self._optimizer, part("optimizer.", state), {})

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        generation, world, rank = self._generation, self._process.world, self._process.rank
        mine = slice(self._batch_size * rank // world, self._batch_size * (rank + 1) // world)
        for number in range(start, len(self)):
            running = epoch * len(self) + number
            if running % generation.every == 0:
                for step in range(generation.steps):
                    self._train(running, _FOR_THE_STUDENT + 1 + step)
            images = self._made(self._batch_size, self._seed, running, _FOR_THE_STUDENT)
            ids = torch.arange(running * self._batch_size, (running + 1) * self._batch_size, device=images.device)
            yield Batch(inputs=images[mine], targets=torch.full_like(ids[mine], IGNORE_INDEX), ids=ids[mine])

    def _train(self, *key: int) -> None:
        """One step of the generator."""
        with torch.enable_grad(), evaluating(self._student), evaluating(self._teacher):
            batch = Batch(inputs=self.generator(self._noise(self._batch_size, self._seed, *key)))
            with _gaps(self._norms) as gaps:
                teacher = self._task.observe(self._teacher, batch).logits
            if self._norms and not gaps:
                raise InputError(
                    f"none of the teacher's {len(self._norms)} batch normalisations ran where they can be seen; "
                    "expected a network that is not compiled. Leave compile out, or give statistics the weight 0"
                )
            adversarial = self._generation.adversarial > 0.0
            student = self._task.observe(self._student, batch).logits if adversarial else None
            terms = generator_terms(student, teacher, gaps, generation=self._generation)
            weighted = [getattr(self._generation, name) * term for name, term in terms.items()]
            loss = torch.stack([connected_zero(batch.inputs), *weighted]).sum()
            gradients = torch.autograd.grad(loss, self._parameters)
        for parameter, gradient in zip(self._parameters, self._averaged(gradients), strict=True):
            parameter.grad = gradient
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _averaged(self, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Over the processes, whose students differ in their batch statistics."""
        world = self._process.world
        return tuple(self._process.sum(gradient) / world for gradient in gradients) if world > 1 else gradients

    def _made(self, count: int, *key: int) -> Tensor:
        with torch.no_grad():
            return self.generator(self._noise(count, *key))

    def _noise(self, count: int, *key: int) -> Tensor:
        random = torch.Generator().manual_seed(folded(*key, _NOISE) >> 1)
        return torch.randn(count, self._generation.latent, generator=random).to(device_of(self.generator))

    def _follow(self) -> None:
        self.generator.to(device_of(self._student))


def _network(teacher: nn.Module | ModuleTeacher) -> nn.Module:
    network = teacher.module if isinstance(teacher, ModuleTeacher) else teacher
    if not isinstance(network, nn.Module):
        raise InputError(
            "a generator is trained through the teacher's own layers; expected a network, "
            f"got a {type(teacher).__name__}"
        )
    return network


def _norms(teacher: nn.Module) -> dict[str, BatchNorm]:
    """Batch normalisations that know statistics of the data, by path."""
    layers = {path: layer for path, layer in teacher.named_modules() if isinstance(layer, BatchNorm)}
    return {path: layer for path, layer in layers.items() if layer.running_mean is not None}


@contextmanager
def _gaps(norms: Mapping[str, BatchNorm]) -> Iterator[dict[str, Tensor]]:
    """Inside, each batch normalisation that runs leaves the distance of its input from its statistics."""
    gaps: dict[str, Tensor] = {}
    handles = [layer.register_forward_pre_hook(_Gap(gaps, path)) for path, layer in norms.items()]
    try:
        yield gaps
    finally:
        for handle in handles:
            handle.remove()


class _Gap:
    """One hook."""

    def __init__(self, gaps: dict[str, Tensor], path: str) -> None:
        self._gaps, self._path = gaps, path

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = layer.get_buffer("running_mean"), layer.get_buffer("running_var")
        self._gaps[self._path] = statistics_gap(inputs[0], mean=mean, variance=variance)
