"""The README and the how-to pages tell the truth: every block of Python and of YAML works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list:
    return [
        pytest.param(match[2], id=f"{page.relative_to(ROOT)}:{page.read_text('utf-8')[: match.start()].count(chr(10))}")
        for page in PAGES
        if page.name != "architecture.md"
        for match in BLOCK.finditer(page.read_text("utf-8"))
        if match[1] == language
    ]


@pytest.mark.e2e
@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "README.zh-CN.md",
        "CONTRIBUTING.md",
        "docs/export.md",
        "docs/deploy.md",
        "docs/low-rank.md",
        "docs/my-own-loop.md",
        "docs/my-own-data.md",
        "docs/my-own-model.md",
        "docs/recommend.md",
        "docs/pruning.md",
        "docs/quantization.md",
        "docs/recordings.md",
        "docs/int8.md",
        "docs/serve.md",
        "docs/text.md",
        "docs/transfer.md",
    ],
)
def test_the_python_of_a_page_runs_from_top_to_bottom(page: str, tmp_path: Path) -> None:
    text = (ROOT / page).read_text("utf-8")
    code = "\n".join(match[2] for match in BLOCK.finditer(text) if match[1] == "python")
    assert code
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_blocks_can_be_read(text: str) -> None:
    yaml = YAML(typ="safe")
    yaml.allow_duplicate_keys = True  # a page may show alternatives under one key
    assert yaml.load(text)


def test_the_objective_of_the_readme_is_the_same_in_both_spellings() -> None:
    from pydantic import TypeAdapter

    import understudy as us
    from understudy.methods import AnyMethod

    text = next(
        block
        for block in (match for match in BLOCK.finditer((ROOT / "README.md").read_text("utf-8")))
        if block[1] == "yaml"
    )[2]
    terms = TypeAdapter(tuple[AnyMethod, ...]).validate_python(YAML(typ="safe").load(text)["objective"])
    assert us.Objective(terms) == 0.1 * us.CrossEntropy() + 0.9 * us.SoftTargets(temperature=4.0)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_tables_of_verbs_and_methods_are_complete(page: str) -> None:
    from understudy.cli.main import VERBS
    from understudy.methods import METHODS

    text = (ROOT / page).read_text("utf-8")
    for verb in ("recipes", *(name for panel in VERBS.values() for name in panel)):
        assert f"`understudy {verb}" in text
    for method in METHODS:
        assert f"| `{method.model_fields['kind'].default}`" in text


def test_the_chinese_readme_is_in_step() -> None:
    english, chinese = ((ROOT / name).read_text("utf-8") for name in ("README.md", "README.zh-CN.md"))
    assert english.count("\n## ") == chinese.count("\n## ")
    assert english.count("\n|") == chinese.count("\n|")
    assert [match[2] for match in BLOCK.finditer(english)] == [match[2] for match in BLOCK.finditer(chinese)]
