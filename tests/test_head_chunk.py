"""Training with the logits of a few positions at a time: the same losses and gradients, and never all logits."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from understudy import (
    Batch,
    CausalLanguageModel,
    Classification,
    Cohort,
    CrossEntropy,
    Dist,
    Distiller,
    Ensemble,
    Hint,
    InputError,
    JensenShannon,
    LearnedUncertainty,
    LogitMse,
    Objective,
    ReverseKl,
    SkewKl,
    SoftTargets,
    TotalVariation,
)
from understudy.doctor import diagnose
from understudy.engine import Execution, Optimizer, SilentProgress, Training, fit
from understudy.errors import RunError
from understudy.functional import tail_logit
from understudy.knowledge import Knowledge, TopClasses
from understudy.methods import METHODS
from understudy.objective import Method
from understudy.teachers import ModuleTeacher

WORDS, ROOM, TOKENS = 40, 44, 9
TASK = CausalLanguageModel(vocabulary=WORDS)
BY_POSITION = [method for method in METHODS if method.by_position]
BOTH = 0.1 * CrossEntropy(label_smoothing=0.1) + 0.9 * SoftTargets(temperature=2.0)


class Reader(nn.Module):
    """A language model that has read the tokens so far."""

    def __init__(self, width: int, words: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.words = nn.Embedding(words, width)
        self.memory = nn.GRU(width, width, batch_first=True)
        self.body = nn.Linear(width, width)
        self.head = nn.Linear(width, words)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.head(torch.tanh(self.body(self.memory(self.words(input_ids))[0])))


def batch(seed: int = 0, size: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, WORDS, (size, TOKENS), generator=generator)
    mask = torch.ones_like(tokens)
    mask[1, 5:] = 0
    return {"input_ids": tokens, "attention_mask": mask}


def networks() -> tuple[Reader, Reader]:
    return Reader(8, ROOM, 1).double(), Reader(12, WORDS, 2).double()


class Normalised(nn.Module):
    """A language model that gives the logarithms of probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = networks()[0]

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.reader(input_ids).log_softmax(-1)


class Told:
    """A teacher whose answers are recorded: all classes, the likeliest, or drawn ones."""

    def __init__(self, network: nn.Module, how: str) -> None:
        self.network, self.how = network.eval(), how

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        with torch.no_grad():
            logits = TASK.observe(self.network, batch).logits
        if self.how == "dense":
            return Knowledge(logits=logits)
        if self.how == "top":
            values, kept = logits.topk(5, -1)
            tails = {each: tail_logit(logits, kept, temperature=each) for each in (1.0, 2.0)}
            return Knowledge(logits=values, top=TopClasses(kept, tails, WORDS))
        kept = (logits.argsort(-1)[..., :6]).contiguous()
        return Knowledge(logits=logits.log_softmax(-1).gather(-1, kept), top=TopClasses(kept, {}, WORDS, drawn=True))


def stepped(objective, teacher, chunk, raw=None, task=TASK, student=None) -> tuple[Tensor, dict, list[Tensor]]:
    """Loss, terms and gradients of one step."""
    raw = batch() if raw is None else raw
    student = copy.deepcopy(networks()[0] if student is None else student)
    distiller = Distiller(student, teacher, objective, example=raw, task=task, head_chunk=chunk)
    distiller.train()
    step = distiller(raw, progress=0.5)
    assert (step.student.logits.device.type == "meta") == (chunk is not None)
    (2.0 * step.loss).backward()
    return step.loss, step.terms, [p.grad for p in student.parameters()]


def same(chunked, whole) -> None:
    assert list(chunked[1]) == list(whole[1])
    torch.testing.assert_close(chunked[0], whole[0], rtol=1e-6, atol=1e-7)
    for label, value in whole[1].items():
        torch.testing.assert_close(chunked[1][label], value, rtol=1e-6, atol=1e-7)
    for found, wanted in zip(chunked[2], whole[2], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-8)


def one(method: type[Method]) -> Method:
    return method(temperature=2.0) if "temperature" in method.model_fields else method()


@pytest.mark.parametrize("chunk", [1, 7, "auto"])
@pytest.mark.parametrize("method", BY_POSITION, ids=lambda method: method.__name__)
def test_every_method_that_says_so_is_the_same_in_chunks(method, chunk) -> None:
    term = one(method)
    teacher = networks()[1] if term.needs_teacher else None
    same(stepped(term, teacher, chunk), stepped(term, teacher, None))


