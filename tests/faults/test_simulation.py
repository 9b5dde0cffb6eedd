"""Hundreds of days with faults: what went in says what must come out."""

from __future__ import annotations

import pytest
import redis

from runtime.embedded import EmbeddedServers
from tests.faults.simulate import MUTANTS, Tally, simulate, simulate_many

SEEDS, PARTS = 520, 4


def sound(tally: Tally) -> None:
    print(tally)
    assert tally.failed == {}, f"python -m tests.faults.simulate --seeds 1 --from {min(tally.failed)}"
    assert tally.valid, "too few faults to say anything"


@pytest.mark.parametrize("part", range(PARTS))
def test_every_day_ends_as_the_rule_says(part: int) -> None:
    tally = simulate_many(range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS))
    sound(tally)
    # What makes a day worth living was in it.
    for what in (
        "execute", "phantom", "rejected", "held by a limit", "decided in a halt", "closed by simulation",
        "closed by report", "closed by unreported", "requests", "bundles", "redelivered",
    ):  # fmt: skip
        assert tally.seen[what] > 0, what


def test_the_same_seed_is_the_same_day() -> None:
    assert simulate(2) == simulate(2)


def test_the_days_on_a_server(servers: EmbeddedServers, redis_client: redis.Redis) -> None:
    tally = simulate_many(range(6), redis_url=servers.redis_url)
    print(tally)
    assert tally.failed == {}
    assert tally.on_live_work > 20


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_fault_of_ours_is_found(mutant: str) -> None:
    tally = simulate_many(range(60), mutant=mutant, enough=2)
    print(f"{mutant}: {len(tally.failed)}/{tally.seeds} days noticed it")
    assert len(tally.failed) == 2
