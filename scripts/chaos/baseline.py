"""``penumbra chaos --baseline``: the stack everybody writes first, under the faults Penumbra is put under."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import redis
from rq import Queue
from rq.serializers import JSONSerializer

from runtime import embedded
from runtime.clock import pause, stopwatch
from scripts.chaos import naive
from scripts.chaos.fleet import Fleet
from scripts.chaos.market import Market

WORKERS = 4
SYMBOLS = 20
SIGNALS_PER_S = 5.0
FAULT_EVERY_S = 2.0
REST_S = 90.0
STOP_SHARE, TARGET_SHARE = 0.005, 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What was sent to the stock stack, and what it then held. All but the first two would have to be zero."""

    signals: int
    faults: int
    lost: int
    duplicate: int
    counter_drift: int
    record_drift: int

    @property
    def record(self) -> dict[str, int]:
        """The same as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


def run_baseline(data: Path, *, minutes: float, seed: int, reset_share: float, faults: bool = True) -> Baseline:
    """Run the stock stack; with ``faults`` off it must come out clean, or the comparison says nothing."""
    servers = embedded.start(data)
    sockets = Path(tempfile.mkdtemp(prefix="penumbra-naive-"))
    upstream = servers.redis_url.removeprefix("unix://").split("?", 1)[0]
    url = f"unix://{sockets}/redis.sock"
    environment = {
        "NAIVE_REDIS_URL": url,
        "NAIVE_POSTGRES_DSN": servers.postgres_dsn,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")))),
    }
    fleet = Fleet(data / "logs", environment)
    try:
        share = str(reset_share if faults else 0.0)
        cuts = f"{sockets}/cuts.json"
        fleet.add("proxy", "scripts.chaos.proxy", [f"{sockets}/redis.sock", upstream, share, str(seed), cuts])
        while not (sockets / "redis.sock").exists():
            pause(0.02)
        for number in range(WORKERS):
            serializer = ["--serializer", "rq.serializers.JSONSerializer"]
            fleet.add(f"worker-{number}", "rq.cli", ["worker", "--url", url, *serializer, naive.QUEUE])
        fleet.add("closer", "scripts.chaos.naive", ["closer"])
        with redis.Redis.from_url(servers.redis_url, decode_responses=True) as direct:
            sent, struck = _play(fleet, url, direct, minutes, seed, faults=faults)
            return _count(direct, servers.postgres_dsn, sent, struck)
    finally:
        fleet.stop()
        embedded.stop(data)


def _play(fleet: Fleet, url: str, direct: Any, minutes: float, seed: int, *, faults: bool) -> tuple[list[str], int]:
    chance = np.random.default_rng([seed, 80])
    seconds = int(minutes * 60)
    market = Market.of(SYMBOLS, begins_ms=0, seconds=seconds + int(REST_S) + 1, seed=seed)
    queue = Queue(naive.QUEUE, connection=redis.Redis.from_url(url), serializer=JSONSerializer)
    sent: list[str] = []
    struck = second = 0
    began = next_fault_s = stopwatch()
    if faults:
        fleet.send("proxy", signal.SIGUSR1)
    while (elapsed := stopwatch() - began) < seconds + REST_S:
        fleet.supervise()
        if elapsed >= second:
            for symbol in market.symbols:
                candle = market.candle(symbol, second)
                direct.rpush(naive.CANDLES, json.dumps([symbol, candle.high, candle.low]))
            second += 1
        hurting = faults and elapsed < seconds
        if elapsed < seconds and elapsed * SIGNALS_PER_S > len(sent):
            sent.append(_send(queue, market, second, len(sent), chance))
        if hurting and stopwatch() >= next_fault_s:
            next_fault_s = stopwatch() + FAULT_EVERY_S
            victims = [*fleet.names("worker"), "closer"]
            struck += fleet.kill(victims[int(chance.integers(len(victims)))])
        if faults and not hurting:
            fleet.send("proxy", signal.SIGUSR2)
        if (
            elapsed > seconds
            and direct.llen(naive.CANDLES) == 0
            and direct.llen(f"rq:queue:{naive.QUEUE}") == 0
            and elapsed > seconds + 60.0
        ):
            break
        pause(0.01)
    return sent, struck


def _send(queue: Queue, market: Market, second: int, number: int, chance: np.random.Generator) -> str:
    symbol = market.symbols[int(chance.integers(SYMBOLS))]
    entry = market.candle(symbol, max(0, second - 1)).close
    sign = 1 if chance.random() < 0.5 else -1
    payload = {
        "id": f"n{number}",
        "symbol": symbol,
        "side": "long" if sign > 0 else "short",
        "tp": entry * (1 + sign * TARGET_SHARE),
        "sl": entry * (1 - sign * STOP_SHARE),
    }
    while True:
        try:
            queue.enqueue(naive.JOB, payload)
        except redis.RedisError:
            # What any producer does with an error: it tries again.
            pause(0.1)
        else:
            return f"n{number}"


def _count(direct: Any, dsn: str, sent: list[str], struck: int) -> Baseline:
    trades = [json.loads(row)["id"] for row in direct.lrange(naive.TRADES, 0, -1)]
    active = set(json.loads(direct.get(naive.ACTIVE) or "{}"))
    with psycopg.connect(dsn) as record:
        rows = [str(row[0]) for row in record.execute("select id from naive_trades")]
    times, recorded = Counter(trades), Counter(rows)
    return Baseline(
        signals=len(sent),
        faults=struck,
        lost=sum(name not in times and name not in active for name in sent),
        duplicate=sum(number - 1 for number in times.values()),
        counter_drift=abs(int(direct.get(naive.COMPLETED) or 0) - len(times)),
        record_drift=sum(abs(times[name] - recorded[name]) for name in times.keys() | recorded.keys()),
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        found = run_baseline(
            Path(place), minutes=float(sys.argv[1]), seed=1, reset_share=0.01, faults="calm" not in sys.argv
        )
        sys.stdout.write(json.dumps(found.record) + "\n")
