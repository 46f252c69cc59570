"""Rows of all processes, with their true gradient: in two real processes."""

import torch

from conformance import coupled
from conformance.two_processes import TwoProcesses
from understudy.gathering import remember


def test_rows_come_in_the_order_of_the_ranks_and_take_their_gradient_home(two_processes: TwoProcesses) -> None:
    answers = two_processes.run(coupled.rows_and_gradients)
    for rank, (rows, gradient) in enumerate(answers):
        assert rows == [[0.0, 0.5], [1.0, 1.5], [2.0, 2.5], [10.0, 10.5]]
        # Both processes weigh row k by k + 1, and each row gets what both say about it.
        weights = [[2.0, 2.0], [4.0, 4.0], [6.0, 6.0]] if rank == 0 else [[8.0, 8.0]]
        assert gradient == weights


def test_a_process_without_rows_takes_part(two_processes: TwoProcesses) -> None:
    assert two_processes.run(coupled.nothing_from_the_second) == [[[1.0], [2.0]], [[1.0], [2.0]]]


def test_alone_nobody_waits_for_the_others(two_processes: TwoProcesses) -> None:
    assert two_processes.run(coupled.alone_in_the_first) == [[[0.0]], None]


def test_the_doctor_looks_at_its_own_part_where_the_others_have_none(two_processes: TwoProcesses) -> None:
    assert two_processes.run(coupled.examined_by_the_first) == [["relational_distance"], None]


def test_rows_take_the_places_of_those_that_have_been_there_longest() -> None:
    memory, other, place = torch.zeros(3, 1), torch.zeros(3, 2, dtype=torch.float64), torch.tensor(0)
    places = []
    for first, last in ((1, 2), (3, 4), (5, 9), (10, 10)):
        rows = torch.arange(first, last + 1.0)[:, None].requires_grad_()
        remember(place, (memory, rows), (other, -rows.expand(-1, 2)))
        places.append((memory.flatten().tolist(), place.item()))
    assert places == [([1.0, 2.0, 0.0], 2), ([4.0, 2.0, 3.0], 1), ([9.0, 7.0, 8.0], 1), ([9.0, 10.0, 8.0], 2)]
    assert torch.equal(other, -memory.double().expand(-1, 2))
    assert not memory.requires_grad
