import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import cross_sample_similarity_loss

seeds = st.integers(0, 2**31 - 1)
others = st.integers(1, 9)
temperatures = st.floats(0.05, 5.0)


def embeddings(seed: int, *counts: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    raw = [torch.randn(count, 4, generator=generator).double() for count in counts]
    return [rows / rows.norm(dim=1, keepdim=True) for rows in raw]


@given(seeds, others, temperatures, temperatures)
def test_is_never_negative_and_zero_at_equality_and_equal_temperatures(seed, others, own, answer) -> None:
    student, teacher, memory = embeddings(seed, 5, 5, others)
    value = cross_sample_similarity_loss(
        student, teacher, memory=memory, student_temperature=own, teacher_temperature=answer
    )
    assert value > 0.0
    equal = cross_sample_similarity_loss(
        teacher, teacher, memory=memory, student_temperature=own, teacher_temperature=own
    )
    assert equal.abs() < 1e-12


@given(seeds, others, temperatures)
def test_a_cold_teacher_makes_it_the_contrastive_loss(seed, others, own) -> None:
    student, teacher, memory = embeddings(seed, 5, 5, others)
    cold = cross_sample_similarity_loss(
        student, teacher, memory=memory, student_temperature=own, teacher_temperature=1e-5
    )
    with_itself = (student * teacher).sum(1, keepdim=True)
    logits = torch.cat([with_itself, student @ memory.T], dim=1) / own
    torch.testing.assert_close(cold, torch.nn.functional.cross_entropy(logits, torch.zeros(5).long()))


@given(seeds, others, temperatures)
def test_turning_both_spaces_changes_nothing(seed, others, own) -> None:
    student, teacher, memory = embeddings(seed, 5, 5, others)
    turn, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(seed)).double())
    values = [
        cross_sample_similarity_loss(s, t, memory=m, student_temperature=own)
        for s, t, m in ((student, teacher, memory), (student @ turn, teacher @ turn, memory @ turn))
    ]
    torch.testing.assert_close(*values, rtol=1e-8, atol=1e-10)
