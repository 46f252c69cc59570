"""Encoder–decoders: the answer's tokens, the decoder's inputs shifted once, what is masked counts for nothing."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import understudy as us
from understudy.engine import SilentProgress
from understudy.measure.quality import predict, quality

WORDS, START = 13, 0
TASK = us.SequenceToSequence(decoder_start=START)


class Answering(nn.Module):
    """A recurrent encoder–decoder of a few tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, width)
        self.read, self.say = (nn.GRU(width, width, batch_first=True) for _ in range(2))
        self.head = nn.Linear(width, WORDS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
        read = (self.read(self.embed(input_ids))[0] * attention_mask[..., None]).sum(1)
        return self.head(self.say(self.embed(decoder_input_ids), read[None])[0])


def pairs() -> dict[str, Tensor]:
    """Four prompts of 6, 3, 5 and 1 tokens, with answers of 4, 5, 2 and no tokens."""
    generator = torch.Generator().manual_seed(0)
    lengths, told = torch.tensor([6, 3, 5, 1]), torch.tensor([4, 5, 2, 0])
    mask = torch.arange(6) < lengths[:, None]
    labels = torch.randint(1, WORDS, (4, 5), generator=generator)
    return {
        "input_ids": torch.randint(1, WORDS, (4, 6), generator=generator).masked_fill(~mask, 0),
        "attention_mask": mask.long(),
        "labels": labels.masked_fill(torch.arange(5) >= told[:, None], -100),
    }


def t5(start: int = START) -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(vocab_size=WORDS, decoder_start_token_id=start, **sizes)).eval()


def bart() -> nn.Module:
    from transformers import BartConfig, BartForConditionalGeneration

    sizes = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 16}
    sizes |= {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in HEADS.items()}
    return BartForConditionalGeneration(BartConfig(vocab_size=WORDS, **sizes)).eval()


HEADS = {"attention_heads": 2, "ffn_dim": 8}


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_the_loss_is_that_of_transformers(family) -> None:
    torch.manual_seed(0)
    network = {"t5": t5, "bart": bart}[family]()
    task = us.SequenceToSequence(
        decoder_start=network.config.decoder_start_token_id, padding=network.config.pad_token_id
    )
    raw = pairs()
    raw["labels"][0, 1] = -100  # in the middle, where the decoder reads padding in its place
    expected = network(**raw).loss.detach()
    batch = task.batch(raw)
    ours = us.CrossEntropy().loss(task.observe(network, batch), None, batch)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    mean = quality(predict(network, [raw], task), task)
    assert mean["bits"] == pytest.approx(float(expected) / math.log(2), rel=1e-5)
    assert mean["samples"] == int((raw["labels"] != -100).sum())


def test_a_batch_of_transformers_collator_is_read_as_it_is() -> None:
    """Decoder inputs that are there already are those that the decoder reads."""
    network, raw = t5(start=3), pairs()
    with_inputs = {**raw, "decoder_input_ids": network.prepare_decoder_input_ids_from_labels(raw["labels"])}
    found = us.SequenceToSequence().batch(with_inputs)
    assert torch.equal(found.inputs["decoder_input_ids"], with_inputs["decoder_input_ids"])
    assert torch.equal(
        found.inputs["decoder_input_ids"],
        us.SequenceToSequence(decoder_start=3, padding=0).batch(raw).inputs["decoder_input_ids"],
    )
    assert "labels" not in found.inputs


def test_what_counts_is_the_answer() -> None:
    raw = pairs()
    batch = TASK.batch(raw)
    assert batch.mask.sum(1).tolist() == [4, 5, 2, 0]
    assert torch.equal(batch.targets, raw["labels"])
    assert batch.inputs["decoder_input_ids"][1].tolist() == [START, *raw["labels"][1, :-1].tolist()]
    assert TASK.batch(batch) is batch
    assert TASK.batch({"input_ids": raw["input_ids"], "decoder_input_ids": raw["labels"].abs()}).targets is None
    assert TASK.example(batch.inputs, 2)["decoder_input_ids"].shape == (2, 5)


METHODS = {
    "soft_targets": us.SoftTargets(temperature=2.0),
    "reverse_kl": us.ReverseKl(),
    "jensen_shannon": us.JensenShannon(),
    "skew_kl": us.SkewKl(),
    "logit_mse": us.LogitMse(),
    "cross_entropy": us.CrossEntropy(),
}


@pytest.mark.parametrize("name", METHODS)
def test_padding_changes_nothing(name) -> None:
    """A batch is the mean of its answers' tokens, each pair taken by itself and without what stands behind it."""
    torch.manual_seed(1)
    student, teacher, raw = Answering(4), Answering(9), pairs()
    together = us.Distiller(student, teacher, METHODS[name], example=raw, task=TASK)(raw).loss
    total, count = 0.0, 0
    for row in range(3):
        read, told = int(raw["attention_mask"][row].sum()), int((raw["labels"][row] != -100).sum())
        one = {key: value[row : row + 1, : told if key == "labels" else read] for key, value in raw.items()}
        total += us.Distiller(student, teacher, METHODS[name], example=one, task=TASK)(one).loss.item() * told
        count += told
    assert together.item() == pytest.approx(total / count, rel=1e-5)


