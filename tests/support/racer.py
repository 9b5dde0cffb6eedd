"""One of several processes that race for the same slot: ``python -m tests.support.racer URL NAMESPACE KIND NAME ...``.

``mutant`` looks first and commits without the check, as a gate would whose limits were not part of its commits.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import redis

from decision.decide import Action
from persistence.connection import connect
from persistence.redis_store import RedisStore
from signals.profile import Limits
from signals.reasons import Reason
from tests.support.stores import SECOND, T0, UNLIMITED, signal

NOW = T0 + SECOND
RACERS = 8
ROUNDS = 6
LIMITS = {
    "open": replace(UNLIMITED, open_positions=1),
    "symbol": replace(UNLIMITED, per_symbol=1),
    "rate": replace(UNLIMITED, executes_per_minute=1),
}


def meet(client: redis.Redis, place: str) -> None:
    """Wait until every racer has come to a place."""
    if client.incr(f"{place}:come") == RACERS:
        client.rpush(f"{place}:go", *range(RACERS))
    if client.blpop([f"{place}:go"], timeout=60) is None:
        raise TimeoutError(place)


def _taken(store: RedisStore, kind: str) -> int:
    """What a check outside the commit would look at."""
    keys, client = store.keys, store.client
    if kind == "symbol":
        return int(client.hget(keys.executed_symbols(), "BTCUSDT") or 0)
    return int(client.zcard({"open": keys.executed(), "rate": keys.executes(), "orders": keys.claimed()}[kind]))


def race(url: str, namespace: str, kind: str, name: str, *, mutant: bool) -> int:
    """Race for one slot a round; returns how many were won."""
    won = 0
    with connect(url, timeout_s=90.0) as client:
        for number in range(ROUNDS):
            store = RedisStore(client, f"{namespace}-{number}")
            mine = f"{kind}-{name}"
            if kind == "orders":
                store.decide(signal(mine, now_ms=NOW, limits=UNLIMITED))
            meet(client, f"{namespace}-{number}:race:start")
            limits = LIMITS.get(kind, UNLIMITED)
            if mutant:
                free = _taken(store, kind) < 1
                meet(client, f"{namespace}-{number}:race:looked")
                if not free:
                    continue
                limits = UNLIMITED
            won += _act(store, kind, mine, limits)
    return won


def _act(store: RedisStore, kind: str, mine: str, limits: Limits) -> bool:
    if kind == "orders":
        return store.claim(mine, mine, now_ms=NOW) is Reason.CLAIM_GO
    return store.decide(signal(mine, now_ms=NOW, limits=limits)).decision.action is Action.EXECUTE


def load(url: str, namespace: str, name: str, count: int) -> int:
    """Decide and claim without pause; returns how many orders were given."""
    given = 0
    with connect(url, timeout_s=30.0) as client:
        store = RedisStore(client, namespace)
        meet(client, f"{namespace}:race:start")
        for number in range(count):
            mine = f"{name}-{number}"
            store.decide(signal(mine, now_ms=NOW, limits=UNLIMITED))
            given += store.claim(mine, name, now_ms=NOW) is Reason.CLAIM_GO
    return given


if __name__ == "__main__":
    url, namespace, kind, name, how = sys.argv[1:]
    if kind == "load":
        print(load(url, namespace, name, int(how)))
    else:
        print(race(url, namespace, kind, name, mutant=how == "mutant"))
