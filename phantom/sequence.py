"""Candles in order: a series that arrives shuffled gives the same positions as one that arrives straight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from signals.candle import Candle
from signals.reasons import Reason


class CandleSequence:
    """One series put back into order within a window.

    A candle whose predecessor has not come waits until the predecessor comes or ``window`` later candles wait with
    it; then the hole is accepted as a gap, and whatever still arrives from before is late. Nothing is ever re-applied.

    Parameters
    ----------
    step_ms : int, timeframe of the series in ms
    window : int, how many candles may wait for a missing one; 0 accepts every gap at once

    Attributes
    ----------
    counts : Counter of reason codes for every candle that was not simply next
    """

    def __init__(self, step_ms: int, window: int) -> None:
        self.step_ms = step_ms
        self.window = window
        self.counts: Counter[Reason] = Counter()
        self._last: Candle | None = None
        self._waiting: dict[int, Candle] = {}

    def push(self, candle: Candle) -> Iterator[Candle]:
        """Take a candle as it arrives; yield those whose turn has come, oldest first."""
        refusal = self._refusal(candle)
        if refusal is not None:
            self.counts[refusal] += 1
            return
        self._waiting[candle.ts] = candle
        yield from self._ready()
        while len(self._waiting) > self.window:
            yield from self._jump()

    def flush(self) -> Iterator[Candle]:
        """Give up waiting: yield what is held, accepting the gaps."""
        while self._waiting:
            yield from self._jump()

    def _refusal(self, candle: Candle) -> Reason | None:
        if not candle.final:
            return Reason.CANDLE_UNFINISHED
        if candle.ts % self.step_ms:
            return Reason.CANDLE_MISALIGNED
        known = self._waiting.get(candle.ts) or self._last
        if known is not None and known.ts == candle.ts:
            # The first copy was acted on or will be: a correction is counted, never applied.
            return Reason.CANDLE_DUPLICATE if known.same_prices(candle) else Reason.CANDLE_CORRECTED
        if self._last is not None and candle.ts < self._last.ts:
            return Reason.CANDLE_LATE
        return None

    def _ready(self) -> Iterator[Candle]:
        while self._waiting and (self._last is None or self._last.ts + self.step_ms in self._waiting):
            yield self._take(min(self._waiting) if self._last is None else self._last.ts + self.step_ms)

    def _jump(self) -> Iterator[Candle]:
        self.counts[Reason.CANDLE_GAP] += 1
        yield self._take(min(self._waiting))
        yield from self._ready()

    def _take(self, ts: int) -> Candle:
        self._last = self._waiting.pop(ts)
        return self._last
