"""Which thresholds decide is the profile's word: a table learned under another one never passes for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from learning.promote import Decline, Declined
from persistence.memory_store import MemoryStore
from persistence.redis_store import RedisStore
from qscore.table import ThresholdTable
from runtime.judge import Judge
from runtime.shelf import Shelf
from runtime.tables import heuristic_table, read_table, spelled
from runtime.train import Trainer
from signals.method import Method, Methods
from signals.profile import Profile, ThresholdMode
from tests.support.loop import KEY, PROFILE, World

Patch = pytest.MonkeyPatch
SPEC = replace(PROFILE, method=Methods())
EVIDENCE = replace(SPEC, method=Methods(thresholds=Method.EVIDENCE))
CAUTIOUS = replace(EVIDENCE, threshold_mode=ThresholdMode.CAUTIOUS)


@pytest.fixture(params=["memory", "redis"])
def world(request: pytest.FixtureRequest, redis_client: redis.Redis, namespace: str, monkeypatch: Patch) -> World:
    said = Declined(Decline.AUC, "AUC 0.41")
    monkeypatch.setattr("runtime.train.fit_candidate", lambda *_, **__: said)
    return World(MemoryStore(namespace) if request.param == "memory" else RedisStore(redis_client, namespace))


def under(world: World, profile: Profile) -> None:
    """Another start of everything, with other settings."""
    profiles = {profile.name: profile}
    world.judge = Judge(world.store, profiles, shelf=Shelf(world.store, KEY))
    world.trainer = Trainer(world.store, profiles, KEY)


def in_force(world: World) -> ThresholdTable:
    address = world.store.training("scalp").table
    assert address is not None
    text = world.store.table("scalp", address)
    assert text is not None
    return read_table(address, text)


def test_another_mode_is_learned_anew_and_lets_nothing_pass_until_then(world: World) -> None:
    under(world, EVIDENCE)
    world.live(60)
    world.trainer.answer("scalp")
    assert in_force(world).policy == EVIDENCE.threshold_policy
    assert world.ask(0.9, id="asked-0")["threshold_source"] in ("qscore", "ev")
    # By the seed rule, which looks at no mode, the same table serves.
    under(world, SPEC)
    assert world.ask(0.9, id="asked-1")["threshold_source"] in ("qscore", "ev")
    assert world.trainer.due() == []
    under(world, CAUTIOUS)
    refused = world.ask(0.9, id="asked-2")
    assert refused["action"] == "phantom"
    assert "MODEL_DEGRADED" in str(refused["reasons"])
    assert world.trainer.due() == [], "one number of outcomes teaches one table"
    world.live(1)
    assert world.trainer.due() == ["scalp"]
    world.trainer.answer("scalp")
    assert in_force(world).policy == CAUTIOUS.threshold_policy
    assert world.trainer.due() == []
    assert world.ask(0.9, id="asked-3")["threshold_source"] in ("qscore", "ev")


def test_a_required_badge_closes_before_anything_is_shown(world: World) -> None:
    under(world, replace(SPEC, require_badge=True))
    answer = world.ask(0.9, id="asked-4")
    assert (answer["action"], answer["threshold_source"]) == ("phantom", "static")
    world.judge = Judge(world.store, {"scalp": replace(SPEC, require_badge=True)})
    assert world.ask(0.9, id="asked-5")["action"] == "phantom", "a judge without a shelf has no badge to show either"


def test_the_rules_table_is_held_to_the_one_in_force(world: World, monkeypatch: Patch) -> None:
    asked: list[ThresholdTable | None] = []

    def spied(*given: object, **named: object) -> ThresholdTable:
        asked.append(named["incumbent"])  # type: ignore[arg-type]
        return heuristic_table(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("runtime.train.heuristic_table", spied)
    under(world, EVIDENCE)
    world.live(60)
    world.trainer.answer("scalp")
    first = in_force(world)
    world.live(30)
    world.trainer.attempt("scalp")
    assert asked[0] is None
    assert asked[1:] == [first] * (len(asked) - 1)
    assert len(asked) > 1
    assert spelled(in_force(world)) != spelled(first)
