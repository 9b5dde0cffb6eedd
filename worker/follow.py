"""The process that follows positions: candles from the stream, one by one, through the follower."""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from collections.abc import Callable

from persistence.candle_feed import CandleFeed, FedCandle
from persistence.redis_store import RedisStore
from persistence.store import StateMissing
from runtime.clock import pause, stopwatch
from runtime.follow import KEPT_CANDLES, Ended, Follower
from signals.candle import Candle
from signals.errors import Invalid, Transient
from signals.reasons import Reason
from signals.signal import SYMBOL_PATTERN, require
from signals.timeframe import timeframe_ms

BATCH = 500
BLOCK_MS = 200
IDLE_SWEEP_S = 1.0
TRIM_EVERY = 1_000
LONGEST_PAUSE_S = 5.0

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
        self._cursor = "0-0"
        self._read: deque[tuple[str, int]] = deque()
        self._since_trim = 0
        self._swept_s = -math.inf

    def run(self, stop: Callable[[], bool]) -> None:
        """Follow until ``stop`` says so; a lost connection is waited out, whatever else goes wrong is loud."""
        wait_s = 0.1
        while not stop():
            try:
                self.cycle(block_ms=BLOCK_MS)
                wait_s = 0.1
            except (Transient, StateMissing) as error:
                log.warning("following pauses %.1f s: %s", wait_s, error)
                pause(wait_s)
                wait_s = min(2 * wait_s, LONGEST_PAUSE_S)

    def cycle(self, *, block_ms: int = 0) -> int:
        """Take what has come; returns how many candles."""
        entries = self.feed.read(self._cursor, count=BATCH, block_ms=block_ms)
        for entry in entries:
            self._take(entry)
            self._cursor = entry.place
        if entries:
            self.feed.mark(self._cursor)
        if not entries and stopwatch() - self._swept_s >= IDLE_SWEEP_S:
            self._swept_s = stopwatch()
            self.follower.sweep(self.store.now_ms())
        self._since_trim += len(entries)
        if self._since_trim >= TRIM_EVERY:
            self._trim()
        return len(entries)

    def _take(self, entry: FedCandle) -> None:
        try:
            symbol, candle = _checked(entry)
        except Invalid as error:
            # A bad candle moves nothing and stops nothing; it is counted where an operator looks.
            log.warning("candle refused: %s %s %s", entry.symbol[:32], entry.timeframe[:8], error)
            self.store.count_candle(entry.symbol[:32], entry.timeframe[:8], error.reason, 0)
            return
        self._read.append((entry.place, candle.ts))
        for ended in self.follower.candle(symbol, entry.timeframe, candle):
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


def _checked(entry: FedCandle) -> tuple[str, Candle]:
    require(SYMBOL_PATTERN.fullmatch(entry.symbol) is not None, Reason.FIELD_FORMAT, "symbol")
    timeframe_ms(entry.timeframe)
    return entry.symbol, candle_from_text(entry.candle)


def candle_text(candle: Candle) -> str:
    """A candle as it travels in the stream."""
    return json.dumps([candle.ts, *candle.prices, candle.volume, candle.final], separators=(",", ":"))


def candle_from_text(text: str) -> Candle:
    """Read ``candle_text`` back; what is not a candle raises ``Invalid``."""
    try:
        ts, open_, high, low, close, volume, final = json.loads(text)
        if isinstance(ts, bool) or not isinstance(ts, int) or not isinstance(final, bool):
            raise Invalid(Reason.CANDLE_IMPOSSIBLE, "ts", "whole milliseconds")
        return Candle(ts, float(open_), float(high), float(low), float(close), float(volume), final)
    except (ValueError, TypeError, RecursionError) as error:
        raise Invalid(Reason.CANDLE_IMPOSSIBLE, "candle", type(error).__name__) from None
