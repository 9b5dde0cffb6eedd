"""A careless tracker, the way it is usually written first: the rigs must see it fail, or they see nothing.

One JSON value holds all open positions; trades, counter and audit row are written one after the other. It is no
straw man: it checks whether a position is still open, remembers the signals it has seen, and its audit row is unique.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis

EVERY = 3
NAMES = "abcdef"
_TABLE = "create table if not exists naive_trades (namespace text, id text, n bigint, primary key (namespace, id))"
_INSERT = "insert into naive_trades values (%s, %s, %s) on conflict do nothing"
_ROWS = "select id from naive_trades where namespace = %s order by id"


def stock_client(url: str) -> redis.Redis:
    """A client as ``redis.Redis()`` makes it: one from an address would not retry."""
    return redis.Redis(unix_socket_path=urlsplit(url).path)


class NaiveTracker:
    """Opens and closes positions with one command after the other."""

    def __init__(self, client: redis.Redis, insert: Callable[[str, int], object], namespace: str) -> None:
        self.client = client
        self.insert = insert
        self.namespace = namespace

    def key(self, name: str) -> str:
        return f"{self.namespace}:naive:{name}"

    def active(self) -> dict[str, Any]:
        found: Any = self.client.get(self.key("active"))
        loaded: dict[str, Any] = json.loads(found or "{}")
        return loaded

    def open(self, name: str) -> None:
        if self.client.sismember(self.key("seen"), name):
            return
        active = self.active()
        active[name] = {"entry": 100.0}
        self.client.set(self.key("active"), json.dumps(active))
        self.client.sadd(self.key("seen"), name)

    def close(self, name: str) -> None:
        active = self.active()
        if name not in active:
            return
        del active[name]
        self.client.set(self.key("active"), json.dumps(active))
        self.client.rpush(self.key("trades"), name)
        count = int(self.client.incr(self.key("completed")))
        if count % EVERY == 0:
            self.client.rpush(self.key("retrain"), count)
        self.insert(name, count)

    def state(self) -> dict[str, Any]:
        lists: list[Any] = [self.client.lrange(self.key(name), 0, -1) for name in ("trades", "retrain")]
        return {
            "open": sorted(self.active()),
            "trades": sorted(item.decode() for item in lists[0]),
            "retrain": [item.decode() for item in lists[1]],
            "completed": int(self.client.get(self.key("completed")) or 0),
        }


class Naive:
    """Six positions opened and closed, with a stock client that sends again what was not answered."""

    name = "naive"

    def tell(self, redis_url: str, dsn: str, namespace: str, stage: Callable[[str], None]) -> dict[str, Any]:
        with stock_client(redis_url) as client, psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(_TABLE)
            tracker = NaiveTracker(
                client, lambda name, count: connection.execute(_INSERT, (namespace, name, count)), namespace
            )
            for name in NAMES:
                stage("open")
                tracker.open(name)
            for name in NAMES:
                stage("close")
                tracker.close(name)
        return {}

    def outcome(self, redis_url: str, dsn: str, namespace: str) -> dict[str, Any]:
        with stock_client(redis_url) as client, psycopg.connect(dsn, autocommit=True) as connection:
            state = NaiveTracker(client, lambda _name, _count: None, namespace).state()
            return state | {"rows": [row[0] for row in connection.execute(_ROWS, (namespace,)).fetchall()]}

    def wrong(self, clean: dict[str, Any], found: dict[str, Any]) -> list[str]:
        return [f"{part}: {clean[part]!r} became {found[part]!r}" for part in clean if clean[part] != found[part]]

    def half_done(self, redis_url: str, dsn: str, namespace: str) -> list[str]:
        return []
