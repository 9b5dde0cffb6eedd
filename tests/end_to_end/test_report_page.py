"""The replay page in a real browser: silent, alone, drawn, narrow enough, and deaf to payloads."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from lab.learned import Learning
from lab.page import write_page
from lab.summary import Summary, summarise
from tests.support.learned import scene, small_fit
from tests.unit.lab.synthetic_trades import RUN, world

PAYLOAD = "<img src=x onerror=document.title='taken'>"
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _chromium() -> str | None:
    named = os.environ.get("PENUMBRA_CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


pytestmark = pytest.mark.skipif(
    _chromium() is None, reason=f"no Chromium: set PENUMBRA_CHROMIUM or install one of {', '.join(NAMES)}"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=_chromium(), args=SWITCHES)
        yield started
        started.close()


PICTURES = {"plain": 8, "learned": 14}


@pytest.fixture(scope="module", params=PICTURES)
def told(request: pytest.FixtureRequest) -> str:
    """Whether the page has a learning part."""
    return str(request.param)


@pytest.fixture(scope="module")
def summary(told: str) -> Summary:
    rows = world(1, n=600, skill=0.3)
    hostile = [dataclasses.replace(row, symbol=PAYLOAD, tag=PAYLOAD) for row in rows[:100]]
    run = dataclasses.replace(RUN, symbols=(*RUN.symbols, PAYLOAD), profile=PAYLOAD)
    return summarise([*hostile, *rows[100:]], seed=7, run=run, learning=_learning() if told == "learned" else None)


def _learning() -> Learning:
    learning = scene(1, n=240, knows=True).learn(1, small_fit)[1]
    first, *rest = learning.attempts
    return dataclasses.replace(learning, attempts=(dataclasses.replace(first, bundle="", detail=PAYLOAD), *rest))


@pytest.fixture(scope="module")
def file(summary: Summary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_page(summary, path)
    return path


class Visit:
    """A page with everything it said and asked for."""

    def __init__(self, browser: Browser, file: Path, *, width: int, scheme: str, script: bool = True) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page: Page = browser.new_page(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            java_script_enabled=script,
        )
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri(), wait_until="load")


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark"), (360, "light")], ids=str)
def visit(request: pytest.FixtureRequest, browser: Browser, file: Path) -> Iterator[Visit]:
    width, scheme = request.param
    found = Visit(browser, file, width=width, scheme=scheme)
    yield found
    found.page.close()


def test_it_is_silent_and_alone(visit: Visit, file: Path) -> None:
    assert visit.said == []
    assert visit.asked == [file.as_uri()]


def test_every_picture_is_drawn_inside_its_card(visit: Visit, told: str) -> None:
    boxes = visit.page.eval_on_selector_all(
        "figure",
        """figures => figures.map(figure => {
            const card = figure.getBoundingClientRect();
            return [...figure.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect())
                .filter(box => box.width > 0)
                .map(box => [box.width, box.height, box.left - card.left, card.right - box.right]);
        })""",
    )
    assert len(boxes) == PICTURES[told]
    for shown in boxes:
        assert len(shown) == 1, "the wide and the narrow picture take turns"
        width, height, left, right = shown[0]
        assert width > 250
        assert height > 150
        assert min(left, right) >= 0
    marks = visit.page.eval_on_selector_all(
        "figure svg", "pictures => pictures.map(p => p.querySelectorAll('path, use').length)"
    )
    assert min(marks) > 10


def test_nothing_is_wider_than_the_screen(visit: Visit) -> None:
    page = visit.page
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_text_stands_out_from_its_ground(visit: Visit) -> None:
    """WCAG's contrast of at least 4.5 for words, in light and dark."""
    ratios = visit.page.evaluate(
        """() => {
            const part = v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
            const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number);
                return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b); };
            const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            const ground = getComputedStyle(document.querySelector(".verdict")).backgroundColor;
            const words = ["h1", ".verdict li", "figcaption", "td", "td small", "thead th", "figure svg text", "dd"];
            return words.map(name => {
                const style = getComputedStyle(document.querySelector(name));
                return [name, ratio(light(name.includes("svg") ? style.fill : style.color), light(ground))];
            });
        }"""
    )
    assert {name: ratio for name, ratio in ratios if ratio < 4.5} == {}


def test_a_payload_is_inert_text(visit: Visit) -> None:
    page = visit.page
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    assert page.locator("img, script, iframe, object").count() == 0
    assert page.title() == f"Penumbra: {RUN.strategy} {RUN.timeframe}"
    assert page.locator("tbody th", has_text=PAYLOAD).count() == 2  # as symbol and as tag


def test_the_verdict_is_the_first_thing_seen(visit: Visit, summary: Summary) -> None:
    heading = visit.page.locator("h1")
    assert heading.inner_text().replace("\u00a0", " ") == summary.verdict
    box = heading.bounding_box()
    assert box is not None
    assert box["y"] < 200


def test_it_follows_light_and_dark(browser: Browser, file: Path) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        visit = Visit(browser, file, width=800, scheme=scheme)
        script = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        grounds.append(sum(visit.page.evaluate(script)))
        visit.page.close()
    assert grounds[0] > 650
    assert grounds[1] < 120


def test_it_needs_no_script(browser: Browser, file: Path, told: str) -> None:
    visit = Visit(browser, file, width=1280, scheme="light", script=False)
    assert visit.page.locator("figure svg:visible").count() == PICTURES[told]
    details = visit.page.locator("details").first
    details.locator("summary").click()
    assert details.locator("table").is_visible()
    visit.page.close()
