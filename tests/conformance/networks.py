"""Small networks with everything that makes taps difficult, and the jobs that run them in other processes."""

import copy
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from understudy import Batch, Classification, CrossEntropy, Distiller, Hint, InputError, SoftTargets, Taps

INPUTS, CLASSES = 4, 3


class Network(nn.Module):
    """A stem, a residual block that may be checkpointed, a head."""

    def __init__(
        self, width: int = 6, *, checkpointed: Literal["no", "reentrant", "recomputed"] = "no", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.stem = nn.Linear(INPUTS, width)
        self.block = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, CLASSES)
        self.checkpointed = checkpointed

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.stem(inputs)
        if self.checkpointed != "no" and self.training:  # as Transformers does it: not in eval mode
            hidden = hidden + checkpoint(self.block, hidden, use_reentrant=self.checkpointed == "reentrant")
        else:
            hidden = hidden + self.block(hidden)
        return self.head(self.dropout(hidden))


class Normalised(nn.Module):
    """Batch normalisation, a dropout module, and dropout that no eval mode switches off."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.stem = nn.Linear(INPUTS, width)
        self.norm = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.norm(F.dropout(self.stem(inputs), 0.1, training=True))
        return self.head(self.dropout(hidden))


def objective(layer: str = "block") -> Any:
    return (
        0.2 * CrossEntropy() + 0.8 * SoftTargets(temperature=2.0) + 3 * Hint(student_layer=layer, teacher_layer=layer)
    )


def raw_batch(count: int = 8, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(count, INPUTS, generator=generator, dtype=dtype)
    return inputs, torch.randint(CLASSES, (count,), generator=generator)


def pair(dtype: torch.dtype = torch.float32, **student: Any) -> tuple[Network, Network]:
    """A student and a teacher twice as wide, the same ones at every call."""
    torch.manual_seed(1)
    return Network(6, **student).to(dtype), Network(12).to(dtype)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {
        name.replace("_orig_mod.", ""): parameter.grad.clone()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def step_of(distiller: Distiller, batch: Any) -> dict[str, Tensor]:
    """Loss, tapped features and all gradients of one step."""
    distiller.zero_grad()
    step = distiller(batch)
    step.loss.backward()
    features = {path: feature.detach() for path, feature in step.student.features.items()}
    return {"loss": step.loss.detach(), **features, **gradients(distiller)}


# Jobs for other processes.


def compiled_steps() -> dict[str, Any]:
    """Six steps of a compiled student among validations, beside an eager one."""
    torch.compiler.reset()
    student, teacher = pair()
    batch = raw_batch()
    eager = Distiller(copy.deepcopy(student), copy.deepcopy(teacher), objective(), example=batch)
    counter = CompileCounterWithBackend("inductor")
    compiled = Distiller(torch.compile(student, backend=counter), teacher, objective(), example=batch)
    compiled.objective.load_state_dict(eager.objective.state_dict())
    frames = []
    for _ in range(6):
        expected, received = step_of(eager, batch), step_of(compiled, batch)
        frames.append(counter.frame_count)
        compiled.student.eval()
        with torch.no_grad():
            compiled.student(batch[0])
        compiled.student.train()
    return {"expected": expected, "received": received, "frames": frames, "final_frames": counter.frame_count}


def compiled_in_place() -> list[dict[str, Tensor]]:
    """`module.compile()` after the hand-over, as one graph."""
    torch.compiler.reset()
    student, teacher = pair()
    distiller = Distiller(student, teacher, objective(), example=raw_batch())
    expected = step_of(distiller, raw_batch())
    distiller.student.compile(fullgraph=True)
    return [expected, step_of(distiller, raw_batch())]


def compiled_too_early() -> str:
    """The error for a model that was compiled and run before the hand-over."""
    torch.compiler.reset()
    student, teacher = pair()
    compiled = torch.compile(student)
    compiled(raw_batch()[0])
    distiller = Distiller(compiled, teacher, objective(), example=raw_batch())
    try:
        distiller(raw_batch())
    except InputError as error:
        return str(error)
    return "no error"


def distributed_step(rank: int) -> dict[str, Tensor]:
    """Each process takes half of the batch; the gradients are those that DDP leaves in the student and the adapter."""
    student, teacher = pair(torch.float64)
    inputs, targets = raw_batch(8, torch.float64)
    torch.manual_seed(2)
    distiller = Distiller(student, teacher, objective(), example=(inputs, targets))
    targets[4:] = -100  # all labels are with the first process
    part = Batch(inputs=inputs[rank * 4 : rank * 4 + 4], targets=targets[rank * 4 : rank * 4 + 4])
    totals = torch.stack([part.labelled.sum(), torch.tensor(4)]).double()
    torch.distributed.all_reduce(totals)
    labelled, valid = totals / 2
    wrapped = DistributedDataParallel(distiller)
    step = wrapped(replace(part, labelled_total=labelled, valid_total=valid))
    step.loss.backward()
    mean = step.loss.detach().clone()
    torch.distributed.all_reduce(mean)
    return {"loss": mean / 2, **gradients(distiller)}


def single_step() -> dict[str, Tensor]:
    """What :func:`distributed_step` has to equal."""
    student, teacher = pair(torch.float64)
    inputs, targets = raw_batch(8, torch.float64)
    torch.manual_seed(2)
    distiller = Distiller(student, teacher, objective(), example=(inputs, targets))
    targets[4:] = -100
    step = distiller((inputs, targets))
    step.loss.backward()
    return {"loss": step.loss.detach(), **gradients(distiller)}


def wrapped_paths(_rank: int) -> list[list[str]]:
    """A path names the same layer through every wrapper, in any nesting."""
    found = []
    for wrap in (torch.compile, DistributedDataParallel, lambda m: torch.compile(DistributedDataParallel(m))):
        network = Network()
        taps = Taps(wrap(network), ["block.0", "head.weight"])
        with taps.reading() as features:
            Classification().observe(network, Batch(inputs=raw_batch()[0]))
        assert features["head.weight"] is network.head.weight
        found.append(list(features))
    return found


def loss_on_a_parameter(rank: int | None) -> dict[str, Tensor]:
    """A loss on the answers and on a weight that is read beside them: by each process of its half, or of the whole."""
    student, inputs = pair(torch.float64)[0], raw_batch(8, torch.float64)[0]
    wrapped = student if rank is None else DistributedDataParallel(student)
    taps = Taps(wrapped, ["head.weight"])
    own = inputs if rank is None else inputs[rank * 4 : rank * 4 + 4]
    with taps.reading() as features:
        logits = wrapped(own)
    (logits @ features["head.weight"]).square().mean().backward()
    return gradients(student)


def compiled_parameter() -> list[dict[str, Tensor]]:
    """The same loss of an eager and of a compiled student."""
    torch.compiler.reset()
    answers = []
    for compile_student in (False, True):
        student = pair()[0]
        called = torch.compile(student) if compile_student else student
        taps = Taps(called, ["stem", "head.weight"])
        with taps.reading() as features:
            logits = called(raw_batch()[0])
        ((logits @ features["head.weight"]).square().mean() + features["stem"].square().mean()).backward()
        answers.append(gradients(student))
    return answers
