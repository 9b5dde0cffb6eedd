"""Bounds of skill: by hand, by simulation, and what makes them wider."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from learning.skill import DAY_MS, Skill, brier_skill, independent_rows

HOUR_MS = 3_600_000


def lives(n: int, *, apart_ms: int = 2 * HOUR_MS, long_ms: int = HOUR_MS) -> dict[str, Any]:
    entry = np.arange(n, dtype=np.int64) * apart_ms
    return {"entry_ms": entry, "exit_ms": entry + long_ms - 1}


def skill_of(n: int, *, edge: float, seed: int = 1, **world: Any) -> Skill:
    rng = np.random.default_rng(seed)
    truth = 1.0 / (1.0 + np.exp(-edge * rng.normal(size=n)))
    won = rng.random(n) < truth
    return brier_skill(truth, np.full(n, 0.5), won, **lives(n, **world))


def test_by_hand() -> None:
    # Four rows against a base of one half: errors .25 each; forecasts .7/.3 that are right three times of four have
    # .09 three times and .49 once, so that the gains are .16 .16 .16 −.24 and the skill is .06/.25.
    said, won = np.array([0.7, 0.3, 0.7, 0.7]), np.array([True, False, True, False])
    found = brier_skill(said, np.full(4, 0.5), won, **lives(4, apart_ms=DAY_MS))
    assert found.skill == pytest.approx(0.24)
    assert (found.n, found.spans) == (4, 4)
    # Four days are too few to know how days differ.
    assert (found.low, found.high, found.shown, found.absent) == (-math.inf, math.inf, False, False)
    assert found.record["low"] is None
    assert "unknown" in str(found)


def test_the_half_width_by_hand() -> None:
    # Gains of ±g in pairs that cancel within a day, and one more win in ten: a mean and a spread that are known.
    won = np.tile([True] * 6 + [False] * 4, 100)
    said = np.full(1_000, 0.6)
    found = brier_skill(said, np.full(1_000, 0.5), won, **lives(1_000, apart_ms=DAY_MS // 10))
    # Gains .25 − .16 = .09 and .25 − .36 = −.11: mean .01, standard deviation .2·√.24; all days are alike.
    rho2 = (-2.0 * math.log(0.4) + math.log(1.0 - 2.0 * math.log(0.4))) / 1_000
    grown = 1_000 * rho2 + 1.0
    reach = 0.2 * math.sqrt(0.24) * math.sqrt(2.0 * grown / (1e6 * rho2) * math.log(1.0 + math.sqrt(grown) / 0.4))
    assert found.independent == pytest.approx(1_000.0)
    assert found.low == pytest.approx((0.01 - reach) / 0.25)
    assert found.high == pytest.approx((0.01 + reach) / 0.25)
    assert found.spans == 100


def test_skill_is_shown_and_its_absence_too() -> None:
    assert skill_of(2_000, edge=1.0).shown
    lost = brier_skill(np.tile([0.2, 0.8], 500), np.full(1_000, 0.5), np.tile([True, False], 500), **lives(1_000))
    assert lost.absent
    assert not lost.shown
    few = skill_of(60, edge=0.3)
    assert not few.shown
    assert not few.absent


def test_days_that_hang_together_widen_the_bounds() -> None:
    rng = np.random.default_rng(4)
    day = np.repeat(rng.random(100) < 0.6, 12)
    shuffled = rng.permutation(day)
    said, base = np.full(1_200, 0.6), np.full(1_200, 0.5)
    together, apart = (brier_skill(said, base, won, **lives(1_200)) for won in (day, shuffled))
    assert together.skill == pytest.approx(apart.skill)
    assert together.independent < 150
    assert apart.independent > 700
    assert together.low < apart.low


def test_labels_longer_than_a_day_make_longer_spans() -> None:
    assert skill_of(600, edge=1.0).spans == 50
    assert skill_of(600, edge=1.0, long_ms=36 * HOUR_MS).spans == 25


@pytest.mark.parametrize(
    ("entry", "exit_", "symbol", "wanted"),
    [
        pytest.param([0, 10, 20], [9, 19, 29], None, 3.0, id="one after the other"),
        pytest.param([0, 0], [9, 9], None, 1.0, id="the same time twice"),
        pytest.param([0, 0], [9, 9], ("a", "b"), 2.0, id="on two symbols"),
        pytest.param([0, 5], [9, 14], None, 1.5, id="half of each shared"),
        pytest.param([0, 0, 100], [0, 0, 100], None, 2.0, id="no longer than a moment"),
        pytest.param([0, 2, 1_000], [9, 5, 1_009], None, (0.6 + 0.2) + 0.5 + 1.0, id="one inside another"),
    ],
)
def test_independent_rows(entry: list[int], exit_: list[int], symbol: tuple[str, ...] | None, wanted: float) -> None:
    assert independent_rows(np.array(entry), np.array(exit_), symbol) == pytest.approx(wanted)


def test_no_skill_is_seldom_claimed_at_any_look() -> None:
    """Forecasts that stray from the truth by chance, looked at after every fifty outcomes."""
    claimed = 0
    for world in range(60):
        rng = np.random.default_rng(100 + world)
        won = rng.random(1_000) < 0.5
        # Right half of the time in what it says: its true skill is not above 0.
        said, base = 0.5 + 0.05 * rng.choice([-1.0, 1.0], 1_000), np.full(1_000, 0.5)
        life = lives(1_000)
        looks = range(150, 1_001, 50)
        claimed += any(
            brier_skill(said[:n], base[:n], won[:n], **{name: one[:n] for name, one in life.items()}).shown
            for n in looks
        )
    # Allowed is one in five.
    assert claimed <= 12


def test_what_is_refused() -> None:
    good = {"probability": np.full(2, 0.5), "base": np.full(2, 0.5), "won": np.array([True, False]), **lives(2)}
    for broken in (
        {"probability": np.array([0.5, 1.5])},
        {"base": np.array([0.5, np.nan])},
        {"won": np.array([True])},
        {"exit_ms": np.array([-1, 0])},
        {"symbol": ("a",)},
        {"confidence": 0.5},
    ):
        with pytest.raises(ValueError, match=r".+"):
            brier_skill(**(good | broken))
    sure = brier_skill(np.ones(2), np.ones(2), np.ones(2, dtype=bool), **lives(2))
    assert (sure.skill, sure.shown) == (0.0, False)
