"""The straight path on real processes: producer, worker killed in between, candles, outcomes, Postgres, rebuild."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from click.testing import CliRunner, Result
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from lab.recorded import trades_of
from persistence.candle_feed import CandleFeed
from persistence.store import ClockKind
from runtime.clock import pause, stopwatch
from runtime.embedded import EmbeddedServers
from runtime.settings import Settings
from runtime.wiring import Wiring
from scripts.cli import main
from scripts.processes import Processes
from signals.candle import Candle
from signals.profile import Kind
from signals.reasons import Reason
from worker.client import Client
from worker.follow import FollowLoop

STEP_MS = 300_000
START_MS = 1_704_067_200_000  # 2024-01-01 00:00 UTC
GOOD = {"trend_slope_pct": 6.0, "ema_stack_score": 60.0, "break_dist_atr": 0.3, "range_expansion": 1.3, "atr_pct": 0.4}
MANY = 150


@pytest.fixture
def wiring(
    servers: EmbeddedServers,
    postgres_dsn: str,
    redis_client: redis.Redis,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Wiring]:
    """A namespace of this test's own on a data clock, and an environment that leads every process to it."""
    monkeypatch.setenv("PENUMBRA_REDIS_URL", servers.redis_url)
    monkeypatch.setenv("PENUMBRA_POSTGRES_URL", postgres_dsn)
    monkeypatch.setenv("PENUMBRA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PENUMBRA_NAMESPACE", namespace)
    monkeypatch.setenv("PENUMBRA_PROFILES__TREND__LIMITS__OPEN_POSITIONS", "0")
    monkeypatch.setenv("PENUMBRA_PROFILES__TREND__LIMITS__PER_SYMBOL", "0")
    monkeypatch.setenv("PENUMBRA_PROFILES__TREND__LIMITS__EXECUTES_PER_MINUTE", "0")
    monkeypatch.setenv("PENUMBRA_BREAKERS__ORDERS_PER_SECOND", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    made = Wiring(Settings.load())
    made.ensure_namespace(ClockKind.DATA)
    yield made
    made.record.close()
    made.client.close()


@pytest.fixture
def engine(wiring: Wiring) -> Client:
    return Client(wiring.redis_url, namespace=wiring.namespace, engine="test", profiles=wiring.profiles)


def payload(name: str, *, good: bool = True, ts: int = START_MS + STEP_MS, **changes: object) -> dict[str, object]:
    signal_ = {
        "id": name, "strategy": "trend", "symbol": "BTCUSDT", "side": "long", "entry": 100.0, "tp": 104.0, "sl": 98.0,
        "ts": ts, "features": GOOD if good else {"atr_pct": 0.4},
    }  # fmt: skip
    return signal_ | changes


def until(condition: Callable[[], bool], what: str, seconds: float = 40.0) -> None:
    deadline = stopwatch() + seconds
    while not condition():
        if stopwatch() > deadline:
            pytest.fail(f"not within {seconds:.0f} s: {what}")
        pause(0.02)


def candle(index: int, *, high: float = 100.5, low: float = 99.5) -> Candle:
    return Candle(START_MS + index * STEP_MS, 100.0, high, low, 100.0, 1.0)


def show(wiring: Wiring, engine: Client, index: int = 0) -> None:
    """Feed a candle and follow it: without candles nothing executes."""
    engine.candle("BTCUSDT", "5m", candle(index))
    FollowLoop(wiring.store, CandleFeed(wiring.client, wiring.store.keys), wiring.follower()).cycle()


def answered(job: Job) -> dict[str, Any] | None:
    result = job.latest_result()
    return None if result is None else result.return_value


def penumbra(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), catch_exceptions=False)


