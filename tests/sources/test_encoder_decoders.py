"""Encoder–decoders of transformers: described for the data of a run, built, saved, loaded, and refused."""

import pytest
import torch

from understudy.batch import Batch
from understudy.errors import InputError
from understudy.sources import BuiltinModel, TransformersModel, build_model, load_artifact, save_artifact
from understudy.sources.continuing import task_of, written
from understudy.sources.for_tokens import language_model
from understudy.sources.tokenizers import open_tokens
from understudy.tasks import SequenceToSequence
from understudy.tokenizing import DECODED, Bytes

transformers = pytest.importorskip("transformers")
TASK, NAMES = SequenceToSequence(vocabulary=258), open_tokens(Bytes()).names
T5 = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
BART = {
    "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "max_position_embeddings": 32,
}  # fmt: skip
SIZES = {"t5": T5, "bart": BART}


def inputs(start: int = 0) -> dict[str, torch.Tensor]:
    tokens = torch.randint(2, 258, (2, 6))
    first = torch.full((2, 1), start)
    return {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        DECODED: torch.cat([first, tokens[:, :3]], 1),
    }


def spec_of(family: str, **more) -> TransformersModel:
    return language_model(TransformersModel(config=family, arguments=SIZES[family] | more), Bytes(), TASK)


@pytest.mark.parametrize("family", SIZES)
def test_a_fresh_one_has_the_tokens_of_the_data(family):
    model = build_model(spec_of(family), classes=NAMES, inputs=inputs(start=7))
    config = model.config
    assert (config.vocab_size, config.pad_token_id, config.eos_token_id) == (258, 0, 1)
    assert config.decoder_start_token_id == 7
    assert TASK.observe(model, Batch(inputs=inputs())).logits.shape == (2, 4, 258)
    given = build_model(spec_of(family, decoder_start_token_id=3), classes=NAMES, inputs=inputs(start=7))
    assert given.config.decoder_start_token_id == 3


@pytest.mark.parametrize("family", SIZES)
def test_what_was_saved_begins_its_answers_as_before(family, tmp_path):
    torch.manual_seed(0)
    spec, shown = spec_of(family), inputs(start=7)
    model = build_model(spec, classes=NAMES, inputs=shown).eval()
    save_artifact(tmp_path, model, spec=spec, classes=NAMES, inputs=shown)
    loaded = load_artifact(tmp_path)
    assert loaded.spec == spec
    assert loaded.module.config.decoder_start_token_id == 7
    with torch.no_grad():
        torch.testing.assert_close(loaded.module.eval()(**shown).logits, model(**shown).logits)
    task = task_of(loaded.module, loaded.inputs, 258)
    assert (task.kind, task.decoder_start, task.vocabulary) == ("sequence_to_sequence", 7, 258)
    (text,) = written(loaded.module, ["what?"], 3, task=task, seed=1)
    assert not text.startswith("what?"), "an encoder–decoder says its answer alone"


@pytest.mark.parametrize("family", SIZES)
def test_a_saved_one_that_begins_otherwise_is_refused(family, tmp_path):
    model = build_model(spec_of(family), classes=NAMES, inputs=inputs(start=2))
    model.save_pretrained(tmp_path / "other")
    spec = language_model(TransformersModel(name=str(tmp_path / "other")), Bytes(), TASK)
    message = (
        r"begins its answers with token 2, and this run with token 0; say `task: \{kind: sequence_to_sequence, decod"
    )
    with pytest.raises(InputError, match=message):
        build_model(spec, classes=NAMES, inputs=inputs())
    again = build_model(spec, classes=NAMES, inputs=inputs(start=2))
    shown = inputs(start=2)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(**shown).logits, model.eval()(**shown).logits)


def test_what_is_no_encoder_decoder_is_refused():
    with pytest.raises(
        InputError, match=r"mlp does not predict the next token; take an encoder–decoder of `source: tr"
    ):
        language_model(BuiltinModel(name="mlp", arguments={"hidden": [4]}), Bytes(), TASK)
    spec = language_model(TransformersModel(config="gpt2", arguments={"n_embd": 8}), Bytes(), TASK)
    with pytest.raises(InputError, match="gpt2"):
        build_model(spec, classes=NAMES, inputs=inputs())
