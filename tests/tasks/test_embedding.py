"""Embeddings: methods are about the vectors themselves, and the teacher's answers are the measure."""

import pytest
import torch
from torch import nn

from understudy import (
    Batch,
    CosineFeatures,
    Distiller,
    EmbeddingSimilarity,
    Hint,
    InputError,
    ModuleTeacher,
    Regression,
    SentenceEmbedding,
    SimilarityMargins,
    SoftTargets,
)
from understudy.functional import cosine_feature_loss, embedding_similarity_loss, similarity_margin_loss
from understudy.measure import Predictions, Tally, judge
from understudy.sources.embedding import Embedding, embed

TASK = SentenceEmbedding()


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return nn.Linear(4, 3), nn.Linear(4, 6)


def test_labels_are_left_out() -> None:
    inputs = torch.rand(2, 4)
    for raw in (inputs, (inputs,), (inputs, torch.tensor([0, 1]))):
        batch = TASK.batch(raw)
        assert torch.equal(batch.inputs, inputs)
        assert batch.targets is None
    ready = Batch(inputs=inputs)
    assert TASK.batch(ready) is ready


def test_layers_that_nobody_names_are_the_embeddings() -> None:
    student, teacher = networks()
    inputs = torch.rand(5, 4)
    objective = EmbeddingSimilarity() + SimilarityMargins()
    step = Distiller(student, teacher, objective, example=inputs, task=TASK)(inputs)
    own, other = student(inputs), teacher(inputs)
    torch.testing.assert_close(step.terms["embedding_similarity"], embedding_similarity_loss(own, other).detach())
    torch.testing.assert_close(step.terms["similarity_margins"], similarity_margin_loss(own, other).detach())


@pytest.mark.parametrize("method", [Hint(), CosineFeatures()])
def test_the_projection_is_the_methods_and_not_the_students(method) -> None:
    student, teacher = networks()
    inputs = torch.rand(5, 4)
    distiller = Distiller(student, teacher, method, example=inputs, task=TASK)
    projections = dict(distiller.objective.named_parameters())
    assert [tuple(each.shape) for each in projections.values()] == [(6, 3)]
    assert set(student.state_dict()) == {"weight", "bias"}
    distiller(inputs).loss.backward()
    assert all(each.grad.abs().sum() > 0 for each in distiller.parameters())


def test_equal_widths_need_no_projection() -> None:
    inputs = torch.rand(5, 4)
    student, teacher = nn.Linear(4, 6), nn.Linear(4, 6)
    distiller = Distiller(student, teacher, CosineFeatures() + Regression(norm="l2"), example=inputs, task=TASK)
    assert not list(distiller.objective.parameters())
    step = distiller(inputs)
    expected = cosine_feature_loss(student(inputs)[:, None], teacher(inputs)[:, None])
    torch.testing.assert_close(step.terms["cosine_features"], expected.detach())
    torch.testing.assert_close(step.terms["regression"], (student(inputs) - teacher(inputs)).square().mean().detach())


def test_the_output_can_be_named_beside_layers() -> None:
    inputs = torch.rand(5, 4)
    student, teacher = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), nn.Linear(4, 6)
    method = EmbeddingSimilarity(student_layer=("1", ":output"), teacher_layer=(":output", ":output"))
    step = Distiller(student, teacher, method, example=inputs, task=TASK)(inputs)
    expected = sum(embedding_similarity_loss(own, teacher(inputs)) for own in (student[:2](inputs), student(inputs)))
    torch.testing.assert_close(step.loss, expected)


def test_what_cannot_be_compared_is_refused() -> None:
    student, teacher = networks()
    inputs = torch.rand(5, 4)
    with pytest.raises(InputError, match="hint or cosine_features, which train a projection"):
        Distiller(student, teacher, Regression(), example=inputs, task=TASK)
    with pytest.raises(InputError, match="soft_targets is not about vectors"):
        Distiller(student, nn.Linear(4, 3), SoftTargets(), example=inputs, task=TASK)
    with pytest.raises(InputError, match="no true answers to train on without a teacher"):
        _ = TASK.supervised


def test_states_of_tokens_are_no_embedding_and_become_one() -> None:
    class States(nn.Module):
        def forward(self, input_ids, attention_mask):
            return {"last_hidden_state": input_ids.float().unsqueeze(-1) * torch.tensor([1.0, 2.0])}

    inputs = {"input_ids": torch.tensor([[1, 2, 9], [4, 0, 0]]), "attention_mask": torch.tensor([[1, 1, 0], [1, 0, 0]])}
    model = States()
    with pytest.raises(InputError, match=r"understudy.sources.embedding.embed"):
        TASK.observe(model, TASK.batch(inputs))
    found = TASK.observe(embed(model), TASK.batch(inputs)).logits
    torch.testing.assert_close(found, torch.tensor([[1.5, 3.0], [4.0, 8.0]]))
    first = TASK.observe(embed(model, Embedding(pooling="first", normalise=True)), TASK.batch(inputs)).logits
    torch.testing.assert_close(first, torch.tensor([[1.0, 2.0], [1.0, 2.0]]) / 5**0.5)


def test_a_student_is_measured_by_its_teacher() -> None:
    student, teacher = networks()
    loader = [torch.rand(6, 4), torch.rand(5, 4)]
    models = {"teacher": teacher, "student": student}
    found = judge(models, loader, TASK, teachers={"student": "teacher", "teacher": "teacher"})
    assert found["teacher"].quality() == {"similarity": 1.0, "nearest": 1.0, "nearest10": 1.0, "samples": 11.0}
    own, other = (torch.cat([each(rows) for rows in loader]).detach() for each in (student, teacher))
    collection = TASK.metrics(3)
    collection.update(own, other)
    expected = {name: float(value) for name, value in collection.compute().items()}
    assert found["student"].quality() == {**expected, "samples": 11.0}
    assert found["student"].agreement() == {}
    asked = judge({"model": student}, loader, TASK, reference=ModuleTeacher(teacher, task=TASK))["model"]
    assert asked.quality() == found["student"].quality()


def test_without_a_teacher_nothing_can_be_measured() -> None:
    tally = Tally(TASK)
    tally.add(Predictions(torch.rand(3, 2), torch.full((3, 2), float("nan")), None))
    with pytest.raises(InputError, match="an answer of a teacher to be compared with"):
        tally.quality()


def test_vectors_are_no_examples_to_read() -> None:
    tally = Tally(TASK)
    tally.add(Predictions(torch.rand(3, 2), torch.rand(3, 2), None))
    assert tally.answers().differing(tally.answers()).tolist() == []
