"""A student's own answers to the prompts of the data: where each begins, where it ends, and what counts."""

import pytest
import torch
from torch import nn

import understudy as us
from understudy.batch import IGNORE_INDEX
from understudy.engine.process import Process
from understudy.sources import Loader
from understudy.sources.continuing import continued, decoded
from understudy.sources.pairs import Pairs
from understudy.sources.splits import Split
from understudy.tokenizing import DECODED

END, NAMES = 1, tuple("_$abcdefg")
CAUSAL = us.CausalLanguageModel(vocabulary=9)
DECODER = us.SequenceToSequence(vocabulary=9, decoder_start=0)
ALWAYS = us.OnPolicy(share=1.0)


class Counting(nn.Module):
    """After each token the next number, after 8 the end; a decoder begins with the prompt's first token."""

    def forward(self, input_ids, attention_mask=None, decoder_input_ids=None):
        tokens = input_ids
        if decoder_input_ids is not None:
            assert attention_mask is not None
            tokens = torch.where(decoder_input_ids == 0, input_ids[:, :1] - 1, decoder_input_ids)
        after = torch.where(tokens >= 8, END, tokens + 1)
        return 99.0 * nn.functional.one_hot(after, 9).float()


def split(start: int | None) -> Split:
    """Prompts of 1 to 3 tokens, with answers of 2 to 4."""
    prompts = [[7], [3, 4], [5, 6, 7], [2, 2]]
    answers = [[2, END], [2, 3, 4, END], [4, 4, END], [6, 6, END]]
    pairs = Pairs.of(
        *([torch.tensor(row).numpy() for row in rows] for rows in (prompts, answers)), end=END, start=start
    )
    return Split(pairs, pairs.targets(int(pairs.positions.max())), torch.arange(4), NAMES, "train")


def own(start: int | None, student=None, asked=ALWAYS):
    task = CAUSAL if start is None else DECODER
    loader = Loader(split(start), batch_size=4, shuffle=False)
    return next(iter(us.OnPolicyLoader(loader, student or Counting(), asked, task=task)))


def test_each_answer_begins_behind_its_own_prompt_and_ends_at_the_mark():
    batch = own(None)
    assert batch.inputs.tolist() == [[7, 8, 0, 0, 0], [3, 4, 5, 6, 7], [5, 6, 7, 8, 0], [2, 2, 3, 4, 5]]
    assert batch.mask.int().tolist() == [[1, 1, 0, 0, 0], [0, 1, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 1, 1]]
    assert (batch.targets == IGNORE_INDEX).all()
    assert batch.targets.shape == batch.mask.shape
    assert batch.ids is None


def test_a_decoder_answers_the_encoders_prompt():
    batch = own(0)
    assert batch.inputs["input_ids"].tolist() == [[7, 0, 0], [3, 4, 0], [5, 6, 7], [2, 2, 0]]
    assert batch.inputs["attention_mask"].sum(1).tolist() == [1, 2, 3, 2]
    assert batch.inputs[DECODED].tolist() == [[0, 7, 8, 0], [0, 3, 4, 5], [0, 5, 6, 7], [0, 2, 3, 4]]
    assert batch.mask.int().tolist() == [[1, 1, 1, 0], [1] * 4, [1] * 4, [1] * 4]


def test_what_is_no_answer_is_never_judged():
    """Only what the mask says reaches the loss: the true answers of the batch are gone."""
    student, batch = Counting(), own(None)
    teacher = us.ModuleTeacher(Counting(), task=CAUSAL)
    loss = us.ReverseKl().loss(CAUSAL.observe(student, batch), teacher.observe(batch), batch)
    assert float(loss) == pytest.approx(0.0, abs=1e-6)
    assert int(batch.mask.sum()) == 2 + 4 + 2 + 4


@pytest.mark.parametrize("start", [None, 0])
@pytest.mark.parametrize("asked", [{"prompt": 2}, {"prompt": 16}, {"replay": 3}])
def test_what_is_about_windows_is_refused(start, asked):
    with pytest.raises(us.InputError, match=rf"`on_policy\.{next(iter(asked))}` is about windows of running texts"):
        own(start, asked=us.OnPolicy(share=1.0, **asked))


def test_an_empty_part_of_a_batch_stays_empty():
    loader = Loader(split(None), batch_size=3, shuffle=False, rank=0, world=2)
    batches = list(
        us.OnPolicyLoader(loader, Counting(), ALWAYS, task=CAUSAL, current=Process(0, 2, True, torch.device("cpu")))
    )
    assert [len(batch) for batch in batches] == [1, 0]


def network(family: str, **more) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if family == "t5":
        sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2}
        config = transformers.T5Config(vocab_size=9, decoder_start_token_id=0, use_cache=False, **sizes)
        model = transformers.T5ForConditionalGeneration(config)
    else:
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=9, use_cache=False, **sizes))
    for parameter in model.parameters():
        parameter.data *= 3
    return model


class Forgetful(nn.Module):
    """The same network, asked anew for each token."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, input_ids, attention_mask=None, decoder_input_ids=None):
        if decoder_input_ids is None:
            return self.inside(input_ids=input_ids).logits
        return self.inside(
            input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=decoder_input_ids
        ).logits


@pytest.mark.parametrize(("family", "start"), [("llama", None), ("t5", 0)])
def test_a_model_of_transformers_remembers_and_says_the_same_as_without(family, start):
    model = network(family)
    quick, slow = own(start, model), own(start, Forgetful(model))
    first, second = (each.inputs if start is None else each.inputs[DECODED] for each in (quick, slow))
    assert torch.equal(first, second)
    assert torch.equal(quick.mask, slow.mask)
    assert model.training


def test_prompts_of_other_lengths_are_gone_on_from_as_each_alone():
    """With a choice so narrow that nothing is left to chance."""
    model, how = network("llama").eval(), {"task": CAUSAL, "temperature": 1e-4}
    rows = [[3, 4, 5, 6], [7], [2, 8]]
    begun = torch.tensor([row + [0] * (4 - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    together = continued(model, begun, 3, lengths=lengths, generator=torch.Generator(), **how)
    assert together.shape == (3, 7)
    for row, found in zip(rows, together.tolist(), strict=True):
        alone = continued(model, torch.tensor([row]), 3, generator=torch.Generator(), **how)[0].tolist()
        assert found[: len(alone)] == alone


def test_writing_stops_where_all_have_ended():
    how = {"generator": torch.Generator(), "end": END}
    said = continued(Counting(), torch.tensor([[7], [6]]), 50, task=CAUSAL, **how)
    assert said.tolist() == [[7, 8, END, 2], [6, 7, 8, END]]
    read = {"input_ids": torch.tensor([[8], [7]]), "attention_mask": torch.ones(2, 1)}
    answers = decoded(Counting(), read, 50, start=0, task=DECODER, **how)
    assert answers.tolist() == [[8, END, 2], [7, 8, END]]
    assert decoded(Counting(), read, 1, start=0, task=DECODER, **how).tolist() == [[8], [7]]
