"""The threat model names tests: they must be there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "threat-model.md").read_text()
ROWS = [line.strip("|").split("|") for line in TEXT.splitlines() if re.match(r"\| T\d+ ", line)]


def test_every_threat_has_a_control_a_test_that_exists_and_what_remains() -> None:
    assert [row[0].strip() for row in ROWS] == [f"T{number}" for number in range(1, len(ROWS) + 1)]
    assert len(ROWS) >= 18
    for number, threat, control, tests, remains in ROWS:
        assert all(part.strip() for part in (threat, control, remains)), number
        named = re.findall(r"`(tests/[\w/]+\.py)`", tests)
        assert named, number
        for name in named:
            assert re.search(r"(?m)^def test_", (ROOT / name).read_text()), name


def test_every_place_it_points_to_exists() -> None:
    for name in re.findall(r"\b((?:worker|signals|scorer|persistence|tests)/[\w/]+\.py)", TEXT):
        assert (ROOT / name).exists(), name