@pytest.mark.parametrize("producer_connection", ["decoded", "bytes"])
def test_a_plain_producer_gets_an_answer(
    wiring: Wiring, engine: Client, tmp_path: Path, producer_connection: str
) -> None:
    # Only what RQ's own documentation tells a producer, on a connection that decodes and on one that does not.
    connection = redis.Redis.from_url(wiring.redis_url, decode_responses=False)
    queue = Queue(f"{wiring.namespace}.signals", connection=connection, serializer=JSONSerializer)
    show(wiring, engine)
    job = queue.enqueue("worker.jobs.process_signal", payload(f"plain-{producer_connection}"))
    result = CliRunner().invoke(main, ["worker", "--burst"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    answer = answered(job)
    assert answer is not None
    assert answer["action"] == "execute"
    assert answer["position_id"] == f"plain-{producer_connection}"


def test_what_waited_ten_minutes_in_the_queue_is_expired(wiring: Wiring, engine: Client) -> None:
    queue = Queue(
        f"{wiring.namespace}.signals",
        connection=redis.Redis.from_url(wiring.redis_url),
        serializer=JSONSerializer,
    )
    show(wiring, engine)
    waited = queue.enqueue("worker.jobs.process_signal", payload("waited"))
    for index in (1, 2):
        show(wiring, engine, index)
    fresh = queue.enqueue("worker.jobs.process_signal", payload("fresh", ts=START_MS + 3 * STEP_MS))
    assert penumbra("worker", "--burst").exit_code == 0
    late, control = answered(waited), answered(fresh)
    assert late is not None
    assert control is not None
    assert (late["action"], late["reasons"][0]) == ("rejected", "SIGNAL_EXPIRED")
    assert control["action"] == "execute"
    recorded = wiring.store.decision("waited")
    assert recorded is not None
    assert Reason.SIGNAL_EXPIRED in recorded.reasons


def test_a_killed_worker_loses_nothing_and_outcomes_reach_postgres(
    wiring: Wiring, engine: Client, tmp_path: Path, postgres_dsn: str
) -> None:
    queue = Queue(
        f"{wiring.namespace}.signals",
        connection=redis.Redis.from_url(wiring.redis_url),
        serializer=JSONSerializer,
    )
    with Processes(tmp_path / "logs", {}) as processes:
        for name in ("relay", "follow"):
            processes.start(name, [name])
        # The first worker is ours to kill, so nobody may complain that it ended.
        with Processes(tmp_path / "doomed", {}) as doomed:
            pid = doomed.start("worker", ["worker", "--alone"])
            assert engine.await_followed(engine.candle("BTCUSDT", "5m", candle(0)))
            jobs = [queue.enqueue("worker.jobs.process_signal", payload(f"s{n}", good=n % 3 > 0)) for n in range(MANY)]
            until(lambda: sum(answered(job) is not None for job in jobs[:20]) >= 5, "first answers")
            os.kill(pid, signal.SIGKILL)
            before = sum(answered(job) is not None for job in jobs)
        assert before < MANY, "the worker was faster than its killer: nothing was tested"

        processes.start("worker", ["worker"])
        until(lambda: all(answered(job) is not None for job in jobs), "all answers after the kill")
        processes.check()
        answers = [answered(job) for job in jobs]
        actions = Counter(str(answer["action"]) for answer in answers if answer is not None)
        assert actions == {"execute": 100, "phantom": 50}
        assert wiring.client.zcard(wiring.store.keys.due()) == MANY

        claims = [engine.claim(f"s{n}") for n in range(MANY)]
        assert Counter(claims) == {Reason.CLAIM_GO: 100, Reason.CLAIM_NOT_EXECUTE: 50}
        engine.candle("BTCUSDT", "5m", candle(1))
        last = engine.candle("BTCUSDT", "5m", candle(2, high=104.5))
        assert engine.await_followed(last)
        for n in range(MANY):
            if n % 3 > 0:
                ts = START_MS + 3 * STEP_MS
                reply = engine.report_close(f"s{n}", price=104.0, ts=ts, reason="tp", quantity=2.0, fee=0.1)
                assert reply.reason is Reason.REPORT_ACCEPTED
        until(lambda: wiring.client.xlen(wiring.store.keys.outbox()) == 0, "the outbox to drain")
        processes.check()

    with psycopg.connect(postgres_dsn) as connection:
        rows = connection.execute(
            "select was_executed, outcome, count(*), min(realized_rr), max(realized_rr) from penumbra.phantom_trades "
            "where namespace = %s group by 1, 2 order by 1",
            (wiring.namespace,),
        ).fetchall()
    # 2 R gross; the executed ones paid 0.1 on 2 units whose risk is 2 each: 0.025 R.
    assert [(row[0], row[1], row[2]) for row in rows] == [(False, "win", 50), (True, "win", 100)]
    trades = trades_of(wiring.record.facts())
    assert Counter((trade.kind, trade.outcome) for trade in trades) == {
        (Kind.EXECUTED, "win"): 100,
        (Kind.PHANTOM, "win"): 50,
    }
    kinds = Counter(fact.kind for fact in wiring.record.facts())
    assert (kinds["decision"], kinds["opened"], kinds["closed"], kinds["claimed"]) == (MANY, MANY, MANY, 100)
    assert json.loads(penumbra("state", "ml:trend:completed_trades").output) == MANY
    # What a killed worker and three processes wrote plays again to the ledger.
    ledger = json.loads(penumbra("whatif", "--threshold", "65", "--json").stdout)["ledger"]
    assert (ledger["reproduced"], ledger["signals"], ledger["differences"]) == (MANY, MANY, [])
    assert ledger["equity_r"] == pytest.approx(100 * (2.0 - 0.025))


def test_the_operators_switch_and_a_rebuild(wiring: Wiring, engine: Client) -> None:
    show(wiring, engine)
    service = wiring.service
    assert service.judge(payload("before"))["action"] == "execute"
    assert "HALT" in penumbra("halt", "fire", "drill").output
    held = service.judge(payload("during"))
    assert (held["action"], held["reasons"][0]) == ("phantom", "MODE_HALT")  # type: ignore[index]
    assert engine.claim("before") is Reason.CLAIM_REVOKED

    looked = penumbra("on")
    assert "--confirm 2" in looked.output
    assert penumbra("on", "--confirm", "1").exit_code != 0
    assert service.judge(payload("still"))["action"] == "phantom"
    assert penumbra("on", "--confirm", "2").exit_code == 0
    assert service.judge(payload("after"))["action"] == "execute"
    assert engine.claim("after") is Reason.CLAIM_GO
    active = json.loads(penumbra("state", "phantom:active").output)
    assert [row["id"] for row in active["BTCUSDT"] if not row["was_executed"]] == ["during", "still"]

    # Out of HALT also the heuristic's mode takes two steps; into it, or from ON, one.
    assert penumbra("ml-off").exit_code == 0
    assert "HALT" in penumbra("halt").output
    assert "--confirm 5" in penumbra("ml-off").output
    assert service.judge(payload("held"))["action"] == "phantom"
    assert "ON" in penumbra("on", "--confirm", "5").output
    assert penumbra("address").output.strip() == wiring.redis_url

    drained = CliRunner()
    with Processes(Path("logs"), {}) as processes:
        processes.start("relay", ["relay"])
        until(lambda: wiring.client.xlen(wiring.store.keys.outbox()) == 0, "the outbox to drain")
    before = dict(wiring.store.dump())
    wiring.client.flushall()
    lost = service.judge(payload("lost"))
    assert (lost["action"], lost["reasons"]) == ("rejected", ["MODE_MISSING"])
    rebuilt = drained.invoke(main, ["rebuild"], catch_exceptions=False)
    assert rebuilt.exit_code == 0, rebuilt.output
    after = dict(wiring.store.dump())
    keys = wiring.store.keys
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert changed == {keys.meta(), keys.control()}
    control = wiring.store.control()
    assert control is not None
    assert (control.mode.value, control.actor) == ("HALT", "rebuild")
    engine.candle("BTCUSDT", "5m", candle(1))
    engine.candle("BTCUSDT", "5m", candle(2))
    second = service.judge(payload("second", ts=START_MS + 3 * STEP_MS))
    assert second["action"] == "phantom"
    assert service.judge(payload("before"))["action"] == "execute", "the first answer outlives a rebuild"


def test_a_halt_needs_no_postgres(wiring: Wiring, engine: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    show(wiring, engine)
    monkeypatch.setenv("PENUMBRA_POSTGRES_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    assert "HALT" in penumbra("halt").output
    assert wiring.service.judge(payload("a"))["action"] == "phantom"


def test_a_close_is_reported_under_either_id(wiring: Wiring, engine: Client) -> None:
    show(wiring, engine)
    first = wiring.service.judge(payload("a", timeframe="1h"))
    again = wiring.service.judge(payload("b", timeframe="60m"))
    assert (again["action"], again["position_id"]) == (first["action"], "a")
    assert engine.claim("b") is Reason.CLAIM_GO
    assert engine.report_close("b", price=104.0, ts=START_MS + 2 * STEP_MS, reason="tp").accepted


@pytest.mark.parametrize(("setting", "value"), [("appendonly", "no"), ("maxmemory-policy", "allkeys-lru")])
def test_a_forgetful_server_is_refused(wiring: Wiring, setting: str, value: str) -> None:
    kept = str(wiring.client.config_get(setting)[setting])
    try:
        wiring.client.config_set(setting, value)
        refused = CliRunner().invoke(main, ["migrate"])
        assert refused.exit_code == 2
        assert setting.split("-", maxsplit=1)[0] in refused.output.replace("evict", "maxmemory")
    finally:
        wiring.client.config_set(setting, kept)


def test_a_close_pays_the_costs_of_its_decision(wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENUMBRA_PROFILES__TREND__COSTS_BPS", "10")
    costly = Wiring(Settings.load())
    stranger = Client(wiring.redis_url, namespace=wiring.namespace, engine="test")
    show(wiring, stranger)
    costly.service.judge(payload("a"))
    stranger.claim("a")
    stranger.report_close("a", price=104.0, ts=START_MS + 2 * STEP_MS, reason="tp")
    position = wiring.store.position("a")
    assert position is not None
    assert position.result is not None
    # 4 of price on a risk of 2, less 10 basis points of 100 on that risk.
    assert json.loads(position.result)["net_r"] == pytest.approx(2.0 - 0.05)
    costly.close()
