import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import attention_map_loss, patient_loss, self_relation_loss

sizes = st.integers(1, 4)


def features(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    student, teacher = (torch.randn(shape, generator=generator).double() for _ in range(2))
    return student, teacher


@given(sizes, st.integers(2, 5), st.floats(0.1, 10.0))
def test_patient_knows_no_lengths_and_has_bounds(batch, channels, scale) -> None:
    student, teacher = features(batch, channels)
    loss = patient_loss(student, teacher)
    assert patient_loss(teacher, teacher) == 0.0
    assert 0.0 < loss <= 4.0 / channels
    torch.testing.assert_close(patient_loss(scale * student, 3.0 * teacher), loss)
    cosine = torch.nn.functional.cosine_similarity(student, teacher, dim=-1).mean()
    torch.testing.assert_close(loss, 2.0 * (1.0 - cosine) / channels)


def test_patient_of_nothing_is_finite() -> None:
    student = torch.zeros(2, 3, requires_grad=True)
    patient_loss(student, torch.ones(2, 3)).backward()
    assert student.grad.equal(torch.zeros(2, 3))


@given(sizes, sizes, sizes)
def test_attention_is_zero_at_equality_and_bounded_for_probabilities(batch, heads, tokens) -> None:
    student, teacher = (feature.softmax(-1) for feature in features(batch, heads, tokens, tokens))
    loss = attention_map_loss(student, teacher)
    assert attention_map_loss(teacher, teacher) == 0.0
    assert 0.0 <= loss <= 2.0 / tokens
    everything = torch.ones(batch, tokens, dtype=torch.bool)
    torch.testing.assert_close(attention_map_loss(student, teacher, tokens=everything), loss)


@given(sizes, st.integers(1, 3), st.integers(1, 3))
def test_attention_of_real_tokens_is_that_without_the_others(batch, real, padding) -> None:
    student, teacher = features(batch, 2, real + padding, real + padding)
    tokens = (torch.arange(real + padding) < real).expand(batch, -1)
    masked = attention_map_loss(student, teacher, tokens=tokens)
    torch.testing.assert_close(masked, attention_map_loss(student[..., :real, :real], teacher[..., :real, :real]))


@given(sizes, sizes, st.integers(2, 4))
def test_relations_are_zero_at_equality_and_know_no_rotation(batch, heads, tokens) -> None:
    student, teacher = features(batch, tokens, 3 * heads)
    loss = self_relation_loss(student, teacher, heads=heads)
    assert self_relation_loss(teacher, teacher, heads=heads) == 0.0
    assert loss > 0.0
    rotation = torch.linalg.qr(features(3, 3)[0]).Q
    turned = (student.unflatten(2, (heads, 3)) @ rotation).flatten(2)
    torch.testing.assert_close(self_relation_loss(turned, teacher, heads=heads), loss)
    everything = torch.ones(batch, tokens, dtype=torch.bool)
    torch.testing.assert_close(self_relation_loss(student, teacher, heads=heads, tokens=everything), loss)


@given(sizes, st.integers(1, 3), st.integers(1, 3))
def test_relations_of_real_tokens_are_those_without_the_others(batch, real, padding) -> None:
    student, teacher = features(batch, real + padding, 4)
    tokens = (torch.arange(real + padding) < real).expand(batch, -1)
    masked = self_relation_loss(student, 1e4 * teacher, heads=2, tokens=tokens)
    torch.testing.assert_close(masked, self_relation_loss(student[:, :real], 1e4 * teacher[:, :real], heads=2))


def test_nothing_real_is_a_connected_zero() -> None:
    student, tokens = torch.randn(2, 3, 4, requires_grad=True), torch.zeros(2, 3, dtype=torch.bool)
    loss = self_relation_loss(student, torch.randn(2, 3, 4), heads=2, tokens=tokens)
    loss = loss + attention_map_loss(student @ student.mT[:, None], torch.randn(2, 2, 3, 3), tokens=tokens)
    loss.backward()
    assert loss.item() == 0.0
    assert student.grad.equal(torch.zeros(2, 3, 4))
