"""Students of a recording that ask for what it does not hold: every mistake with its line, before any training."""

import pytest

from understudy.pipeline.stages import Record
from understudy.recipe.loading import load_and_join, parse_recipe
from understudy.recipe.problems import RecipeError

TEXT = """\
version: 1
name: recorded
task: image_classification
seeds: [0, 1]
data: {source: sklearn/digits}
stages:
  - kind: train
    name: big
    model: {source: understudy, name: cnn, arguments: {widths: [4, 8]}}
    training: &training {epochs: 1, optimizer: {lr: 0.1}}
  - kind: record
    name: answers
    teacher: big
    RECORD
  - kind: distill
    name: student
    teacher: answers
    model: {source: understudy, name: mlp, arguments: {hidden: [8]}}
    training: *training
    objective: [{kind: cross_entropy}, TERM]
    STUDENT
"""
SOFT = "{kind: soft_targets}"
TOP = "keep: {top: 3, temperatures: [2.0]}"
LAYERS = "keep: {layers: {block2: pooled, block1: whole}}"
HINT = "{kind: hint, student_layer: hidden1, teacher_layer: block2}"
MIXED = "views: {mixup: 1.0}"
OTHERS = """seed: 0
  - {kind: record, name: more, teacher: big, MORE}"""


def text(record: str = "batch_size: 8", term: str = SOFT, student: str = "control: true") -> str:
    return TEXT.replace("RECORD", record).replace("TERM", term).replace("STUDENT", student)


def mistakes(written: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(written, name="r.yaml", files=False)
    return [str(problem).removeprefix("r.yaml:") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("record", "term", "student"),
    [
        ("batch_size: 8", SOFT, "control: true"),
        ("batch_size: 8", "{kind: dist}", "control: true"),
        (TOP, "{kind: soft_targets, temperature: 2.0}", "control: true"),
        (TOP, "{kind: total_variation}", "control: true"),
        (LAYERS, HINT, "control: true"),
        ("views: {shift: 1}", SOFT, "views: {shift: 1}"),
        ("views: {shift: 1}", SOFT, "views: {shift: 0}"),
        ("subset: {samples: 100}", SOFT, "subset: {samples: 50, labels: 20}"),
        ("subset: {labels: 100}", SOFT, "subset: {labels: 50}"),
        (MIXED + "\n    subset: {labels: 50}", SOFT, "subset: {labels: 50}"),
        ("seed: 0", SOFT, "subset: {labels: 50}"),
    ],
)
def test_what_is_kept_can_be_asked_for(record, term, student):
    assert parse_recipe(text(record, term, student), files=False).name == "recorded"


@pytest.mark.parametrize(
    ("record", "term", "student", "expected"),
    [
        (
            LAYERS,
            "{kind: hint}",
            "control: true",
            "20: stages.2.objective.1: hint looks for its layers in the teacher's network, and 'answers' holds answers "
            "only; name the layers of both (it keeps 'block2', 'block1'; `keep.layers` says which)",
        ),
        (
            "batch_size: 8",
            "{kind: relational_distance}",
            "control: true",
            "20: stages.2.objective.1: relational_distance looks for its layers in the teacher's network",
        ),
        (
            LAYERS,
            HINT.replace("block2", "block3"),
            "control: true",
            "20: stages.2.objective.1: hint reads the teacher's layer 'block3', which 'answers' does not keep (it "
            "keeps 'block2', 'block1'; nearest: 'block2', 'block1'); add it there: `keep: {layers: {block3: whole}}`",
        ),
        (
            "batch_size: 8",
            HINT,
            "control: true",
            "20: stages.2.objective.1: hint reads the teacher's layer 'block2', which 'answers' does not keep (it "
            "keeps none); add it there",
        ),
        (
            TOP,
            "{kind: dist}",
            "control: true",
            "20: stages.2.objective.1: dist compares each class, and 'answers' keeps only the 3 likeliest; use",
        ),
        (
            TOP,
            "{kind: soft_targets, temperature: 4.0}",
            "control: true",
            "20: stages.2.objective.1: soft_targets is at temperature 4, and 'answers' keeps what is left of the "
            "probability only at temperature 1, 2; add it there: `keep: {temperatures: [4]}`",
        ),
        (
            "views: {shift: 1}",
            SOFT,
            "views: {shift: 2}",
            "21: stages.2.views: the samples are to be shifted by up to 2 px, and in 'answers' they are shifted by up "
            "to 1 px; leave `views` out here",
        ),
        (
            "batch_size: 8",
            SOFT,
            "views: {flip: true}",
            "21: stages.2.views: the samples are to be mirrored at random, and in 'answers' they are shown as they are",
        ),
        (
            MIXED,
            "{kind: decoupled}",
            "control: true",
            "20: stages.2.objective.1: decoupled needs the one true class of each sample",
        ),
        (
            MIXED,
            SOFT,
            "subset: {labels: 50}",
            "21: stages.2.subset: 'answers' shows mixes with partners from its own `subset`",
        ),
        (
            MIXED + "\n    seed: 0\n    subset: {labels: 50}",
            SOFT,
            "subset: {labels: 50}",
            "19: stages.2.teacher: the `subset` of 'answers' is drawn with seed 0, and that of this stage with '0',",
        ),
        (
            "subset: {samples: 100, exclude_classes: [3]}",
            SOFT,
            "subset: {labels: 50}",
            "21: stages.2.subset: 'answers' records a part of the samples (`samples`, `exclude_classes`), and this",
        ),
        (
            "seed: 0\n    subset: {samples: 100}",
            SOFT,
            "subset: {samples: 50}",
            "18: stages.2.teacher: the `subset` of 'answers' is drawn with seed 0",
        ),
    ],
)
def test_what_is_not_kept_has_its_line(record, term, student, expected):
    (found,) = mistakes(text(record, term, student))
    assert found.startswith(expected)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("teacher: {kind: average}", "13: stages.1.teacher: an average of the student exists only while it trains"),
        ("count: 4", "14: stages.1.count: 4 views without augmentation are all the same; give `views`"),
        ("keep: {temperatures: [2.0]}", "14: stages.1.keep: `temperatures` are those of the tail that `top` leaves"),
        ("keep: {top: 0}", "14: stages.1.keep.top: expected a number greater than or equal to 1, got 0"),
        ("views: {mixup: 1.0, cutmix: 1.0}", "14: stages.1.views: `mixup` and `cutmix` are both given"),
    ],
)
def test_what_cannot_be_recorded_has_its_line(record, expected):
    written = text(record)
    if record.startswith("teacher"):
        written = written.replace("    teacher: big\n", "", 1)
    found = mistakes(written)
    assert any(each.startswith(expected) for each in found), found


