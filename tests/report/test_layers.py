"""Which layers transfer, as the report tells it: the numbers, the sentence, the chart, and that it stays away."""

import re

import pytest
from rich.console import Console

from understudy.report import Report, build_report, read_run, table, to_html, to_markdown

UNITS = ["stem", "layer1", "<b>layer2</b>"]
FLAT = {
    "scratch": [0.70, 0.71, 0.69],
    "frozen-1": [0.80, 0.81, 0.82],
    "tuned-1": [0.80, 0.82, 0.81],
    "frozen-2": [0.80, 0.79, 0.81],
    "tuned-2": [0.84, 0.83, 0.85],
    "frozen-3": [0.60, 0.61, 0.63],
    "tuned-3": [0.87, 0.86, 0.88],
}


def kept(name: str, **more) -> dict:
    way, _, count = name.partition("-")
    units = int(count or 0)
    frozen = units if way == "frozen" else 0
    return {"units": units, "frozen": frozen, "of": UNITS, "source": "resnet18", "experiment": "0af3", **more}


@pytest.fixture
def reported(example, tmp_path):
    """Makes a run of transfer stages with the given accuracies and reports it."""

    def make(
        accuracy: dict[str, list[float]], *, told: dict[str, dict] | None = None, rows: dict | None = None
    ) -> Report:
        run = tmp_path / "run"
        for seed in range(len(next(iter(accuracy.values())))):
            for name in accuracy:
                more = {"kept": kept(name, **(told or {}).get(name, {}))}
                example.stage_file(run / f"stages/{name}/seed-{seed}", kind="transfer", seed=seed, **more)
                example.history_file(
                    run / f"stages/{name}/seed-{seed}", [{"epoch": 1, "loss": 1.0, "val": {"accuracy": 0.5}}]
                )
            made = [
                {
                    "name": name,
                    "role": "model",
                    "stage": name,
                    "seed": seed,
                    "bytes": 1,
                    "metrics": {"accuracy": values[seed]},
                }
                | (rows or {}).get(name, {})
                for name, values in accuracy.items()
            ]
            folder = run / f"stages/results/seed-{seed}"
            example.stage_file(folder, kind="evaluate", seed=seed)
            example.evaluation_file(folder, rows=made)
        return build_report([read_run(run)])

    return make


def test_seeds_are_put_together_by_units_and_by_whether_they_were_frozen(reported) -> None:
    (found,) = reported(FLAT).layers
    assert (found.source, found.metric, found.split, found.units) == ("resnet18", "accuracy", "test", UNITS)
    assert found.scratch.values == FLAT["scratch"]
    assert [(point.units, point.name) for point in found.points] == list(enumerate(UNITS, 1))
    for point in found.points:
        assert point.frozen.values == FLAT[f"frozen-{point.units}"]
        assert point.tuned.values == FLAT[f"tuned-{point.units}"]
    assert found.points[1].cost == pytest.approx(0.04)
    assert found.points[1].cost_ci95 == pytest.approx((0.04, 0.04))
    low, high = found.points[0].cost_ci95
    assert low < 0 < high
    assert found.stages == list(FLAT)


def test_the_sentence_says_from_where_on_freezing_costs(reported) -> None:
    report = reported(FLAT)
    expected = "freezing costs from 2 of 3 units (layer1) on: 4.0 ± 0.0 points below tuning them"
    assert report.layers[0].headline == report.headline.removeprefix("not complete: ") == expected


@pytest.mark.parametrize(
    ("frozen", "sentence"),
    [
        (
            [0.85, 0.88, 0.89],
            "no cost of freezing 3 of 3 units (<b>layer2</b>) was shown (it was with 2): tuning them gives",
        ),
        (
            [0.96, 0.95, 0.98],
            "freezing helps: 3 of 3 units (<b>layer2</b>) are 9.3 ± 1.4 points better frozen than tuned",
        ),
    ],
)
def test_no_cost_is_claimed_that_was_not_shown(reported, frozen, sentence) -> None:
    assert reported({**FLAT, "frozen-3": frozen}).layers[0].headline.startswith(sentence)


