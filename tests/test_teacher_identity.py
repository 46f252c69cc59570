"""The digest of everything that a teacher's answers depend on."""

import shutil
from pathlib import Path

import tokenizers
import torch
from torch import nn

from conformance.recordings import Picks
from understudy import AverageTeacher, Classification, Ensemble, ModuleTeacher, TextClassification
from understudy.identity import identity_of
from understudy.sources import BuiltinModel, build_model
from understudy.sources.preprocess import Preprocess, preprocess_inputs
from understudy.tokenizing import AnyTokens, Bytes, Tokenizer, Words, bytes_of


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 6))


def nudge(tensor: torch.Tensor) -> None:
    with torch.no_grad():
        flat = tensor.view(-1)
        flat[-1] += 1 if not tensor.is_floating_point() else 1e-3


def test_any_weight_or_buffer_makes_another_teacher() -> None:
    net = preprocess_inputs(network(), Preprocess(mean=(0.5,), std=(0.2,)))
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
                preprocess_inputs(network(), Preprocess(mean=pair[0], std=pair[1]) if pair else None),
                task=Classification(),
            )
        )
        for pair in pairs
    }
    assert len(found) == len(pairs)


def of_texts(tokens: AnyTokens) -> ModuleTeacher:
    """The same weights whatever the tokens."""
    torch.manual_seed(3)
    spec = BuiltinModel(name="bag", arguments={"embedding": 4}, preprocess=Bytes())
    network = build_model(spec, classes=2, inputs=bytes_of(["a text"]))
    return ModuleTeacher(preprocess_inputs(network, tokens), task=TextClassification())


def test_other_tokens_make_another_teacher(tmp_path: Path) -> None:
    saved = []
    for name, words in (("one", ("good", "bad")), ("two", ("bad", "good"))):
        vocabulary = {"[UNK]": 0, **{word: number for number, word in enumerate(words, start=1)}}
        saved.append(str(tmp_path / f"{name}.json"))
        tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]")).save(saved[-1])
    every = [
        Bytes(),
        Bytes(max_length=9),
        Words(buckets=256),
        Words(buckets=256, max_length=9),
        Words(buckets=256, lowercase=False),
        Tokenizer(path=saved[0]),
        Tokenizer(path=saved[0], max_length=9),
        Tokenizer(path=saved[1]),
    ]
    found = [identity_of(of_texts(tokens)) for tokens in every]
    assert len(set(found)) == len(every)
    assert [identity_of(of_texts(tokens)) for tokens in every] == found
    elsewhere = shutil.copy(saved[0], tmp_path / "elsewhere.json")
    assert identity_of(of_texts(Tokenizer(path=str(elsewhere)))) == found[5], "wherever its file lies"


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
