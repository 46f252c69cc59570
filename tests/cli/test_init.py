"""``understudy init``."""

import pytest
import torch

from understudy.cli.init import Answers, recipe_text
from understudy.cli.main import main
from understudy.recipe import load_recipe, parse_recipe
from understudy.sources.artifact import save_artifact
from understudy.sources.model_specs import BuiltinModel
from understudy.sources.models import build_model
from understudy.tokenizing import Words


def test_what_it_writes_is_accepted_and_commented(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--labels", "50", "--epochs", "2.5", "--teacher", "torchvision:resnet18", "--yes"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "recipe.yaml\n"
    assert "understudy run recipe.yaml" in captured.err
    recipe = load_recipe("recipe.yaml")
    teacher, student, results = recipe.stages
    assert recipe.data.source == "sklearn/digits"
    assert teacher.model.name == "resnet18"
    assert teacher.subset is None, "a teacher sees every label there is"
    assert student.subset.labels == 50
    assert student.training.epochs == teacher.training.epochs == 2.5
    assert results.models == ("teacher", "student")
    assert (tmp_path / "recipe.yaml").read_text().count("#") > 8
    assert main(["check", "recipe.yaml"]) == 0


@pytest.mark.parametrize("labels", ["all", "100", "0.25"])
@pytest.mark.parametrize("task", ["classification", "image_classification", "multi_label_classification"])
@pytest.mark.parametrize(
    "model",
    [
        "torchvision:resnet18",
        "timm:vit_tiny_patch16_224",
        "python:own.models:net",
        "understudy:cnn:8-16",
        "understudy:text_cnn:8-16",
    ],
)
def test_every_answer_gives_a_valid_recipe(labels, task, model):
    text = recipe_text(Answers(data="é: 'x' # y", task=task, teacher=model, student=model, labels=labels), name="r")
    recipe = parse_recipe(text, files=False)
    assert recipe.data.source == "é: 'x' # y"
    assert recipe.task.kind == task
    assert recipe.stages[0].model == recipe.stages[1].model


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--labels", "many"], "--labels 'many': expected a whole number such as 100"),
        (["--labels", "1.5"], "--labels '1.5'"),
        (["--epochs", "0"], "--epochs 0: expected more than 0"),
        (["--task", "imageclassification"], "nearest: 'image_classification'"),
        (["--teacher", "resnet18"], "--teacher 'resnet18' is no directory"),
        (
            ["--student", "torchvison:resnet18"],
            "--student 'torchvison:resnet18': unknown source 'torchvison'; nearest: 'torchvision'",
        ),
        (["--student", "torchvision:resnet81"], "nearest: 'resnet18'"),
        (["--data", "./nowhere"], "there is no file or folder './nowhere'"),
    ],
)
def test_a_bad_answer_is_named_and_nothing_written(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--yes", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text("mine")
    assert main(["init", "--yes"]) == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "recipe.yaml").read_text() == "mine"
    assert main(["init", "--yes", "--force"]) == 0
    assert load_recipe("recipe.yaml").name == "recipe"


def test_a_saved_teacher_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = BuiltinModel(name="mlp", arguments={"hidden": [4]})
    inputs = torch.zeros(2, 1, 8, 8)
    model = build_model(spec, classes=10, inputs=inputs)
    save_artifact("big", model, spec=spec, classes=tuple(map(str, range(10))), inputs=inputs)
    assert main(["init", "--yes", "--teacher", "big", "--epochs", "3"]) == 0
    teacher, student, _ = load_recipe("recipe.yaml").stages
    assert teacher.kind == "load"
    assert teacher.model.path == "big"
    assert student.training.epochs == 3.0


def test_a_recipe_for_texts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{text},{text[0]}\n" for text in ("good one", "bad one") for _ in range(20))
    (tmp_path / "texts.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    task = ["--task", "text_classification"]
    assert main(["init", "--data", "texts.csv", *task, "--student", "understudy:gru:16-8", "--yes"]) == 0
    teacher, student, _ = load_recipe("recipe.yaml").stages
    assert (teacher.model.name, teacher.model.arguments, teacher.model.preprocess) == ("lstm", {}, Words())
    assert (student.model.name, student.model.arguments) == ("gru", {"embedding": 16, "width": 8})
    assert main(["check", "recipe.yaml", "--deep"]) == 0
