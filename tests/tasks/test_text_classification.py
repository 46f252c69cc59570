"""Texts as a loader yields them: each network makes its own tokens, and says which of them are real."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy import Batch, CrossEntropy, Distiller, Method, SoftTargets, TextClassification
from understudy.sources import BuiltinModel, build_model
from understudy.tokenizing import AnyTokens, Bytes, Words, bytes_of, tokenization_of

TASK = TextClassification()
TEXTS = ("a good film", "bad", "good good good", "not a bad film at all", "", "it was bad, bad and long")
WORDS_OF_EACH = (3, 1, 3, 6, 1, 7)  # marks count too, and an empty text has a token that says so
TARGETS = torch.tensor([1, 0, 1, 1, 0, 0])
ROWS = bytes_of(TEXTS)


class Around(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *positional: Any, **named: Any) -> Tensor:
        return self.module(*positional, **named)


def network(name: str = "lstm", tokens: AnyTokens | None = None) -> nn.Module:
    arguments = {"embedding": 4} if name in ("bag", "text_cnn") else {"embedding": 4, "width": 3}
    spec = BuiltinModel(name=name, arguments=arguments, preprocess=tokens or Words(buckets=50))
    return build_model(spec, classes=2, inputs=ROWS)


def decided(model: nn.Module) -> nn.Module:
    """The same network with logits that are far apart, as those of a trained one."""
    with torch.no_grad():
        head = model.get_submodule("head")
        head.weight.mul_(20.0)
        head.bias.zero_()
    return model


def further(rows: Tensor, columns: int) -> Tensor:
    return F.pad(rows, (0, columns))


def gradients(student: nn.Module, teacher: nn.Module, method: Method, raw: Any) -> dict[str, Tensor]:
    """The loss of one step, and the gradient of each of the student's parameters."""
    student = copy.deepcopy(student)
    loss = Distiller(student, teacher, method, example=(ROWS, TARGETS), task=TASK)(raw).loss
    loss.backward()
    return {"": loss.detach()} | {name: each.grad for name, each in student.named_parameters()}


@pytest.mark.parametrize("name", ["bag", "lstm", "gru", "text_cnn"])
def test_texts_become_logits_and_the_tokens_that_are_real(name) -> None:
    model = network(name)
    seen = TASK.observe(model, TASK.batch((ROWS, TARGETS)))
    tokenization = tokenization_of(model)
    assert seen.logits.shape == (6, 2)
    assert seen.tokens.dtype == torch.bool
    assert seen.tokens.sum(1).tolist() == list(WORDS_OF_EACH)
    assert torch.equal(seen.tokens, tokenization.tokens(ROWS)["attention_mask"].bool())
    assert seen.tokenization == tokenization.identity


def test_tokens_that_somebody_else_made_give_the_same() -> None:
    model = network()
    made = tokenization_of(model).tokens(ROWS)
    raw = {"labels": TARGETS, "attention_mask": made["attention_mask"], "input_ids": made["input_ids"]}
    given, own = (TASK.observe(model, TASK.batch(each)) for each in (raw, (ROWS, TARGETS)))
    assert torch.equal(given.logits, own.logits)
    assert torch.equal(given.tokens, own.tokens)
    assert torch.equal(own.logits, model(ROWS)), "a network takes texts without a task, too"


def test_what_is_no_text_has_no_tokens() -> None:
    seen = TASK.observe(nn.Linear(3, 2), Batch(inputs=torch.rand(4, 3)))
    assert (seen.tokens, seen.tokenization) == (None, None)


def test_wrappers_are_looked_through() -> None:
    model = network()
    seen, inside = (TASK.observe(each, Batch(inputs=ROWS)) for each in (Around(model), model))
    assert torch.equal(seen.logits, inside.logits)
    assert torch.equal(seen.tokens, inside.tokens)
    assert seen.tokenization == inside.tokenization


def test_other_tokens_have_another_identity() -> None:
    every = [Words(buckets=50), Words(buckets=51), Words(buckets=50, lowercase=False), Words(buckets=50, max_length=3)]
    models = [network("bag", tokens) for tokens in (*every, Bytes(), Bytes(max_length=3))]
    found = [TASK.observe(model, Batch(inputs=ROWS)).tokenization for model in models]
    assert len(set(found)) == len(found)
    assert TASK.observe(network("gru"), Batch(inputs=ROWS)).tokenization == found[0], "whatever reads them"


def test_a_student_learns_from_a_teacher_with_another_tokenizer() -> None:
    teacher, student = decided(network("lstm")), network("bag", Bytes())
    distiller = Distiller(student, teacher, SoftTargets(temperature=1.0), example=(ROWS, TARGETS), task=TASK)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.1)
    losses = []
    for _ in range(30):
        step = distiller((ROWS, TARGETS))
        assert step.student.tokens.shape != step.teacher.tokens.shape
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
        losses.append(step.loss.item())
    assert losses[-1] < 0.2 * losses[0]
    with torch.no_grad():
        assert torch.equal(student(ROWS).argmax(-1), teacher(ROWS).argmax(-1))


@pytest.mark.parametrize("name", ["bag", "lstm", "gru", "text_cnn"])
def test_texts_that_are_padded_further_give_the_same_step(name) -> None:
    """More zeros behind the texts, more padding behind their tokens, and a longer text beside them."""
    student, teacher = network(name), decided(network("gru", Words(buckets=50)))
    method = CrossEntropy() + SoftTargets(temperature=1.0)
    expected = gradients(student, teacher, method, (ROWS, TARGETS))
    made = tokenization_of(student).tokens(ROWS)
    padded = {key: F.pad(value, (0, 5)) for key, value in made.items()} | {"labels": TARGETS}
    long = bytes_of([*TEXTS, "and this one is by far the longest of all that there are here"])
    counts = torch.tensor([True] * 6 + [False])
    beside = Batch(long, torch.cat([TARGETS, TARGETS[:1]]), mask=counts, valid_total=torch.tensor(6.0))
    for raw in ((further(ROWS, 9), TARGETS), padded, beside):
        for key, value in gradients(student, teacher, method, raw).items():
            torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-6, msg=lambda why, key=key: key + why)


def test_no_gradient_goes_to_the_teacher() -> None:
    student, teacher = network("bag", Bytes()), decided(network())
    step = Distiller(student, teacher, SoftTargets(), example=(ROWS, TARGETS), task=TASK)((ROWS, TARGETS))
    assert not step.teacher.logits.requires_grad
    step.loss.backward()
    assert all(each.requires_grad and each.grad is None for each in teacher.parameters())
    assert all(bool(each.grad.any()) for each in student.parameters())


def test_an_example_has_the_first_texts() -> None:
    model = network()
    for inputs in (ROWS, tokenization_of(model).tokens(ROWS)):
        seen = TASK.observe(model, Batch(inputs=TASK.example(inputs, 2)))
        torch.testing.assert_close(seen.logits, model(ROWS)[:2])
