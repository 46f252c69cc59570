"""A quantized network comes back from disk bit for bit, without NNCF's calibration and without a pickle."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from understudy import Classification, ImageClassification, InputError
from understudy.compress import QuantizedNetwork, factorise, quantize
from understudy.edits import Edit, Quantized, QuantizedWeights
from understudy.sources import build_model, load_artifact, save_artifact
from understudy.sources.model_specs import AnyModel, BuiltinModel, TransformersModel
from understudy.sources.preprocess import Preprocess, preprocess_of

pytestmark = pytest.mark.e2e

CNN = BuiltinModel(name="cnn", arguments={"widths": [4, 6]}, preprocess=Preprocess(mean=(0.4,), std=(0.3,)))
IMAGES = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
READ_AGAIN = """
import sys, torch
from safetensors.torch import load_file, save_file
from understudy.sources import load_artifact
module = load_artifact(sys.argv[1]).module.eval()
with torch.no_grad():
    answer = module(**load_file(sys.argv[2])) if len(sys.argv) > 4 else module(load_file(sys.argv[2])["inputs"])
save_file({"logits": getattr(answer, "logits", answer).contiguous()}, sys.argv[3])
"""


def answered_elsewhere(folder: Path, inputs: Tensor | dict[str, Tensor]) -> Tensor:
    """What a new process says that has only the files."""
    from safetensors.torch import load_file, save_file

    named = inputs if isinstance(inputs, dict) else {"inputs": inputs}
    save_file(named, folder / "inputs.st")
    arguments = [str(folder), str(folder / "inputs.st"), str(folder / "logits.st")]
    mode = ["by name"] if isinstance(inputs, dict) else []
    done = subprocess.run([sys.executable, "-c", READ_AGAIN, *arguments, *mode], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return load_file(folder / "logits.st")["logits"]


def saved(folder: Path, network: nn.Module, spec: AnyModel, *edits: Edit, inputs: object = IMAGES[:1]) -> Path:
    return save_artifact(folder, network, spec=spec, classes=("a", "b", "c"), inputs=inputs, edits=edits)


def tiny(**options: object) -> tuple[nn.Module, QuantizedNetwork]:
    network = build_model(CNN, classes=3, inputs=IMAGES).eval()
    return network, quantize(network, [IMAGES], task=ImageClassification(), **options)


def test_a_rounded_network_answers_the_same_in_another_process(tmp_path: Path) -> None:
    network, made = tiny()
    expected = made.network(IMAGES)
    assert not torch.equal(expected, network(IMAGES))
    folder = saved(tmp_path, made.network, CNN, made.edit)
    assert torch.equal(answered_elsewhere(folder, IMAGES), expected)
    assert json.loads((folder / "model.json").read_text())["edits"][0]["kind"] == "quantized"
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors", ".st"}


def test_what_comes_back_normalises_its_inputs_and_can_be_saved_again(tmp_path: Path) -> None:
    _, made = tiny(keep=["block2"])
    again = load_artifact(saved(tmp_path / "one", made.network, CNN, made.edit)).module
    assert preprocess_of(again) == CNN.preprocess
    assert Quantized.of(again) == made.edit
    twice = load_artifact(saved(tmp_path / "two", again, CNN, made.edit)).module
    assert torch.equal(twice.eval()(IMAGES), made.network(IMAGES))


def test_it_comes_after_other_edits_in_their_order(tmp_path: Path) -> None:
    network = build_model(CNN, classes=3, inputs=IMAGES).eval()
    smaller = factorise(network, (IMAGES, None), task=ImageClassification(), energy=0.5)
    assert smaller.layers
    made = quantize(smaller.network, [IMAGES], task=ImageClassification())
    folder = saved(tmp_path, made.network, CNN, smaller.edit, made.edit)
    assert torch.equal(load_artifact(folder).module.eval()(IMAGES), made.network(IMAGES))
    with pytest.raises(InputError, match="does not fit"):
        load_artifact(saved(tmp_path / "lacks", made.network, CNN, made.edit))


LANGUAGE = {"model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 30, "n_positions": 12}


def test_a_language_models_tied_weights_in_int8_come_back_tied_and_four_times_smaller(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    network = GPT2LMHeadModel(GPT2Config(**{**LANGUAGE, "bos_token_id": 0, "eos_token_id": 0})).eval()
    tokens = torch.randint(30, (4, 9), generator=torch.Generator().manual_seed(1))
    made = quantize(network, [{"input_ids": tokens}], task=Classification(), mode="weights")
    assert made.network.lm_head.weight is made.network.transformer.wte.weight
    assert made.network.lm_head.weight.dtype is torch.int8
    assert torch.equal(network.lm_head.weight, network.transformer.wte.weight), "the network itself is as it was"

    fresh = GPT2LMHeadModel(network.config).eval()
    replayed = made.edit.replay(fresh, None)
    from understudy.sources.state import load_state, read_state, write_state

    for name, each in (("float", network), ("int8", made.network)):
        write_state(each, tmp_path / f"{name}.safetensors")
    load_state(replayed, read_state(tmp_path / "int8.safetensors"), whose="the file")
    assert replayed.lm_head.weight is replayed.transformer.wte.weight
    with torch.no_grad():
        assert torch.equal(replayed(input_ids=tokens).logits, made.network(input_ids=tokens).logits)
    sizes = [sum(tensor.nbytes for tensor in each.parameters()) for each in (made.network, network)]
    assert sizes[0] < 0.35 * sizes[1]


def test_a_text_classifier_in_int8_weights_answers_the_same_in_another_process(tmp_path: Path) -> None:
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
    spec = TransformersModel(config="bert", head="sequence_classification", arguments={**sizes, "vocab_size": 30})
    tokens = torch.randint(30, (4, 7), generator=torch.Generator().manual_seed(1))
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    network = build_model(spec, classes=3, inputs=inputs).eval()
    made = quantize(network, [inputs], task=Classification(), mode="weights", keep=["classifier"])
    assert "classifier" not in made.layers
    with torch.no_grad():
        expected = made.network(**inputs).logits
    folder = saved(tmp_path, made.network, spec, made.edit, inputs=inputs)
    assert torch.equal(answered_elsewhere(folder, inputs), expected)


@pytest.mark.parametrize("mode", ["static", "weights"])
def test_a_network_of_half_precision_comes_back_in_it(tmp_path: Path, mode: str) -> None:
    spec, images = BuiltinModel(name="mlp", arguments={"hidden": [8]}), IMAGES.bfloat16()
    network = build_model(spec, classes=3, inputs=IMAGES).eval().bfloat16()
    made = quantize(network, [images], task=ImageClassification(), mode=mode)
    again = load_artifact(saved(tmp_path, made.network, spec, made.edit)).module.eval()
    assert again.head.bias.dtype is torch.bfloat16
    assert torch.equal(again(images), made.network(images))
    expected = {name: tensor.dtype for name, tensor in made.network.state_dict().items()}
    assert {name: tensor.dtype for name, tensor in again.state_dict().items()} == expected


def test_a_record_about_another_network_is_refused() -> None:
    with pytest.raises(InputError, match=r"'quantized_weights' is about the layer 'head', which Sequential"):
        QuantizedWeights(weights={"head.weight": (3, 1)}).replay(nn.Sequential(nn.Linear(2, 3)), None)
    _, made = tiny()
    with pytest.raises(InputError, match="quantized already"):
        made.edit.replay(made.network, None)


def test_a_record_can_name_no_code_but_nncfs() -> None:
    _, made = tiny()
    strange = made.edit.quantizers[0].model_copy(update={"module": "os", "kind": "system"})
    with pytest.raises(InputError, match="cannot be replayed by NNCF"):
        Quantized(quantizers=(strange,)).replay(build_model(CNN, classes=3, inputs=IMAGES), None)


WITHOUT_NNCF = """
import sys
sys.modules["nncf"] = None
import importlib.abc
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "nncf":
            raise ModuleNotFoundError(name, name="nncf")
