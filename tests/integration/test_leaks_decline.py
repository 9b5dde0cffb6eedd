"""A leak ends an attempt like any other decline: recorded with its sentence, the incumbent stays, the loop goes on."""

from __future__ import annotations

import json

import pytest

from persistence.memory_store import MemoryStore
from tests.support.loop import World


def test_an_engine_that_knows_the_outcome_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(MemoryStore("leaks"))
    world.live(60)
    first = world.trainer.attempt("scalp")
    assert first.address
    incumbent = world.store.training("scalp").bundle
    for _ in range(100):
        won = bool(world.rng.random() < 0.5)
        world.ask(0.5, features={**world.features(0.5), "volume_ratio": won + float(world.rng.random()) / 2})
        world.candle(won)
    second = world.trainer.attempt("scalp")
    assert (second.address, second.reason) == ("", "LEAK_SUSPECT")
    assert "volume_ratio (LEAK_SUSPECT) is known with the outcome" in second.detail
    training = world.store.training("scalp")
    assert training.bundle == incumbent
    assert training.next_at == second.next_at > training.completed
    told = [json.loads(text) for text in world.store.attempts("scalp").values()]
    assert [row["reason"] for row in told] == ["LEAK_SUSPECT"]
    assert "newest" in told[0]["detail"]
    # The next signal is still answered by the incumbent.
    assert world.ask(0.9)["bundle"] == incumbent
