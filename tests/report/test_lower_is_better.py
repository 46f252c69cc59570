"""Bits and perplexity: what fell is a gain, in every sentence, chart and finding."""

import re

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import understudy as us
from understudy.batch import Batch
from understudy.doctor import check_gain, check_teacher
from understudy.knowledge import Knowledge, TopClasses
from understudy.report import build_report, read_run, table, to_html, to_markdown
from understudy.report.charts import gain_chart
from understudy.report.headline import beside_teacher
from understudy.report.schema import Summary
from understudy.report.wording import gain_name, metric_of, points, quality, quality_summary

TEACHER = [2.000, 2.000, 2.000]
STUDENT = [2.100, 2.100, 2.100]
CONTROL = [2.240, 2.250, 2.260]


@pytest.fixture
def reported(example, tmp_path):
    """Makes a run of the given values of a metric by role, one for each seed, and reports it."""

    def make(metric: str, values: dict[str, list[float]], **fields):
        run = example.plain_run(tmp_path / "run", values, metric=metric, **fields)
        for file in run.glob("stages/evaluate/*/evaluation.json"):
            file.write_text(file.read_text().replace('"accuracy"', f'"{metric}"'))
        return build_report([read_run(run)])

    return make


def of(student=STUDENT, control=CONTROL, teacher=TEACHER) -> dict[str, list[float]]:
    return {"teacher": teacher, "student": student, "control": control}


def printed(report) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"), color_system=None)  # noqa: SIM115, PTH123
    console.print(table(report))
    console.file.close()
    return console.export_text()


# Sentences


def test_what_the_teacher_was_worth_is_how_far_the_bits_fell(reported):
    report = reported("bits", of())
    assert report.headline == (
        "9× smaller, 6× faster, 0.100 bits behind the teacher; the teacher was worth +0.150 ± 0.025 bits"
    )
    (comparison,) = report.comparisons
    assert comparison.gain.difference == pytest.approx(0.15)
    assert comparison.gain.values == pytest.approx([0.14, 0.15, 0.16])
    assert comparison.gain.ci95[0] > 0
    assert comparison.gain.shown
    assert (comparison.gain.student, comparison.gain.control) == pytest.approx((2.1, 2.25))
    assert comparison.below_teacher == pytest.approx(0.1)
    assert comparison.teacher_quality.above_control == pytest.approx(0.25)


def test_the_same_numbers_of_an_accuracy_mean_the_opposite(report_of):
    shares = {role: [value / 10 for value in values] for role, values in of().items()}
    report = report_of(shares)
    assert "1.0 point above the teacher" in report.headline
    assert "the teacher did harm" in report.headline
    assert report.gain.difference == pytest.approx(-0.015)


def test_more_bits_than_the_control_are_harm(reported):
    report = reported("bits", of(control=[2.040, 2.050, 2.060]))
    assert "the teacher did harm: the student is 0.050 ± 0.025 bits worse than the same model" in report.headline
    assert any("'student' is worse than its control" in note.text for note in report.notes)
    assert not report.gain.shown


def test_an_interval_with_zero_shows_no_gain(reported):
    report = reported("bits", of(control=[2.2, 2.0, 2.15]))
    assert re.search(r"no gain from the teacher was shown: \+0\.017 ± 0\.\d{3} bits over 3 seeds", report.headline)
    assert not report.gain.shown


def test_one_seed_proves_nothing(reported):
    report = reported("bits", of([2.1], [2.25], [2.0]))
    assert report.headline.endswith("with the teacher +0.150 bits over the control, but one seed proves nothing")


def test_fewer_bits_than_the_teacher_are_ahead_of_it_when_shown(reported):
    ahead = reported("bits", of(student=[1.900, 1.901, 1.899]))
    assert "0.100 bits ahead of the teacher" in ahead.headline
    assert ahead.comparisons[0].below_teacher == pytest.approx(-0.1)
    lucky = of(student=[2.01, 1.95, 1.99])
    assert "level with the teacher" in reported("bits", lucky).headline


