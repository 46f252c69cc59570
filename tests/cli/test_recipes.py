"""``understudy recipes``."""

import json

from understudy.cli.main import main
from understudy.recipe import load_recipe


def test_list_names_what_is_shipped(capsys):
    assert main(["recipes", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["schema"] == 1
    demo = {item["name"]: item for item in listed["recipes"]}["demo"]
    assert set(demo) == {"name", "description", "path"}
    assert load_recipe(demo["path"]).description == demo["description"]
    assert main(["recipes", "list"]) == 0
    assert demo["description"] in capsys.readouterr().out


def test_copy_gives_a_file_of_ones_own_and_never_replaces_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "copy", "demo"]) == 0
    assert capsys.readouterr().out == "demo.yaml\n"
    assert load_recipe("demo.yaml").name == "demo"
    (tmp_path / "demo.yaml").write_text("mine")
    assert main(["recipes", "copy", "demo"]) == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "demo.yaml").read_text() == "mine"
    assert main(["recipes", "copy", "demo", "--force"]) == 0
    assert main(["recipes", "copy", "demo", "sub/other.yaml"]) == 0
    assert load_recipe("sub/other.yaml").name == "demo"


def test_copy_of_an_unknown_one_names_the_nearest(capsys):
    assert main(["recipes", "copy", "dmeo"]) == 2
    assert "nearest: 'demo'" in capsys.readouterr().err


def test_schema_is_json_for_editors(capsys):
    assert main(["recipes", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["title"] == "Recipe"
    assert "stages" in schema["required"]
