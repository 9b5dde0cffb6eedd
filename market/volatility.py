"""Two small states that carry a live series candle by candle: a higher timeframe, and its average true range."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from signals.candle import Candle
from signals.errors import Invalid
from signals.reasons import Reason


@dataclass(frozen=True, slots=True)
class WilderAtr:
    """Average true range after ``count`` candles, bit-equal to ``market.indicators.atr`` on the same series.

    ``sum`` collects the first ``period`` true ranges; ``atr`` is ``None`` until they are complete.
    """

    period: int = 14
    last_close: float | None = None
    atr: float | None = None
    count: int = 0
    sum: float = 0.0

    def __post_init__(self) -> None:
        if self.period < 2:
            raise Invalid(Reason.FIELD_RANGE, "period", "at least 2")

    def advance(self, high: float, low: float, close: float) -> WilderAtr:
        """Carry the state through one closed candle."""
        if self.last_close is None:
            return WilderAtr(self.period, close, None, 1, 0.0)
        true_range = max(high - low, abs(self.last_close - high), abs(self.last_close - low))
        count = self.count + 1
        if self.atr is not None:
            # The same operations in the same order as the batch: every bit of live and replay agrees.
            return WilderAtr(self.period, close, (self.atr * (self.period - 1) + true_range) / self.period, count, 0.0)
        total = self.sum + true_range
        if count <= self.period:
            return WilderAtr(self.period, close, None, count, total)
        return WilderAtr(self.period, close, total / self.period, count, 0.0)

    @property
    def atr_pct(self) -> float | None:
        """100 · ATR / close of the last candle; ``None`` until the average is complete."""
        if self.atr is None or self.last_close is None:
            return None
        return 100.0 * self.atr / self.last_close

    def to_json(self) -> str:
        """The state as JSON; floats keep every bit."""
        return json.dumps(asdict(self), separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read ``to_json`` back."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class CandleAggregator:
    """Candles of ``step_ms`` on their way into candles of ``higher_ms``: the same ones as ``Candles.resample``.

    ``pending`` is the higher candle that is still forming and ``last_ts`` the open time of the last candle taken.
    """

    step_ms: int
    higher_ms: int
    pending: Candle | None = None
    last_ts: int = -1

    def __post_init__(self) -> None:
        if self.step_ms <= 0 or self.higher_ms < self.step_ms or self.higher_ms % self.step_ms != 0:
            raise Invalid(Reason.FIELD_RANGE, "higher_ms", f"{self.higher_ms} is not a multiple of {self.step_ms}")

    def push(self, candle: Candle) -> tuple[CandleAggregator, tuple[Candle, ...]]:
        """Take one candle; give the next state and the higher candles that it closed, oldest first.

        Two at once when it is the last part of its own higher candle and the one before missed its last part. A
        forming, late or repeated candle changes nothing.
        """
        if not candle.final or candle.ts <= self.last_ts:
            return self, ()
        if candle.ts % self.step_ms != 0:
            raise Invalid(Reason.CANDLE_MISALIGNED, "ts", f"{candle.ts} is not a multiple of {self.step_ms} ms")
        opens = candle.ts - candle.ts % self.higher_ms
        closed: tuple[Candle, ...] = ()
        pending = self.pending
        if pending is not None and pending.ts != opens:
            closed = (Candle(pending.ts, *pending.prices, pending.volume),)
            pending = None
        pending = _started(candle, opens) if pending is None else _grown(pending, candle)
        if candle.ts + self.step_ms == opens + self.higher_ms:
            closed += (Candle(opens, *pending.prices, pending.volume),)
            pending = None
        return CandleAggregator(self.step_ms, self.higher_ms, pending, candle.ts), closed

    def to_json(self) -> str:
        """The state as JSON; floats keep every bit."""
        return json.dumps(asdict(self), separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read ``to_json`` back."""
        state = json.loads(text)
        pending = state["pending"]
        return cls(
            state["step_ms"], state["higher_ms"], None if pending is None else Candle(**pending), state["last_ts"]
        )


def _started(candle: Candle, opens: int) -> Candle:
    return Candle(opens, *candle.prices, candle.volume, final=False)


def _grown(pending: Candle, candle: Candle) -> Candle:
    high = max(pending.high, candle.high)
    low = min(pending.low, candle.low)
    return Candle(pending.ts, pending.open, high, low, candle.close, pending.volume + candle.volume, final=False)