@pytest.mark.parametrize(
    ("more", "teacher", "expected"),
    [
        ("seed: 0", "[answers, more]", None),
        ("seed: 0, keep: {top: 3}", "[answers, more]", "teacher: several teachers answer together for all classes"),
        ("seed: 0, views: {shift: 1}, count: 2", "[answers, more]", "teacher: expected the same `views`, `count` and"),
        ("seed: 0", "[answers, big]", None),
    ],
)
def test_several_recordings_show_the_samples_alike(more, teacher, expected):
    written = text(OTHERS.replace("MORE", more)).replace("teacher: answers", f"teacher: {teacher}")
    if expected is None:
        assert parse_recipe(written, files=False).name == "recorded"
    else:
        (found,) = mistakes(written)
        assert found.startswith(f"18: stages.3.{expected}"), found


def test_a_term_that_asks_one_of_several_is_judged_by_that_one():
    written = text(
        OTHERS.replace("MORE", "keep: {layers: {block2: pooled}}, seed: 0"), HINT.replace("}", ", teacher: T}")
    )
    written = written.replace("teacher: answers", "teacher: [answers, more]")
    assert parse_recipe(written.replace("teacher: T", "teacher: more"), files=False).name == "recorded"
    (found,) = mistakes(written.replace("teacher: T", "teacher: answers"))
    assert "'answers' does not keep (it keeps none)" in found


def test_a_recording_has_no_classifier_to_give():
    found = mistakes(text(student="reuse_head: true"))
    assert found == [
        "17: stages.2.teacher: stage 'answers' (record) leaves no model; name one that does, such as 'big', which it "
        "records",
        "21: stages.2.reuse_head: takes the classifier of the teacher's network, and a recording holds no network",
    ]


def test_a_recording_is_no_model():
    written = text() + "  - {kind: evaluate, name: results, models: [answers]}\n"
    (found,) = mistakes(written)
    assert found.startswith("22: stages.3.models.0: stage 'answers' (record) leaves no model; name one that does, such")


def test_a_recording_that_nobody_reads_is_for_later_runs():
    written = text().split("  - kind: distill")[0]
    recipe = parse_recipe(written, files=False)
    assert isinstance(recipe.stages[-1], Record)


@pytest.mark.parametrize(
    ("record", "term", "expected"),
    [
        (
            "keep: {layers: {block2: whole, blok1: whole}}",
            SOFT,
            "14: stages.1.keep.layers.blok1: teacher has no layer 'blok1'; nearest: 'block1'",
        ),
        ("keep: {top: 10, temperatures: [4.0]}", SOFT, "14: stages.1.keep.top: top: 10 of 10 classes leaves no tail"),
        ("keep: {layers: {block1: whole}}", HINT.replace("block2", "block1"), "20: stages.2.objective.1: hint ("),
        (LAYERS, HINT.replace("hidden1", "hiden1"), "20: stages.2.objective.1.student_layer: student has no layer"),
        (LAYERS, HINT, None),
    ],
)
def test_the_layers_that_are_kept_are_joined_as_they_will_be(record, term, expected, tmp_path):
    """A pooled layer joins a vector, as the recording will hold it; the map of the live network would not."""
    file = tmp_path / "r.yaml"
    file.write_text(text(record, term))
    if expected is None:
        assert load_and_join(file).name == "recorded"
        return
    with pytest.raises(RecipeError) as caught:
        load_and_join(file)
    (problem,) = caught.value.problems
    assert str(problem).removeprefix(f"{file}:").startswith(expected)
