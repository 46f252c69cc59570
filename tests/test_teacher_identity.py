"""The digest of everything that a teacher's answers depend on."""

import torch
from torch import nn

from conformance.recordings import Picks
from understudy import AverageTeacher, Classification, Ensemble, ModuleTeacher
from understudy.identity import identity_of
from understudy.sources.preprocess import Preprocess, normalize_inputs


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 6))


def nudge(tensor: torch.Tensor) -> None:
    with torch.no_grad():
        flat = tensor.view(-1)
        flat[-1] += 1 if not tensor.is_floating_point() else 1e-3


def test_any_weight_or_buffer_makes_another_teacher() -> None:
    net = normalize_inputs(network(), Preprocess(mean=(0.5,), std=(0.2,)))
    teacher = ModuleTeacher(net, task=Classification())
    seen = {identity_of(teacher)}
    names = [name for name, _ in [*net.named_parameters(), *net.named_buffers()]]
    assert {"0.weight", "1.running_mean", "1.num_batches_tracked", "input_mean", "input_std"} <= set(names)
    for tensor in [*net.parameters(), *net.buffers()]:
        nudge(tensor)
        seen.add(identity_of(teacher))
    assert len(seen) == 1 + len(names)
    assert identity_of(teacher) in seen


def test_the_normalisation_of_the_inputs_makes_another_teacher() -> None:
    pairs = [None, ((0.5,), (0.2,)), ((0.4,), (0.2,)), ((0.5,), (0.3,))]
    found = {
        identity_of(
            ModuleTeacher(
                normalize_inputs(network(), Preprocess(mean=pair[0], std=pair[1]) if pair else None),
                task=Classification(),
            )
        )
        for pair in pairs
    }
    assert len(found) == len(pairs)


def test_another_layer_with_the_same_weights_makes_another_teacher() -> None:
    layer = nn.Linear(3, 2)
    found = [ModuleTeacher(nn.Sequential(layer, last), task=Classification()) for last in (nn.ReLU(), nn.GELU())]
    assert identity_of(found[0]) != identity_of(found[1])


def test_an_equal_network_is_the_same_teacher_however_it_is_wrapped() -> None:
    task = Classification()
    same = identity_of(ModuleTeacher(network(), task=task))
    assert identity_of(ModuleTeacher(network().train(), task=task)) == same
    assert identity_of(ModuleTeacher(torch.compile(network()), task=task)) == same
    assert identity_of(ModuleTeacher(network(), task=task, precision=torch.bfloat16)) != same
    assert identity_of(AverageTeacher(network(), task=task)) == same


def test_members_weights_and_rule_of_an_ensemble_count() -> None:
    one, two = (ModuleTeacher(nn.Linear(3, 2), task=Classification()) for _ in range(2))
    ensembles = [
        Ensemble([one, two]),
        Ensemble([two, one], [0.3, 0.7]),
        Ensemble([one, two], [0.3, 0.7]),
        Ensemble([one, two], combine="confident"),
        Ensemble([one]),
        Ensemble([one, one]),
        Ensemble([Picks(), one]),
    ]
    found = [identity_of(each) for each in ensembles]
    assert len(set(found)) == len(found)
    assert None not in found
    before = identity_of(ensembles[0])
    nudge(two.module.bias)
    assert identity_of(ensembles[0]) != before


def test_a_teacher_that_does_not_tell_is_not_known() -> None:
    class Unknown:
        def observe(self, batch, taps=()):
            raise NotImplementedError

    assert identity_of(Unknown()) is None
    assert identity_of(Ensemble([Picks(), Unknown()])) is None
    assert identity_of(Picks(identity="x")) == "x"
