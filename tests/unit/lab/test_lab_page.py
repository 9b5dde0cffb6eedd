"""The page as text: self-contained, escaped, the same bytes each time."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lab.charts import VARIABLES, draw_pictures
from lab.page import render_page, write_page
from lab.summary import Summary, summarise
from lab.trade import Trade
from tests.unit.lab.synthetic_trades import RUN, lost, trade, world

ROOT = Path(__file__).parents[3]
PAYLOAD = "<img src=x onerror=alert(1)>"
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Structure(HTMLParser):
    """Element names, attributes and the nesting of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


@pytest.fixture(scope="module")
def summary() -> Summary:
    return summarise(world(1, n=500, skill=0.3), seed=7, run=RUN)


@pytest.fixture(scope="module")
def page(summary: Summary) -> str:
    return render_page(summary)


def test_nothing_leaves_the_page(page: str) -> None:
    structure = Structure(page)
    assert structure.open == []
    assert not structure.named("script")
    assert not structure.named("img")
    (policy,) = (found for found in structure.named("meta") if found.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    for tag, attributes in structure.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} {name}"
            if name in ("href", "src", "xlink:href", "action"):
                assert (value or "").startswith(("#", "data:")), f"{tag} {name}={value}"
    assert set(re.findall(r"https?://[^\"'\s<]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "@import" not in page
    assert set(re.findall(r"url\(([^)]*)\)", page)) <= {f"#{found}" for found in re.findall(r'id="([^"]+)"', page)}


def test_ids_are_unique_over_all_pictures(page: str) -> None:
    ids = [attributes["id"] for _, attributes in Structure(page).elements if "id" in attributes]
    assert len(ids) > 10
    assert len(ids) == len(set(ids))


def test_the_verdict_comes_first_and_every_part_is_there(summary: Summary, page: str) -> None:
    text = re.sub(r"\s+", " ", " ".join(Structure(page).text))
    verdict = summary.verdict
    assert verdict in text
    assert text.index(verdict) < text.index("Headline")
    for part in ("How signals ended", "Other ways to count", "What refusing cost", "Months", "Words", "drawdown"):
        assert part in text
    assert summary.digest() in text
    assert RUN.decisions_hash in text


def test_the_audit_chains_head_is_shown_and_moves_no_digest(summary: Summary, page: str) -> None:
    assert "Audit chain" not in page
    recorded = dataclasses.replace(
        summary, run=dataclasses.replace(summary.run, record_head="beef" * 16, record_facts=77)
    )
    text = re.sub(r"\s+", " ", " ".join(Structure(render_page(recorded)).text))
    assert f"Audit chain, head over 77 facts {'beef' * 16}" in text
    assert recorded.digest() == summary.digest()


def test_pictures_and_tables_can_be_read_aloud(page: str) -> None:
    structure = Structure(page)
    pictures = [found for found in structure.named("svg") if "aria-hidden" not in found]
    assert len(pictures) == 9
    assert all(found["role"] == "img" and len(found["aria-label"] or "") > 40 for found in pictures)
    assert page.count("<caption") == page.count("<table") >= 15
    assert page.count('scope="col"') > 60


def test_pictures_take_their_colours_from_the_page(summary: Summary) -> None:
    for picture in draw_pictures(summary):
        for svg in filter(None, (picture.svg, picture.wide)):
            assert not [colour for colour in VARIABLES if colour in svg]
            painted = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]+)", svg))
            assert painted == set(), picture.name
            assert "<metadata" not in svg


@pytest.mark.parametrize(
    "trades",
    [
        pytest.param([], id="none"),
        pytest.param([trade(0)], id="one"),
        pytest.param([lost(0), lost(24)], id="all lost"),
        pytest.param([trade(0, outcome="no_fill", exit_reason="", gross_r=0.0)], id="unfilled"),
        pytest.param([trade(0, outcome="timeout", exit_reason="timeout", gross_r=0.0)], id="timeout without a mark"),
        pytest.param(world(1, n=4_000), id="many"),
    ],
)
def test_any_trades_make_a_page(trades: list[Trade]) -> None:
    summary = summarise(trades, seed=1, run=RUN)
    text = render_page(summary)
    assert Structure(text).open == []
    assert "nan" not in re.sub(r"<[^>]+>", " ", text.split("</style>")[1]).lower().split()
    assert len(text.encode()) < 700_000


def test_a_payload_is_text_everywhere() -> None:
    rows = [
        dataclasses.replace(row, symbol=PAYLOAD, tag=PAYLOAD, reasons=(PAYLOAD,), strategy=PAYLOAD)
        for row in world(1, n=80)
    ]
    hostile = dataclasses.replace(
        RUN,
        strategy=PAYLOAD,
        timeframe="</title><script>alert(1)</script>",
        symbols=(PAYLOAD, '"><svg onload=alert(1)>'),
        source_detail="</style><script>alert(1)</script>",
        profile=PAYLOAD,
        threshold_source=PAYLOAD,
        clamp=PAYLOAD,
        decisions_hash=PAYLOAD,
    )
    structure = Structure(render_page(summarise(rows, seed=1, run=hostile)))
    assert not structure.named("script")
    assert not structure.named("img")
    assert not [name for _, attributes in structure.elements for name in attributes if name.startswith("on")]
    assert "".join(structure.text).count(PAYLOAD) >= 8


SCRIPT = """
import sys
import lab.attempts, lab.charts, lab.console, lab.learned_charts, lab.page, lab.replay, lab.summary
early = [name for name in sys.modules if name.split(".")[0] in ("matplotlib", "jinja2", "sklearn", "scipy")]
assert not early, "imported before it is needed"
from pathlib import Path
from tests.unit.lab.synthetic_trades import RUN, world
lab.page.write_page(lab.summary.summarise(world(1, n=500, skill=0.3), seed=7, run=RUN), Path(sys.argv[1]))
"""


def test_another_process_with_other_settings_writes_the_same_bytes(page: str, tmp_path: Path) -> None:
    settings = tmp_path / "matplotlibrc"
    settings.write_text("xtick.labelsize: 30\naxes.linewidth: 9\nlegend.numpoints: 4\nsvg.fonttype: path\n")
    # Tests are run by a Python that knows the checkout; a child must be told.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "77", "MATPLOTLIBRC": str(settings)}
    environment["TZ"] = "Asia/Tokyo"
    target = tmp_path / "report.html"
    subprocess.run([sys.executable, "-c", SCRIPT, str(target)], check=True, env=environment, cwd=tmp_path, timeout=120)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == hashlib.sha256(page.encode()).hexdigest()


def test_the_file_is_the_page(summary: Summary, page: str, tmp_path: Path) -> None:
    write_page(summary, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == page.encode()
