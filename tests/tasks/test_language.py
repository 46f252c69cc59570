"""Language models: the next token, shifted once, of what is neither prompt nor padding."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import understudy as us
from understudy.engine import SilentProgress
from understudy.measure.quality import predict, quality

TASK = us.CausalLanguageModel()
WORDS = 11


class Reader(nn.Module):
    """A recurrent language model of a few tokens."""

    def __init__(self, width: int, vocabulary: int = WORDS) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.rnn = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.head(self.rnn(self.embed(input_ids))[0])


def texts() -> dict[str, Tensor]:
    """Four texts of 7, 4, 5 and 1 tokens; the first has a prompt of 3, the third is nothing but a prompt."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(7) < torch.tensor([7, 4, 5, 1])[:, None]
    tokens = torch.randint(WORDS, (4, 7), generator=generator)
    labels = tokens.masked_fill(~mask, -100)
    labels[0, :3] = labels[2] = -100
    return {"input_ids": tokens, "attention_mask": mask.long(), "labels": labels}


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 8, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 1}
    return GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, n_positions=16, **sizes)).eval()


def test_what_counts_is_the_answer() -> None:
    batch = TASK.batch(texts())
    assert batch.mask.sum(1).tolist() == [4, 3, 0, 0]
    assert batch.targets[1, :4].tolist() == [*texts()["input_ids"][1, 1:4].tolist(), -100]
    assert batch.inputs.keys() == {"input_ids", "attention_mask"}
    assert TASK.batch(batch) is batch
    plain = TASK.batch(texts()["input_ids"])
    assert plain.mask.tolist() == [[True] * 6 + [False]] * 4


def test_the_loss_is_that_of_transformers() -> None:
    network, raw = gpt2(), texts()
    expected = network(**raw).loss
    step = us.Distiller(network, None, us.CrossEntropy(), example=raw, task=TASK)(raw)
    torch.testing.assert_close(step.loss, expected)


@pytest.mark.parametrize("method", [us.SoftTargets(temperature=2.0), us.ReverseKl(), us.SkewKl(), us.TotalVariation()])
def test_methods_see_only_the_answer(method: us.Method) -> None:
    student, teacher, raw = Reader(4), Reader(6), texts()
    loss = us.Distiller(student, teacher, method, example=raw, task=TASK)(raw).loss
    rows = [(0, place) for place in (2, 3, 4, 5)] + [(1, place) for place in (0, 1, 2)]
    logits = [torch.stack([network(raw["input_ids"])[row] for row in rows]) for network in (student, teacher)]
    flat = us.Classification()
    alone = us.Distiller(Given(logits[0]), Given(logits[1]), method, example=torch.arange(7.0)[:, None], task=flat)
    torch.testing.assert_close(loss, alone(torch.arange(7.0)[:, None]).loss)


class Given(nn.Module):
    """Answers what it was given, whatever it is asked."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.detach().clone())

    def forward(self, inputs: Tensor) -> Tensor:
        return self.logits[: len(inputs)]


def test_nothing_to_learn_is_a_connected_zero() -> None:
    raw = texts() | {"labels": torch.full((4, 7), -100)}
    student = Reader(4)
    objective = us.CrossEntropy() + us.SoftTargets() + us.Hint(student_layer="rnn:0", teacher_layer="rnn:0")
    distiller = us.Distiller(student, Reader(6), objective, example=texts(), task=TASK)
    loss = distiller(raw).loss
    assert loss == 0
    loss.backward()
    assert all(torch.isfinite(each.grad).all() for each in student.parameters() if each.grad is not None)
    assert student.head.weight.grad is not None


def test_hidden_states_are_compared_where_there_is_an_answer() -> None:
    student, teacher, raw = Reader(4), Reader(4), texts()
    hint = us.Hint(student_layer="rnn:0", teacher_layer="rnn:0")
    loss = us.Distiller(student, teacher, hint, example=raw, task=TASK)(raw).loss
    mask = TASK.batch(raw).mask
    states = [network.rnn(network.embed(raw["input_ids"]))[0][mask] for network in (student, teacher)]
    torch.testing.assert_close(loss, F.mse_loss(*states))


def test_room_for_more_tokens_is_left_out() -> None:
    raw, student, roomy = texts(), Reader(4), Reader(6, vocabulary=16)
    real = us.CausalLanguageModel(vocabulary=WORDS)
    loss = us.Distiller(student, roomy, us.SoftTargets(temperature=4.0), example=raw, task=real)(raw).loss
    answers, mask = roomy(raw["input_ids"])[..., :WORDS], TASK.batch(raw).mask
    expected = us.functional.soft_target_loss(student(raw["input_ids"])[mask], answers[mask], temperature=4.0)
    torch.testing.assert_close(loss, expected)
    with pytest.raises(us.InputError, match="the teacher has 16 classes and the student 11"):
        us.Distiller(student, roomy, us.SoftTargets(), example=raw, task=TASK)
    with pytest.raises(us.InputError, match=r"tells 11 tokens apart, fewer than the vocabulary of 12; it belongs"):
        us.Distiller(student, roomy, us.SoftTargets(), example=raw, task=us.CausalLanguageModel(vocabulary=12))


def test_how_well_it_knows_what_comes_next() -> None:
    network, raw = Reader(5), texts()
    found = quality(predict(network, [raw, raw], TASK), TASK)
    batch = TASK.batch(raw)
    logits, targets = network(raw["input_ids"])[batch.mask], batch.targets[batch.mask]
    nats = float(F.cross_entropy(logits, targets).detach())
    assert found["bits"] == pytest.approx(nats / math.log(2))
    assert found["perplexity"] == pytest.approx(math.exp(nats))
    assert found["accuracy"] == pytest.approx(float((logits.argmax(-1) == targets).float().mean()))
    assert found["samples"] == 14


def test_a_student_learns_from_its_teacher() -> None:
    torch.manual_seed(0)
    raw = texts()
    distiller = us.Distiller(Reader(8), Reader(12), us.SoftTargets(), example=raw, task=TASK)
    before = distiller(raw).loss.detach()
    training = us.Training(epochs=12, batch_size=4, optimizer=us.Optimizer(kind="adam", lr=0.05), execution="plain")
    us.fit(distiller, [raw] * 10, training, val=[raw], progress=SilentProgress())
    assert distiller(raw).loss < 0.2 * before


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"tokens": torch.zeros(2, 3)}, "a mapping with 'input_ids', or the tokens alone; got a mapping with 'tokens'"),
        ([1, 2], "got a list"),
        (
            torch.zeros(2, 3),
            r"input_ids have shape \(2, 3\) and type torch.float32; expected whole numbers \(N, tokens\)",
        ),
        (torch.zeros(3, dtype=torch.int64), r"input_ids have shape \(3,\)"),
        (
            {"input_ids": torch.ones(2, 3, dtype=torch.int64), "labels": torch.ones(2, dtype=torch.int64)},
            r"labels have shape \(2,\), expected that of input_ids, \(2, 3\)",
        ),
    ],
)
def test_what_is_no_batch_is_refused(raw: object, words: str) -> None:
    with pytest.raises(us.InputError, match=words):
        TASK.batch(raw)


def test_a_model_of_something_else_is_refused() -> None:
    class Classifier(Reader):
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            return super().forward(input_ids)[:, 0]

    with pytest.raises(us.InputError, match=r"expected one row for each token: \(4, 7, 'vocabulary'\)"):
        TASK.observe(Classifier(4), TASK.batch(texts()))
