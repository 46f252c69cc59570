"""Correct the class biases of a student whose transfer set did not show every class."""

from __future__ import annotations

from typing import Annotated, Any, Literal, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from understudy.errors import InputError, nearest
from understudy.measure.quality import predict
from understudy.pipeline.directory import write_json
from understudy.pipeline.stage import Context, Name, Stage
from understudy.pipeline.students import load_model
from understudy.pipeline.training import EVALUATION_BATCH
from understudy.sources.artifact import load_artifact, save_artifact
from understudy.sources.loader import Loader
from understudy.sources.splits import Subset


@final
class FitBias(Stage):
    """Shift the biases of some classes until the student agrees with its teacher; no label is used.

    A student whose transfer set lacks a class has learnt it through the teacher's small probabilities, but its
    bias for the class is far too low (Hinton et al. 2015, section 3). The shift is found on training inputs, by
    the divergence from the teacher's answers.
    """

    kind: Literal["fit_bias"] = "fit_bias"
    student: Name
    """The `distill` stage whose student is corrected."""
    teacher: Name
    """The stage whose model it is brought to agree with."""
    classes: Annotated[tuple[str | int, ...], Field(min_length=1)]
    """Names or indices of the classes whose bias may move."""
    subset: Subset | None = None
    """Which training inputs the teacher and the student are compared on; all when left out."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages of the student and of the teacher."""
        return (self.student, self.teacher)

    @property
    def network(self) -> Name:
        """The student's."""
        return self.student

    def run(self, context: Context) -> dict[str, Any]:
        """Leave a copy of the student with shifted biases.

        Raises:
            InputError: for an unknown class, or a student without a final linear layer with biases.
        """
        context.progress.stage(self.name, f"comparing {self.student} with {self.teacher}, seed {context.seed}")
        origin = context.upstream[self.student].path
        student, teacher = load_model(origin, context), load_model(context.upstream[self.teacher].path, context)
        split = context.data.train.subset(self.subset or Subset(), context.seed)
        loader = Loader(split, batch_size=EVALUATION_BATCH, shuffle=False)
        chosen = torch.tensor([_index(name, context.data.classes) for name in self.classes])
        answers = predict(teacher, loader, context.task).logits.double().softmax(-1)
        shift = fit_shift(predict(student, loader, context.task).logits.double(), answers, chosen)
        head = final_linear(student, len(context.data.classes))
        with torch.no_grad():
            head.bias[chosen.to(head.bias.device)] += shift.to(head.bias)
        shifts = dict(zip((context.data.classes[int(index)] for index in chosen), shift.tolist(), strict=True))
        if context.process.is_main:
            original = load_artifact(origin)
            save_artifact(
                context.directory.path,
                student,
                spec=original.spec,
                classes=context.data.classes,
                task=context.task.kind,
                inputs=context.task.example(next(iter(loader)).inputs, 1),
                metadata={"bias_shift": shifts},
            )
            write_json(context.directory.path / "bias.json", shifts)
        context.process.wait()
        return {
            "models": {"student": "."},
            "teacher": [self.teacher],
            "data": f"{len(split):,} training inputs and the teacher's answers to them; no label",
            "bias_shift": shifts,
        }


def fit_shift(student_logits: Tensor, teacher_probabilities: Tensor, chosen: Tensor) -> Tensor:
    """The additions to some classes' logits that bring the student nearest to the teacher.

    Minimises the mean cross-entropy of the shifted student with the teacher's probabilities; the problem is
    convex.

    Args:
        student_logits: (samples, classes), float64.
        teacher_probabilities: (samples, classes), float64.
        chosen: indices of the classes that may move.

    Returns:
        (len(chosen),), in the unit of the logits.
    """
    shift = torch.zeros(len(chosen), dtype=student_logits.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([shift], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        shifted = student_logits.index_add(1, chosen, shift.expand(len(student_logits), -1))
        loss = F.cross_entropy(shifted, teacher_probabilities)
        loss.backward()
        return loss.item()

    optimizer.step(closure)
    return shift.detach()


def final_linear(model: nn.Module, classes: int) -> nn.Linear:
    """The last linear layer with one output and one bias for each class.

    Raises:
        InputError: when the model has none.
    """
    heads = [module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == classes]
    if not heads or heads[-1].bias is None:
        raise InputError(f"the student has no final linear layer with {classes} outputs and a bias to shift")
    return heads[-1]


def _index(name: str | int, classes: tuple[str, ...]) -> int:
    if str(name) in classes:
        return classes.index(str(name))
    raise InputError(f"no class {name!r} in the data{nearest(str(name), classes)}")
