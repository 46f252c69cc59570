"""A saved encoder of texts teaches a shallower copy of itself: first by its layers, then by its answers."""

import json
import random
from pathlib import Path

import pytest
import tokenizers
from safetensors.torch import load_file
from tokenizers import models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification

from understudy.engine import SilentProgress
from understudy.pipeline.run import run
from understudy.recipe.loading import load_and_join
from understudy.recipe.problems import RecipeError

WORDS = ("[PAD]", "[UNK]", "bad", "awful", "good", "great", "a", "film", "plot", "it", "was", "and")
SMALL = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 16}
RECIPE = """
version: 1
name: steps
task: text_classification
data: {source: FOLDER/texts.csv, carve: 8, carve_test: 8}
stages:
  - kind: train
    name: teacher
    model: {source: transformers, name: FOLDER/encoder}
    training: &training
      {epochs: 2, batch_size: 8, validate_every: 0.5, optimizer: {kind: adamw, lr: 0.01}, execution: plain}
  - kind: distill
    name: student
    teacher: teacher
    start: {model: teacher}
    model:
      source: transformers
      config: bert
      arguments: &small {num_hidden_layers: 2, SMALL}
      preprocess: {kind: tokenizer, path: FOLDER/encoder/tokenizer.json}
    objective:
      - kind: hint
        student_layer: auto
        teacher_layer: auto
        weight: &first {kind: linear, start: 1, end: 0, begin: 0.5, finish: 0.5}
      - {kind: self_relations, relation_heads: 2, weight: *first}
      - {kind: soft_targets, weight: {kind: linear, start: 0, end: 1, begin: 0.5, finish: 0.5}}
    training: *training
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of four layers with its tokenizer, forty texts, and what is done with them."""
    folder = tmp_path_factory.mktemp("texts")
    encoder = BertForSequenceClassification(BertConfig(vocab_size=len(WORDS), num_hidden_layers=4, **SMALL))
    encoder.save_pretrained(folder / "encoder")
    tokenizer = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "encoder" / "tokenizer.json"))
    drawing = random.Random(0)
    rows = [f"{drawing.choice(WORDS[6:])} was {WORDS[2 + number % 4]},{(number % 4) // 2}" for number in range(40)]
    (folder / "texts.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    small = ", ".join(f"{name}: {value}" for name, value in SMALL.items())
    file = folder / "steps.yaml"
    file.write_text(RECIPE.replace("FOLDER", str(folder)).replace("SMALL", small))
    return file


@pytest.fixture(scope="module")
def finished(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    run(load_and_join(recipe), out, progress=SilentProgress())
    return out / "stages"


def test_layers_teach_in_the_first_half_and_answers_in_the_second(finished: Path) -> None:
    lines = (finished / "student/seed-0/metrics.jsonl").read_text().splitlines()
    weights = [step["weights"] for step in map(json.loads, lines) if "weights" in step]
    layers = [weight["hint"] for weight in weights]
    half = layers.index(0.0)
    assert 0 < half < len(layers)
    assert layers == [1.0] * half + [0.0] * (len(layers) - half)
    assert [weight["self_relations"] for weight in weights] == layers
    assert [weight["soft_targets"] for weight in weights] == [1.0 - layer for layer in layers]


def test_the_student_begins_with_the_first_and_the_last_layer(finished: Path) -> None:
    told = json.loads((finished / "student/seed-0/stage.json").read_text())["transferred"]
    assert told["blocks"] == {"bert.encoder.layer": {"0": "0", "1": "3"}}
    student = load_file(finished / "student/seed-0/model.safetensors")
    assert not any("adapter" in name or "encoder.layer.2." in name for name in student)


def test_a_layer_that_a_saved_encoder_does_not_have_is_named_before_anything_is_trained(recipe: Path) -> None:
    wrong = recipe.with_name("wrong.yaml")
    pair = "student_layer: auto\n        teacher_layer: auto\n"
    assert pair in recipe.read_text()
    named = "student_layer: bert.encoder.layer.1\n        teacher_layer: bert.encoder.layer.9\n"
    wrong.write_text(recipe.read_text().replace(pair, named))
    with pytest.raises(
        RecipeError, match=r"teacher has no layer 'bert.encoder.layer.9'; nearest: 'bert.encoder.layer.3'"
    ):
        load_and_join(wrong)
