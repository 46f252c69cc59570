import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from understudy.functional import nearest_agreement, similarity_agreement

seeds = st.integers(0, 2**31 - 1)


def pair(seed: int, count: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(count, 5, generator=generator)
    return teacher[:, :3] + 0.3 * torch.randn(count, 3, generator=generator), teacher


def cosines(points: torch.Tensor) -> list[list[float]]:
    return [[float(torch.cosine_similarity(a, b, dim=0)) for b in points] for a in points]


@given(seeds)
def test_similarity_is_the_rank_correlation_of_all_cosines(seed) -> None:
    student, teacher = pair(seed)
    (first, second), pairs = map(cosines, (student, teacher)), list(itertools.combinations(range(9), 2))
    expected = stats.spearmanr([first[i][j] for i, j in pairs], [second[i][j] for i, j in pairs]).statistic
    assert similarity_agreement(student, teacher).item() == pytest.approx(expected, abs=1e-6)


@given(seeds, st.integers(1, 8))
def test_the_teachers_nearest_is_looked_for_among_the_students(seed, among) -> None:
    student, teacher = pair(seed)
    found = 0
    for i, (own, other) in enumerate(zip(cosines(student), cosines(teacher), strict=True)):
        others = [j for j in range(9) if j != i]
        wanted = max(others, key=lambda j: other[j])
        found += wanted in sorted(others, key=lambda j: -own[j])[:among]
    assert nearest_agreement(student, teacher, among=among).item() == pytest.approx(found / 9)


def test_some_pairs_stand_for_all_and_are_the_same_every_time() -> None:
    student, teacher = pair(3, 200)
    all_pairs, some = similarity_agreement(student, teacher), similarity_agreement(student, teacher, most=4000)
    assert some == similarity_agreement(student, teacher, most=4000) != all_pairs
    assert some.item() == pytest.approx(all_pairs.item(), abs=0.05)


def test_scale_and_width_do_not_matter() -> None:
    _, teacher = pair(1)
    wider = torch.cat([3.0 * teacher, torch.zeros(9, 2)], 1)
    assert similarity_agreement(wider, teacher).item() == pytest.approx(1.0)
    assert nearest_agreement(wider, teacher, among=1).item() == 1.0


def test_with_too_few_samples_nothing_agrees() -> None:
    for count in (0, 1):
        student, teacher = pair(1, 3)
        assert similarity_agreement(student[:count], teacher[:count]).item() == 0.0
        assert nearest_agreement(student[:count], teacher[:count], among=1).item() == 0.0
