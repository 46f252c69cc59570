"""``understudy methods``."""

import json

import pytest

from understudy.cli.main import main
from understudy.methods import METHODS


def test_all_methods_are_listed_from_their_classes(capsys):
    assert main(["methods", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["methods"]
    assert [item["class"] for item in found] == [method.__name__ for method in METHODS]
    for item in found:
        assert set(item) == {"kind", "class", "summary", "description", "paper", "needs_teacher", "fields"}
        assert item["summary"]
        assert item["paper"]
        for field in item["fields"]:
            assert set(field) == {"name", "type", "required", "default", "description"}
            assert field["description"]


@pytest.mark.parametrize("name", ["soft_targets", "SoftTargets", "soft-targets", "softtargets"])
def test_one_is_explained_whichever_way_its_name_is_written(name, capsys):
    assert main(["methods", name]) == 0
    page = capsys.readouterr().out
    assert page.startswith("soft_targets (SoftTargets), needs a teacher")
    assert "number > 0" in page
    assert "Hinton" in page


def test_the_page_ends_with_what_to_write_in_a_recipe(capsys):
    assert main(["methods", "hint"]) == 0
    assert "{kind: hint, weight: 1.0}" in capsys.readouterr().out


def test_an_unknown_one_names_the_nearest(capsys):
    assert main(["methods", "soft_target"]) == 2
    assert "nearest: 'soft_targets'" in capsys.readouterr().err
