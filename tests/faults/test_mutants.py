"""Each named fault of the product is noticed by the check that is there for it, and by nothing that is not there."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import redis

from runtime.embedded import EmbeddedServers
from tests.support.mutants import MUTANTS, Caught, Ground, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_mutant_is_killed(servers: EmbeddedServers, redis_client: redis.Redis, mutant: Mutant) -> None:
    with ExitStack() as stack:
        mutant.killer(Ground(servers.redis_url, "sound", stack))
    with ExitStack() as stack, mutant.applied(), pytest.raises(Caught):
        mutant.killer(Ground(servers.redis_url, "mutant", stack))


def test_there_are_enough_of_them() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 12


def test_a_pattern_that_is_gone_is_an_error(servers: EmbeddedServers) -> None:
    gone = Mutant("gone", "close.lua", "no such text", "", lambda _ground: None)
    with ExitStack() as stack, gone.applied(), pytest.raises(LookupError, match="no such text"):
        Ground(servers.redis_url, "gone", stack).store()
