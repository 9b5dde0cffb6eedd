"""Rolling figures worked by hand, and against the counters that every close keeps."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from learning.example import Example
from learning.patterns import brief_patterns, find_patterns
from learning.rolling import rolling
from persistence.memory_store import MemoryStore
from signals.profile import Kind
from tests.support.lessons import lessons
from tests.support.loop import World

DAY_MS = 86_400_000


def made(**changes: Any) -> Example:
    return replace(lessons(1)[0], **changes)


def four() -> list[Example]:
    """Two days, three executed; 3 R, −1 R, −1 R, 1 R."""
    rows = (
        ("a", True, 3.0, Kind.EXECUTED, 100.0, 0.9, 0),
        ("b", False, -1.0, Kind.EXECUTED, 61.0, 0.4, 0),
        ("c", False, -1.0, Kind.PHANTOM, 69.9, None, 1),
        ("d", True, 1.0, Kind.EXECUTED, 0.0, 0.6, 1),
    )
    return [
        made(
            id=name, won=won, net_r=net_r, kind=kind, score=score, win_probability=said,
            ts=day * DAY_MS + 5, entry_ms=day * DAY_MS + 5, exit_ms=day * DAY_MS + 10 + place,
        )
        for place, (name, won, net_r, kind, score, said, day) in enumerate(rows)
    ]  # fmt: skip


def test_by_hand() -> None:
    found = rolling(four())
    assert found.whole is not None
    assert (found.whole.n, found.whole.wins, found.whole.win_rate, found.whole.mean_r) == (4, 2, 0.5, 0.5)
    # Days of 2 R and 0 R: deviations of 1 and −1 around a mean of 0.5 a trade, so an error of sqrt(2 · 2 / 1) / 4 and
    # Student's 12.706 for one degree of freedom.
    assert found.whole.mean_r_high_days == pytest.approx(0.5 + 12.7062047 * math.sqrt(4.0) / 4.0)
    assert {name: (rate.n, rate.wins, rate.mean_r) for name, rate in found.kinds.items()} == {
        "executed": (3, 2, 1.0),
        "phantom": (1, 0, -1.0),
    }
    assert {low: (rate.n, rate.wins) for low, rate in found.bands.items()} == {0: (1, 1), 60: (2, 0), 90: (1, 1)}
    # (0.01 + 0.16 + 0.16) / 3 against 2/3 · 1/3.
    said = found.forecasts
    assert said is not None
    assert said.n == 3
    figures = [said.brier, said.base_rate, said.base_brier, said.skill]
    assert figures == pytest.approx([0.11, 2 / 3, 2 / 9, 0.505])


def test_the_window_holds_the_latest_by_exit_in_whatever_order_they_come() -> None:
    shuffled = four()
    random.Random(3).shuffle(shuffled)  # noqa: S311 - a test's dice
    assert rolling(shuffled) == rolling(four())
    last = rolling(shuffled, window=2)
    assert last.whole is not None
    assert (last.whole.n, last.whole.wins, last.whole.mean_r) == (2, 1, 0.0)
    assert last == rolling(four()[2:], window=2)


def test_nothing_gives_nothing_and_one_class_no_skill() -> None:
    empty = rolling([])
    assert (empty.whole, empty.kinds, empty.bands, empty.forecasts) == (None, {}, {}, None)
    assert empty.record["whole"] is None
    one = rolling(four()[:1])
    assert one.forecasts is not None
    assert one.forecasts.skill is None
    assert one.whole is not None
    assert one.whole.mean_r_low_iid is None
    with pytest.raises(ValueError, match="window"):
        rolling([], window=0)


@pytest.mark.parametrize("bad", [math.nan, -1.0, 101.0, None])
def test_a_score_outside_its_range_is_in_no_band(bad: float | None) -> None:
    found = rolling([made(score=bad, win_probability=bad)])
    assert found.bands == {}
    assert found.forecasts is None
    assert found.whole is not None


def test_brief_patterns_are_those_of_the_page() -> None:
    known = lessons(80)
    brief = brief_patterns(known)
    assert sum(n for name, (n, _, _) in brief.items() if name.startswith("hour|")) == 80
    wins = sum(wins for name, (_, wins, _) in brief.items() if name.startswith("session|"))
    assert wins == sum(example.won for example in known)
    assert brief_patterns([]) == {}


def test_counters_of_the_closes_are_the_patterns_of_the_rows() -> None:
    world = World(MemoryStore("t"))
    world.live(60)
    counted = world.store.metrics("scalp")
    examples = world.trainer.examples("scalp")
    page = find_patterns(
        {"ts": e.ts, "outcome": "win" if e.won else "loss", "net_r": e.net_r, "bucket": e.bucket} for e in examples
    )
    groups = [group for group in page.groups if group.dimension.value in ("hour", "session", "volatility")]
    assert len(groups) > 5
    for group in groups:
        name = f"{group.dimension.value}|{group.group}"
        assert (counted[f"{name}|n"], counted[f"{name}|wins"]) == (group.n, group.wins)
        assert counted[f"{name}|r_micro"] / 1e6 / group.n == pytest.approx(group.mean_r.value)
    kinds = {name: count for name, count in counted.items() if name.startswith("phantom|") and name.endswith("|n")}
    assert sum(kinds.values()) == 60
