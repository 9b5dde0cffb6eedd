"""Two workers at one thing, in every order their commands can come in."""

from __future__ import annotations

from math import comb

import pytest
import redis

from persistence.connection import connect
from runtime.embedded import EmbeddedServers
from tests.support.interleave import Gates, Work, every_order
from tests.support.naive import NaiveTracker
from tests.support.races import RACES, Race, anything, race


@pytest.mark.parametrize("pair", RACES, ids=lambda pair: pair.name)
def test_no_order_breaks_a_pair(servers: EmbeddedServers, redis_client: redis.Redis, pair: Race) -> None:
    tally = race(servers.redis_url, pair, "race")
    print(tally)
    assert tally.wrong == []
    # The rig itself: all orders were tried, and the dangerous ones were among them.
    if len(tally.lengths) == 1:
        ((one, two),) = tally.lengths
        assert tally.orders == comb(one + two, one)
    assert tally.orders >= 3
    assert not pair.reads_first or tally.read_first > 0


def naive_closes(one: redis.Redis, two: redis.Redis, names: str) -> tuple[int, int]:
    """All orders of two careless closes, of one position or of two: how many there are, how many go wrong."""
    trackers: list[NaiveTracker] = []

    def scene(number: int) -> tuple[list[Work], Gates]:
        trackers[:] = [NaiveTracker(client, lambda _name, _count: None, f"{names}{number}") for client in (one, two)]
        for name in sorted({*names}):
            trackers[0].open(name)
        return [lambda: trackers[0].close(names[0]), lambda: trackers[1].close(names[1])], anything

    orders = wrong = 0
    for _ in every_order(scene):
        found = trackers[0].state()
        orders += 1
        wrong += not (found["completed"] == len({*names}) == len(found["trades"]) and found["open"] == [])
    return orders, wrong


def test_some_order_breaks_a_careless_design(servers: EmbeddedServers, redis_client: redis.Redis) -> None:
    with connect(servers.redis_url) as one, connect(servers.redis_url) as two:
        for client in (one, two):
            client.ping()
        results = {names: naive_closes(one, two, names) for names in ("aa", "ab")}
    print(f"naive closes (orders, wrong): one position {results['aa']}, two positions {results['ab']}")
    assert all(orders > wrong >= 10 for orders, wrong in results.values())
