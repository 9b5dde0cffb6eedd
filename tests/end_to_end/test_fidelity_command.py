"""``penumbra fidelity`` over a record: decided, claimed, filled, followed, carried to Postgres, read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from persistence.outbox import Relay
from persistence.redis_store import RedisStore
from persistence.store import ClockKind
from runtime.embedded import EmbeddedServers
from runtime.follow import Follower
from runtime.judge import Judge
from runtime.report import Reports
from runtime.settings import Settings
from runtime.wiring import Wiring
from scripts.cli import main
from signals.breaker import NO_BREAKERS
from signals.profile import DEFAULT_PROFILES
from tests.support.loop import KEY
from tests.support.scene import FREE, STEP, T0, bar, payload

DAY = 86_400_000
DAYS = 6


def penumbra(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), catch_exceptions=False)


@pytest.fixture
def store(
    servers: EmbeddedServers,
    postgres_dsn: str,
    redis_client: redis.Redis,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> RedisStore:
    monkeypatch.setenv("PENUMBRA_REDIS_URL", servers.redis_url)
    monkeypatch.setenv("PENUMBRA_POSTGRES_URL", postgres_dsn)
    monkeypatch.setenv("PENUMBRA_SIGNING_KEY", KEY.decode())
    monkeypatch.setenv("PENUMBRA_NAMESPACE", namespace)
    monkeypatch.chdir(tmp_path)
    made = RedisStore(redis_client, namespace)
    made.create(ClockKind.DATA, now_ms=T0)
    assert penumbra("migrate").exit_code == 0
    return made


def traded(store: RedisStore, slip: float) -> None:
    """Two signals a day that pass and one that is refused; the engine is filled worse than the candles by a slip."""
    # History is fed as it comes: no candle stands before the first signal of a day.
    store.configure_breakers(NO_BREAKERS, now_ms=T0)
    profiles = dict(DEFAULT_PROFILES) | {"trend": replace(FREE, costs_bps=0.0)}
    judge, follower, reports = (
        Judge(store, profiles, watch=lambda: 0.0),
        Follower(store, profiles, window=0),
        Reports(store),
    )
    for day in range(DAYS):
        start = T0 + day * DAY
        store.advance_clock(start)
        for name in ("a", "b"):
            judge.judge(payload(f"{name}{day}", ts=start))
            store.claim(f"{name}{day}", "e", now_ms=start)
            price = 100.0 + slip * (1 + day % 2)
            reports.fill({"signal_id": f"{name}{day}", "price": price, "ts": start + 1, "quantity": 1.0})
        judge.judge(payload(f"c{day}", ts=start, good=False))
        won = day % 3 == 0
        follower.candle("BTCUSDT", "5m", bar(0, "100 104.5 99.5 104" if won else "100 100.5 97.5 98", start=start))
        for name in ("a", "b"):
            exit_price, reason = (104.0, "tp") if won else (98.0, "sl")
            reports.close(
                {
                    "signal_id": f"{name}{day}",
                    "price": exit_price,
                    "ts": start + STEP,
                    "reason": reason,
                    "quantity": 1.0,
                }
            )
    wiring = Wiring(Settings.load())
    relay = Relay(wiring.client, wiring.store.keys, wiring.record)
    while relay.cycle().backlog.pending or wiring.client.xlen(wiring.store.keys.outbox()):
        pass
    wiring.close()


def test_a_worse_fill_is_found_in_the_record(store: RedisStore, tmp_path: Path) -> None:
    assert "no signal was executed" in penumbra("fidelity").output
    traded(store, slip=0.1)
    page = tmp_path / "out" / "fidelity.html"
    found = json.loads(penumbra("fidelity", "--json", "--page", str(page)).output)
    # A tenth and a fifth of the two that are one R, by turns.
    assert found["filled"]["bias_r"]["value"] == pytest.approx(-0.075)
    assert found["filled"]["bias_r"]["n"] == 2 * DAYS
    assert found["filled"]["bias_r"]["day"]["high"] < 0.0
    assert found["flagged"] is True
    assert (found["below"]["n"], found["below"]["status"]) == (DAYS, "untested below the threshold")
    assert found["counts"]["paired"] == 2 * DAYS
    assert "Phantoms look biased" in found["said"][0]
    assert "Phantoms look biased" in page.read_text("utf-8")
    told = penumbra("fidelity", "--strategy", "trend").output
    assert "session:" in told
    assert json.loads(penumbra("fidelity", "--strategy", "scalp", "--json").output)["filled"]["bias_r"]["n"] == 0
    assert penumbra("fidelity", "--strategy", "nosuch").exit_code == 2


def test_an_engine_that_repeats_the_simulation_tests_nothing(store: RedisStore) -> None:
    traded(store, slip=0.0)
    found = json.loads(penumbra("fidelity", "--json").output)
    assert found["by_construction"] is True
    assert "by construction" in found["said"][0]
