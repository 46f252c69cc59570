"""``understudy``: the verbs, put together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from understudy import __version__
from understudy.cli import (
    check,
    compress,
    demo,
    deploy,
    export,
    init,
    layers,
    measure,
    methods,
    predict,
    recipes,
    recommend,
    record,
    recording,
    report,
    run,
    serve,
    transferability,
    write,
)
from understudy.cli.failures import explain
from understudy.cli.verbs import group, paragraphs

HELP = """Turn a big trained network into a small one that stands in for it, and prove that it does.

Begin with [bold]understudy demo[/bold] (a minute, nothing to download), then [bold]understudy init[/bold] for a
recipe of your own and [bold]understudy run recipe.yaml[/bold].

Results go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 the run failed, 2 bad input.
"""

app = group(paragraphs(HELP))
RUNNING, LOOKING, USING = "Run", "Look", "Use"


def _version(wanted: bool) -> None:
    if wanted:
        print(f"understudy {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None: ...


VERBS = {
    RUNNING: {
        "run": run.run_recipe,
        "check": check.check_recipe,
        "record": record.record_recipe,
        "init": init.write_recipe,
        "compress": compress.compress_model,
        "demo": demo.run_demo,
    },
    LOOKING: {
        "report": report.show_report,
        "recording": recording.show_recording,
        "layers": layers.list_layers,
        "methods": methods.show_methods,
        "measure": measure.measure_model,
        "recommend": recommend.recommend_student,
        "transferability": transferability.show_transferability,
    },
    USING: {
        "export": export.export_model,
        "deploy": deploy.deploy_files,
        "predict": predict.predict_inputs,
        "write": write.write_texts,
        "serve": serve.serve_model,
    },
}
for panel, verbs in VERBS.items():
    for name, verb in verbs.items():
        app.command(name, rich_help_panel=panel, help=paragraphs(verb.__doc__))(verb)
app.add_typer(recipes.app, name="recipes", rich_help_panel=RUNNING)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        arguments: without the program's name; those of this process when not given.

    Returns:
        The exit code: 0 done, 1 the run failed, 2 bad input, 130 interrupted.
    """
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="understudy")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BrokenPipeError:
        # The reader of our output (`| head`) has seen enough; nothing more can be said to it.
        sys.stdout = None  # pyright: ignore[reportAttributeAccessIssue]
        return 0
    except Exception as error:  # the last line of defence: nobody is shown a bare trace
        return explain(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