def test_with_one_seed_nothing_is_claimed(reported) -> None:
    report = reported({name: values[:1] for name, values in FLAT.items()})
    assert report.layers[0].headline == "one seed proves nothing: three or more say from which unit on freezing costs"
    assert report.layers[0].points[2].cost_ci95 is None
    assert "70.00 %" in to_markdown(report)
    assert "±" not in to_markdown(report).partition("## Which layers transfer")[2].partition("\n## ")[0]


def test_a_training_that_was_measured_three_times_is_one_seed(reported) -> None:
    assert reported(FLAT, rows={name: {"seed": 7} for name in FLAT}).layers[0].points[0].frozen.n == 1


def test_where_not_all_was_trained_the_rest_is_shown(reported) -> None:
    (found,) = reported({name: FLAT[name] for name in ("frozen-1", "tuned-3")}).layers
    assert (found.scratch, found.points[0].tuned, found.points[1].frozen) == (None, None, None)
    assert found.headline.startswith("nothing was trained both frozen and tuned")


def test_what_differs_in_more_than_units_is_another_experiment_and_freezing_a_part_is_on_no_line(reported) -> None:
    report = reported(FLAT, told={"tuned-3": {"experiment": "other"}, "frozen-3": {"frozen": 2}})
    assert [[point.units for point in each.points] for each in report.layers] == [[1, 2], [3]]
    assert "frozen-3" not in report.layers[0].stages


def test_markdown_and_terminal_have_a_line_for_each_number_of_units(reported) -> None:
    report = reported(FLAT)
    text = to_markdown(report).partition("## Which layers transfer")[2]
    assert "| 0 | – | 70.00 ± 1.00 % | 70.00 ± 1.00 % |" in text
    assert "| 3 | &lt;b&gt;layer2&lt;/b&gt; | 61.33 ± 1.53 % | 87.00 ± 1.00 % |" in text
    assert "Accuracy on the test split, mean ± standard deviation over 3 seeds; so many units of resnet18" in text
    console = Console(width=160, record=True, file=open("/dev/null", "w"), color_system=None)  # noqa: SIM115, PTH123
    console.print(table(report))
    console.file.close()
    assert re.search(r"3 │ <b>layer2</b> │ +61.33 ± 1.53 % │ +87.00 ± 1.00 %", console.export_text())


def test_the_page_draws_two_lines_from_the_scratch_network(reported) -> None:
    page = to_html(reported(FLAT))
    (figure,) = re.findall(r"<figure>.*?</figure>", page, re.DOTALL)  # no chart of cost, no curves, no confusions
    assert figure.count('class="mark teacher"') == figure.count('class="mark student"') == 3
    lines = {role: re.findall(rf'"line {role}" points="(.*?)"', figure) for role in ("teacher", "student", "control")}
    assert {role: sorted(len(points.split()) for points in found) for role, found in lines.items()} == {
        "teacher": [2, 2, 2, 4],  # three deviations, and the line
        "student": [2, 2, 2, 4],
        "control": [2, 2],
    }
    (frozen, tuned) = (max(lines[role], key=len) for role in ("teacher", "student"))
    assert frozen.split()[0] == tuned.split()[0]
    height = {role: float(max(lines[role], key=len).split()[-1].split(",")[1]) for role in ("teacher", "student")}
    assert height["teacher"] > height["student"]  # 61 % is drawn below 87 %
    assert "3 of 3 units frozen" in figure
    assert "Up to &lt;b&gt;layer2&lt;/b&gt;\n61.33 ± 1.53 %\nseed 0: 60.00 %" in figure
    assert "<b>layer2" not in page


def test_it_stays_away_from_other_runs(digits_run) -> None:
    report = build_report([read_run(digits_run)])
    assert report.layers == []
    assert "Which layers transfer" not in to_markdown(report) + to_html(report)
