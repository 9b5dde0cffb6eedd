"""The stack that everybody writes first, hurt in the same way: stock RQ, one JSON value, dependent commands.

``python -m scripts.chaos.naive closer`` is its follower; its worker is RQ's own. Nothing of Penumbra runs in it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import psycopg
import redis

ACTIVE, TRADES, COMPLETED, CANDLES = "naive:active", "naive:trades", "naive:completed", "naive:candles"
QUEUE = "naive"
JOB = "scripts.chaos.naive.on_signal"


def _redis() -> Any:
    # As the documentation says: default time-outs, default retries.
    return redis.Redis.from_url(os.environ["NAIVE_REDIS_URL"], decode_responses=True)


def on_signal(signal: dict[str, Any]) -> str:
    """The job: put the position among the active ones."""
    server = _redis()
    active = json.loads(server.get(ACTIVE) or "{}")
    active[signal["id"]] = signal
    server.set(ACTIVE, json.dumps(active))
    return "execute"


def close_by(server: Any, record: Any, symbol: str, high: float, low: float) -> None:
    """One candle: end what it ends, and count it."""
    active = json.loads(server.get(ACTIVE) or "{}")
    for signal_id, signal in list(active.items()):
        if signal["symbol"] != symbol:
            continue
        top, bottom = max(signal["tp"], signal["sl"]), min(signal["tp"], signal["sl"])
        if low > bottom and high < top:
            continue
        won = (high >= top) == (signal["side"] == "long")
        server.rpush(TRADES, json.dumps({"id": signal_id, "outcome": "win" if won else "loss"}))
        server.incr(COMPLETED)
        record.execute("insert into naive_trades values (%s, %s)", (signal_id, "win" if won else "loss"))
        del active[signal_id]
        server.set(ACTIVE, json.dumps(active))


def closer() -> None:
    """Follow candles for ever."""
    server = _redis()
    with psycopg.connect(os.environ["NAIVE_POSTGRES_DSN"], autocommit=True) as record:
        record.execute("create table if not exists naive_trades (id text, outcome text)")
        while True:
            popped = server.blpop(CANDLES, timeout=1)
            if popped is not None:
                symbol, high, low = json.loads(popped[1])
                close_by(server, record, symbol, high, low)


if __name__ == "__main__" and sys.argv[1:] == ["closer"]:
    closer()