@pytest.mark.parametrize(
    ("metric", "below", "interval", "words"),
    [
        ("bits", 0.1, None, "0.100 bits behind the teacher"),
        ("bits", -0.1, None, "0.100 bits ahead of the teacher"),
        ("bits", -0.1, (-0.3, 0.1), "level with the teacher"),
        ("bits", 0.0004, None, "level with the teacher"),
        ("bits", 0.0006, None, "0.001 bits behind the teacher"),
        ("perplexity", 1.5, (1.0, 2.0), "1.5 perplexity behind the teacher"),
        ("perplexity", -1.5, (-2.0, -1.0), "1.5 perplexity ahead of the teacher"),
        ("accuracy", 0.02, None, "2.0 points below the teacher"),
        ("accuracy", -0.02, None, "2.0 points above the teacher"),
    ],
)
def test_where_a_student_stands(metric, below, interval, words):
    assert beside_teacher(metric, below, interval) == words


def test_perplexity_falls_too(reported):
    report = reported("perplexity", of([12.0, 12.1, 11.9], [15.0, 15.2, 14.9], [10.0, 10.1, 9.9]))
    assert "2.0 perplexity behind the teacher; the teacher was worth +3.0 ± " in report.headline
    assert report.gain.difference == pytest.approx(9.1 / 3)


def test_a_teacher_with_more_bits_than_the_control_is_told_of(reported):
    report = reported("bits", of(teacher=[2.35, 2.35, 2.35]))
    (note,) = (note.text for note in report.notes if note.text.startswith("the teacher reaches"))
    assert note.startswith("the teacher reaches 2.350 bits, 0.100 bits behind the control: a student cannot")
    better = reported("bits", of())
    assert not any("the teacher reaches" in note.text for note in better.notes)


# Numbers


def test_bits_have_three_decimals_and_perplexity_three_digits():
    assert quality("bits", 2.0) == "2.000 bits"
    assert quality("bits", 12.34567) == "12.346 bits"
    assert quality("perplexity", 12.34567) == "12.3"
    assert quality("perplexity", 4.0) == "4"
    assert points("bits", 0.0126, sign=True) == "+0.013"
    assert points("perplexity", 0.0126, sign=True) == "+0.01"
    assert points("bits", -0.25, sign=True, decimals=1) == "−0.250"
    assert points("bits", -0.0001, sign=True) == "0.000"
    several = Summary(mean=2.0, std=0.01, n=2, seeds=[0, 1], values=[1.993, 2.007])
    assert quality_summary("bits", several) == "2.000 ± 0.010 bits"


@pytest.mark.parametrize(
    ("metric", "lower"),
    [
        *[(name, True) for name in ("bits", "perplexity", "calibration_error", "kl_from_teacher", "kl_to_teacher")],
        ("errors", True),
        *[(name, False) for name in ("accuracy", "f1", "agreement", "reward")],
    ],
)
def test_which_metrics_fall(metric, lower):
    assert metric_of(metric).lower_is_better is lower
    assert gain_name(metric) == ("control − student" if lower else "student − control")


# Where it is shown


def test_the_chart_says_which_way_the_difference_is_taken(reported, report_of):
    assert gain_chart(reported("bits", of()).gain).x_label == "Control − student, bits per token (bits)"
    shares = {role: [value / 10 for value in values] for role, values in of().items()}
    assert gain_chart(report_of(shares).gain).x_label == "Student − control, accuracy (points)"


def test_markdown_says_it_in_bits(reported):
    text = to_markdown(reported("bits", of(), samples=384, counted="tokens"))
    assert "Bits per token on the test split, 384 tokens, mean ± standard deviation over seeds 0, 1, 2" in text
    assert "| Bits per token, control − student (bits) | +0.140 | +0.150 | +0.160 |" in text
    assert "2.250 ± 0.010 bits" in text
    assert "points" not in text
    assert " %" not in text.replace("95 % t interval", "")


def test_the_terminal_says_it_in_bits(reported):
    text = printed(reported("bits", of()))
    assert "Bits per token" in text
    assert "2.250 ± 0.010 bits" in text
    assert "the teacher was worth +0.150 ± 0.025 bits" in re.sub(r"\s+", " ", text).lower()


def test_the_page_says_it_in_bits(reported):
    page = to_html(reported("bits", of()))
    assert "Control − student, bits per token (bits)" in page
    assert "Student − control" not in page


def test_throughput_is_of_what_is_counted(reported):
    rows = {role: {"throughput": 12_000.0} for role in of()}
    assert "12 k tokens /s" in re.sub(
        r"12\.0 k", "12 k", to_markdown(reported("bits", of(), rows=rows, counted="tokens"))
    )
    plain = to_markdown(reported("bits", of(), rows=rows))
    assert "tokens" not in plain.replace("Bits per token", "")


