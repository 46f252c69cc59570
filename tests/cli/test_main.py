"""The command line as a whole: what it imports, how it ends, and what it answers to slips."""

import json
import subprocess
import sys

import pytest

from understudy import __version__
from understudy.cli.main import VERBS, main

HEAVY = (
    "torch",
    "datasets",
    "transformers",
    "accelerate",
    "torchvision",
    "ruamel.yaml",
    "sklearn",
    "plotly",
    "pydantic",
)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["run", "--help"], ["rnu"]])
def test_help_imports_nothing_heavy(arguments):
    # Recent typers read the arguments of a verb through pydantic; what all verbs share must do without.
    heavy = HEAVY[:-1] if arguments in (["run", "--help"], ["rnu"]) else HEAVY
    code = (
        "import sys; from understudy.cli.main import main; main(sys.argv[1:]); "
        f"heavy = [name for name in {heavy!r} if name in sys.modules]; sys.exit(f'imported {{heavy}}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_listing_recipes_imports_no_torch():
    code = (
        "import sys; from understudy.cli.main import main; main(['recipes', 'list']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_the_module_and_the_script_are_the_same():
    for command in ([sys.executable, "-m", "understudy"], [str(sys.executable).replace("python", "understudy", 1)]):
        if command[0].endswith("understudy") or "-m" in command:
            done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
            assert done.stdout == f"understudy {__version__}\n"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["rnu", "a.yaml", "--out", "b"], "understudy run a.yaml --out b"),
        (["train", "a.yaml"], "understudy run a.yaml"),
        (["RUN"], "understudy run"),
        (["chek", "a.yaml"], "understudy check a.yaml"),
        (["validate"], "understudy check"),
        (["new"], "understudy init"),
        (["method"], "understudy methods"),
        (["benchmark", "x"], "understudy measure x"),
        (["rep"], "understudy report"),
        (["recipes", "ls"], "understudy recipes list"),
        (["recipes", "cpoy", "demo"], "understudy recipes copy demo"),
    ],
)
def test_a_mistyped_verb_is_answered_with_the_whole_command(typed, meant, capsys):
    assert main(typed) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"Did you mean: {meant}" in captured.err


def test_a_verb_that_nobody_can_guess_is_answered_with_all_of_them(capsys):
    verbs = [*(name for panel in VERBS.values() for name in panel), "recipes"]
    assert main(["zzzzzz"]) == 2
    assert f"The verbs are: {', '.join(verbs)}\n" in capsys.readouterr().err


def test_a_recipe_without_a_verb_is_answered_with_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("version: 1\n")
    assert main(["mine.yaml", "--json"]) == 2
    assert "Run it with: understudy run mine.yaml --json" in capsys.readouterr().err


def test_a_mistyped_option_is_answered_with_the_nearest(capsys):
    assert main(["run", "a.yaml", "--outt", "x"]) == 2
    assert "--out" in capsys.readouterr().err


def test_no_arguments_show_the_help(capsys):
    assert main([]) == 2
    captured = capsys.readouterr()
    assert "understudy demo" in captured.out + captured.err


def test_bad_input_ends_with_2_and_without_a_trace(capsys, tmp_path):
    assert main(["run", str(tmp_path / "absent.yaml")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("Error: there is no file")
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.e2e
def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m understudy methods --json | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "{"
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr


@pytest.mark.e2e
def test_json_and_nothing_else_is_on_stdout():
    done = subprocess.run(
        [sys.executable, "-m", "understudy", "methods", "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["schema"] == 1
    assert done.stderr == ""