del sys.modules["nncf"]
sys.meta_path.insert(0, Missing())
from understudy import InputError
from understudy.sources import load_artifact
try:
    load_artifact(sys.argv[1])
except InputError as error:
    print(error)
"""


def test_without_nncf_reading_one_says_what_to_install(tmp_path: Path) -> None:
    _, made = tiny()
    folder = saved(tmp_path, made.network, CNN, made.edit)
    said = subprocess.run([sys.executable, "-c", WITHOUT_NNCF, str(folder)], capture_output=True, text=True)
    assert "a quantized network needs nncf, which is not installed" in said.stdout
    assert "pip install 'understudy[compress]'" in said.stdout


TELEMETRY = """
import sys
from understudy.edits.nncf_library import nncf_library
nncf_library(needed_by="a test")
import os, nncf.telemetry
print(type(nncf.telemetry.telemetry).__name__, "NNCF_CI" in os.environ)
"""


def test_nncf_sends_nothing_about_what_is_done(tmp_path: Path) -> None:
    import os

    environment = {name: value for name, value in os.environ.items() if name not in ("NNCF_CI", "CI")}
    said = subprocess.run(
        [sys.executable, "-c", TELEMETRY], capture_output=True, text=True, env={**environment, "HOME": str(tmp_path)}
    )
    assert said.stdout.split() == ["MagicMock", "False"]
    assert list(tmp_path.iterdir()) == []
