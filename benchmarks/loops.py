"""The contenders: the same distillation, written by hand, by torchdistill, and with understudy."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, TextIO

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

TEMPERATURE, HARD, SOFT = 20.0, 0.1, 0.9
LEARNING_RATE, MOMENTUM = 0.01, 0.9


@dataclass(frozen=True)
class Samples:
    """A set that fits into memory.

    Attributes:
        images: uint8 (N, channels, height, width).
        labels: int64 (N,), of ten classes.
    """

    images: Tensor
    labels: Tensor

    @cached_property
    def one_by_one(self) -> TensorDataset:
        """For a ``DataLoader``; already float in [0, 1], so that nothing is left to do per sample."""
        return TensorDataset(self.images.div(255), self.labels)


@dataclass(frozen=True)
class Work:
    """What all contenders do: train a copy of the student for some steps, with the teacher live beside it.

    Attributes:
        teacher: in eval mode.
        student: as it is before the training; every contender trains a copy.
        samples: what to train on.
        steps: of the optimizer, SGD with momentum at a constant learning rate.
        batch: samples of each step.
    """

    teacher: nn.Module
    student: nn.Module
    samples: Samples
    steps: int
    batch: int

    def shorter(self, steps: int) -> Work:
        """The same with fewer steps, to warm up."""
        return replace(self, steps=steps)


class Done(NamedTuple):
    """What a contender gave: the time of its training call, and the mean loss over all its steps."""

    seconds: float
    loss: float


def pixels(data: str | None, shape: tuple[int, int, int], count: int) -> Samples:
    """Images of ten classes.

    Args:
        data: what understudy's data layer can open, of this shape; None for random pixels.
        shape: (channels, height, width).
        count: how many, when they are random.
    """
    if data is not None:
        from understudy import ImageClassification
        from understudy.sources.data import DataSpec, load_data

        train = load_data(DataSpec(source=data), task=ImageClassification()).train
        if train.shape != shape or len(train.classes) != 10 or not isinstance(train.inputs, Tensor):
            raise SystemExit(f"{data}: {len(train.classes)} classes of images {train.shape}; expected 10 of {shape}")
        return Samples(train.inputs, train.targets)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)
    return Samples(images, torch.randint(0, 10, (count,), generator=generator))


def perceptron(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them, for images."""
    layers: list[nn.Module] = [nn.Flatten()]
    for below, above in itertools.pairwise(widths):
        layers += [nn.Linear(below, above), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def as_if_trained(teacher: nn.Module, samples: Samples, batch: int) -> nn.Module:
    """Give a random network the statistics of a trained one, in place, and put it into eval mode.

    Its norms see real activations, without which its logits explode; its logits are spread as widely as those of a
    network that knows its classes, without which the soft targets would hardly count in the loss.
    """
    head = [layer for layer in teacher.modules() if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        for images in samples.images[: 8 * batch].split(batch):
            teacher.train()(images.div(255))
        factor = 5.0 / teacher.eval()(samples.images[:batch].div(255)).std()
        head.weight.mul_(factor)
        head.bias.mul_(factor)
    return teacher


def loss_by_hand(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """0.1 × cross-entropy + 0.9 × τ² × KL(teacher ‖ student) at τ = 20."""
    soft = F.kl_div(
        F.log_softmax(student_logits / TEMPERATURE, dim=1),
        F.log_softmax(teacher_logits / TEMPERATURE, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return HARD * F.cross_entropy(student_logits, labels) + SOFT * TEMPERATURE**2 * soft


def by_hand(work: Work, *, fused: bool = True) -> Done:
    """What a careful engineer writes for a set that fits into memory: no loader, whole batches by index.

    Args:
        work: what to do.
        fused: torch's fused optimizer, which understudy takes as well; False for torch's default.
    """
    student, teacher = copy.deepcopy(work.student).train(), work.teacher.eval()
    images, all_labels = work.samples.images, work.samples.labels
    started = time.perf_counter()
    optimizer = torch.optim.SGD(student.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, fused=fused or None)
    step, total = 0, 0.0
    while step < work.steps:
        for indices in torch.randperm(len(images)).split(work.batch):
            inputs, labels = images.index_select(0, indices).div(255), all_labels.index_select(0, indices)
            with torch.no_grad():
                teacher_logits = teacher(inputs)
            loss = loss_by_hand(student(inputs), teacher_logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            step += 1
            if step == work.steps:
                break
    return Done(time.perf_counter() - started, total / step)


def with_data_loader(work: Work) -> Done:
    """What most people write: a ``DataLoader`` of samples, and torch's default optimizer."""
    student, teacher = copy.deepcopy(work.student).train(), work.teacher.eval()
    dataset = work.samples.one_by_one
    started = time.perf_counter()
    optimizer = torch.optim.SGD(student.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    loader = DataLoader(dataset, batch_size=work.batch, shuffle=True)
    step, total = 0, 0.0
    while step < work.steps:
        for inputs, labels in loader:
            with torch.no_grad():
                teacher_logits = teacher(inputs)
            loss = loss_by_hand(student(inputs), teacher_logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            step += 1
            if step == work.steps:
                break
    return Done(time.perf_counter() - started, total / step)


def with_understudy(
    work: Work,
    terminal: TextIO,
    plans: list[str] | None = None,
    precisions: tuple[Literal["bf16", "fp16"], ...] = (),
    teacher: Any = None,
    alone: bool = False,
) -> Done:
    """``understudy.fit`` as it comes, with its progress display.

    Args:
        work: what to do.
        terminal: where the display goes.
        plans: what fit found to be the fastest execution is added here, with the seconds it took to find out.
        precisions: lower ones that fit may choose for either network, where they are faster.
        teacher: who answers in place of the live network, such as a recording.
        alone: learn from the labels only.
    """
    import understudy as us
    from understudy.engine.progress import progress_for

    loader = us.Loader(split_of(work.samples), batch_size=work.batch)
    optimizer = us.Optimizer(kind="sgd", lr=LEARNING_RATE, options={"momentum": MOMENTUM})
    execution = us.Execution(precisions=precisions)
    training = us.Training(steps=work.steps, batch_size=work.batch, optimizer=optimizer, execution=execution)
    distiller = understudy_distiller(work, example=next(iter(loader)), teacher=teacher, alone=alone)
    started = time.perf_counter()
    fitted = us.fit(distiller, loader, training, progress=progress_for(terminal))
    seconds = time.perf_counter() - started
    if plans is not None:
        plans.append(f"{fitted.plan.describe()}; {fitted.plan.probe_seconds:.1f} s to find out")
    total, before = 0.0, 0
    for record in fitted.history:
        total += (record["step"] - before) * record["loss"]
        before = record["step"]
    return Done(seconds, total / before)


def split_of(samples: Samples) -> Any:
    """The samples as understudy's loader and recorder read them."""
    from understudy.sources.splits import Split

    classes = tuple(map(str, range(10)))
    return Split(samples.images, samples.labels, torch.arange(len(samples.images)), classes, "train")


def understudy_distiller(work: Work, *, example: Any, teacher: Any = None, alone: bool = False) -> Any:
    """A copy of the student, with the teacher and the objective; or alone, with the labels."""
    import understudy as us

    if alone:
        student, task = copy.deepcopy(work.student), us.ImageClassification()
        return us.Distiller(student, None, us.CrossEntropy(), example=example, task=task)
    objective = HARD * us.CrossEntropy() + SOFT * us.SoftTargets(temperature=TEMPERATURE)
    student, task = copy.deepcopy(work.student), us.ImageClassification()
    return us.Distiller(student, teacher or work.teacher.eval(), objective, example=example, task=task)


def with_torchdistill(work: Work) -> Done:
    """What torchdistill's own examples do: a box from a configuration, its loader, its logger."""
    from torchdistill.misc.log import MetricLogger, SmoothedValue

    box = torchdistill_box(work)
    started = time.perf_counter()
    step, epoch, total = 0, 0, 0.0
    while step < work.steps:
        box.pre_epoch_process(epoch=epoch)
        meters = MetricLogger(delimiter="  ")
        meters.add_meter("lr", SmoothedValue(window_size=1, fmt="{value}"))
        meters.add_meter("img/s", SmoothedValue(window_size=10, fmt="{value}"))
        for inputs, labels, extra in meters.log_every(box.train_data_loader, 100, f"Epoch: [{epoch}]"):
            begun = time.time()
            loss = box.forward_process(inputs, labels, extra)
            box.post_forward_process(loss=loss)
            meters.update(loss=loss.item(), lr=box.optimizer.param_groups[0]["lr"])
            meters.meters["img/s"].update(len(inputs) / (time.time() - begun))
            total += meters.meters["loss"].value
            step += 1
            if step == work.steps:
                break
        box.post_epoch_process()
        epoch += 1
    return Done(time.perf_counter() - started, total / step)


def torchdistill_box(work: Work) -> Any:
    """A copy of the student, with the teacher and the loss, in the words of torchdistill's configurations."""
    from torchdistill.core.distillation import get_distillation_box

    io = {"student_module_path": ".", "student_module_io": "output"}
    io |= {"teacher_module_path": ".", "teacher_module_io": "output"}
    loss = {"key": "KDLoss", "kwargs": {**io, "temperature": TEMPERATURE, "alpha": HARD, "beta": SOFT}}
    config = {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": RandomSampler, "kwargs": {}},
            "kwargs": {"batch_size": work.batch},
        },
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only"},
        "optimizer": {"key": "SGD", "kwargs": {"lr": LEARNING_RATE, "momentum": MOMENTUM}},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": {"criterion": loss, "weight": 1.0}}}},
    }
    # A copy of the teacher: torchdistill sets `requires_grad` on it.
    teacher, student = copy.deepcopy(work.teacher).eval(), copy.deepcopy(work.student)
    data, device = {"train": work.samples.one_by_one}, torch.device("cpu")
    return get_distillation_box(teacher, student, data, config, device, [], distributed=False, lr_factor=1)


def losses_of_one_batch(work: Work, *, torchdistill: bool) -> dict[str, float]:
    """The loss that each contender computes for the first batch; they must agree, or the work is not the same.

    Raises:
        SystemExit: when they do not.
    """
    inputs, labels = work.samples.images[: work.batch].div(255), work.samples.labels[: work.batch]
    student, distiller = copy.deepcopy(work.student).train(), understudy_distiller(work, example=(inputs, labels))
    contenders: dict[str, Callable[[], Tensor]] = {
        "hand-written": lambda: loss_by_hand(student(inputs), work.teacher(inputs), labels),
        "understudy": lambda: distiller.train()((inputs, labels)).loss,
    }
    if torchdistill:
        box = torchdistill_box(work)
        box.pre_epoch_process(epoch=0)
        contenders["torchdistill"] = lambda: box.forward_process(inputs, labels, None)
    losses = {}
    for name, loss in contenders.items():
        torch.manual_seed(0)  # the same units drop out
        with torch.no_grad():
            losses[name] = loss().item()
    for name, value in losses.items():
        if abs(value - losses["hand-written"]) > 1e-3 * abs(losses["hand-written"]):
            raise SystemExit(f"{name} has another loss than the others ({losses}): this is not the same work")
    return losses
