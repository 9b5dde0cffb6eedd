"""Live state as JSON, under the founding names and under its own."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import redis

from persistence.connection import as_failure, text
from persistence.keys import BUCKETS_VIEW, POSITIONS_VIEW
from persistence.records import position_from
from persistence.redis_store import RedisStore
from persistence.store import RETENTION_MS, StoredPosition
from signals.profile import Kind

COMPLETED_SHOWN = 1_000
STREAM_SHOWN = 100
_WHOLE = re.compile(r"0|-?[1-9]\d{0,15}")
_DECIMAL = re.compile(r"-?\d{1,15}\.\d{1,17}")


def view(store: RedisStore, key: str) -> object:
    """The value of a key as JSON; none when there is nothing under it.

    ``phantom:active``, ``phantom:completed``, their ``scalp_phantom:`` twins and ``ml:{strategy}:ev_buckets`` are put
    together on request; every other key is read as it is. The namespace may be left out of the key.
    """
    head = f"{store.keys.namespace}:" if store.keys.namespace else ""
    bare = key.removeprefix(head)
    try:
        if found := POSITIONS_VIEW.fullmatch(bare):
            prefix, which = found.groups()
            return active(store, prefix) if which == "active" else completed(store, prefix)
        if found := BUCKETS_VIEW.fullmatch(bare):
            return ev_buckets(store, found[1])
        return raw(store.client, head + bare)
    except redis.RedisError as error:
        raise as_failure(error) from error


def active(store: RedisStore, prefix: str) -> dict[str, list[dict[str, object]]]:
    """Open positions of a state prefix by symbol, oldest first."""
    members: Any = store.client.zrange(store.keys.open(prefix), 0, -1)
    by_symbol: dict[str, list[dict[str, object]]] = {}
    for position in _positions(store, members):
        by_symbol.setdefault(position.symbol, []).append(_open(position))
    return by_symbol


def _open(position: StoredPosition) -> dict[str, object]:
    terms: dict[str, object] = json.loads(position.terms)
    return terms | {
        "id": position.signal_id,
        "strategy": position.strategy,
        "symbol": position.symbol,
        "was_executed": position.kind is Kind.EXECUTED,
        "claimed_by": position.claimed_by,
        "unclaimed": position.unclaimed,
        "opened_at": position.opened_at,
        "version": position.version,
        "track": json.loads(position.track),
    }


def completed(store: RedisStore, prefix: str) -> list[dict[str, object]]:
    """The last 1000 closed positions of a state prefix within 30 days, oldest first, corrections laid over."""
    since = store.now_ms() - RETENTION_MS
    newest: Any = store.client.zrevrangebyscore(store.keys.closed(prefix), "+inf", since, start=0, num=COMPLETED_SHOWN)
    return [_closed(position) for position in _positions(store, newest[::-1])]


def _closed(position: StoredPosition) -> dict[str, object]:
    told: dict[str, object] = json.loads(position.correction or position.result or "{}")
    return told | {
        "id": position.signal_id,
        "symbol": position.symbol,
        "was_executed": position.kind is Kind.EXECUTED,
        "closed_at": position.closed_at,
        "corrected": position.correction is not None,
    }


def _positions(store: RedisStore, members: Sequence[bytes | str]) -> list[StoredPosition]:
    pipe = store.client.pipeline(transaction=False)
    for member in members:
        pipe.hgetall(store.keys.by_member(text(member)))
    # One may be forgotten by age between the two reads.
    return [position_from(_texts(entry)) for entry in pipe.execute() if entry]


def ev_buckets(store: RedisStore, strategy: str) -> dict[str, dict[str, object]]:
    """What the learner's trades say by bucket: wins, losses and their averages net of costs, in R and percent.

    An average loss is negative unless losses made money. A bucket without wins or without losses has none to average.
    """
    rows: Any = store.client.lrange(store.keys.trades(strategy), 0, -1)
    # A timeout that a later report made a win or a loss counts as one.
    rows += store.client.lrange(store.keys.timeouts(strategy), 0, -1)
    found: Any = store.client.hgetall(store.keys.corrections(strategy))
    corrections = _texts(found)
    taken: dict[str, dict[bool, list[dict[str, Any]]]] = {}
    for row in rows:
        trade = json.loads(row)
        corrected = corrections.get(trade["id"])
        if corrected is not None:
            if not corrected:  # it turned out to be nothing the learner takes
                continue
            trade = json.loads(corrected)
        if trade["outcome"] not in ("win", "loss"):
            continue
        bucket = taken.setdefault(trade["bucket"], {True: [], False: []})
        bucket[trade["outcome"] == "win"].append(trade)
    return {name: _bucket(halves[True], halves[False]) for name, halves in sorted(taken.items())}


def _bucket(wins: Sequence[Mapping[str, Any]], losses: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    return {
        "wins": len(wins),
        "losses": len(losses),
        "average_win_r": _mean(wins, "net_r"),
        "average_loss_r": _mean(losses, "net_r"),
        "average_win_percent": _mean(wins, "pnl_percent"),
        "average_loss_percent": _mean(losses, "pnl_percent"),
    }


def _mean(trades: Sequence[Mapping[str, Any]], name: str) -> float | None:
    return math.fsum(trade[name] for trade in trades) / len(trades) if trades else None


def raw(client: redis.Redis, key: str) -> object:
    """A key as it is, whatever its type; of a stream the newest entries."""
    kind = text(client.type(key))
    any_client: Any = client
    if kind == "hash":
        return {name: _json(value) for name, value in sorted(_shown(any_client.hgetall(key)).items())}
    if kind == "list":
        return [_json(_show(item)) for item in any_client.lrange(key, 0, -1)]
    if kind == "zset":
        return {_show(member): _number(score) for member, score in any_client.zrange(key, 0, -1, withscores=True)}
    if kind == "set":
        return sorted(_show(member) for member in any_client.smembers(key))
    if kind == "stream":
        newest = any_client.xrevrange(key, count=STREAM_SHOWN)[::-1]
        return [{"entry": text(name)} | {n: _json(v) for n, v in _shown(entry).items()} for name, entry in newest]
    value = any_client.get(key)
    return None if value is None else _json(_show(value))


def _json(value: str) -> object:
    """Text as the JSON it spells, when it certainly does: an id of digits and an ``e`` is not a number."""
    if value[:1] in ("{", "["):
        try:
            decoded: object = json.loads(value)
        except ValueError:
            return value
        return decoded
    if _WHOLE.fullmatch(value):
        return int(value)
    return float(value) if _DECIMAL.fullmatch(value) else value


def _number(score: float) -> float:
    return int(score) if score.is_integer() else score


def _texts(entry: Mapping[bytes | str, bytes | str]) -> dict[str, str]:
    return {text(name): text(value) for name, value in entry.items()}


def _show(value: bytes | str) -> str:
    # Not everything in Redis is ours: a job of the queue may hold compressed bytes.
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _shown(entry: Mapping[bytes | str, bytes | str]) -> dict[str, str]:
    return {_show(name): _show(value) for name, value in entry.items()}
