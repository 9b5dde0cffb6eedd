"""The follower watches where the price goes after every entry, also when the position is long over."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from phantom.reach import HORIZON, path_from, walked
from phantom.record import terms_from
from signals.candle import Candle
from signals.errors import Transient
from tests.support.scene import FREE, HOUR, STEP, SYMBOL, T0, Scene, bar
from tests.unit.runtime.test_follow import Failing, scene_clock

STOPPED = "100 100.5 97.5 98"
RISING = "98 104.5 98 104"


def candles(n: int = HORIZON + 3, *, but: int = -1) -> list[Candle]:
    """Stopped in the third, two R ahead in the fiftieth, quiet otherwise."""
    lines = {2: STOPPED, 49: RISING}
    return [bar(place, lines.get(place, "100 101 99 100")) for place in range(n) if place != but]


def opened(**following: Any) -> Scene:
    scene = Scene(**following)
    scene.open("phantom", good=False)
    scene.open("executed", claim=True)
    return scene


def recorded(scene: Scene) -> dict[str, dict[str, object]]:
    return {fact.fields["sid"]: json.loads(fact.body) for fact in scene.facts("path")}


def test_the_path_goes_on_after_the_position_and_is_told_when_the_horizon_has_passed() -> None:
    scene = opened()
    scene.feed(candles(HORIZON - 1))
    assert not scene.position("phantom").open
    assert scene.facts("path") == []
    scene.feed(candles()[HORIZON - 1 :])
    assert sorted(recorded(scene)) == ["executed", "phantom"]
    row = recorded(scene)["phantom"]
    assert (row["entry_ms"], row["known_ms"]) == (T0, T0 + HORIZON * STEP)
    assert (row["with_at"], row["against_at"], row["candles"]) == ([50, 50], [3, 0], HORIZON)
    assert row == recorded(scene)["executed"] | {"id": "phantom"}
    (fact, _) = scene.facts("path")
    assert fact.at_ms == T0 + HORIZON * STEP
    assert scene.follower.oldest_needed_ms() is None
    assert [json.loads(text)["id"] for text in scene.store.paths("trend")] == [json.loads(text)["id"] for text in
        [fact.body for fact in scene.facts("path")]]  # fmt: skip


def test_it_is_what_the_rule_says_of_the_same_candles() -> None:
    scene = opened()
    scene.feed(candles())
    terms = terms_from(json.loads(scene.position("phantom").terms))
    assert path_from(recorded(scene)["phantom"]) == walked(terms, candles())


@pytest.mark.parametrize("after", [1, 3, 60, HORIZON - 1, HORIZON])
def test_a_restart_that_has_the_candles_changes_nothing(after: int) -> None:
    straight, broken = opened(), opened()
    straight.feed(candles())
    broken.feed(candles()[:after])
    broken.follower = broken.new_follower()
    broken.feed(candles())
    assert recorded(broken) == recorded(straight)
    assert broken.store.awaiting_path(SYMBOL) == []


def test_a_restart_that_has_not_leaves_the_path_unknown_and_counted() -> None:
    scene = opened()
    scene.feed(candles()[:60])
    scene.follower = scene.new_follower()
    scene.feed(candles()[60:])
    assert {name: row["candles"] for name, row in recorded(scene).items()} == {"phantom": 60, "executed": 60}
    assert scene.store.paths("trend") == []
    assert scene.store.metrics("trend")["path|unknown|n"] == 2
    assert scene.store.awaiting_path(SYMBOL) == []


def test_a_hole_in_the_feed_is_not_guessed() -> None:
    scene = opened(window=0)
    scene.feed(candles(but=70))
    assert scene.store.metrics("trend")["path|unknown|n"] == 2
    late = opened(window=0)
    # The horizon's own last candle is missing: the next one tells that it is over.
    late.feed(candles(but=HORIZON - 1))
    assert late.store.metrics("trend")["path|unknown|n"] == 2


def test_a_signal_judged_late_is_measured_from_its_entry() -> None:
    scene = Scene(replace(FREE, max_age_ms=12 * HOUR))
    scene.feed(candles()[:100])
    scene.open("late", good=False)
    scene.feed(candles()[100:])
    assert recorded(scene)["late"]["with_at"] == [50, 50]


@pytest.mark.parametrize("lost_reply", [False, True], ids=["command lost", "reply lost"])
def test_a_connection_lost_while_it_is_recorded_changes_nothing(lost_reply: bool) -> None:
    straight = opened()
    straight.feed(candles())
    for at in range(1, 40):
        store = Failing(at=at, lost_reply=lost_reply)
        scene = Scene(store=store)
        scene.memory = store
        store.create(scene_clock(), now_ms=T0)
        store.advance_clock(T0)
        scene.open("phantom", good=False)
        scene.open("executed", claim=True)
        scene.feed(candles()[: HORIZON - 1])
        store.armed, place, failed = True, HORIZON - 1, False
        while place < HORIZON + 3:
            try:
                scene.feed([candles()[place]])
                place += 1
            except Transient:
                failed = True
        store.armed = False
        assert recorded(scene) == recorded(straight)
        if not failed:
            assert at > 10
            return
    raise AssertionError("never ran through")
