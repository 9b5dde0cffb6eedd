"""Breakers of the store on Redis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import redis

from persistence.breaker_store import Inputs
from persistence.breakers import (
    HISTORY_KEPT,
    LATENCIES_KEPT,
    RESETTABLE,
    SECOND_MS,
    WATCHED,
    feed_field,
    intact,
    whole_limits,
)
from persistence.connection import text
from persistence.keys import Keys
from persistence.store import CLOCK_SKEW_MS, ClockKind
from signals.breaker import Thresholds
from signals.timeday import utc_day


class RedisBreakers:
    """The part of ``RedisStore`` that keeps what breakers read; what they do is in the scripts."""

    keys: Keys
    client: redis.Redis

    def clock_kind(self) -> ClockKind:
        raise NotImplementedError

    def exists(self) -> bool:
        raise NotImplementedError

    def _ask(self, command: Callable[[], object]) -> Any:
        raise NotImplementedError

    def _run(self, name: str, keys: Mapping[str, str], args: Mapping[str, str | int]) -> Any:
        raise NotImplementedError

    def _breaker_keys(self) -> dict[str, str]:
        """What closes and fills move."""
        return {"breakers": self.keys.breakers(), "history": self.keys.breaker_history()}

    def _standing_keys(self, now_ms: int) -> dict[str, str]:
        """What is asked before an order."""
        return {
            **self._breaker_keys(),
            "claimed": self.keys.claimed(),
            "latencies": self.keys.latencies(),
            "seen": self.keys.market_seen(),
            "day": self.keys.day(utc_day(now_ms)),
        }

    def configure_breakers(self, thresholds: Thresholds, *, now_ms: int) -> bool:
        args: dict[str, str | int] = {f"limit_{name}": value for name, value in whole_limits(thresholds).items()}
        # Asked before the script asks: a process that changes nothing needs no right to change it.
        found: Any = self._ask(lambda: self.client.hgetall(self.keys.breakers()))
        entry = {text(name): text(value) for name, value in found.items()}
        if intact(entry) and all(entry[name] == str(value) for name, value in args.items()):
            return True
        if not intact(entry) and self.exists():
            return False
        return bool(self._run("configure", self._breaker_keys(), args | {"now": now_ms}))

    def reset_breaker(self, name: str, *, actor: str, expected: int, now_ms: int) -> bool:
        if name not in RESETTABLE:
            return False
        args: dict[str, str | int] = {"name": name, "by": actor, "expected": expected, "now": now_ms}
        return bool(self._run("reset", {**self._breaker_keys(), "slips": self.keys.slips()}, args))

    def see_candle(self, symbol: str, step_ms: int, closes_ms: int, *, now_ms: int) -> None:
        seen: Any = {feed_field(symbol, step_ms): closes_ms, WATCHED: now_ms}
        self._ask(lambda: self.client.hset(self.keys.market_seen(), mapping=seen))

    def watch_breakers(self, *, now_ms: int) -> None:
        self._run("watch", self._standing_keys(now_ms), {"skew": CLOCK_SKEW_MS, "now": now_ms})

    def breaker_inputs(self, *, now_ms: int) -> Inputs:
        pipe: Any = self.client.pipeline(transaction=True)
        pipe.hgetall(self.keys.breakers())
        pipe.zcount(self.keys.claimed(), f"({now_ms - SECOND_MS}", "+inf")
        pipe.lrange(self.keys.latencies(), 0, LATENCIES_KEPT - 1)
        pipe.hgetall(self.keys.market_seen())
        pipe.lrange(self.keys.breaker_history(), 0, HISTORY_KEPT - 1)
        pipe.hmget(self.keys.day(utc_day(now_ms)), "r_micro", "money_micro")
        entry, orders, latencies, seen, history, results = self._ask(pipe.execute)
        r, money = (-int(result or 0) for result in results)
        return Inputs(
            entry={text(name): text(value) for name, value in entry.items()},
            orders=int(orders),
            latencies=tuple(text(word) for word in latencies),
            seen={text(name): text(value) for name, value in seen.items()},
            losses=(r, money),
            history=tuple(text(line) for line in history),
            data_clock=self.clock_kind() is ClockKind.DATA,
        )
