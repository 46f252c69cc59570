"""The page of all keys is in step with the types."""

from pathlib import Path

from understudy.methods import METHODS
from understudy.pipeline.stages import STAGES
from understudy.recipe.reference import reference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recipe.md"


def test_the_page_in_docs_is_what_the_types_say():
    remedy = "make it again: python -m understudy.recipe.reference docs/recipe.md"
    assert PAGE.read_text(encoding="utf-8") == reference(), remedy


def test_every_stage_and_method_has_a_section_with_all_of_its_keys_explained():
    page = reference()
    for model in (*STAGES, *METHODS):
        assert f"({model.__name__})" in page
        for name, field in model.model_fields.items():
            assert name == "kind" or field.description, f"{model.__name__}.{name} has no docstring"
            assert f"| `{name}` |" in page
