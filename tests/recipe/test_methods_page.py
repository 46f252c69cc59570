"""The page and the README's table of methods are in step with the classes."""

from pathlib import Path

import pytest

from understudy.methods import METHODS, Dist, Hint, SoftTargets
from understudy.recipe.methods_page import TABLE, family_of, main, page, table

ROOT = Path(__file__).resolve().parents[2]
REMEDY = "make it again: python -m understudy.recipe.methods_page docs/methods.md README.md"


def test_the_page_in_docs_is_what_the_classes_say() -> None:
    assert (ROOT / "docs" / "methods.md").read_text(encoding="utf-8") == page(), REMEDY


def test_the_table_in_the_readme_is_what_the_classes_say() -> None:
    assert TABLE.search((ROOT / "README.md").read_text(encoding="utf-8"))[0] == table(), REMEDY


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_each_method_has_a_section_with_formula_paper_and_example(method) -> None:
    kind = method.model_fields["kind"].default
    section = page().partition(f"\n### {kind}")[2].partition("\n### ")[0]
    for part in ("$$\n", "Scale: ", f"*{method.paper}*", f"{method.__name__}("):
        assert part in section
    assert ":math:" not in section
    assert "``" not in section.replace("```", "")


def test_a_method_belongs_to_what_it_reads() -> None:
    assert [family_of(method) for method in (SoftTargets, Dist, Hint)] == ["Outputs", "Outputs", "Features"]


def test_both_files_are_written(tmp_path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- methods: made by methods_page -->\nold\n<!-- /methods -->\nafter\n")
    main([str(tmp_path / "methods.md"), str(readme)])
    assert (tmp_path / "methods.md").read_text() == page()
    start, end = "before\n<!-- methods: made by methods_page -->\n", "<!-- /methods -->\nafter\n"
    assert readme.read_text() == start + table() + end
