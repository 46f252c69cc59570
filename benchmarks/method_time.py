"""Milliseconds per training step with each method, beside the same step with its formula written plainly.

    python benchmarks/method_time.py
    python benchmarks/method_time.py --only hint relational_angle

A step is the student's forward pass, the loss and the backward pass, with the teacher's answers ready. Understudy's
goes through `Distiller`, taps, adapters and all. The student is a small convolutional network on 256 images, with 100
classes; its layers, as `auto` finds them, are maps of 8×64×64 and 64×32×32 (all methods on maps read the second, those
on all stages both; `similarity_preserving` reads it flat) and a vector of 64 (what the other relations read). Methods
on tokens have a small transformer instead: 17 tokens of 192. Before anything is timed, both values and gradients must
agree. Goal: no step takes more than 1.15 times the plain one. The loss alone is timed as well. Six rounds, four where
a step takes long. About 10 minutes.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from contest import arguments, case, compare, finish, in_turns, warn_if_busy
from method_networks import TINY, Convolutional, Size, Transformer
from plain_features import Seen
from plain_formulas import PLAIN
from torch import Tensor, nn

from understudy import Batch, Classification, Distiller, Knowledge
from understudy.distiller import pairs_of
from understudy.methods import METHODS
from understudy.objective import Method

AT_MOST = 1.15
LOSS_MILLISECONDS = 50
"""A loss alone is computed so often in each round that it takes about as long."""


ON_TOKENS = {"attention_maps", "patch_manifold", "patient", "self_relations"}
"""Methods whose networks are transformers."""


@dataclass(frozen=True)
class Answers:
    """A teacher whose answers are ready."""

    outputs: dict[str, Tensor]

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:  # noqa: ARG002 - one batch only
        """What it said."""
        return Knowledge(logits=self.outputs["head"], features={tap: self.outputs[tap] for tap in taps})


@dataclass(frozen=True)
class Side:
    """One way to do the work.

    Attributes:
        step: the loss of the batch, the student's forward pass included.
        loss: the same of ``shown``.
        shown: what the student gave that the method reads, by the layer's path.
        parameters: of the student and of the method.
    """

    step: Callable[[], Tensor]
    loss: Callable[[], Tensor]
    shown: dict[str, Tensor]
    parameters: list[Tensor]

    @property
    def trained(self) -> list[Tensor]:
        """What collects gradients."""
        return [*self.parameters, *self.shown.values()]


def both_sides(method: Method, size: Size) -> dict[str, Side]:
    """A method on one batch: Understudy's way and the plain one, with the same weights."""
    torch.manual_seed(0)
    # Samples that differ as a whole: of mere noise every sample would have the same features.
    images = torch.randn(size.samples, 3, size.pixels, size.pixels) + torch.randn(size.samples, 3, 1, 1)
    batch = Batch(inputs=images, targets=torch.randint(size.classes, (size.samples,)))
    if method.kind in ON_TOKENS:
        student, teacher = Transformer(size), Transformer(size)
    else:
        # As many channels in the second map, so that no adapter hides what its loss costs; more in the first one.
        student, teacher = Convolutional(size, size.early), Convolutional(size, 2 * size.early)
    if method.wants_pairs:
        method = method.paired(pairs_of(student, teacher, batch, Classification()))
    with torch.no_grad():
        answers = Answers(teacher.train().outputs(images))
        shown = student.train().outputs(images)
    read = {tap: shown[tap] for tap in (*method.student_taps, "head")}
    distiller = Distiller(copy.deepcopy(student), answers, method, example=batch).train()
    (term,) = copy.deepcopy(distiller.objective.terms).values()
    return {
        "understudy": with_distiller(distiller, method, answers, batch, leaves(read)),
        "plain": by_hand(student, term, method, answers, batch, leaves(read)),
    }


