"""One namespace in memory with everything that acts on it: signals in, candles in, reports in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from decision.answer import Answer
from persistence.memory_store import MemoryStore
from persistence.store import ClockKind, Fact, Store, StoredPosition
from runtime.follow import Ended, Follower
from runtime.judge import Judge
from runtime.report import Reports
from signals.candle import Candle
from signals.profile import DEFAULT_PROFILES, TREND, Limits, Profile
from signals.reasons import Reason

T0 = 1_704_067_200_000  # 2024-01-01 00:00 UTC
STEP = 300_000
HOUR = 3_600_000
SYMBOL = "BTCUSDT"
GOOD: Mapping[str, float] = {
    "trend_slope_pct": 6.0,
    "ema_stack_score": 60.0,
    "break_dist_atr": 0.3,
    "range_expansion": 1.3,
    "atr_pct": 0.4,
}
"""All four rules of the trend heuristic hold: 90 points."""
BAD: Mapping[str, float] = dict.fromkeys(GOOD, 0.0)
"""None of them holds: 50 points."""
UNLIMITED = Limits(open_positions=0, per_symbol=0, executes_per_minute=0, daily_loss_r=0.0, daily_loss_money=0.0)
FREE = replace(TREND, limits=UNLIMITED)


def payload(name: str = "s1", *, good: bool = True, **changes: Any) -> dict[str, object]:
    """A long from 100 at midnight, stop 98, target 104; ``...`` drops a field."""
    made: dict[str, object] = {
        "id": name,
        "strategy": "trend",
        "symbol": SYMBOL,
        "side": "long",
        "entry": 100.0,
        "sl": 98.0,
        "tp": 104.0,
        "ts": T0,
        "features": dict(GOOD if good else BAD),
        **changes,
    }
    return {field: value for field, value in made.items() if value is not ...}


def short(name: str = "s1", **changes: Any) -> dict[str, object]:
    """The same signal seen in a mirror at 100."""
    levels: dict[str, Any] = {"side": "short", "sl": 102.0, "tp": 96.0}
    return payload(name, **levels | changes)


def bar(index: int, ohlc: str = "100 101 99 100", *, start: int = T0, final: bool = True) -> Candle:
    """The candle at a place, ``open high low close``."""
    open_, high, low, close = (float(word) for word in ohlc.split())
    return Candle(start + index * STEP, open_, high, low, close, 1.0, final)


class Scene:
    """A namespace on a settable clock (``live``), or on the clock of its candles."""

    def __init__(self, *profiles: Profile, live: bool = False, store: Store | None = None, **following: Any) -> None:
        self.memory = MemoryStore(wall_ms=T0)
        self.memory.create(ClockKind.LIVE if live else ClockKind.DATA, now_ms=T0)
        self.memory.advance_clock(T0)
        self.store: Store = self.memory if store is None else store
        named = {profile.name: profile for profile in profiles}
        self.profiles = dict(DEFAULT_PROFILES) | (named or {FREE.name: FREE})
        ticks = iter(range(1_000_000))
        self.judge = Judge(self.store, self.profiles, watch=lambda: next(ticks) / 1_000)
        self.following = {"volatility_timeframes": ()} | following
        self.follower = self.new_follower()
        self.reports = Reports(self.store)

    def new_follower(self) -> Follower:
        """A follower that knows only the store, as after a restart."""
        return Follower(self.store, self.profiles, **self.following)

    def ask(self, payload: object) -> Answer:
        """Judge."""
        return self.judge.judge(payload)

    def open(self, name: str = "s1", *, claim: bool = False, **changes: Any) -> StoredPosition:
        """A position from a signal: executed when it is claimed, else whatever its features make of it."""
        answer = self.ask(payload(name, **changes))
        if answer.position_id is None:
            raise LookupError(f"{name}: {answer.reasons}")
        if claim and self.store.claim(name, "engine", now_ms=self.store.now_ms()) is not Reason.CLAIM_GO:
            raise LookupError(f"{name} was not given")
        return self.position(name)

    def feed(self, candles: Iterable[Candle], timeframe: str = "5m", symbol: str = SYMBOL) -> list[Ended]:
        """Hand candles over as they come."""
        return [ended for candle in candles for ended in self.follower.candle(symbol, timeframe, candle)]

    def play(self, *lines: str, first: int = 0) -> list[Ended]:
        """Consecutive candles from a place on."""
        return self.feed(bar(first + place, line) for place, line in enumerate(lines))

    def pass_time(self, to_ms: int) -> list[Ended]:
        """Let the clock run with no candle."""
        self.memory.advance_clock(to_ms)
        self.memory.wall_ms = max(self.memory.wall_ms, to_ms)
        return self.follower.sweep(to_ms)

    def position(self, name: str = "s1") -> StoredPosition:
        """A position that must be there."""
        found = self.store.position(name)
        if found is None:
            raise LookupError(name)
        return found

    def result(self, name: str = "s1") -> dict[str, Any]:
        """How a position ended, as recorded."""
        told = self.position(name).result
        if told is None:
            raise LookupError(f"{name} is open")
        found: dict[str, Any] = json.loads(told)
        return found

    def facts(self, *kinds: str) -> list[Fact]:
        """Facts of some kinds in order."""
        return [fact for fact in self.memory.facts if fact.kind in kinds]

    def counts(self) -> Counter[str]:
        """Candle counts by reason code alone."""
        found: Counter[str] = Counter()
        for name, count in self.store.candle_counts().items():
            found[name.rpartition("|")[2]] += count
        return found

    def number(self, tail: str, strategy: str = "trend") -> int:
        """A counter of a strategy."""
        return int(self.memory.state.strings.get(f"ml:{strategy}:{tail}", "0"))

    def rates(self, strategy: str = "trend") -> Sequence[str]:
        """The win-rate list, newest first."""
        return self.memory.state.lists.get(f"phantom:wr:{strategy}", [])
