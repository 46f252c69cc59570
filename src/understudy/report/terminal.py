"""The report for a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from understudy.report.contents import cells, conditions, groups, headers
from understudy.report.deployments import advice
from understudy.report.layers import LAYER_HEADERS, layer_cells, layer_conditions
from understudy.report.schema import LayerTransfer, Report
from understudy.report.wording import interval, seed_list, sentence

ROLE_STYLES = {"teacher": "magenta", "student": "bold green", "control": "dim", "model": "cyan"}


def table(report: Report) -> RenderableType:
    """Headline, table of results, gain and notes, to print with rich.

    Text that comes from the user is printed as it is: nothing in it is read as markup.
    """
    parts: list[RenderableType] = [Text(sentence(report.headline), style="bold")]
    if len(report.runs) > 1:
        parts += [Text(f"{comparison.run}: {comparison.headline}") for comparison in report.comparisons]
    if report.rows:
        parts += [Text(), _rows(report), *(Text(line, style="dim") for line in conditions(report))]
    for comparison in report.comparisons:
        if comparison.gain and comparison.gain.ci95:
            where = f"{comparison.run}, " if len(report.runs) > 1 else ""
            parts.append(
                Text(
                    f"{where}{comparison.student} over its control: 95 % interval {interval(comparison.gain)}, "
                    f"{seed_list(comparison.gain.seeds)}"
                )
            )
    parts += [Text(f"{each.stage}, seed {each.seed}: {advice(each)}") for each in report.deployments]
    for each in report.layers:
        parts += [Text(), layer_table(each)]
    styles = {"warning": "yellow", "info": ""}
    several = len(report.runs) > 1
    parts += [
        Text(f"! {f'{note.run}: ' if several and note.run else ''}{note.text}", style=styles[note.level])
        for note in report.notes
    ]
    return Group(*parts)


def layer_table(each: LayerTransfer) -> RenderableType:
    """Which layers transfer: the sentence, and a line for each number of units that were kept."""
    made = Table(header_style="bold")
    for place, header in enumerate(LAYER_HEADERS):
        made.add_column(header, justify="left" if place == 1 else "right")
    for line in layer_cells(each):
        made.add_row(*map(Text, line))
    return Group(Text(f"{sentence(each.headline)}."), made, Text(layer_conditions(each), style="dim"))


def _rows(report: Report) -> Table:
    made = Table(header_style="bold")
    several = len(groups(report)) > 1
    if several:
        made.add_column("Run")
    made.add_column("Model")
    made.add_column("Role")
    for header in headers(report):
        made.add_column(header, justify="right")
    for run, evaluation, rows in groups(report):
        for row in rows:
            where = [Text(f"{run} / {evaluation}")] if several else []
            name = Text(f"{row.name}\n{row.architecture}" if row.architecture else row.name)
            role = Text(row.role, style=ROLE_STYLES[row.role])
            made.add_row(*where, name, role, *map(Text, cells(report, row)))
        made.add_section()
    return made
