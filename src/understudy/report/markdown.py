"""The report as Markdown, for a repository or a pull request."""

from __future__ import annotations

import re

from understudy.report.contents import cells, conditions, gained, groups, headers, labelled, machine, metric_lines
from understudy.report.deployments import (
    advice,
    deployment_cells,
    deployment_conditions,
    deployment_headers,
    origin,
    proved,
)
from understudy.report.headline import gain_sentence
from understudy.report.layers import LAYER_HEADERS, layer_cells, layer_conditions
from understudy.report.schema import Comparison, Report, Row, Run
from understudy.report.wording import (
    duration,
    gain_name,
    interval,
    metric_of,
    points,
    seed_list,
    sentence,
    unit,
)

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#&$~])")


def to_markdown(report: Report) -> str:
    """The report as GitHub-flavoured Markdown. Names from the user are escaped, HTML in them included."""
    blocks = [f"# {escape(report.title)}", f"**{escape(sentence(report.headline))}.**"]
    if len(report.runs) > 1:
        blocks.append(_bullets([f"{escape(each.run)}: {escape(each.headline)}" for each in report.comparisons]))
    if report.notes:
        several = len(report.runs) > 1
        texts = [f"{f'{note.run}: ' if several and note.run else ''}{note.text}" for note in report.notes]
        blocks.append("\n".join(f"> ⚠ {escape(text)}  " for text in texts))
    if report.rows:
        blocks += ["## Results", _results(report), "  \n".join(map(escape, conditions(report)))]
    if any(comparison.gain for comparison in report.comparisons):
        blocks += [f"## What {gained(report)} was worth", *_gains(report)]
    if report.deployments:
        blocks += ["## What to deploy", *_deployments(report)]
    if report.layers:
        blocks += ["## Which layers transfer", *_layers(report)]
    if labelled(report):
        blocks.append("## What was labelled")
        blocks.append(_bullets([f"**{escape(name)}**: {escape(data)}" for name, data in labelled(report)]))
    if report.rows:
        blocks += ["## Every metric and every seed", *_every_seed(report)]
    for run in report.runs:
        blocks += _run(run, several=len(report.runs) > 1)
    blocks.append(f"Made by Understudy {escape(report.understudy)} from the files of the run.")
    return "\n\n".join(blocks) + "\n"


def escape(text: object) -> str:
    """Text as Markdown shows it literally, on one line, also inside a table."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split())).replace("\\<", "&lt;").replace("\\>", "&gt;")


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _grid(heads: list[str], lines: list[list[str]], *, left: int) -> str:
    rule = ["---" if place < left else "---:" for place in range(len(heads))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [heads, rule, *lines])


def _results(report: Report) -> str:
    several = len(groups(report)) > 1
    heads = [*(["Run"] if several else []), "Model", "Role", *headers(report)]
    lines = [
        [*([_where(row)] if several else []), _name(row), row.role, *cells(report, row)]
        for _, _, rows in groups(report)
        for row in rows
    ]
    return _grid(heads, lines, left=3 if several else 2)


def _where(row: Row) -> str:
    return f"{escape(row.run)} / {escape(row.evaluation)}"


def _name(row: Row) -> str:
    return f"{escape(row.name)} ({escape(row.architecture)})" if row.architecture else escape(row.name)


def _gains(report: Report) -> list[str]:
    blocks = []
    for comparison in report.comparisons:
        result = comparison.gain
        if result is None:
            continue
        ends = f" (95 % t interval, {interval(result)}, {seed_list(result.seeds)})" if result.ci95 else ""
        heads = ["", *(f"seed {seed}" for seed in result.seeds)] if result.paired else []
        label = metric_of(result.metric).label
        blocks.append(f"{escape(_about(comparison, report) + sentence(gain_sentence(result)))}{ends}.")
        if heads:
            shown = [points(result.metric, value, sign=True) for value in result.values]
            per = f"{label}, {gain_name(result.metric)} ({unit(result.metric, 0)})"
            blocks.append(_grid(heads, [[per, *shown]], left=1))
    return blocks


def _about(comparison: Comparison, report: Report) -> str:
    if len(report.comparisons) < 2:
        return ""
    return f"{comparison.run}, {comparison.student}: "


def _deployments(report: Report) -> list[str]:
    blocks = []
    several = len(report.deployments) > 1
    for each in report.deployments:
        if several:
            blocks.append(f"### {escape(each.run)} / {escape(each.stage)}, seed {each.seed}")
        blocks.append(f"**{escape(sentence(advice(each)))}.**{f' It is in {escape(each.file)}.' if each.file else ''}")
        heads = ["File", "Runtime", "Made from", "Proved", *deployment_headers(each)]
        lines = [
            [
                f"**{escape(row.name)}**" if row.chosen else escape(row.name),
                escape(row.runtime),
                escape(origin(row)),
                proved(row),
                *(deployment_cells(each, row) if row.failed is None else [escape(f"failed: {row.failed}")]),
            ]
            for row in each.contenders
        ]
        blocks += [_grid(heads, [line + [""] * (len(heads) - len(line)) for line in lines], left=4)]
        blocks.append(escape(deployment_conditions(each)))
    return blocks


def _layers(report: Report) -> list[str]:
    blocks = []
    for each in report.layers:
        blocks += [
            f"**{escape(sentence(each.headline))}.** {escape(layer_conditions(each))}",
            _grid(list(LAYER_HEADERS), [[escape(cell) for cell in line] for line in layer_cells(each)], left=2),
        ]
    return blocks


def _every_seed(report: Report) -> list[str]:
    blocks = []
    for run, evaluation, rows in groups(report):
        if len(groups(report)) > 1:
            blocks.append(f"### {escape(run)} / {escape(evaluation)}")
        lines = [
            [escape(line.name), *(" · ".join(seeds) if seeds else mean for mean, seeds in line.cells)]
            for line in metric_lines(rows)
        ]
        blocks.append(_grid(["", *(escape(row.name) for row in rows)], lines, left=1))
    return blocks


def _run(run: Run, *, several: bool) -> list[str]:
    title = f"{escape(run.name)}: stages, machine, recipe" if several else "Stages, machine, recipe"
    lines = [
        [escape(stage.name), escape(stage.kind or "–"), str(stage.seed), stage.status, duration(stage.seconds)]
        for stage in run.stages
    ]
    blocks = [f"## {title}"]
    if lines:
        blocks.append(_grid(["Stage", "Kind", "Seed", "Status", "Time"], lines, left=2))
    if told := dict.fromkeys((stage.name, stage.description) for stage in run.stages if stage.description):
        blocks.append(_bullets([f"**{escape(name)}**: {escape(text)}" for name, text in told]))
    if run.environment:
        blocks.append(_bullets([f"{escape(name)}: {escape(value)}" for name, value in machine(run.environment)]))
    if run.recipe:
        fence = "`" * max(3, 1 + max((len(ticks) for ticks in re.findall("`+", run.recipe)), default=0))
        blocks.append(f"{fence}yaml\n{run.recipe.rstrip()}\n{fence}")
    return blocks
