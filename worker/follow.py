"""The process that follows positions: candles from the stream, one by one, through the follower."""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence

from persistence.candle_feed import CandleFeed, FedCandle, place_order
from persistence.redis_store import RedisStore
from persistence.store import CLOCK_SKEW_MS, ClockKind, StateMissing
from runtime.clock import pause, stopwatch
from runtime.follow import KEPT_CANDLES, Ended, Follower
from signals.candle import Candle
from signals.errors import Invalid, Transient
from signals.reasons import Reason
from signals.signal import LATEST_TS, SYMBOL_PATTERN, require
from signals.timeframe import timeframe_ms

BATCH = 500
BLOCK_MS = 200
IDLE_SWEEP_S = 1.0
PRUNE_EVERY_S = 600.0
TRIM_EVERY = 1_000
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
BEGINNING = "0-0"
HIGHEST = 1e15
"""No price or volume is larger; beyond it arithmetic on a bad tick would overflow."""

log = logging.getLogger(__name__)
OnEnd = Callable[[Ended], None]


class FollowLoop:
    """Reads the stream from its beginning: every position knows the last candle it has seen, so nothing runs twice."""

    def __init__(
        self, store: RedisStore, feed: CandleFeed, follower: Follower, *, on_end: OnEnd = lambda _ended: None
    ) -> None:
        self.store = store
        self.feed = feed
        self.follower = follower
        self._on_end = on_end
        self._cursor = self._marked = BEGINNING
        self._in_doubt = False
        self._latest_ms = LATEST_TS
        self._read: deque[tuple[str, int]] = deque()
        self._since_trim = 0
        self._swept_s = -math.inf
        self._pruned_s = -math.inf

    def run(self, stop: Callable[[], bool]) -> None:
        """Follow until ``stop`` says so; a lost connection is waited out, whatever else goes wrong is loud."""
        wait_s = FIRST_PAUSE_S
        while not stop():
            begun = self._cursor
            try:
                self.cycle(block_ms=BLOCK_MS)
                wait_s = FIRST_PAUSE_S
            except (Transient, StateMissing) as error:
                self._in_doubt = True
                if self._cursor != begun:
                    # Candles went through: a connection that breaks now and then is not a server that is away.
                    log.warning("following goes on after: %s", error)
                    wait_s = FIRST_PAUSE_S
                    continue
                log.warning("following pauses %.1f s: %s", wait_s, error)
                pause(wait_s)
                wait_s = min(2 * wait_s, LONGEST_PAUSE_S)

    def cycle(self, *, block_ms: int = 0) -> int:
        """Take what has come; returns how many candles.

        After an error call it again: the entry it broke off at is taken again, and every step recognises its replay.
        """
        if self._in_doubt or stopwatch() - self._swept_s >= IDLE_SWEEP_S:
            self._begin_again_if_lost()
        if self._cursor != self._marked:
            # What a turn that broke off has taken is taken: whoever waits for it must see that.
            self.feed.mark(self._cursor)
            self._marked = self._cursor
        entries = self.feed.read(self._cursor, count=BATCH, block_ms=block_ms)
        if self.store.clock_kind() is ClockKind.LIVE:
            self._latest_ms = self.store.now_ms() + CLOCK_SKEW_MS
        for entry in entries:
            self._take(entry)
            self._cursor = entry.place
        if entries:
            self.feed.mark(self._cursor)
            self._marked = self._cursor
        if stopwatch() - self._pruned_s >= PRUNE_EVERY_S:
            self._pruned_s = stopwatch()
            self.store.prune(self.store.now_ms())
        if not entries and stopwatch() - self._swept_s >= IDLE_SWEEP_S:
            self._swept_s = stopwatch()
            self._tell(self.follower.sweep(self.store.now_ms()))
        self._since_trim += len(entries)
        if self._since_trim >= TRIM_EVERY:
            self._trim()
        return len(entries)

    def _begin_again_if_lost(self) -> None:
        """Notice a server that was wiped or went back: what is in memory then belongs to a state that is gone."""
        kept = place_order(self.feed.followed_to())
        behind = kept < place_order(self._marked)
        if behind and (self._in_doubt or kept == place_order(BEGINNING)):
            log.warning("the state is not what it was: following begins again")
            self.follower.forget()
            self._read.clear()
            self._cursor = self._marked = BEGINNING
        self._in_doubt = False

    def _take(self, entry: FedCandle) -> None:
        try:
            symbol, candle = _checked(entry, self._latest_ms)
        except Invalid as error:
            # A bad candle moves nothing and stops nothing; it is counted where an operator looks.
            log.warning("candle refused: %s %s %s", entry.symbol[:32], entry.timeframe[:8], error)
            self.store.count_candle(*_named(entry), error.reason, 0)
            return
        self._tell(self.follower.candle(symbol, entry.timeframe, candle))
        self._read.append((entry.place, candle.ts))

    def _tell(self, endings: Sequence[Ended]) -> None:
        for ended in endings:
            self._on_end(ended)

    def _trim(self) -> None:
        """Keep what a restart would need, and no more."""
        self._since_trim = 0
        oldest = self.follower.oldest_needed_ms()
        spare = max(len(self._read) - TRIM_EVERY, 0)
        place = None
        while spare > 0 and (
            oldest is None or self._read[0][1] < oldest - KEPT_CANDLES * self.follower.longest_step_ms
        ):
            place, _ = self._read.popleft()
            spare -= 1
        if place is not None:
            self.feed.trim(place)


def _checked(entry: FedCandle, latest_ms: int) -> tuple[str, Candle]:
    require(SYMBOL_PATTERN.fullmatch(entry.symbol) is not None, Reason.FIELD_FORMAT, "symbol")
    step_ms = timeframe_ms(entry.timeframe)
    candle = candle_from_text(entry.candle)
    # One candle from the future, taken first, would make every honest one late.
    require(candle.ts + step_ms <= latest_ms, Reason.CANDLE_UNFINISHED, "ts", "closes in the future")
    return entry.symbol, candle


def _named(entry: FedCandle) -> tuple[str, str]:
    """What a refused candle is counted under: words the stream made up would grow the counters without end."""
    try:
        timeframe_ms(entry.timeframe)
    except Invalid:
        return "?", "?"
    return (entry.symbol if SYMBOL_PATTERN.fullmatch(entry.symbol) else "?"), entry.timeframe


def candle_text(candle: Candle) -> str:
    """A candle as it travels in the stream."""
    return json.dumps([candle.ts, *candle.prices, candle.volume, candle.final], separators=(",", ":"))


def candle_from_text(text: str) -> Candle:
    """Read ``candle_text`` back; what is not a candle raises ``Invalid``."""
    try:
        ts, *numbers, final = json.loads(text)
        open_, high, low, close, volume = map(_number, numbers)
    except (ValueError, TypeError, RecursionError) as error:
        raise Invalid(Reason.CANDLE_IMPOSSIBLE, "candle", type(error).__name__) from None
    if isinstance(ts, bool) or not isinstance(ts, int) or not 0 <= ts <= LATEST_TS:
        raise Invalid(Reason.CANDLE_IMPOSSIBLE, "ts", "whole milliseconds")
    if not isinstance(final, bool):
        raise Invalid(Reason.CANDLE_IMPOSSIBLE, "final", "true or false")
    return Candle(ts, open_, high, low, close, volume, final)


def _number(value: object) -> float:
    # ``float`` also takes text, true and false; and a JSON integer can be too long for it.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -HIGHEST <= value <= HIGHEST:
        raise Invalid(Reason.CANDLE_IMPOSSIBLE, "candle", "prices and volume are plain numbers")
    return float(value)