def test_it_learns_to_say_the_last_token_twice() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(2, WORDS, (256, 4))
    last = torch.cat([tokens[:, -1:]] * 2, 1)
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": last}
    distiller = us.Distiller(Answering(24), None, us.CrossEntropy(), example=batch, task=TASK)
    training = us.Training(epochs=60, optimizer=us.Optimizer(kind="adam", lr=0.02), execution="plain")
    us.fit(distiller, [batch], training, progress=SilentProgress())
    assert quality(predict(distiller.student, [batch], TASK), TASK)["accuracy"] > 0.95


@pytest.mark.parametrize(
    ("change", "task", "message"),
    [
        (
            {"labels": None},
            TASK,
            r"a mapping with 'input_ids' of the prompt and 'labels' .* got a mapping with 'input_ids",
        ),
        (
            {},
            us.SequenceToSequence(),
            r"the batch has no decoder_input_ids, .*decoder_start=model\.config\.decoder_st",
        ),
        ({"labels": torch.zeros(4)}, TASK, r"labels are \(4,\) torch\.float32; expected whole numbers"),
        ({"attention_mask": torch.ones(4, 2)}, TASK, r"attention_mask has shape \(4, 2\), expected that of input_ids"),
        (
            {"decoder_input_ids": torch.ones(4, 2).long()},
            TASK,
            r"labels have shape \(4, 5\), expected that of decoder_in",
        ),
    ],
    ids=["no-labels", "no-start", "numbers", "mask", "decoder"],
)
def test_what_cannot_be_read_is_explained(change, task, message) -> None:
    raw = {name: value for name, value in {**pairs(), **change}.items() if value is not None}
    with pytest.raises(us.InputError, match=message):
        task.batch(raw)


def test_labels_of_another_length_belong_to_this_task() -> None:
    with pytest.raises(us.InputError, match="the labels of an encoder–decoder are read by task sequence_to_sequence"):
        us.CausalLanguageModel().batch(pairs())


def test_a_model_of_another_shape_is_refused() -> None:
    class Reading(Answering):
        def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
            return self.head(self.embed(input_ids))

    with pytest.raises(us.InputError, match=r"logits of shape \(4, 6, 13\), expected one row for each token: \(4, 5"):
        TASK.observe(Reading(4), TASK.batch(pairs()))


def test_the_targets_are_not_shifted_a_second_time() -> None:
    """What the decoder is to say after its first token is the first label."""
    network, raw = t5(), pairs()
    batch = TASK.batch(raw)
    logits = TASK.observe(network, batch).logits
    first = F.cross_entropy(logits[:3, 0], raw["labels"][:3, 0])
    only = {**raw, "labels": raw["labels"][:, :1]}
    torch.testing.assert_close(network(**only).loss, first)


def hint(side: str) -> us.Method:
    return us.Hint(student_layer=f"{side}.final_layer_norm", teacher_layer=f"{side}.final_layer_norm")


def test_layers_of_the_decoder_are_compared_where_an_answer_is() -> None:
    torch.manual_seed(2)
    student, teacher, raw = t5(), t5(), pairs()
    loss = us.Distiller(student, teacher, hint("decoder"), example=raw, task=TASK)(raw).loss
    batch = TASK.batch(raw)
    spoken = batch.inputs["decoder_input_ids"]
    read = {"attention_mask": raw["attention_mask"], "return_dict": True}
    seen = []
    for network in (student, teacher):
        asked = network.encoder(input_ids=raw["input_ids"], **read).last_hidden_state
        more = {"encoder_hidden_states": asked, "encoder_attention_mask": raw["attention_mask"]}
        seen.append(network.decoder(input_ids=spoken, **more).last_hidden_state)
    expected = (seen[0] - seen[1])[batch.mask].square().mean()
    torch.testing.assert_close(loss.detach(), expected.detach(), rtol=1e-4, atol=1e-6)


NORM = "encoder.final_layer_norm"
OF_THE_ENCODER = (hint("encoder"), us.RelationalDistance(student_layer=NORM, teacher_layer=NORM))


@pytest.mark.parametrize("width", [5, 6], ids=["as-long-as-the-answers", "longer"])
@pytest.mark.parametrize("method", OF_THE_ENCODER, ids=["hint", "relations"])
def test_layers_of_the_encoder_are_refused(width, method) -> None:
    raw = pairs() | {name: pairs()[name][:, :width] for name in ("input_ids", "attention_mask")}
    with pytest.raises(
        us.InputError, match=r"the layer has 6 tokens and the logits have 5, .* name layers of the decod"
    ):
        us.Distiller(t5(), t5(), method, example=raw, task=TASK)