def test_closed_forms_are_used_where_there_are_some() -> None:
    with_formula = {method for method in BY_POSITION if one(method).closed_form is not None}
    assert with_formula == {SoftTargets, ReverseKl, SkewKl, JensenShannon, TotalVariation}
    assert SoftTargets(rows="unlabelled").closed_form is None


@pytest.mark.parametrize(
    "objective",
    [
        BOTH,
        JensenShannon(beta=0.3, temperature=1.5) + 0.5 * LogitMse() + 0.0 * ReverseKl(),
        0.2 * CrossEntropy() + SkewKl() + Hint(student_layer="body", teacher_layer="body", weight=3.0),
        SoftTargets(rows="labelled") + SoftTargets(rows="unlabelled", name="rest") + TotalVariation(),
    ],
)
def test_sums_are_the_same_in_chunks(objective) -> None:
    teacher = networks()[1]
    torch.manual_seed(0)
    chunked = stepped(objective, teacher, 5)
    torch.manual_seed(0)
    same(chunked, stepped(objective, teacher, None))


@pytest.mark.parametrize("how", ["dense", "top", "drawn"])
def test_answers_that_were_recorded_are_compared_in_chunks(how) -> None:
    objective = 0.1 * CrossEntropy() + SoftTargets(temperature=1.0 if how == "drawn" else 2.0)
    teacher = Told(networks()[1], how)
    same(stepped(objective, teacher, 4), stepped(objective, teacher, None))


def test_named_teachers_are_asked_in_chunks() -> None:
    readers = {"a": networks()[1], "b": Reader(4, WORDS, 5).double()}
    teacher = Ensemble({name: ModuleTeacher(network, task=TASK) for name, network in readers.items()})
    objective = SoftTargets(teacher="a") + ReverseKl(teacher="b") + JensenShannon()
    same(stepped(objective, teacher, 4), stepped(objective, teacher, None))


def test_several_batches_of_one_step_share_their_totals() -> None:
    raw = TASK.batch(batch())
    totals = {"labelled_total": torch.tensor(3.5), "valid_total": torch.tensor(17.25)}
    whole = Batch(inputs=raw.inputs, targets=raw.targets, mask=raw.mask, **totals)
    teacher = networks()[1]
    found = stepped(BOTH, teacher, 4, whole)
    same(found, stepped(BOTH, teacher, None, whole))
    assert not torch.allclose(found[0], stepped(BOTH, teacher, 4, raw)[0])


def test_mixed_samples_of_many_classes() -> None:
    targets = torch.tensor([[1, 2], [3, -100], [5, 6]])
    raw = Batch(
        inputs=torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).double(),
        targets=torch.full((3,), -100),
        label_pairs=targets,
        shares=torch.tensor([0.3, 0.6, 0.9]).double(),
    )
    torch.manual_seed(0)
    student, teacher = (nn.Sequential(nn.Linear(4, w), nn.Tanh(), nn.Linear(w, 30)).double() for w in (5, 9))
    settings = {"task": Classification(), "student": student, "raw": raw}
    same(stepped(BOTH, teacher, 2, **settings), stepped(BOTH, teacher, None, **settings))


def test_nothing_that_counts_is_a_zero_with_gradients() -> None:
    raw = batch()
    raw["labels"] = torch.full_like(raw["input_ids"], -100)
    loss, terms, gradients = stepped(BOTH, networks()[1], 4, raw)
    assert loss == 0.0
    assert all(value == 0.0 for value in terms.values())
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients)


