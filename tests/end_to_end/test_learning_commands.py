"""The loop from the command line: train, look, go back and forth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from persistence.outbox import Relay
from persistence.redis_store import RedisStore
from runtime.embedded import EmbeddedServers
from runtime.settings import Settings
from runtime.wiring import Wiring
from scripts.cli import main
from tests.support.loop import KEY, World


@pytest.fixture
def world(
    servers: EmbeddedServers,
    postgres_dsn: str,
    redis_client: redis.Redis,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    monkeypatch.setenv("PENUMBRA_REDIS_URL", servers.redis_url)
    monkeypatch.setenv("PENUMBRA_POSTGRES_URL", postgres_dsn)
    monkeypatch.setenv("PENUMBRA_SIGNING_KEY", KEY.decode())
    monkeypatch.setenv("PENUMBRA_NAMESPACE", namespace)
    monkeypatch.setenv("PENUMBRA_PROFILES__SCALP__MAX_TRAINING_ROWS", "150")
    monkeypatch.chdir(tmp_path)
    made = World(RedisStore(redis_client, namespace))
    assert CliRunner().invoke(main, ["migrate"], catch_exceptions=False).exit_code == 0
    return made


def penumbra(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), catch_exceptions=False)


def test_train_look_go_back_and_forth(world: World) -> None:
    assert "no bundle" in penumbra("models", "scalp").output
    assert "static" in penumbra("thresholds", "scalp").output
    assert penumbra("rollback", "scalp").exit_code != 0
    world.live(120)
    first = json.loads(penumbra("retrain", "scalp").output)
    assert (first["count"], first["next_at"], first["reason"]) == (120, 170, None)
    world.live(30)
    second = json.loads(penumbra("retrain", "scalp").output)

    listed = {row["bundle"]: row for row in json.loads(penumbra("models", "scalp", "--json").output)}
    assert {name: row["standing"] for name, row in listed.items()} == {
        first["bundle"]: "previous",
        second["bundle"]: "champion",
    }
    assert listed[second["bundle"]]["metrics"]["auc"] > 0.6
    assert second["bundle"][:12] in penumbra("models", "scalp").output

    rows = json.loads(penumbra("thresholds", "scalp", "--json").output)
    everything = [row for row in rows if row["bucket"] == "all"]
    assert {row["scores"] for row in everything} == {"heuristic", str(listed[second["bundle"]]["source"])}
    assert all(row["wins"] + row["losses"] == row["n"] for row in rows)
    assert "clamp" in penumbra("thresholds", "scalp").output

    assert first["bundle"] in penumbra("rollback", "scalp").output
    assert world.ask(0.9)["bundle"] == first["bundle"]
    world.candle(won=True)
    assert second["bundle"] in penumbra("promote", "scalp", second["bundle"][:10]).output
    assert world.ask(0.9)["bundle"] == second["bundle"]
    assert penumbra("promote", "scalp", "zz").exit_code != 0


def test_patterns_say_what_was_seen(world: World) -> None:
    assert "no outcome" in penumbra("patterns", "scalp").output
    world.live(60)
    found = json.loads(penumbra("patterns", "scalp", "--json").output)
    assert found["patterns"]
    assert found["importance"] == []
    assert "session" in penumbra("patterns", "scalp").output


def test_a_rebuild_brings_the_bundle_back(world: World) -> None:
    world.live(120)
    trained = json.loads(penumbra("retrain", "scalp").output)
    wiring = Wiring(Settings.load())
    relay = Relay(wiring.client, wiring.store.keys, wiring.record)
    while relay.cycle().backlog.pending or wiring.client.xlen(wiring.store.keys.outbox()):
        pass
    wiring.client.flushall()
    assert penumbra("rebuild").exit_code == 0
    assert wiring.store.training("scalp").bundle == trained["bundle"]
    world.store.advance_clock(world.store.now_ms())
    answer = world.ask(0.9)
    assert (answer["bundle"], answer["action"]) == (trained["bundle"], "phantom")
    wiring.close()