def test_the_row_of_a_run_says_what_it_counts(reported):
    assert {row.counted for row in reported("bits", of(), counted="tokens").rows} == {"tokens"}
    assert {row.counted for row in reported("bits", of()).rows} == {"samples"}


# What the doctor says


def test_terms_after_which_the_bits_are_more_hurt():
    assert check_gain([2.1, 2.11, 2.09], [2.25, 2.26, 2.24], metric="bits", lower_is_better=True) == []
    (finding,) = check_gain([2.25, 2.26, 2.245], [2.1, 2.11, 2.09], metric="bits", lower_is_better=True)
    assert finding.severity == "warning"
    assert "hurt" in finding.message
    # differences 0.15, 0.15, 0.155: mean 0.15167, s/sqrt(3) = 0.001667, t(2) = 4.3027
    assert "bits 2.2517 against 2.1000 of the control: +0.1517 ± 0.0072 over 3 seeds" in finding.seen


def test_bits_of_one_seed_are_no_share_of_the_samples():
    assert check_gain(2.10, 2.11, metric="bits", samples=10, lower_is_better=True) == []
    (finding,) = check_gain(2.11, 2.10, metric="bits", samples=10, lower_is_better=True)
    assert "+0.0100 ± 0.0000 over 1 seed" in finding.seen


WORDS = 9


class Sure(nn.Module):
    """Predicts the token that is one more than the last, with a certain logit."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(logit))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.logit * nn.functional.one_hot((inputs + 1) % WORDS, WORDS).float()


class ToldInPart:
    """Tells the likeliest classes of a module alone."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module.eval()

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        with torch.no_grad():
            logits = self.module(batch.inputs)
        values, kept = logits.topk(2, dim=-1)
        rest = logits.scatter(-1, kept, -torch.inf).logsumexp(-1)
        return Knowledge(logits=values, top=TopClasses(kept, {1.0: rest}, WORDS))


def setting(teacher: object, task: us.CausalLanguageModel | None = None) -> tuple[us.Distiller, list[Batch]]:
    tokens = (torch.arange(40)[:, None] + torch.arange(9)) % WORDS
    after = (tokens + 1) % WORDS
    after[::4] = (after[::4] + 1) % WORDS  # a quarter is not as one would think
    batch = Batch(inputs=tokens, targets=after, ids=torch.arange(40))
    task = task or us.CausalLanguageModel()
    return us.Distiller(Sure(0.1), teacher, us.SoftTargets(temperature=1.0), example=batch, task=task), [batch]


def bits_of(module: nn.Module, batch: Batch) -> float:
    loss = nn.functional.cross_entropy(module(batch.inputs).flatten(0, 1), batch.targets.flatten())
    return float(loss.detach()) / torch.log(torch.tensor(2.0)).item()


def test_a_teacher_with_more_bits_than_the_control_stops_a_run():
    distiller, loader = setting(Sure(2.0))
    reached = bits_of(Sure(2.0), loader[0])
    assert check_teacher(distiller, loader, control_metric=reached + 0.01) == []
    with pytest.raises(us.InputError, match="worse than the student trained without it"):
        check_teacher(distiller, loader, control_metric=reached / 1.1)
    (finding,) = check_teacher(distiller, loader, control_metric=reached / 1.01)
    assert finding.severity == "warning"


def test_accuracy_of_tokens_is_still_better_when_higher():
    distiller, loader = setting(Sure(2.0), us.CausalLanguageModel(metric="accuracy"))
    assert check_teacher(distiller, loader, control_metric=0.7) == []
    with pytest.raises(us.InputError, match="worse than the student trained without it"):
        check_teacher(distiller, loader, control_metric=0.9)


def test_a_teacher_that_told_the_likeliest_tokens_alone_is_not_compared_in_bits():
    told = ToldInPart(Sure(2.0))
    distiller, loader = setting(told)
    assert check_teacher(distiller, loader, control_metric=0.01) == []
    counted, loader = setting(told, us.CausalLanguageModel(metric="accuracy"))
    with pytest.raises(us.InputError, match="worse than the student trained without it"):
        check_teacher(counted, loader, control_metric=0.9)
