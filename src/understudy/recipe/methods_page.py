"""All methods as Markdown, made from the classes themselves.

``python -m understudy.recipe.methods_page docs/methods.md README.md`` writes the page and the README's table; a test
keeps both in step.
"""

from __future__ import annotations

import inspect
import re
import sys
from doctest import DocTestParser
from pathlib import Path

from understudy.feature_method import FeatureMethod, RelationMethod
from understudy.methods import METHODS
from understudy.objective import Method

INTRODUCTION = """# Methods

<!-- Made by `python -m understudy.recipe.methods_page docs/methods.md README.md`; do not edit. -->

Every way of passing knowledge is one term of an objective, and terms add up: in Python
`0.1 * us.CrossEntropy() + 0.9 * us.SoftTargets(temperature=4.0)`, in a recipe one line each. `understudy methods NAME`
prints the same; the settings with their types and limits are in [recipe.md](recipe.md).

Terms on layers and relations find their layers by themselves (`auto`); `understudy layers --pair TEACHER STUDENT`
shows which, and `student_layer` and `teacher_layer` name others. Terms marked † compare the samples of a batch with
each other: they see the rows of all processes, and want a batch that is not small.
"""

FAMILIES = {
    "Outputs": "What the network answers.",
    "Features": "What it computes on the way, sample by sample.",
    "Relations": "How the samples of a batch lie to each other.",
}
TABLE = re.compile(r"(?<=<!-- methods: made by methods_page -->\n).*?(?=<!-- /methods -->)", re.DOTALL)


def page() -> str:
    """The page, ending in a newline."""
    parts = [INTRODUCTION]
    for family, meaning in FAMILIES.items():
        parts.append(f"## {family}\n\n{meaning}\n")
        parts += [_section(method) for method in METHODS if family_of(method) == family]
    return "\n".join(parts)


def table() -> str:
    """The methods in three columns, ending in a newline."""
    lines = ["| method | what it does | paper |", "|---|---|---|"]
    for family in FAMILIES:
        lines += [
            f"| `{kind_of(method)}`{_mark(method)} | {_markdown(summary(method))} | {_short(method.paper)} |"
            for method in METHODS
            if family_of(method) == family
        ]
    return "\n".join(lines) + "\n"


def family_of(method: type[Method]) -> str:
    """Which of the families a method belongs to, by what it reads."""
    if issubclass(method, RelationMethod):
        return "Relations"
    return "Features" if issubclass(method, FeatureMethod) else "Outputs"


def kind_of(method: type[Method]) -> str:
    """How a recipe calls it."""
    return method.model_fields["kind"].default


def summary(method: type[Method]) -> str:
    """The first paragraph of its docstring on one line."""
    return " ".join(inspect.cleandoc(method.__doc__ or "").split("\n\n")[0].split())


def _section(method: type[Method]) -> str:
    text, _, example = inspect.cleandoc(method.__doc__ or "").partition("Example:\n")
    code = [part.source.partition("  # doctest:")[0].strip() for part in DocTestParser().get_examples(example)]
    return "\n".join(
        [
            f"### {kind_of(method)}{_mark(method)}\n",
            f"{_markdown(text).strip()}\n",
            f"*{method.paper}*\n",
            "```python",
            *code,
            "```\n",
        ]
    )


def _markdown(text: str) -> str:
    """A docstring's mathematics and code as Markdown."""
    text = re.sub(
        r"^\.\. math::\s*((?:.+\n)(?:[ ]+.+\n)*)", lambda m: f"$$\n{m[1].strip()}\n$$\n", text, flags=re.MULTILINE
    )
    return re.sub(r":math:`([^`]*)`", r"$\1$", text).replace("``", "`")


def _mark(method: type[Method]) -> str:
    return " †" if method.batch_coupled else ""


def _short(paper: str) -> str:
    """``Hinton, Vinyals, Dean: Distilling …, 2015`` as ``Hinton et al. 2015``."""
    authors = paper.partition(":")[0]
    year = re.findall(r"\b(?:19|20)\d\d\b", re.sub(r"arXiv:[\d.]+", "", paper))[-1]
    others = " et al." if "et al" in authors or authors.count(",") > 1 else ""
    names = re.split(r",| et al| and ", authors)
    first = names[0].strip() if others or len(names) == 1 else " and ".join(name.strip() for name in names[:2])
    return f"{first}{others} {year}"


def main(paths: list[str]) -> None:
    """Write the page, and the table into the README."""
    target, readme = map(Path, paths)
    target.write_text(page(), encoding="utf-8")
    readme.write_text(TABLE.sub(lambda _: table(), readme.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
