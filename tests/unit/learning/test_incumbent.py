"""How a bundle in force has done: which outcomes count, and against what."""

from __future__ import annotations

from typing import Any

import pytest

from learning.incumbent import live_skill
from tests.support.lessons import MINUTE_MS, closed_rows

MINE, OTHER = "a" * 64, "b" * 64


def scored(n: int, *, right: bool, **changes: Any) -> list[dict[str, Any]]:
    rows = closed_rows(n, apart_ms=120 * MINUTE_MS)
    for row in rows:
        row |= {"bundle": MINE, "model_score": 70.0 if (row["outcome"] == "win") is right else 30.0} | changes
    return rows


def test_a_bundle_that_is_right_has_skill_and_one_that_is_wrong_has_none() -> None:
    good, bad = (live_skill(scored(300, right=right), bundle=MINE, base=0.5) for right in (True, False))
    assert good is not None
    assert good.shown
    assert good.skill == pytest.approx(1.0 - 0.09 / 0.25)
    assert bad is not None
    assert bad.absent
    assert bad.skill == pytest.approx(1.0 - 0.49 / 0.25)


@pytest.mark.parametrize(
    "changes",
    [{"bundle": OTHER}, {"bundle": None}, {"model_score": None}, {"model_score": True}, {"outcome": "timeout"}],
)
def test_what_another_scored_or_nobody_won_is_left_out(changes: dict[str, Any]) -> None:
    assert live_skill(scored(20, right=True, **changes), bundle=MINE, base=0.5) is None
    both = [*scored(30, right=True), *scored(20, right=False, **changes)]
    found = live_skill(both, bundle=MINE, base=0.5)
    assert found is not None
    assert found.n == 30
    assert found.skill == pytest.approx(1.0 - 0.09 / 0.25)


def test_an_engine_may_be_out_before_its_twin_was_in() -> None:
    rows = scored(30, right=True)
    rows[3]["exit_ms"] = rows[3]["entry_ms"] - 1
    found = live_skill(rows, bundle=MINE, base=0.5)
    assert found is not None
    assert found.n == 30
