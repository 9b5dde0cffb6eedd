"""One candle of one series."""

from __future__ import annotations

import math
from dataclasses import dataclass

from signals.errors import Invalid
from signals.reasons import Reason


@dataclass(frozen=True, slots=True)
class Candle:
    """Prices between ``ts`` (open time, UTC epoch ms) and ``ts`` plus the series' timeframe.

    ``final`` is false while the candle is still forming: such a candle never moves a position.
    """

    ts: int
    open: float
    high: float
    low: float
    close: float
    volume: float = 0.0
    final: bool = True

    def __post_init__(self) -> None:
        # One chained comparison is false for every non-finite price, so NaN cannot slip through.
        if not (0.0 < self.low <= self.open <= self.high < math.inf and self.low <= self.close <= self.high):
            raise Invalid(Reason.CANDLE_IMPOSSIBLE, "candle", f"ts={self.ts} ohlc={self.prices}")
        if not 0.0 <= self.volume < math.inf:
            raise Invalid(Reason.CANDLE_IMPOSSIBLE, "volume", f"ts={self.ts} volume={self.volume}")

    @property
    def prices(self) -> tuple[float, float, float, float]:
        """Open, high, low, close."""
        return self.open, self.high, self.low, self.close

    def same_prices(self, other: Candle) -> bool:
        """Whether a second copy of the candle says the same (volume may still be revised)."""
        return self.prices == other.prices
