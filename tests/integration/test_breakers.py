"""Breakers end to end on real servers: shown, reset in two steps, rebuilt, and the switch that outlives restarts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from persistence.breakers import generation
from persistence.candle_feed import CandleFeed
from persistence.outbox import Relay
from persistence.rebuild import rebuild
from persistence.store import ClockKind, Mode
from runtime import embedded
from runtime.embedded import EmbeddedServers
from runtime.settings import Settings
from runtime.wiring import Wiring
from scripts.cli import main
from signals.reasons import Reason
from tests.support.scene import STEP, T0, bar, payload
from worker.follow import FollowLoop, candle_text


@pytest.fixture
def wiring(
    servers: EmbeddedServers,
    postgres_dsn: str,
    redis_client: redis.Redis,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Wiring]:
    monkeypatch.setenv("PENUMBRA_REDIS_URL", servers.redis_url)
    monkeypatch.setenv("PENUMBRA_POSTGRES_URL", postgres_dsn)
    monkeypatch.setenv("PENUMBRA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PENUMBRA_NAMESPACE", namespace)
    monkeypatch.setenv("PENUMBRA_BREAKERS__DRAWDOWN_R", "2")
    monkeypatch.setenv("PENUMBRA_BREAKERS__LOSING_STREAK", "2")
    monkeypatch.chdir(tmp_path)
    made = Wiring(Settings.load())
    made.ensure_namespace(ClockKind.DATA)
    yield made
    made.close()


def candle(wiring: Wiring, index: int = 0) -> None:
    """Feed a candle and follow it."""
    text = candle_text(bar(index))
    wiring.store.feed("BTCUSDT", "5m", text, T0 + (index + 1) * STEP)
    FollowLoop(wiring.store, CandleFeed(wiring.client, wiring.store.keys), wiring.follower()).cycle()


def penumbra(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), catch_exceptions=False)


def shown() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(penumbra("breakers", "--json").output)
    return found


def states() -> dict[str, str]:
    return {row["name"]: row["state"] for row in shown()["breakers"]}


def lose(wiring: Wiring, name: str) -> None:
    answer = wiring.service.judge(payload(name, ts=T0 + STEP))
    assert answer["action"] == "execute", answer["reasons"]
    assert wiring.service.claim(name, "me") is Reason.CLAIM_GO
    report = {"signal_id": name, "price": 98.0, "ts": T0 + STEP, "reason": "sl", "quantity": 1.0}
    assert wiring.service.close(report).accepted


def test_a_drawdown_is_shown_and_reset_in_two_steps(wiring: Wiring) -> None:
    # Nothing executes before a candle has been followed.
    wiring.store.advance_clock(T0)
    blind = wiring.service.judge(payload("blind"))
    assert (blind["action"], blind["reasons"][:2]) == ("phantom", ["DATA_STALE_FEED", "DATA_STALE_BREAKERS"])  # type: ignore[index]
    candle(wiring)
    assert states()["drawdown_r"] == "clear"
    assert states()["drawdown_money"] == states()["slippage"] == states()["latency"] == "not armed"
    for name in ("a", "b"):
        lose(wiring, name)
    found = shown()
    rows = {row["name"]: row for row in found["breakers"]}
    drawdown = rows["drawdown_r"]
    assert (drawdown["state"], drawdown["value"], drawdown["limit"], drawdown["unit"]) == ("tripped", 2.0, 2.0, "R")
    assert drawdown["since_ms"] == T0 + STEP
    assert rows["drawdown_money"]["unarmed"] == "no starting_equity is set"
    assert "fills" in rows["slippage"]["unarmed"]
    assert [(turn["name"], turn["change"]) for turn in found["history"][:2]] == [
        ("losing_streak", "tripped"),
        ("drawdown_r", "tripped"),
    ]
    held = wiring.service.judge(payload("c", ts=T0 + STEP))
    assert (held["action"], held["reasons"][0]) == ("phantom", "BREAKER_DRAWDOWN_R")  # type: ignore[index]
    assert "tripped" in penumbra("breakers").output

    looked = penumbra("breakers", "reset", "drawdown_r")
    assert looked.exit_code == 0
    looked_at = drawdown["confirm"]
    assert f"--confirm {looked_at}" in looked.output
    assert penumbra("breakers", "reset", "drawdown_r", "--confirm", str(looked_at - 1)).exit_code == 2
    assert CliRunner().invoke(main, ["breakers", "reset", "latency", "--confirm", str(looked_at)]).exit_code == 2
    assert states()["drawdown_r"] == "tripped"
    assert penumbra("breakers", "reset", "drawdown_r", "--confirm", str(looked_at)).exit_code == 0
    assert states()["drawdown_r"] == "clear"
    assert shown()["history"][0]["change"] == "reset"
    assert shown()["history"][0]["by"].startswith("cli:")
    assert wiring.service.judge(payload("d", ts=T0 + STEP))["action"] == "execute"


def test_breakers_come_back_exactly(wiring: Wiring) -> None:
    candle(wiring)
    for name in ("a", "b"):
        lose(wiring, name)
    store, keys = wiring.store, wiring.store.keys
    assert not store.reset_breaker("losing_streak", actor="me", expected=0, now_ms=T0 + STEP)
    looked = generation(store.breaker_inputs(now_ms=T0).entry, "losing_streak")
    assert store.reset_breaker("losing_streak", actor="me", expected=looked, now_ms=T0 + STEP)
    store.set_mode(Mode.HALT, actor="me", reason="drill", now_ms=T0 + STEP)
    relay = Relay(wiring.client, keys, wiring.record)
    relay.ensure_group()
    while relay.cycle(500).read:
        pass
    before = dict(store.dump())
    assert any("breakers" in key for key in before)
    wiring.client.flushall()
    rebuild(wiring.client, keys, wiring.record)
    after = dict(store.dump())
    apart = {keys.meta(), keys.control()}
    assert {key: value for key, value in after.items() if key not in apart} == {
        key: value for key, value in before.items() if key not in apart
    }


def test_a_namespace_from_before_breakers_gets_them_with_a_rebuild(wiring: Wiring) -> None:
    old = Wiring(wiring.settings, namespace=f"{wiring.namespace}-old")
    store, keys = old.store, old.store.keys
    store.create(ClockKind.DATA, now_ms=T0)
    store.set_mode(Mode.HALT, actor="me", reason="upgrade", now_ms=T0)
    wiring.client.delete(keys.breakers())
    old.ensure_namespace(ClockKind.DATA)
    assert not wiring.client.exists(keys.breakers())
    assert penumbra("rebuild", "--namespace", old.namespace).exit_code == 0
    assert "thresholds" not in {fact.kind for fact in old.record.facts()}
    assert store.breaker_inputs(now_ms=T0).entry["limit_drawdown_r"] == "2000000"
    old.close()


def test_a_deleted_breaker_state_blocks_until_it_is_rebuilt(wiring: Wiring) -> None:
    candle(wiring)
    lose(wiring, "a")
    store, keys = wiring.store, wiring.store.keys
    wiring.client.delete(keys.breakers())
    held = wiring.service.judge(payload("b", ts=T0 + STEP))
    assert (held["action"], held["reasons"][0]) == ("phantom", "BREAKER_MISSING")  # type: ignore[index]
    # Starting again does not forget the loss: only the record knows it.
    wiring.ensure_namespace(ClockKind.DATA)
    assert wiring.service.judge(payload("c", ts=T0 + STEP))["action"] == "phantom"
    assert shown()["generation"] is None
    assert CliRunner().invoke(main, ["breakers", "reset", "drawdown_r"]).exit_code == 2
    penumbra("halt")
    rebuild(wiring.client, keys, wiring.record)
    assert store.breaker_inputs(now_ms=T0).entry["equity_r"] == "-1000000"
    control = store.control()
    assert control is not None
    assert penumbra("on", "--confirm", str(control.generation)).exit_code == 0
    assert wiring.service.judge(payload("d", ts=T0 + STEP))["action"] == "execute"


@pytest.mark.parametrize("order", list(itertools.permutations(["valkey", "postgres", "processes"])))
def test_a_halt_outlives_restarts_in_any_order(
    wiring: Wiring, servers_folder: Path, order: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    candle(wiring)
    assert wiring.service.judge(payload("before", ts=T0 + STEP))["action"] == "execute"
    assert "HALT" in penumbra("halt", "drill").output
    halted = wiring.store.control()
    parts = wiring
    for part in order:
        if part == "valkey":
            embedded.stop_valkey(servers_folder)
            embedded.start_valkey(servers_folder)
        elif part == "postgres":
            embedded.stop_postgres(servers_folder)
            embedded.start_postgres(servers_folder)
        else:
            parts = Wiring(Settings.load())
            parts.ensure_namespace(ClockKind.DATA)
    fresh = Wiring(Settings.load())
    fresh.ensure_namespace(ClockKind.DATA)
    assert fresh.store.control() == halted
    assert fresh.service.judge(payload("after", ts=T0 + STEP))["action"] == "phantom"
    assert fresh.service.claim("before", "me") is Reason.CLAIM_REVOKED
    for made in {id(parts): parts, id(fresh): fresh}.values():
        if made is not wiring:
            made.close()
