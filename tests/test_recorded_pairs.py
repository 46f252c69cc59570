"""Answers to prompts of different lengths, recorded: what is kept where nothing counts, and what is read again."""

import pytest
import torch
from torch import nn

import understudy as us
from understudy.recordings import Recording
from understudy.sources import Loader
from understudy.sources.pairs import Pairs
from understudy.sources.splits import Split

NAMES = tuple("_$abcdefghij")
TASKS = {None: us.CausalLanguageModel(), 0: us.SequenceToSequence(decoder_start=0)}


class Knowing(nn.Module):
    """Both forms of a language model, with a layer of tokens and one of whole samples."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(12, 8), nn.GRU(8, 8, batch_first=True)
        self.mixed, self.whole, self.head = nn.Identity(), nn.Identity(), nn.Linear(8, 12)

    def forward(self, input_ids, attention_mask=None, decoder_input_ids=None):
        told = input_ids if decoder_input_ids is None else decoder_input_ids
        summed = self.whole(self.embed(input_ids * (1 if attention_mask is None else attention_mask))[:, 0])
        return self.head(self.mixed(self.rnn(self.embed(told), summed[None].contiguous())[0]))


def split(start: int | None, name: str = "train") -> Split:
    drawn = torch.Generator().manual_seed(0)
    rows = [
        [
            torch.randint(2, 12, (int(count),), generator=drawn).numpy()
            for count in torch.randint(1, 7, (40,), generator=drawn)
        ]
        for _ in range(2)
    ]
    pairs = Pairs.of(*rows, end=1, start=start)
    ids = torch.arange(40) + (100 if name == "validation" else 0)
    return Split(pairs, pairs.targets(int(pairs.positions.max())), ids, NAMES, name)


@pytest.fixture(params=[None, 0], ids=["causal", "decoder"])
def start(request):
    return request.param


@pytest.mark.parametrize("keep", [{"dtype": "float32"}, {"top": 3, "dtype": "float32"}, {"dtype": "int8"}], ids=str)
def test_a_batch_reads_what_the_teacher_says_live(start, keep, tmp_path):
    torch.manual_seed(0)
    teacher, task, storage = Knowing().eval(), TASKS[start], us.Storage(**keep)
    us.record(teacher, split(start), tmp_path, keep=storage, task=task, batch_size=7, plain=split(start, "validation"))
    recorded = us.Recorded(tmp_path)
    for batch in Loader(split(start), batch_size=5):
        kept = recorded.observe(batch)
        with torch.no_grad():
            live = storage.decode(storage.encode(task.observe(teacher, batch)), classes=12, layers=())
        assert kept.shape == live.shape
        counts = batch.mask
        torch.testing.assert_close(kept.logits[counts], live.logits[counts], atol=0.02, rtol=1e-4)
        if kept.top is not None:
            assert torch.equal(kept.top.kept[counts], live.top.kept[counts])
            torch.testing.assert_close(kept.top.tails[1.0][counts], live.top.tails[1.0][counts], atol=1e-5, rtol=1e-4)
    assert recorded.certain, "the inputs were compared, although a batch is seldom as wide as the recording"


def test_nothing_is_kept_where_nothing_counts(start, tmp_path):
    shown = split(start)
    us.record(Knowing().eval(), shown, tmp_path, task=TASKS[start], batch_size=7)
    kept = Recording(tmp_path).rows(shown.ids, None, ("logits",))["logits"]
    assert kept.shape[1] == shown.targets.shape[1]
    assert torch.equal((kept != 0).any(-1), shown.targets != -100)


def test_other_labels_are_refused(start, tmp_path):
    shown = split(start)
    us.record(Knowing().eval(), shown, tmp_path, task=TASKS[start], batch_size=7)
    shown.targets[shown.targets != -100] = 5
    batches = Loader(shown, batch_size=3, shuffle=False)
    with pytest.raises(us.InputError, match="are labelled otherwise than when"):
        us.Recorded(tmp_path).observe(next(iter(batches)))


def test_other_prompts_are_refused(start, tmp_path):
    shown = split(start)
    us.record(Knowing().eval(), shown, tmp_path, task=TASKS[start], batch_size=7)
    shown.inputs.content[0] += 1 if shown.inputs.content[0] < 11 else -1
    with pytest.raises(us.InputError, match=r"1 of 3 samples as they are are not what the teacher was shown"):
        us.Recorded(tmp_path).observe(next(iter(Loader(shown, batch_size=3, shuffle=False))))


def test_layers_of_tokens_are_refused_and_those_of_samples_kept(start, tmp_path):
    shown, task = split(start), TASKS[start]
    with pytest.raises(us.InputError, match=r"the layers 'mixed' give each token of a prompt or an answer"):
        us.record(Knowing(), shown, tmp_path, task=task, keep=us.Storage(layers={"mixed": "whole", "whole": "whole"}))
    keep = us.Storage(layers={"whole": "whole"}, dtype="float32")
    us.record(Knowing().eval(), shown, tmp_path, task=task, keep=keep, batch_size=7)
    batch = next(iter(Loader(shown, batch_size=4)))
    assert us.Recorded(tmp_path).observe(batch, ("whole",)).features["whole"].shape == (4, 8)
