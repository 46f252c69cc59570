"""Three methods with schedules in a recipe are the same as in Python, and the same as a sum written by hand."""

import io

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from torch import nn

import understudy as us
from understudy.functional import cross_entropy_loss, relational_distance_loss, soft_target_loss
from understudy.methods import AnyMethod
from understudy.pipeline.stages.distill import Distill

RECIPE = """
- {kind: cross_entropy, weight: 0.1}
- {kind: soft_targets, temperature: 3.0, weight: {kind: linear, start: 0.0, end: 2.0}}
- {kind: relational_distance, student_layer: '1', teacher_layer: '1', weight: {kind: cosine, start: 4.0, end: 1.0}}
"""
PYTHON = (
    0.1 * us.CrossEntropy()
    + us.Linear(start=0.0, end=2.0) * us.SoftTargets(temperature=3.0)
    + us.Cosine(start=4.0, end=1.0) * us.RelationalDistance(student_layer="1", teacher_layer="1")
)


def network(hidden: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, hidden), nn.Tanh(), nn.Linear(hidden, 3))


def gradients(module: nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in module.parameters()]


def test_a_recipe_says_the_same_as_python() -> None:
    terms = TypeAdapter(tuple[AnyMethod, ...]).validate_python(YAML(typ="safe").load(io.StringIO(RECIPE)))
    assert us.Objective(terms) == PYTHON


def test_the_sum_is_the_one_written_by_hand_in_value_and_gradient() -> None:
    student, teacher = network(4, seed=1), network(9, seed=2)
    inputs, targets = torch.randn(8, 5), torch.tensor([0, 1, 2, 0, us.IGNORE_INDEX, 1, 2, us.IGNORE_INDEX])
    distiller = us.Distiller(student, teacher, PYTHON, example=(inputs, targets))
    for progress, soft, relation in ((0.0, 0.0, 4.0), (0.25, 0.5, 2.5 + 1.5 * 0.5**0.5), (1.0, 2.0, 1.0)):
        student.zero_grad()
        step = distiller((inputs, targets), progress=progress)
        step.loss.backward()
        found = gradients(student)

        student.zero_grad()
        hidden, answer = student[1](student[0](inputs)), teacher[1](teacher[0](inputs)).detach()
        logits, soft_targets = student[2](hidden), teacher[2](answer)
        by_hand = (
            0.1 * cross_entropy_loss(logits, targets)
            + soft * soft_target_loss(logits, soft_targets, temperature=3.0)
            + relation * relational_distance_loss(hidden, answer)
        )
        by_hand.backward()
        torch.testing.assert_close(step.loss, by_hand)
        torch.testing.assert_close(found, gradients(student))


def test_a_balance_in_a_recipe_is_the_one_of_python() -> None:
    recipe = YAML(typ="safe").load(
        io.StringIO("""
kind: distill
name: student
teacher: teacher
model: {source: understudy, name: mlp, arguments: {hidden: [8]}}
training: {epochs: 1, optimizer: {lr: 0.1}}
balance: {kind: gradient_norm, alpha: 0.5, every: 2}
""")
    )
    terms = YAML(typ="safe").load(io.StringIO(RECIPE))
    stage = Distill.model_validate({**recipe, "objective": terms})
    assert us.Objective(stage.objective, stage.balance) == PYTHON.balanced(us.GradientNorm(alpha=0.5, every=2))
    assert Distill.model_validate({**recipe, "objective": terms, "balance": None}).balance is None
    learned = Distill.model_validate({**recipe, "objective": terms, "balance": {"kind": "learned_uncertainty"}})
    assert learned.balance == us.LearnedUncertainty()
    assert Distill.model_validate(learned.model_dump(mode="json")) == learned
    with pytest.raises(ValidationError, match="gradient_norm weighs terms against each other"):
        Distill.model_validate({**recipe, "objective": terms[1:2]})
    with pytest.raises(ValidationError, match="gradient_norms"):
        Distill.model_validate({**recipe, "objective": terms, "balance": {"kind": "gradient_norms"}})
