"""A market whose whole future is known to the judge and to nobody else: one seeded walk a symbol."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from signals.candle import Candle

FloatArray = npt.NDArray[np.float64]

STEP_MS = 1_000
SIGMA = 0.0015
"""Of a second's return: a stop half a percent away is reached in some ten seconds."""
DIGITS = 6


@dataclass(frozen=True, slots=True)
class Market:
    """Candles of one second from ``begins_ms`` on. ``gaps`` are candles that no feed ever delivers."""

    symbols: tuple[str, ...]
    begins_ms: int
    seconds: int
    seed: int
    gap_share: float = 0.0
    _series: dict[str, list[Candle]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, count: int, *, begins_ms: int, seconds: int, seed: int, gap_share: float = 0.0) -> Market:
        """A market of so many symbols."""
        market = cls(tuple(f"CH{number:04d}" for number in range(count)), begins_ms, seconds, seed, gap_share)
        for number, symbol in enumerate(market.symbols):
            market._series[symbol] = _walk(np.random.default_rng([seed, number]), begins_ms, seconds)
        return market

    def candle(self, symbol: str, second: int) -> Candle:
        """The candle that opens so many seconds after the beginning."""
        return self._series[symbol][second]

    def second_of(self, now_ms: int) -> int:
        """How many candles have closed by a moment."""
        return (now_ms - self.begins_ms) // STEP_MS

    def delivered(self, symbol: str, until: int) -> list[Candle]:
        """The candles a perfect feed has delivered before a second: all but the gaps."""
        missing = self.gaps(symbol)
        return [candle for place, candle in enumerate(self._series[symbol][:until]) if place not in missing]

    def gaps(self, symbol: str) -> frozenset[int]:
        """Places of the candles that are never delivered."""
        if self.gap_share <= 0.0:
            return frozenset()
        chance = np.random.default_rng([self.seed, self.symbols.index(symbol), 1])
        return frozenset(np.flatnonzero(chance.random(self.seconds) < self.gap_share).tolist())


def _walk(chance: np.random.Generator, begins_ms: int, seconds: int) -> list[Candle]:
    steps = chance.normal(0.0, SIGMA, seconds)
    closes = np.round(100.0 * np.exp(np.cumsum(steps)), DIGITS)
    opens = np.concatenate(([100.0], closes[:-1]))
    reach = np.abs(chance.normal(0.0, SIGMA / 2.0, (2, seconds)))
    highs = np.round(np.maximum(opens, closes) * (1.0 + reach[0]), DIGITS)
    lows = np.round(np.minimum(opens, closes) * (1.0 - reach[1]), DIGITS)
    volumes = np.round(chance.uniform(1.0, 5.0, seconds), 3)
    columns = zip(opens.tolist(), highs.tolist(), lows.tolist(), closes.tolist(), volumes.tolist(), strict=True)
    return [Candle(begins_ms + place * STEP_MS, *row) for place, row in enumerate(columns)]
