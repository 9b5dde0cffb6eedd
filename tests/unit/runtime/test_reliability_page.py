"""The reliability page names tests: they must be there, one row a fault, and the sums must be right."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "reliability.md").read_text()
ROWS = [line.strip("|").split("|") for line in TEXT.splitlines() if re.match(r"\| \d+ \| ", line)]


def test_every_fault_has_its_row_and_every_test_exists() -> None:
    assert [int(row[0]) for row in ROWS] == list(range(1, 87))
    for number, _fault, what, tests in ROWS:
        named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", tests)
        assert named or what.strip().startswith("left out") or "chaos" in tests, number
        for path, name in named:
            found = (ROOT / "tests" / path).read_text()
            assert name, (number, path)
            assert re.search(rf"(?m)^def {name}\(", found), (number, path, name)


def test_the_sums_are_those_of_the_rows() -> None:
    kinds = [
        "left out" if what.strip().startswith("left out") else what.split()[0].strip(",;:") for *_, what, _ in ROWS
    ]
    said = re.search(r"(\d+) held, (\d+) partly, (\d+) left out", TEXT)
    assert said is not None
    assert [kinds.count(kind) for kind in ("held", "partly", "left out")] == [int(count) for count in said.groups()]
    assert len(kinds) == sum(kinds.count(kind) for kind in ("held", "partly", "left out"))
