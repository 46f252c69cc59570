"""Padding does not count: a padded batch of texts gives what its samples give without their padding."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from conformance.texts import LENGTHS, Texts, alone, encoder, padded, term_of
from understudy import (
    ActivationBoundaries,
    Batch,
    CosineFeatures,
    Distiller,
    EmbeddingSimilarity,
    Hint,
    Knowledge,
    Method,
    SimilarityPreserving,
    Variational,
)
from understudy.knowledge import Shapes
from understudy.teachers import ModuleTeacher

LAYERS = {"student_layer": "bert.encoder.layer.0", "teacher_layer": "bert.encoder.layer.1"}
BY_TOKEN = [Hint(**LAYERS), CosineFeatures(**LAYERS), ActivationBoundaries(**LAYERS), Variational(**LAYERS)]
BY_SAMPLE = [EmbeddingSimilarity(**LAYERS), SimilarityPreserving(**LAYERS)]


@pytest.fixture(scope="module")
def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return encoder(width=8, layers=2), encoder(width=12, layers=3)


@pytest.mark.parametrize("method", BY_TOKEN, ids=lambda method: method.kind)
def test_each_real_token_is_a_row(method: Method, networks) -> None:
    batch = padded()
    parts = [length * term_of(*networks, method, alone(batch, i)) for i, length in enumerate(LENGTHS)]
    torch.testing.assert_close(term_of(*networks, method, batch), sum(parts) / sum(LENGTHS))


@pytest.mark.parametrize("method", [*BY_TOKEN, *BY_SAMPLE], ids=lambda method: method.kind)
def test_more_padding_changes_nothing(method: Method, networks) -> None:
    torch.testing.assert_close(
        term_of(*networks, method, padded(to=9)), term_of(*networks, method, padded()), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("method", BY_SAMPLE, ids=lambda method: method.kind)
def test_samples_are_compared_without_their_padding(method: Method, networks) -> None:
    """Whole samples are padded with zeros, those read as a vector are the mean of their real tokens."""
    batch = padded()
    features = []
    for network, path in zip(networks, (LAYERS["student_layer"], LAYERS["teacher_layer"]), strict=True):
        teacher = ModuleTeacher(network, task=Texts())
        rows = []
        for i in range(len(LENGTHS)):
            single = Texts().batch(alone(batch, i))
            tokens = teacher.observe(single, (path,)).features[path][0]
            whole = torch.zeros(max(LENGTHS), tokens.shape[1], dtype=tokens.dtype)
            whole[: len(tokens)] = tokens
            rows.append(tokens.mean(0) if method.form == "vector" else whole)
        features.append(torch.stack(rows))
    torch.testing.assert_close(term_of(*networks, method, batch), method.relate(*features))


def test_a_sample_that_does_not_count_takes_its_tokens_along(networks) -> None:
    raw, counts = padded(), torch.tensor([True, False, True])
    distiller = Distiller(*networks, CosineFeatures(**LAYERS, name="term"), example=raw, task=Texts())
    batch = replace(Texts().batch(raw), mask=counts, valid_total=torch.tensor(2.0))
    rest = Texts().batch({name: value[counts] for name, value in raw.items()})
    torch.testing.assert_close(distiller(batch).loss, distiller(rest).loss)


def test_padding_gets_no_gradient() -> None:
    tokens = torch.tensor([[True, True, False], [True, False, False]])
    for method in (
        Hint(student_layer="a", teacher_layer="b"),
        EmbeddingSimilarity(student_layer="a", teacher_layer="b"),
    ):
        feature = torch.randn(2, 3, 4, requires_grad=True)
        shown = Knowledge(torch.zeros(2, 5), {"a": feature}, tokens=tokens)
        answer = Knowledge(torch.zeros(2, 5), {"b": torch.randn(2, 3, 4)}, tokens=tokens)
        method.build(Shapes.of(shown, answer))(shown, answer, Batch(torch.zeros(2, 1))).backward()
        assert (feature.grad.abs().sum(-1) > 0).equal(tokens)


def test_other_features_and_logits_of_tokens_are_not_touched() -> None:
    """A feature with another number of tokens; and tokens that have logits, which have a mask of their own."""
    method = Hint(student_layer="a", teacher_layer="b")
    student, teacher = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    cases = [(torch.zeros(2, 5), torch.zeros(2, 7, dtype=torch.bool)), (torch.zeros(2, 3, 5), torch.zeros(2, 3) > 0)]
    for logits, tokens in cases:
        shown, answer = Knowledge(logits, {"a": student}, tokens=tokens), Knowledge(logits, {"b": teacher})
        loss = method.build(Shapes.of(shown, answer))(shown, answer, Batch(torch.zeros(2, 1)))
        torch.testing.assert_close(loss, (student - teacher).square().mean())