def leaves(shown: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies that collect gradients."""
    return {path: tensor.detach().clone().requires_grad_() for path, tensor in shown.items()}


def with_distiller(
    distiller: Distiller, method: Method, answers: Answers, batch: Batch, shown: dict[str, Tensor]
) -> Side:
    """As Understudy does it; the loss alone is the module that the method builds."""
    (term,) = distiller.objective.terms.values()
    student = Knowledge(shown["head"], {tap: shown[tap] for tap in method.student_taps})

    def loss() -> Tensor:
        return term(student, answers.observe(batch, method.teacher_taps), batch)

    return Side(lambda: distiller(batch).loss, loss, shown, list(distiller.parameters()))


def by_hand(
    student: Any, term: nn.Module, method: Method, answers: Answers, batch: Batch, shown: dict[str, Tensor]
) -> Side:
    """As one would write it for this network and this loss; a method's own weights are those in ``term``."""
    formula, answer = PLAIN[method.kind], answers.observe(batch, method.teacher_taps)

    def loss(shown: dict[str, Tensor]) -> Tensor:
        own, other = [shown[tap] for tap in method.student_taps], list(answer.features.values())
        return formula(Seen(shown["head"], answer.logits, batch.targets, own, other, method, term))

    parameters = [*student.parameters(), *term.parameters()]
    return Side(lambda: loss(student.outputs(batch.inputs)), lambda: loss(shown), shown, parameters)


def first_step(side: Side) -> tuple[float, Tensor]:
    """The loss of a step, and its gradient."""
    torch.manual_seed(0)  # the same part of a feature is hidden
    value = side.step()
    value.backward()
    gradients = [torch.zeros_like(t) if t.grad is None else t.grad for t in side.trained]
    return value.item(), torch.cat([gradient.flatten() for gradient in gradients])


def check_same(kind: str, sides: dict[str, Side]) -> dict[str, float]:
    """What both give for the first step.

    Raises:
        SystemExit: when values or gradients differ; then it is not the same work.
    """
    (value, gradient), (expected, reference) = first_step(sides["understudy"]), first_step(sides["plain"])
    apart = ((gradient - reference).norm() / reference.norm()).item()
    if not (abs(value - expected) <= 1e-4 * abs(expected) and apart <= 1e-3):
        raise SystemExit(
            f"{kind}: the loss is {value} and the plain formula's {expected}, and the gradients are {apart:.1e} "
            "of their length apart: this is not the same work"
        )
    return {"understudy": value, "plain": expected, "gradients_apart": apart}


def milliseconds(side: Side, compute: Callable[[], Tensor], calls: int = 1) -> float:
    """Of computing a loss and its gradient."""
    seconds = 0.0
    for _ in range(calls):
        for tensor in side.trained:
            tensor.grad = None
        started = time.perf_counter()
        compute().backward()
        seconds += time.perf_counter() - started
    return 1e3 * seconds / calls


def measured(method: Method, size: Size, budget: float) -> dict[str, Any]:
    """The table of one method: a step and the loss alone, of both sides, in turns.

    Args:
        method: what to measure.
        size: of the work.
        budget: milliseconds that all rounds may take together, if four of them do not take more; 0: two rounds.
    """
    sides = both_sides(method, size)
    first = check_same(method.kind, sides)
    for side in sides.values():
        milliseconds(side, side.loss)
    step, alone = (milliseconds(sides["plain"], compute) for compute in (sides["plain"].step, sides["plain"].loss))
    calls = max(1, round(min(LOSS_MILLISECONDS, budget) / alone))
    # Even: each side is first as often as the other. Of two rounds the median is no better than the worse of them.
    least = 2 if budget else 1
    rounds = 2 * max(least, min(3, int(budget / (4 * (step + calls * alone)))))
    steps = {f"{name}, step": partial(milliseconds, side, side.step) for name, side in sides.items()}
    losses = {f"{name}, loss alone": partial(milliseconds, side, side.loss, calls) for name, side in sides.items()}
    figures = in_turns(steps, rounds) | in_turns(losses, rounds)
    reads = {path: list(tensor.shape) for path, tensor in sides["plain"].shown.items()}
    table = case(method.kind, "ms", figures, first_step=first, calls_of_loss=calls, reads=reads)
    compare(table, "understudy, step", "plain, step", at_most=AT_MOST)
    compare(table, "understudy, loss alone", "plain, loss alone")
    return table


def markdown(tables: list[dict[str, Any]]) -> str:
    """One row per method, the highest ratio of a step first."""
    lines = [
        "# A step with each method, beside its formula written plainly\n",
        f"Goal: at most {AT_MOST} times the plain step. Medians; ratios within each round, with the lowest and the "
        "highest.\n",
        "| method | reads | plain step, ms | step, ratio | plain loss alone, ms | loss alone, ratio |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for table in sorted(tables, key=lambda table: -ratio_of(table, "step")["median"]):
        cells = []
        for what in ("step", "loss alone"):
            ratio = ratio_of(table, what)
            shown = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
            cells += [f"{table['medians'][f'plain, {what}']:.4g}", shown]
        reads = ", ".join("×".join(map(str, shape[1:])) for shape in layers_read(table))
        lines.append(f"| {table['name']} | {reads} | {' | '.join(cells)} |")
    missed = [table["name"] for table in tables if not table["goals"][0]["met"]]
    return "\n".join([*lines, "", f"Goal not met: {', '.join(missed) or 'none'}."]) + "\n"


def layers_read(table: dict[str, Any]) -> list[list[int]]:
    """The shapes of the layers that a method reads; of the logits, where it reads no other."""
    layers = [shape for path, shape in table["reads"].items() if path != "head"]
    return layers or [table["reads"]["head"]]


def ratio_of(table: dict[str, Any], what: str) -> dict[str, Any]:
    return table["ratios"][f"understudy, {what} / plain, {what}"]


def main() -> None:
    """Measure all methods, or those that are named."""
    options = arguments(__doc__.partition("\n")[0], only="kinds of methods")
    load_before = warn_if_busy()
    size, budget = (TINY, 0.0) if options.quick else (Size(), 8000.0)
    methods = {method.model_fields["kind"].default: method for method in METHODS if "classes" in method.answers}
    chosen = options.only or list(methods)
    for known, lack in ((methods, "method"), (PLAIN, "plain formula of")):
        if not known.keys() >= set(chosen):
            raise SystemExit(f"there is no {lack} {', '.join(sorted(set(chosen) - known.keys()))}")
    tables = [measured(methods[kind](), size, budget) for kind in chosen]
    finish("method_time", options, tables, size=asdict(size), load_before=load_before)
    text = markdown(tables)
    (options.out / "method_time.md").write_text(text, encoding="utf-8")
    print(f"\n{text}")


if __name__ == "__main__":
    main()