class Largest(TorchDispatchMode):
    """Remembers the largest tensor with values that anything made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor) and tensor.device.type != "meta":
                self.elements = max(self.elements, tensor.numel())
        return made


def test_no_more_than_a_chunk_of_logits_is_ever_there() -> None:
    raw, words = batch(size=16), 4000
    student, teacher = Reader(4, words, 1), Reader(6, words, 2)
    found = {}
    for chunk in (3, None):
        task = CausalLanguageModel()
        distiller = Distiller(student, teacher, BOTH, example=raw, task=task, head_chunk=chunk).train()
        with Largest() as largest:
            distiller(raw).loss.backward()
        found[chunk] = largest.elements
    assert found[3] == words * 6, "the teacher's own last layer"
    assert found[None] >= 16 * TOKENS * words


def test_in_eval_mode_all_logits_are_there() -> None:
    student, teacher = networks()
    distiller = Distiller(student, teacher, BOTH, example=batch(), task=TASK, head_chunk=4).eval()
    assert distiller(batch()).student.logits.shape == (4, TOKENS, WORDS)
    assert distiller(batch()).teacher.before_head is None


def test_the_doctor_looks_at_all_logits_and_leaves_the_chunks() -> None:
    student, teacher = (network.float() for network in networks())
    distiller = Distiller(student, teacher, BOTH, example=batch(), task=TASK, head_chunk=4).train()
    findings = diagnose(distiller, [batch(seed) for seed in range(4)])
    assert {finding.check for finding in findings if finding.severity == "error"} == {"teacher_quality"}, "it guesses"
    assert distiller.head_chunk == 4
    assert distiller(batch()).student.before_head is not None


def compiled() -> nn.Module:
    return torch.compile(networks()[0], backend="eager")


def compiled_in_place() -> nn.Module:
    student = networks()[0]
    student.compile(backend="eager")
    return student


@pytest.mark.parametrize(
    ("student", "objective", "message"),
    [
        (lambda: networks()[0], SoftTargets() + Dist(), "dist needs the logits of all positions at once"),
        (
            lambda: networks()[0],
            Objective((CrossEntropy(), SoftTargets())).balanced(LearnedUncertainty()),
            "learned_uncertainty needs those of each",
        ),
        (lambda: Cohort({"a": networks()[0], "b": networks()[0]}), SoftTargets(student="a"), "is for one student"),
        (
            lambda: networks()[0],
            SoftTargets() + Hint(student_layer="head", teacher_layer="body"),
            "student layer 'head' gives the logits, which head_chunk never computes",
        ),
        (compiled, SoftTargets(), "head_chunk and torch.compile do not go together"),
        (compiled_in_place, SoftTargets(), "head_chunk and torch.compile do not go together"),
        (
            Normalised,
            SoftTargets(),
            "are not the output of its last linear layer",
        ),
    ],
)
def test_what_cannot_be_done_in_chunks_is_refused(student, objective, message) -> None:
    raw = batch()["input_ids"]
    with pytest.raises(InputError, match=message):
        Distiller(student(), networks()[1], objective, example=raw, task=TASK, head_chunk=4)


def fitted(head_chunk, training: Training) -> Tensor:
    student, teacher = (network.float() for network in networks())
    distiller = Distiller(student, teacher, BOTH, example=batch(), task=TASK, head_chunk=head_chunk)
    fit(distiller, [batch(seed) for seed in range(6)], training, progress=SilentProgress())
    return student.head.weight.detach()


def test_a_training_in_chunks_ends_where_the_other_does() -> None:
    settings = {"epochs": 2, "optimizer": Optimizer(lr=0.1), "accumulate": 2, "clip_norm": 1.0, "execution": "plain"}
    whole = fitted(None, Training(**settings))
    torch.testing.assert_close(fitted(3, Training(**settings, head_chunk=3)), whole, rtol=1e-4, atol=1e-6)
    assert not torch.equal(whole, networks()[0].float().head.weight)


def test_fit_refuses_other_chunks_and_compilation() -> None:
    settings = {"epochs": 1, "optimizer": Optimizer(lr=0.1)}
    with pytest.raises(InputError, match="head_chunk=3 and the distiller None; build it with Distiller"):
        fitted(None, Training(**settings, head_chunk=3))
    with pytest.raises(InputError, match=r"head_chunk and execution\.compile do not go together"):
        fitted(3, Training(**settings, execution=Execution(compile=True)))
    with pytest.raises(ValueError, match=r"head_chunk and execution\.compile do not go together"):
        Training(**settings, head_chunk="auto", execution=Execution(compile=True))


def test_a_teacher_that_answers_nan_is_named() -> None:
    student, teacher = (network.float() for network in networks())
    with torch.no_grad():
        teacher.words.weight[3] = float("nan")
    distiller = Distiller(student, teacher, SoftTargets(), example=batch(), task=TASK, head_chunk=4)
    raw = batch()
    raw["input_ids"][2, 0] = 3
    raw["input_ids"][[0, 1, 3]] = 5
    samples = Batch(inputs=raw, mask=torch.ones(4, TOKENS, dtype=torch.bool), ids=torch.arange(40, 44))
    training = Training(epochs=1, optimizer=Optimizer(lr=0.1), execution="plain")
    with pytest.raises(RunError, match=r"because the teacher answers NaN or infinity.*42"):
        fit(distiller, [samples], training, progress=SilentProgress())
