"""What the page must hold whatever a browser does with it; tests/e2e/test_report_browser.py looks at it in one."""

import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from understudy.report import Report, build_report, read_run, to_html
from understudy.report.pictures import LARGEST, picture

EVIL = "<script>alert('x')</script>\"'&"
VOID = {"meta", "link", "img", "br", "hr", "rect", "circle", "line", "path", "polyline"}


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]


@pytest.fixture(scope="module")
def page(digits_run):
    return to_html(build_report([read_run(digits_run)]))


def test_elements_are_closed(page):
    assert _Page(page).open == []


def test_nothing_is_loaded_from_anywhere(page):
    parsed = _Page(page)
    for name in ("src", "href", "srcset", "action", "poster"):
        assert all(value.startswith("data:") for value in parsed.attributes(name))
    assert "url(" not in page
    assert "@import" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_policy_allows_the_pages_own_script_only(page):
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(value for value in _Page(page).attributes("content") if "default-src" in value)
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_all_parts_are_there(page, digits_run):
    parsed = _Page(page)
    ids = parsed.attributes("id")
    for section in ("training", "confusion", "disagreements", "seeds", "stages", "recipe", "environment"):
        assert section in ids
    text = " ".join("".join(parsed.text).split())
    assert "100 of 1,300 images are labelled (10 per class)" in text
    assert "# Digits: a teacher" in text
    assert "torch 2.15.0" in text
    titles = parsed.attributes("data-title")
    assert {"teacher", "student", "control"} <= set(titles)
    assert "student, seed 2" in titles
    shown = len(build_report([read_run(digits_run)]).disagreements)
    assert len([value for value in parsed.attributes("src") if value.startswith("data:image/png;base64,")]) == shown > 0


def test_text_of_the_user_is_escaped(example, tmp_path):
    """Every text that a file can hold is hostile here; none may become an element, an attribute or a script."""
    models = {role: {"name": EVIL + role, "architecture": EVIL} for role in ("teacher", "student", "control")}
    models["student"]["teacher"] = EVIL + "teacher"
    models["control"] |= {"control_of": EVIL + "student", "lacks": EVIL}
    guess = {"name": EVIL, "class": EVIL, "probability": 0.5}
    run = example.plain_run(
        tmp_path / "run",
        {"teacher": [0.97, 0.96], "student": [0.96, 0.95], "control": [0.94, 0.95]},
        rows=models,
        name=EVIL,
        classes=[EVIL, "b"],
        confusion={EVIL + "student": [[1, 2], [3, 4]]},
        split=EVIL,
        disagreements=[{"id": EVIL, "image": EVIL, "label": EVIL, "teacher": guess, "student": guess}],
    )
    (run / "recipe.yaml").write_text(f"name: {EVIL}\n</pre>{EVIL}\n")
    (run / "environment.json").write_text('{"<script>": "<script>", "packages": {"<img src=x>": "<script>"}}')
    told = {"error": EVIL, "data": EVIL, "pictures": {EVIL: EVIL}}
    example.stage_file(run / "stages/student/seed-0", kind=EVIL, seed=0, status="failed", **told)
    example.history_file(
        run / "stages/student/seed-0", [{"epoch": epoch, "loss": 1, "terms": {EVIL: 1, "b": 2}} for epoch in (1, 2)]
    )
    page = to_html(build_report([read_run(run)]))
    parsed = _Page(page)
    assert parsed.open == []
    assert [tag for tag, _ in parsed.elements].count("script") == 1
    assert not [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")]
    assert EVIL + "student (student)" in parsed.attributes("data-title")
    assert "<script>alert" not in page


def test_the_curve_of_a_loss_tells_terms_and_their_weights(tmp_path, example):
    run = example.plain_run(tmp_path / "run", {"student": [0.9]})
    example.stage_file(run / "stages/student/seed-0", kind="distill", seed=0)
    line = {"loss": 1, "terms": {"a": 0.5, "b": 2}}
    history = [{"epoch": 1, **line, "weights": {"a": 1.25}}, {"epoch": 2, **line}]
    example.history_file(run / "stages/student/seed-0", history)
    page = to_html(build_report([read_run(run)]))
    assert "a: 0.5 × 1.25\nb: 2" in page
    assert "a: 0.5\nb: 2" in page


def test_report_read_back_from_json_has_no_pictures_but_says_so(digits_run):
    report = Report.model_validate_json(build_report([read_run(digits_run)]).to_json())
    page = to_html(report)
    assert "picture missing" in page
    assert "<img" not in page


def test_pictures_of_a_stages_first_seed_are_shown(tmp_path, example):
    run = example.plain_run(tmp_path / "run", {"student": [0.9, 0.8]})
    for seed in (0, 1):
        stage = run / f"stages/student/seed-{seed}"
        Image.new("L", (500, 200)).save(stage / "made.png")
        example.stage_file(stage, kind="data_free", seed=seed, pictures={"images": "made.png", "lost": "lost.png"})
    report = build_report([read_run(run)])
    assert [(each.seed, each.image) for each in report.pictures] == [
        (0, "stages/student/seed-0/made.png"),
        (0, "stages/student/seed-0/lost.png"),
    ]
    parsed = _Page(to_html(report))
    assert parsed.attributes("alt") == ["student: images"]
    (address,) = (value for value in parsed.attributes("src") if value.startswith("data:image/png;base64,"))
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as shown:
        assert shown.size == (400, 160)
    assert "student: lost, seed 0" in "".join(parsed.text)


@pytest.mark.parametrize("relative", ["../secret.png", "missing.png", "torn.png", "text.png", None])
def test_pictures_that_cannot_be_shown(tmp_path, relative):
    run = tmp_path / "run"
    run.mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "secret.png")
    Image.new("RGB", (64, 64), "red").save(run / "torn.png")
    (run / "torn.png").write_bytes((run / "torn.png").read_bytes()[:60])
    (run / "text.png").write_text("<svg onload=alert(1)>")
    assert picture(run, relative) is None


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_pictures_of_all_modes_are_inlined_small(tmp_path, mode):
    kind = "tiff" if mode == "CMYK" else "png"
    Image.new(mode, (400, 200)).save(tmp_path / f"a.{kind}")
    address = picture(tmp_path, f"a.{kind}")
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        assert image.size == (LARGEST, LARGEST // 2)
