"""What was measured as a page, a table and JSON; worlds of arithmetic, so that every figure is known."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lab.coverage.check import Check, Size, inside, rate
from lab.coverage.measured import Coverage, measure_coverage
from lab.coverage.page import figure, render_coverage, verdict
from lab.coverage.studies import Subject
from scripts import coverage_run
from scripts.cli import main
from tests.unit.lab.test_lab_page import Structure


def covered(size: Size, seed: int) -> list[Check]:
    worlds = 1_000 if size is Size.FULL else 100
    return [rate(4, "covers & <shows> 90 %", 9 * worlds // 10, worlds, low=0.87, high=0.93)]


def drawn(size: Size, seed: int) -> list[Check]:
    return [
        inside(2, "the seed", seed, low=0.0, high=1.0),
        inside(2, "equal", 0.0, low=0.0, high=0.0, n=7),
        inside(2, "ratio", 0.5, high=0.65, n=3),
    ]


SUBJECTS = (Subject(2, "draws", drawn), Subject(4, "intervals", covered))


def measured(seed: int = 1) -> Coverage:
    return measure_coverage(SUBJECTS, Size.SMALL, seed)


def test_the_record_says_what_was_measured() -> None:
    record = json.loads(json.dumps(measured().record, allow_nan=False))
    assert (record["size"], record["seed"], record["holds"]) == ("small", 1, True)
    by_name = {row["name"]: row for row in record["items"]}
    low, high = by_name["covers & <shows> 90 %"].pop("interval")
    # Clopper and Pearson for 90 of 100.
    assert (round(low, 4), round(high, 4)) == (0.8238, 0.951)
    assert by_name["covers & <shows> 90 %"] == {
        "item": 4, "subject": "intervals", "name": "covers & <shows> 90 %", "measured": 0.9, "band": "0.87 to 0.93",
        "low": 0.87, "high": 0.93, "n": 100, "holds": True,
    }  # fmt: skip
    assert by_name["ratio"]["low"] is None
    assert by_name["ratio"]["interval"] is None
    assert {"penumbra", "python", "numpy", "scipy", "scikit-learn"} == set(record["versions"])


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"), [(0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0), (5, 10, 0.1871, 0.8129)]
)
def test_bounds_of_a_rate(hits: int, n: int, low: float, high: float) -> None:
    found = rate(1, "r", hits, n).interval
    assert found is not None
    assert found == pytest.approx((low, high), abs=5e-5)


def test_studies_at_once_find_the_same() -> None:
    assert measure_coverage(SUBJECTS, Size.FULL, 1, jobs=2) == measure_coverage(SUBJECTS, Size.FULL, 1)


def test_the_page_is_self_contained_and_says_the_worst_first() -> None:
    page = render_coverage(measured(seed=2))
    assert page == render_coverage(measured(seed=2))
    structure = Structure(page)
    assert structure.open == []
    assert not structure.named("script")
    text = re.sub(r"\s+", " ", " ".join(structure.text))
    assert text.index("1 of 4 checks does not hold.") < text.index("the seed")
    assert "covers & <shows> 90 %" in text
    assert "0.8238 to 0.951" in text
    assert "seed 2" in text
    assert "penumbra coverage --full" in text
    assert len(structure.named("figure")) == 2
    ids = [attributes["id"] for _, attributes in structure.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("broken", "n", "words"),
    [
        (0, 0, "Nothing was measured."),
        (0, 1, "The one check holds."),
        (0, 3, "All 3 checks hold."),
        (1, 3, "1 of 3 checks does not hold."),
        (2, 3, "2 of 3 checks do not hold."),
    ],
)
def test_the_verdict(broken: int, n: int, words: str) -> None:
    checks = [inside(1, f"c{number}", 0.0 if number < broken else 1.0, low=0.5) for number in range(n)]
    found = measure_coverage((Subject(1, "one", lambda size, seed: checks),), Size.SMALL, 1)
    assert verdict(found) == words
    # A study without a check proves nothing, and must not pass for one that holds.
    assert found.holds is (broken == 0 and n > 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.51234, "0.5123"),
        (-0.5, "−0.5"),
        (0.00012, "0.00012"),
        (12345.6, "12,346"),
        (math.nan, "–"),
        (10.0, "10"),
    ],
)
def test_figures(value: float, text: str) -> None:
    assert figure(value) == text


def run(monkeypatch: pytest.MonkeyPatch, out: Path, *words: str) -> Result:
    monkeypatch.setattr(
        coverage_run, "chosen", lambda items: tuple(s for s in SUBJECTS if not items or s.item in items)
    )
    return CliRunner().invoke(main, ["coverage", "--out", str(out), *words])


def test_the_command_writes_the_page_and_fails_when_a_check_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "new" / "page.html"
    held = run(monkeypatch, page, "--json")
    assert (held.exit_code, json.loads(held.stdout)["holds"]) == (0, True)
    assert "seed 1" in held.stderr
    assert "All 4 checks hold." in page.read_text("utf-8")
    broken = run(monkeypatch, page, "--seed", "3")
    assert broken.exit_code == 1
    assert "1 of 4 checks does not hold." in broken.stdout
    only = run(monkeypatch, page, "--seed", "3", "--item", "4", "--full", "--json")
    assert (only.exit_code, [row["n"] for row in json.loads(only.stdout)["items"]]) == (0, [1_000])


def test_a_fresh_seed_is_drawn_and_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn_bytes = iter((bytes(4), b"\x00\x00\x01\x00"))
    monkeypatch.setattr(coverage_run, "secret_bytes", lambda count: next(drawn_bytes)[:count])
    seeds = []
    for _ in range(2):
        found = run(monkeypatch, tmp_path / "page.html", "--fresh", "--json")
        seeds.append(json.loads(found.stdout)["seed"])
        assert f"seed {seeds[-1]}" in found.stderr
    assert seeds == [0, 256]
    assert run(monkeypatch, tmp_path / "page.html", "--fresh", "--seed", "1").exit_code == 2
