"""Networks that people prune: half the multiply-accumulates, saved, and the same again in a new process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from understudy import Classification, Target, prune
from understudy.sources import (
    Preprocess,
    TimmModel,
    TorchvisionModel,
    TransformersModel,
    build_model,
    preprocess_inputs,
    save_artifact,
)

pytestmark = pytest.mark.e2e

IMAGES = torch.rand(2, 3, 32, 32)
TOKENS = {"input_ids": torch.randint(1, 99, (2, 12)), "attention_mask": torch.ones(2, 12, dtype=torch.long)}
NETWORKS = {
    "resnet": (TorchvisionModel(name="resnet18", small_images=True), IMAGES),
    "mobilenet": (TorchvisionModel(name="mobilenet_v2", arguments={"width_mult": 0.5}), IMAGES),
    "efficientnet": (TimmModel(name="efficientnet_lite0"), IMAGES),
    "convnext": (TimmModel(name="convnext_atto"), IMAGES),
    "squeezenet": (TorchvisionModel(name="squeezenet1_1"), torch.rand(2, 3, 64, 64)),
    "vit": (TimmModel(name="vit_tiny_patch16_224", arguments={"img_size": 32, "patch_size": 8, "depth": 2}), IMAGES),
    "bert": (
        TransformersModel(
            config="bert",
            head="sequence_classification",
            arguments={
                "vocab_size": 99, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64,
                "num_hidden_layers": 2,
            },
        ),
        TOKENS,
    ),
    "distilbert": (
        TransformersModel(
            config="distilbert",
            head="sequence_classification",
            arguments={"vocab_size": 99, "dim": 32, "n_heads": 4, "hidden_dim": 64, "n_layers": 2},
        ),
        TOKENS,
    ),
}  # fmt: skip
READ = """
import json, sys, torch
from understudy.sources import load_artifact
from understudy.sources.forward import call
answers = {}
for folder in sys.argv[2:]:
    loaded = load_artifact(folder)
    inputs = torch.load(f"{folder}/inputs.pt", weights_only=True)
    with torch.no_grad():
        answer = call(loaded.module.eval(), inputs)
    answer = getattr(answer, "logits", answer)
    answers[folder] = torch.equal(answer, torch.load(f"{folder}/answer.pt", weights_only=True))
assert "torch_pruning" not in sys.modules
json.dump(answers, open(sys.argv[1], "w"))
"""


def test_half_the_cost_and_the_same_answers_in_a_new_process(tmp_path: Path) -> None:
    for name, (spec, inputs) in NETWORKS.items():
        network = build_model(spec, classes=5, inputs=inputs)
        if isinstance(inputs, torch.Tensor):
            preprocess_inputs(network, Preprocess(mean=(0.4,), std=(0.2,)))
        pruned = prune(network, inputs, task=Classification(), target=Target(macs=0.5), tolerance=0.1)
        assert 0.35 < pruned.after.macs / pruned.before.macs <= 0.5, name
        assert pruned.after.parameters < 0.9 * pruned.before.parameters, name
        folder = tmp_path / name
        save_artifact(folder, pruned.network, spec=spec, classes=list("abcde"), inputs=inputs, edits=(pruned.edit,))
        with torch.no_grad():
            answer = (
                pruned.network.eval()(**inputs).logits if isinstance(inputs, dict) else pruned.network.eval()(inputs)
            )
        torch.save(inputs, folder / "inputs.pt")
        torch.save(answer, folder / "answer.pt")
    folders = [str(tmp_path / name) for name in NETWORKS]
    subprocess.run([sys.executable, "-c", READ, str(tmp_path / "same.json"), *folders], check=True, timeout=120)
    assert json.loads((tmp_path / "same.json").read_text()) == dict.fromkeys(folders, True)
