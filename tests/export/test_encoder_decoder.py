"""Encoder–decoders as a folder for transformers, and not as a file."""

import pytest
import torch

from understudy import SequenceToSequence
from understudy.cli.main import main
from understudy.sources import TransformersModel, build_model, save_artifact
from understudy.sources.for_tokens import language_model
from understudy.sources.tokenizers import open_tokens
from understudy.tokenizing import DECODED, Bytes

pytestmark = pytest.mark.e2e
transformers = pytest.importorskip("transformers")
NAMES = open_tokens(Bytes()).names
TASK = SequenceToSequence(vocabulary=258, decoder_start=0)
ASKED, TOLD = torch.randint(2, 258, (3, 7)), torch.randint(2, 258, (3, 4))
INPUTS = {
    "input_ids": ASKED,
    "attention_mask": (torch.arange(7) < torch.tensor([7, 5, 3])[:, None]).long(),
    DECODED: TOLD,
}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}


TOLD[:, 0] = 0


@pytest.fixture
def saved(tmp_path):
    """A model that a run would have left, and itself."""
    torch.manual_seed(0)
    spec = language_model(TransformersModel(config="t5", arguments=T5), Bytes(), TASK)
    model = build_model(spec, classes=NAMES, inputs=INPUTS).eval()
    return str(save_artifact(tmp_path / "saved", model, spec=spec, classes=NAMES, inputs=INPUTS)), model


@pytest.mark.parametrize("format", ["onnx", "torch_export"])
def test_files_are_refused_with_what_can_be_done(format, saved, tmp_path, capsys):
    assert main(["export", saved[0], "--format", format, "--out", str(tmp_path / "out")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"an encoder–decoder cannot be written as '{format}'; expected `understudy export MODEL --format tra" in said
    assert not (tmp_path / "out").exists()


def test_transformers_loads_the_folder_and_answers(saved, tmp_path):
    place, model = saved
    assert main(["export", place, "--format", "transformers", "--out", str(tmp_path / "out")]) == 0
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        torch.testing.assert_close(again(**INPUTS).logits, model(**INPUTS).logits)
    assert (again.config.decoder_start_token_id, again.config.pad_token_id, again.config.eos_token_id) == (0, 0, 1)
    assert again.generate(input_ids=ASKED, attention_mask=INPUTS["attention_mask"], max_new_tokens=3).shape[0] == 3
