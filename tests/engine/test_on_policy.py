"""Texts that a student writes itself: which batches, what is in them, and that a training can go on from anywhere."""

import copy

import pytest
import torch
from torch import nn

import understudy as us
from understudy.batch import IGNORE_INDEX
from understudy.errors import InputError
from understudy.sources import Loader
from understudy.sources.continuing import continued
from understudy.sources.splits import Split

TASK = us.CausalLanguageModel(vocabulary=7)
PLAIN = {"execution": "plain"}


class Reader(nn.Module):
    def __init__(self, width: int = 8, outputs: int = 7) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(7, width), nn.GRU(width, width, batch_first=True)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(width, outputs)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.rnn(self.embed(tokens))[0]))


class Counting(nn.Module):
    """After each token the next number, without doubt."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return 99.0 * nn.functional.one_hot((tokens + 1) % 7, 9).float()


def split(windows: int = 40, window: int = 12) -> Split:
    tokens = torch.randint(7, (windows, window + 1), generator=torch.Generator().manual_seed(0))
    names = tuple("abcdefg")
    return Split(tokens[:, :-1].clone(), tokens[:, 1:].clone(), torch.arange(windows), names, "train")


def loader_of(student, asked, seed=0, task=TASK, **more):
    return us.OnPolicyLoader(Loader(split(), batch_size=4, seed=seed), student, asked, task=task, seed=seed, **more)


def own(batch) -> bool:
    return batch.mask is not None


def test_a_model_goes_on_from_a_prompt_with_what_it_thinks_likely():
    prompts = torch.tensor([[3], [6]])
    written = continued(Counting(), prompts, 4, task=TASK, generator=torch.Generator())
    assert written.tolist() == [[3, 4, 5, 6, 0], [6, 0, 1, 2, 3]]


def test_tokens_that_there_are_not_are_never_written():
    class Beyond(nn.Module):
        def forward(self, tokens):
            return torch.tensor([0.0] * 7 + [50.0] * 2).expand(*tokens.shape, 9)

    written = continued(Beyond(), torch.zeros(64, 1, dtype=torch.int64), 8, task=TASK, generator=torch.Generator())
    assert int(written.max()) < 7


def test_temperature_is_how_wide_the_choice_is():
    model, prompts = Reader().eval(), torch.zeros(500, 1, dtype=torch.int64)
    model.head.weight.data *= 20

    def first(temperature):
        generator = torch.Generator().manual_seed(0)
        return continued(model, prompts, 1, task=TASK, generator=generator, temperature=temperature)[:, 1]

    likeliest = int(model(prompts[:1])[0, -1].argmax())
    assert set(first(1e-3).tolist()) == {likeliest}
    shares = [float((first(each) == likeliest).float().mean()) for each in (0.5, 1.0, 100.0)]
    assert shares[0] > shares[1] > shares[2]
    assert shares[2] == pytest.approx(1 / 7, abs=0.06)


def test_what_is_drawn_is_what_the_probabilities_say():
    model, prompts = Reader().eval(), torch.full((20_000, 1), 3)
    written = continued(model, prompts, 1, task=TASK, generator=torch.Generator().manual_seed(1))[:, 1]
    expected = model(prompts[:1])[0, -1].softmax(-1)
    torch.testing.assert_close(written.bincount(minlength=7) / 20_000, expected, atol=0.02, rtol=0)


def test_a_model_of_transformers_remembers_and_writes_the_same_as_without():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=9, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, use_cache=False
    )
    model = transformers.LlamaForCausalLM(config)
    model.lm_head.weight.data *= 30

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside, self.seen = model, []

        def forward(self, tokens):
            self.seen.append(tokens.shape[1])
            return self.inside(tokens).logits

    plain, prompts = Plain(), torch.randint(7, (4, 3), generator=torch.Generator().manual_seed(5))
    seen = []
    model.model.layers[0].register_forward_pre_hook(
        lambda _, positional, named: seen.append((positional[0] if positional else named["hidden_states"]).shape[1]),
        with_kwargs=True,
    )
    quick = continued(model, prompts, 6, task=TASK, generator=torch.Generator().manual_seed(2))
    assert seen == [3, 1, 1, 1, 1, 1]
    slow = continued(plain, prompts, 6, task=TASK, generator=torch.Generator().manual_seed(2))
    assert plain.seen == [3, 4, 5, 6, 7, 8]
    assert quick.tolist() == slow.tolist()
    assert int(quick.max()) < 7
    assert model.training


def test_a_state_space_model_of_transformers_writes_too():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.MambaForCausalLM(transformers.MambaConfig(vocab_size=7, hidden_size=8, num_hidden_layers=1))
    written = continued(model, torch.tensor([[3, 1]]), 3, task=TASK, generator=torch.Generator())
    assert written.shape == (1, 5)


def test_a_share_of_the_batches_are_the_students_own():
    loader = loader_of(Reader(), us.OnPolicy(share=0.5, prompt=3))
    kinds = []
    for epoch in range(20):
        loader.set_epoch(epoch)
        kinds.append([own(batch) for batch in loader])
    flat = [kind for each in kinds for kind in each]
    assert 0.4 < sum(flat) / len(flat) < 0.6
    assert len({tuple(each) for each in kinds}) > 10  # others in each epoch
    assert all(own(batch) for batch in loader_of(Reader(), us.OnPolicy(share=1.0, prompt=3)))


def test_what_a_batch_of_its_own_holds():
    student, asked = Counting(), us.OnPolicy(share=1.0, prompt=3)
    true = list(Loader(split(), batch_size=4))
    for batch, shown in zip(loader_of(student, asked), true, strict=True):
        assert torch.equal(batch.inputs[:, :3], shown.inputs[:, :3])
        assert torch.equal(batch.inputs[:, 3:], (batch.inputs[:, 2:-1] + 1) % 7)
        assert (batch.targets == IGNORE_INDEX).all()
        assert batch.mask is not None
        assert batch.mask.int().tolist() == [[0, 0, *[1] * 10]] * 4
        assert batch.ids is None  # a recording holds no answer to it


def test_the_students_state_and_all_random_numbers_are_left_alone():
    student = Reader().train()
    student.drop.eval()
    before = copy.deepcopy(student.state_dict())
    state = torch.get_rng_state()
    list(loader_of(student, us.OnPolicy(share=1.0, prompt=3)))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in student.modules()] == [True, True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert all(parameter.grad is None for parameter in student.parameters())


def test_it_is_the_student_as_it_is_now_that_writes():
    student = Reader()
    batches = iter(loader_of(student, us.OnPolicy(share=1.0, prompt=3)))
    next(batches)
    with torch.no_grad():
        student.head.weight.zero_()
        student.head.bias.copy_(torch.tensor([0.0, 0, 0, 0, 0, 99, 0]))
    assert (next(batches).inputs[:, 3:] == 5).all()


def test_earlier_texts_take_the_place_of_every_second_new_one():
    class Slow(Reader):
        calls = 0

        def forward(self, tokens):
            Slow.calls += tokens.shape[1] == 3  # a new text begins
            return super().forward(tokens)

    student = Slow()
    loader = loader_of(student, us.OnPolicy(share=1.0, prompt=3, replay=12))
    texts, again, count = set(), 0, 0
    for epoch in range(10):
        loader.set_epoch(epoch)
        for batch in loader:
            rows = {tuple(row) for row in batch.inputs.tolist()}
            again, count = again + (rows <= texts), count + 1
            texts |= rows
    assert 0.35 < again / count < 0.65
    assert Slow.calls == count - again
    assert len(loader.state_dict()["kept"]) == 12


def trained(folder, *, steps, replay=8):
    torch.manual_seed(0)
    student, teacher = Reader(), Reader(16)
    distiller = us.Distiller(student, teacher, us.ReverseKl() + 0.1 * us.CrossEntropy(), example=batch(), task=TASK)
    loader = loader_of(student, us.OnPolicy(share=0.6, prompt=3, replay=replay))
    training = us.Training(
        steps=12, batch_size=4, optimizer=us.Optimizer(kind="adamw", lr=1e-2), checkpoint_every=5, **PLAIN
    )
    stop = Stop(steps)
    us.fit(distiller, loader, training, directory=folder, callbacks=[stop])
    return student.state_dict()


def batch():
    return next(iter(Loader(split(), batch_size=4)))


class Stop:
    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, moment):
        if moment.step == self.step:
            raise KeyboardInterrupt

    def recorded(self, moment, record):
        return None


@pytest.mark.parametrize("replay", [0, 8])
def test_a_training_that_was_cut_off_goes_on_bit_for_bit(tmp_path, replay):
    whole = trained(tmp_path / "whole", steps=99, replay=replay)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", steps=7, replay=replay)
    again = trained(tmp_path / "cut", steps=99, replay=replay)
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_another_share_is_another_training(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, steps=7)
    with pytest.raises(InputError, match="replay"):
        trained(tmp_path, steps=99, replay=9)


@pytest.mark.parametrize(
    ("asked", "more", "message"),
    [
        ({"prompt": 12}, {}, r"`on_policy.prompt: 12` is the whole window of 12 tokens; expected fewer"),
        ({"prompt": 3}, {"task": us.Classification()}, "expected a language model, not classification"),
    ],
)
def test_what_cannot_be_written_is_refused(asked, more, message):
    with pytest.raises(InputError, match=message):
        loader_of(Reader(), us.OnPolicy(**asked), **more)
