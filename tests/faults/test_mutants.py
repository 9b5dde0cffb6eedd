"""Each named fault of the product is noticed by the check that is there for it, and by nothing that is not there."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import redis

from runtime.embedded import EmbeddedServers
from tests.support.mutants import MUTANTS, Caught, Ground, Mutant
from tests.support.races import RACES, race


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_mutant_is_killed(servers: EmbeddedServers, redis_client: redis.Redis, mutant: Mutant) -> None:
    with ExitStack() as stack:
        mutant.killer(Ground(servers.redis_url, "sound", stack))
    with ExitStack() as stack, mutant.applied(), pytest.raises(Caught):
        mutant.killer(Ground(servers.redis_url, "mutant", stack))


def test_without_the_closed_check_every_dangerous_order_goes_wrong(
    servers: EmbeddedServers, redis_client: redis.Redis
) -> None:
    careless = next(mutant for mutant in MUTANTS if mutant.name == "no closed check")
    pair = next(pair for pair in RACES if pair.name == "close/close, two reports")
    with careless.applied():
        tally = race(servers.redis_url, pair, "careless")
    print(f"no closed check: wrong in {tally.wrong_after_reading} of {tally.read_first} orders with both reads first")
    assert tally.wrong_after_reading == tally.read_first > 0


def test_there_are_enough_of_them() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 12


def test_a_pattern_that_is_gone_is_an_error(servers: EmbeddedServers) -> None:
    gone = Mutant("gone", "close.lua", "no such text", "", lambda _ground: None)
    with ExitStack() as stack, gone.applied(), pytest.raises(LookupError, match="no such text"):
        Ground(servers.redis_url, "gone", stack).store()
