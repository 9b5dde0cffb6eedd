"""Redis is killed and comes back, and Redis hangs: every process goes on by itself, and an engine hears soon."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from persistence.store import ClockKind
from runtime import embedded
from runtime.clock import pause, stopwatch
from runtime.settings import Settings
from runtime.wiring import Wiring
from scripts.processes import Processes
from signals.candle import Candle
from signals.errors import Transient
from signals.reasons import Reason
from worker.client import Client

STEP_MS = 300_000
START_MS = 1_704_067_200_000
GOOD = {"trend_slope_pct": 6.0, "ema_stack_score": 60.0, "break_dist_atr": 0.3, "range_expansion": 1.3, "atr_pct": 0.4}
BACK_S = 10.0
SOON_S = 5.0
HANGS_S = 10.0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "own"
    embedded.remove(tmp_path / "own")


@pytest.fixture
def wiring(folder: Path, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Wiring]:
    """A Redis of this test's own, which it may kill."""
    monkeypatch.setenv("PENUMBRA_REDIS_URL", embedded.start_valkey(folder).url)
    monkeypatch.setenv("PENUMBRA_POSTGRES_URL", postgres_dsn)
    monkeypatch.setenv("PENUMBRA_SIGNING_KEY", hashlib.sha256(b"of this test").hexdigest())
    monkeypatch.setenv("PENUMBRA_PROFILES__TREND__LIMITS__PER_SYMBOL", "0")
    monkeypatch.setenv("PENUMBRA_PROFILES__TREND__LIMITS__EXECUTES_PER_MINUTE", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    made = Wiring(Settings.load())
    made.ensure_namespace(ClockKind.DATA)
    yield made
    made.close()


def payload(name: str) -> dict[str, object]:
    return {
        "id": name, "strategy": "trend", "symbol": "BTCUSDT", "side": "long", "entry": 100.0, "tp": 104.0, "sl": 98.0,
        "ts": START_MS + STEP_MS, "features": GOOD,
    }  # fmt: skip


def patiently(work: Callable[[], Any], seconds: float) -> tuple[Any, float]:
    """Ask until there is an answer; what it was and how long it took."""
    began = stopwatch()
    while True:
        try:
            found = work()
        except (Transient, redis.RedisError):
            found = None
        if found:
            return found, stopwatch() - began
        assert stopwatch() - began < seconds, "not back in time"
        pause(0.05)


def everything_works(wiring: Wiring, engine: Client, name: str, seconds: float) -> dict[str, float]:
    """A signal is answered and claimed, a candle is followed, facts arrive in Postgres; how long each took."""
    took: dict[str, float] = {}
    answer, took["worker"] = patiently(lambda: engine.ask(payload(name), 1.0), seconds)
    assert answer["action"] == "execute", answer
    assert engine.claim(name) is Reason.CLAIM_GO
    place, _ = patiently(lambda: engine.candle("BTCUSDT", "5m", Candle(START_MS, 100.0, 100.5, 99.5, 100.0, 1.0)), 5.0)
    _, took["follower"] = patiently(lambda: engine.await_followed(place, 1.0), seconds)

    def recorded() -> bool:
        with psycopg.connect(wiring.postgres_dsn) as connection:
            sql = "select count(*) from penumbra.facts where namespace = %s and id = %s"
            row = connection.execute(sql, (wiring.namespace, f"claimed:{name}")).fetchone()
        return row is not None and row[0] == 1

    _, took["relay"] = patiently(recorded, seconds)
    return took


def test_redis_is_killed_and_hangs_and_everybody_goes_on(
    wiring: Wiring, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Client(wiring.redis_url, namespace=wiring.namespace, profiles=wiring.profiles)
    with Processes(tmp_path / "logs", {}) as processes:
        for name in ("worker", "relay", "follow", "train"):
            processes.start(name, [name])
        trainer = tmp_path / "logs" / "train.log"
        patiently(lambda: "waiting for boundaries" in trainer.read_text(), 40.0)
        engine.candle("BTCUSDT", "5m", Candle(START_MS, 100.0, 100.5, 99.5, 100.0, 1.0))
        everything_works(wiring, engine, "before", 30.0)
        assert engine.answer("before") is not None

        server = embedded.status(folder).redis_pid
        assert server is not None
        os.kill(server, signal.SIGKILL)
        with pytest.raises(Transient):
            engine.submit(payload("lost"))
        pause(2.0)
        embedded.start_valkey(folder)
        killed = everything_works(wiring, engine, "after-kill", BACK_S)
        # What was acknowledged is there.
        assert engine.answer("before") is not None
        assert engine.claim("before") is Reason.CLAIM_GO

        server = embedded.status(folder).redis_pid
        assert server is not None
        os.kill(server, signal.SIGSTOP)
        try:
            waits = _while_it_hangs(wiring, engine)
        finally:
            os.kill(server, signal.SIGCONT)
        hung = everything_works(wiring, engine, "after-hang", SOON_S)
        processes.check()
    with capsys.disabled():
        shown = {"kill": killed, "hang": hung, "engine while it hangs": waits}
        print({what: {name: round(value, 2) for name, value in found.items()} for what, found in shown.items()})


def _while_it_hangs(wiring: Wiring, engine: Client) -> dict[str, float]:
    began, waits = stopwatch(), dict[str, float]()
    asked: dict[str, Callable[[], object]] = {
        "submit": lambda: engine.submit(payload("hung")),
        "answer": lambda: engine.answer("before"),
        "claim": lambda: engine.claim("before"),
    }
    for name, ask in asked.items():
        asked_at = stopwatch()
        with pytest.raises(Transient):
            ask()
        waits[name] = stopwatch() - asked_at
    assert max(waits.values()) <= 0.5
    # The control: the library's own client is still waiting when an engine has long had its no.
    stock = redis.Redis(unix_socket_path=urlsplit(wiring.redis_url).path)
    asking = threading.Thread(target=stock.get, args=("anything",))
    asking.start()
    asking.join(timeout=HANGS_S - (stopwatch() - began))
    assert asking.is_alive()
    return waits
