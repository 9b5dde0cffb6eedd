"""The loop from the command line: train, look, go back and forth."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from learning.fit import fit_candidate
from learning.promote import Decline, Declined
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
    for step in ("THRESHOLDS", "CALIBRATION", "ENSEMBLE"):
        monkeypatch.setenv(f"PENUMBRA_PROFILES__SCALP__METHOD__{step}", "spec")
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
    rolling = found["rolling"]
    assert (rolling["window"], rolling["whole"]["n"]) == (200, 60)
    assert rolling["whole"]["win_rate_low"] < rolling["whole"]["win_rate"] < rolling["whole"]["win_rate_high"]
    # No model has spoken, so there is no probability to judge.
    assert rolling["forecasts"] is None
    assert (
        sum(count for name, count in found["counters"].items() if name.startswith("session|") and name.endswith("|n"))
        == 60
    )
    page = penumbra("patterns", "scalp").output
    assert "the last 200 outcomes" in page
    assert "no calibrated win probability" in page


def test_outcomes_say_how_positions_end(world: World) -> None:
    assert "no outcome" in penumbra("outcomes", "scalp").output
    world.live(30)
    world.ask(0.9)
    found = json.loads(penumbra("outcomes", "scalp", "--json").output)
    everything = found["groups"]["all"]
    wins = everything["win_rate_of_decisive"] * 30
    last = everything["incidence"][-1]
    assert (everything["n"], everything["decisive"]) == (30 + everything["n_open"], 30)
    # Each of them ended with its first candle, so nothing was lost from sight before.
    assert last["tp"]["share"] + last["sl"]["share"] == pytest.approx(1.0)
    assert last["tp"]["share"] == pytest.approx(wins / 30)
    assert last["timeout"]["share"] == 0.0
    assert last["tp"]["low_iid"] < last["tp"]["share"] < last["tp"]["high_iid"]
    assert everything["mean_r_with_marks"]["value"] == pytest.approx((3.0 * wins - 30) / 30)
    page = penumbra("outcomes", "scalp").output
    assert "open ones counted as not ended yet" in page
    assert "phantom" in page


def test_importance_and_patterns_are_kept_with_every_attempt(world: World) -> None:
    world.live(120)
    first = json.loads(penumbra("retrain", "scalp").output)
    world.live(30)
    # As fitted and measured, then declined: what its fold heads looked at is kept all the same.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "runtime.train.fit_candidate",
            partial(fit_candidate, rule=lambda metrics: Declined(Decline.AUC, "told so", metrics)),
        )
        second = json.loads(penumbra("retrain", "scalp").output)
    third = json.loads(penumbra("retrain", "scalp").output)
    assert (first["reason"], second["reason"], third["reason"]) == (None, "LEARN_AUC", None)

    history = json.loads(penumbra("patterns", "scalp", "--json").output)["importance"]
    assert [(row["attempt"], row["bundle"], row["reason"]) for row in history] == [
        (1, first["bundle"], None),
        (2, None, "LEARN_AUC"),
        (3, third["bundle"], None),
    ]
    for row in history:
        assert sum(row["importance"].values()) == pytest.approx(1.0)
        assert row["importance"]["impulse_ratio"] == max(row["importance"].values())
    assert history[0]["importance"] != history[2]["importance"]
    counts = [sum(n for name, (n, _, _) in row["patterns"].items() if name.startswith("hour|")) for row in history]
    assert counts == [120, 150, 150]
    page = penumbra("patterns", "scalp").output
    assert "LEARN_AUC" in page
    assert first["bundle"][:12] in page
    assert "Brier of" in page


def test_thresholds_without_a_bundle(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Declined(Decline.AUC, "AUC 0.41", importance={"impulse_ratio": 1.0})
    monkeypatch.setattr("runtime.train.fit_candidate", lambda *_, **__: said)
    world.live(60)
    assert json.loads(penumbra("retrain", "scalp").output)["reason"] == "LEARN_AUC"
    rows = json.loads(penumbra("thresholds", "scalp", "--json").output)
    whole = [row for row in rows if row["bucket"] == "all"]
    assert {(row["method"], row["in_force"]) for row in whole} == {("spec", True), ("evidence", False)}
    (everything,) = (row for row in whole if row["in_force"])
    assert (everything["scores"], everything["n"], everything["clamp"]) == ("heuristic", 60, "60–95")
    assert everything["wins"] + everything["losses"] == 60
    # Wins of 2 R and losses of 1 R break even at a third.
    assert (everything["W"], everything["L"], everything["p_min"]) == (2.0, 1.0, pytest.approx(1 / 3))
    assert 60.0 <= everything["threshold"] <= 95.0
    page = penumbra("thresholds", "scalp").output
    assert "heuristic" in page
    assert "60–95" in page
    history = json.loads(penumbra("patterns", "scalp", "--json").output)["importance"]
    assert history[0]["importance"] == {"impulse_ratio": 1.0}


def test_a_refused_bundle_is_shown(world: World, redis_client: redis.Redis) -> None:
    world.live(120)
    address = json.loads(penumbra("retrain", "scalp").output)["bundle"]
    assert "refused" not in penumbra("models", "scalp").output
    redis_client.set(world.store.keys.bundle_bytes(address), b"PNMBNDL")  # type: ignore[attr-defined]
    assert world.ask(0.9)["action"] == "phantom"
    page = penumbra("models", "scalp").output
    assert "BUNDLE_CORRUPT" in page
    assert "still in force" in page
    (row,) = json.loads(penumbra("models", "scalp", "--json").output)
    assert row["refused"] == ["BUNDLE_CORRUPT 7 bytes"]


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
