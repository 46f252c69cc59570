from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from conformance.case import Case, features_case
from conformance.method_suite import MethodSuite
from conformance.texts import LENGTHS, Texts, alone, encoder, padded, term_of
from understudy import AttentionMaps, CrossEntropy, Distiller, InputError
from understudy.knowledge import Shapes

HEADS, TOKENS = 2, 3
LENGTH_OF = (3, 1, 2)
"""Real tokens of every third sample of a padded case."""


def squared_differences(case: Case) -> float:
    """Jiao et al. 2020: for each sample the mean over heads of MSE(A^S, A^T), over its real tokens only."""
    counts = [True] * len(case.batch) if case.batch.mask is None else case.batch.mask.tolist()
    values = []
    for sample in range(len(case.batch)):
        if not counts[sample]:
            continue
        tokens = case.student.tokens
        real = range(TOKENS) if tokens is None else [t for t in range(TOKENS) if tokens[sample, t]]
        own, other = case.student.features["narrow"][sample].tolist(), case.teacher.features["wide"][sample].tolist()
        total = 0.0
        for head in range(HEADS):
            for t in real:
                for u in real:
                    total += (own[head][t][u] - other[head][t][u]) ** 2
        values.append(total / (HEADS * len(real) ** 2))
    return sum(values) / len(values) if values else 0.0


class TestAttentionMaps(MethodSuite):
    method = AttentionMaps(student_layer="narrow", teacher_layer="wide")
    positions = ((),)
    sabotages: ClassVar = {
        "sum over heads": lambda honest, case: honest(case) * HEADS,
        "mask forgotten": lambda honest, case: honest(case.masked(torch.ones(case.positions, dtype=torch.bool))),
        "heads in another order": lambda honest, case: honest(
            replace(case, student=replace(case.student, features={"narrow": case.student.features["narrow"].flip(1)}))
        ),
    }

    def case(self, seed, count, positions):
        shape = HEADS, TOKENS, TOKENS
        return features_case(seed, count, positions, student=shape, teacher=shape)

    def reference(self, term, case):
        return squared_differences(case)

    def known_values(self):
        case = self.case(1, 4, ())
        answer = case.student.features["narrow"]
        return [(replace(case, teacher=replace(case.teacher, features={"wide": answer + d})), d**2) for d in (0.0, 2.0)]


class TestWithPadding(TestAttentionMaps):
    sabotages: ClassVar = {
        **TestAttentionMaps.sabotages,
        "padding counts": lambda honest, case: honest(replace(case, student=replace(case.student, tokens=None))),
    }

    def case(self, seed, count, positions):
        case = super().case(seed, count, positions)
        lengths = torch.tensor(LENGTH_OF).repeat(count)[:count]
        tokens = torch.arange(TOKENS) < lengths[:, None]
        return replace(case, student=replace(case.student, tokens=tokens), teacher=replace(case.teacher, tokens=tokens))


def test_auto_reads_what_the_network_itself_shows_without_its_padding() -> None:
    """Blocks 2 and 4 of four: transformers' own attention matrices, of each sample alone."""
    student, teacher, raw = encoder(width=4, layers=2), encoder(width=8, layers=4), padded()
    values = []
    for sample in range(len(LENGTHS)):
        inputs = {name: alone(raw, sample)[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            own, other = (network(**inputs, output_attentions=True).attentions for network in (student, teacher))
        values.append(sum((own[m] - other[2 * m + 1]).square().mean() for m in range(2)))
    torch.testing.assert_close(term_of(student, teacher, AttentionMaps(), raw), torch.stack(values).mean())


def test_takes_two_steps_and_trains_queries_and_keys() -> None:
    student, teacher, raw = encoder(width=4, layers=2), encoder(width=8, layers=3), padded()
    distiller = Distiller(student, teacher, CrossEntropy() + 10 * AttentionMaps(), example=raw, task=Texts())
    optimizer = torch.optim.SGD(distiller.parameters(), 0.1)
    for _ in range(2):
        step = distiller(raw)
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
    assert step.loss.isfinite()
    assert student.bert.encoder.layer[1].attention.self.query.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("student", "teacher"), [("sdpa", "eager"), ("eager", "sdpa")])
def test_matrices_that_a_kernel_keeps_to_itself_are_asked_for(student: str, teacher: str) -> None:
    networks = encoder(width=4, layers=2, attention=student), encoder(width=4, layers=2, attention=teacher)
    whose = "student" if student == "sdpa" else "teacher"
    message = rf'found no attention matrices in {whose} layer .*layer\.0.*attn_implementation="eager".*self_relations'
    with pytest.raises(InputError, match=message):
        Distiller(*networks, AttentionMaps(), example=padded(), task=Texts())


def test_a_named_layer_without_matrices_is_refused() -> None:
    layer = "bert.encoder.layer.0.attention.self"
    networks = encoder(width=4, layers=1), encoder(width=4, layers=1)
    for path, message in ((f"{layer}:0", r"\(3, 5, 4\); tap the second output"), (f"{layer}.query", r"\(3, 5, 4\)")):
        with pytest.raises(InputError, match=message):
            term_of(*networks, AttentionMaps(student_layer=path, teacher_layer=f"{layer}:1"), padded())


def test_a_named_output_that_a_kernel_leaves_empty_says_how_to_get_it() -> None:
    layer = "bert.encoder.layer.0.attention.self:1"
    networks = encoder(width=4, layers=1), encoder(width=4, layers=1, attention="sdpa")
    with pytest.raises(InputError, match=rf"gives None as '{layer}', expected a tensor.*attn_implementation=\"eager\""):
        term_of(*networks, AttentionMaps(student_layer=layer, teacher_layer=layer), padded())


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ((4, 2, 5, 5), (4, 3, 5, 5), r"student has 2 heads and the teacher 3.*self_relations"),
        ((4, 2, 5, 5), (4, 2, 6, 6), r"same tokens in both, got 5 and 6"),
        ((4, 2, 5, 5), (4, 2, 5, 6), r"expected attention matrices \(4, heads, T, T\), got \(4, 2, 5, 6\)"),
        ((12, 2, 5, 5), (12, 2, 5, 5), r"expected attention matrices \(4, heads, T, T\), got \(12, 2, 5, 5\)"),
    ],
)
def test_what_does_not_fit_is_named(student, teacher, message) -> None:
    shapes = Shapes(
        student={"narrow": torch.Size(student)},
        teacher={"wide": torch.Size(teacher)},
        student_logits=torch.Size((4, 2)),
        teacher_logits=torch.Size((4, 2)),
    )
    with pytest.raises(InputError, match=rf"attention_maps \('narrow' to 'wide'\): .*{message}"):
        TestAttentionMaps.method.build(shapes)
