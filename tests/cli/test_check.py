"""``understudy check``."""

import json

import pytest

from understudy.cli.main import main

RECIPE = """\
version: 1
name: small
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: teacher
    model: {source: python, target: "own_models:net"}
    training: {epochs: 1, optimizer: {lr: 0.1}}
  - {kind: evaluate, name: results, models: [teacher]}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_models.py").write_text("from pathlib import Path\nPath('imported').touch()\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


def test_a_valid_recipe_is_summed_up_and_its_code_listed_but_not_imported(recipe, capsys):
    assert main(["check", "recipe.yaml"]) == 0
    out = capsys.readouterr().out
    assert "recipe.yaml is a valid recipe: small, image_classification, 1 seed (0)" in out
    assert "own_models:net  (stages.0.model.target)" in out
    assert not (recipe.parent / "imported").exists()


def test_json_has_a_stable_shape(recipe, capsys):
    assert main(["check", "recipe.yaml", "--json", "--set", "seeds=[1, 2]"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "schema": 1,
        "recipe": "recipe.yaml",
        "valid": True,
        "problems": [],
        "name": "small",
        "task": "image_classification",
        "seeds": [1, 2],
        "stages": [
            {"name": "teacher", "kind": "train", "needs": []},
            {"name": "results", "kind": "evaluate", "needs": ["teacher"]},
        ],
        "code": [{"key": "stages.0.model.target", "target": "own_models:net"}],
        "files": [],
        "findings": None,
    }


def test_problems_end_with_2_on_stderr_and_in_json_on_stdout(recipe, capsys):
    recipe.write_text(RECIPE.replace("lr: 0.1", "lrr: 0.1"))
    assert main(["check", "recipe.yaml", "--set", "seeds=x"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "recipe.yaml:9: stages.0.training.optimizer.lrr: unknown key 'lrr'; nearest: 'lr'" in captured.err
    assert main(["check", "recipe.yaml", "--set", "seeds=x", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["valid"] is False
    assert [(problem["place"], problem["key"]) for problem in found["problems"]] == [
        ("recipe.yaml:9", "stages.0.training.optimizer.lrr"),
        ("--set seeds=x", "seeds"),
    ]
    assert {"schema", "recipe", "code", "files", "findings"} < set(found)
