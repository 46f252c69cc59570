"""The report in a real browser: Debian's chromium, headless; skipped, visibly, where there is none."""

import runpy
import shutil
from pathlib import Path

import pytest

from understudy.report import write_report

sync_playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright").sync_playwright
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)"),
]

# Contrast, as WCAG 2 defines it, of every visible text against the backgrounds that lie behind it.
CONTRAST = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = "#000"; canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const behind = (element) => {
    const layers = [];
    for (let node = element; node; node = node.parentElement) layers.push(rgba(getComputedStyle(node).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), rgba("Canvas"));
  };
  const linear = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || ["SCRIPT", "STYLE"].includes(element.tagName) || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), ground = behind(element);
    const ink = over(rgba(element instanceof SVGElement ? style.fill : style.color), ground);
    const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
    found.push([(high + 0.05) / (low + 0.05), text, element.className.baseVal ?? element.className]);
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        # launch() makes a new, empty user data directory and removes it.
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield running
        running.close()


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(Path(__file__).parents[1] / "report" / "example_run.py"))


@pytest.fixture(scope="module")
def address(example, tmp_path_factory):
    run = example["make_run"](tmp_path_factory.mktemp("runs") / "digits")
    return write_report(run).html.as_uri()


class _Opened:
    """A page with everything that it asked for and complained about."""

    def __init__(self, browser, address, **context) -> None:
        self.complaints, self.requests = [], []
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)


@pytest.fixture
def opened(browser):
    """Opens pages, and looks, when the test is over, that they loaded and complained about nothing."""
    pages = []

    def open_page(address, **context):
        pages.append((_Opened(browser, address, **context), address))
        return pages[-1][0].page

    yield open_page
    for made, address in pages:
        made.context.close()
        assert made.complaints == []
        assert [url for url in made.requests if url != address and not url.startswith("data:")] == []


def _open_all(page):
    page.evaluate("for (const section of document.querySelectorAll('details')) section.open = true")


def test_pointing_at_a_model_tells_its_numbers(opened, address):
    page = opened(address)
    tip = page.locator("#tip")
    assert tip.is_hidden()
    page.locator("figure .mark.student:not(.small)").first.hover()
    told = tip.inner_text().splitlines()
    assert told[0] == "student"
    row = page.locator("table.results tr.student")
    cells = row.locator("td").all_inner_texts()
    assert told[1:] == [f"Accuracy: {cells[0]}", f"Size: {cells[4]}", f"Latency: {cells[5]}"]
    page.mouse.move(2, 2)
    assert tip.is_hidden()


def test_every_mark_can_be_pointed_at(opened, address):
    page = opened(address)
    _open_all(page)
    kinds = {"model": ".mark:not(.small)", "curve": ".hit", "confusion": ".confusion td.wrong", "gain": ".worth .small"}
    for kind, selector in kinds.items():
        marks = page.locator(selector)
        assert marks.count() > 0, kind
        target = marks.last
        target.scroll_into_view_if_needed()
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")  # scrolled
        target.hover(force=True)
        assert page.locator("#tip").is_visible(), kind
        box = page.locator("#tip").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= page.viewport_size["width"]


def test_marks_can_be_reached_with_the_keyboard(opened, address):
    page = opened(address)
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.mark')"):
            break
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label.startswith("student: Accuracy")
    assert page.locator("#tip").inner_text().replace("\n", ": ", 1).replace("\n", ", ") == label
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()


def test_each_section_opens_and_closes(opened, address):
    page = opened(address)
    sections = page.locator("details").all()
    assert len(sections) == 7
    for section in sections:
        before = section.get_attribute("open") is not None
        for expected in (not before, before, True):
            if (section.get_attribute("open") is not None) != expected:
                section.locator("summary").click()
            content = section.locator(":scope > :not(summary)").first
            assert content.is_visible() == expected
        assert section.inner_text().strip()


def test_pictures_are_there(opened, address):
    page = opened(address)
    widths = page.evaluate("[...document.querySelectorAll('.sample img')].map((image) => image.naturalWidth)")
    assert widths
    assert set(widths) == {8}


@pytest.mark.parametrize("width", [1280, 390, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_legible_in_both_schemes_on_all_screens(opened, address, scheme, width):
    page = opened(address, color_scheme=scheme, viewport={"width": width, "height": 800})
    _open_all(page)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in ground[4:-1].split(",")) / 3
    assert (brightness > 200) == (scheme == "light")
    found = page.evaluate(CONTRAST)
    assert len(found) > 200
    weak = [(round(ratio, 2), text, name) for ratio, text, name in found if ratio < 4.5]
    assert weak == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.evaluate(
        "[...document.querySelectorAll('svg text')].map((text) => text.getBoundingClientRect().height).sort()[0]"
    )
    assert small >= 9


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (320, "dark")])
def test_files_to_deploy_are_legible_and_tell_which_to_take(opened, example, tmp_path, width, scheme):
    run = example["plain_run"](tmp_path / "run", {"teacher": [0.97], "student": [0.96]}, recipe=False)
    page = opened(
        write_report(example["deploy_stage"](run)).html.as_uri(),
        color_scheme=scheme,
        viewport={"width": width, "height": 800},
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    weak = [(text, name) for ratio, text, name in page.evaluate(CONTRAST) if ratio < 4.5]
    assert weak == []
    page.locator(".deployment figure .mark.student").first.hover()
    told = page.locator("#tip").inner_text().splitlines()
    assert told[0].startswith("student")
    assert told[-1].startswith("Take: stages/export/seed-0/student")


def test_hostile_names_run_nothing(opened, example, tmp_path):
    evil = "<script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">"
    accuracy = {"teacher": [0.97, 0.96], "student": [0.96, 0.95], "control": [0.94, 0.95]}
    rows = {"student": {"name": evil, "architecture": evil}, "control": {"control_of": evil}}
    run = example["plain_run"](tmp_path / "run", accuracy, rows=rows, name="digits")
    page = opened(write_report(run).html.as_uri())
    page.locator("figure .mark.student:not(.small)").first.hover()
    assert page.locator("#tip").inner_text().startswith(evil)
    assert page.locator("#tip *").count() == 1
    assert page.title() == "digits – Understudy report"


@pytest.mark.parametrize("runs", [1, 2])
def test_unfinished_and_several_runs(opened, example, tmp_path, runs):
    from understudy.report import build_report, read_run

    made = [
        example["plain_run"](tmp_path / f"run {place}", {"teacher": [0.97], "student": [0.96]}) for place in range(runs)
    ]
    example["stage_file"](made[0] / "stages/student/seed-0", kind="distill", seed=0, status="running")
    report = build_report([read_run(run) for run in made])
    page = opened(write_report(tmp_path / "out", report=report).html.as_uri(), viewport={"width": 390, "height": 800})
    _open_all(page)
    assert "still running, or was interrupted" in page.locator(".notes").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
