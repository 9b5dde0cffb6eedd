"""A market made from a seed: lifelike in its volatility, provably fair in its direction.

Every price step is symmetric in price, so with ``drift=0`` no rule that looks at the past has an edge: E[next price |
past] = price. That is a martingale in price, not in log price. Within a candle the path is a Brownian motion sampled at
twelve points with the exact extremes between them, so a barrier is touched as a continuous price would touch it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from market.candles import Candles
from market.columns import BoolArray, FloatArray, IntArray
from signals.errors import Invalid
from signals.reasons import Reason
from signals.timeframe import timeframe_ms

SUBSTEPS = 12
DAY_MS = 86_400_000
START_MS = 1_704_067_200_000  # 2024-01-01

DAILY_VOLATILITY = 0.032
"""Typical standard deviation of a day's return; a liquid crypto pair of 2024."""
TAIL_DEGREES = 4.0
"""Degrees of freedom of the Student t: intraday returns have finite variance and wild kurtosis."""
LARGEST_SIGMA = 0.05
"""No single candle's standard deviation exceeds this, so that a price twenty of them away stays above zero."""
REGIME_SIGMA = np.asarray([0.55, 1.0, 2.1])
"""Calm, ordinary, wild: multiples of the typical volatility."""
REGIME_DAYS = np.asarray([1.5, 2.0, 0.5])
"""Mean stay in each."""
PHASE_DAYS = 2.0
"""Mean length of a phase in which the drift keeps its sign."""
GAP_EVERY, GAP_SIGMA = 400, 1.5
"""One candle in so many opens away from the last close, by so many of its standard deviations."""
OUTAGE_EVERY, OUTAGE_CANDLES = 4_000, 6
"""One candle in so many begins an outage of up to so many missing candles."""


@dataclass(frozen=True, slots=True)
class _Climate:
    """What each candle is drawn from: standard deviation and drift of its return, as fractions of its open."""

    sigma: FloatArray
    drift: FloatArray


def generate(
    seed: int,
    *,
    symbol: str = "GENUSDT",
    timeframe: str = "5m",
    candles: int = 20_000,
    drift: float = 0.0,
    regimes: bool = True,
    gaps: bool = True,
    price: float = 100.0,
    start_ms: int = START_MS,
) -> Candles:
    """Make a market. The same arguments give the same candles.

    ``drift`` is the expected return per day, as a fraction. With ``regimes`` volatility switches between calm, ordinary
    and wild, and a drift changes its sign at random, so that it favours who follows trends and not who is always long;
    without them both stay what they are. ``gaps`` opens some candles away from the last close and leaves some out.
    """
    if candles < 1 or not 0.0 < price < 1e12:
        raise Invalid(Reason.FIELD_RANGE, "candles" if candles < 1 else "price")
    rng = np.random.default_rng(seed)
    step_ms = timeframe_ms(timeframe)
    ts = start_ms - start_ms % step_ms + step_ms * np.arange(candles, dtype=np.int64)
    climate = _climate(rng, ts, step_ms, drift, regimes=regimes)
    opening = _openings(rng, climate.sigma) if gaps else np.zeros(candles)
    path, highs, lows = _paths(rng, climate)
    # Returns are fractions of the price they start from: one candle multiplies the last close.
    closes = np.asarray(price * np.cumprod((1.0 + opening) * (1.0 + path)), dtype=np.float64)
    opens = np.concatenate(([price], closes[:-1])) * (1.0 + opening)
    volume = _volumes(rng, climate.sigma, highs - lows)
    present = _present(rng, candles) if gaps else np.ones(candles, dtype=np.bool_)
    rows = np.flatnonzero(present)
    high = np.maximum(opens * (1.0 + highs), np.maximum(opens, closes))
    low = np.minimum(opens * (1.0 + lows), np.minimum(opens, closes))
    return Candles(symbol, timeframe, ts[rows], opens[rows], high[rows], low[rows], closes[rows], volume[rows])


def _climate(rng: np.random.Generator, ts: IntArray, step_ms: int, drift: float, *, regimes: bool) -> _Climate:
    """Volatility by regime, by hour of the day and with fat tails; drift by phase. None of them knows a direction."""
    days = step_ms / DAY_MS
    sigma = np.full(ts.size, DAILY_VOLATILITY * days**0.5)
    sign = np.ones(ts.size)
    if regimes:
        sigma = sigma * REGIME_SIGMA[_regimes(rng, ts.size, days)]
        turns = rng.random(ts.size) < days / PHASE_DAYS
        first = rng.choice([-1.0, 1.0])
        sign = first * np.where(np.cumsum(turns) % 2 == 0, 1.0, -1.0)
    if step_ms < DAY_MS:
        # Busiest when New York opens, quietest twelve hours before.
        hour = (ts % DAY_MS) / 3_600_000
        sigma = sigma * (1.0 + 0.35 * np.cos((hour - 14.5) * np.pi / 12.0))
    # A Student t is a normal whose variance is drawn anew: given the variance the path stays continuous.
    variance = TAIL_DEGREES / rng.chisquare(TAIL_DEGREES, ts.size)
    unit = (TAIL_DEGREES - 2.0) / TAIL_DEGREES
    sigma = np.minimum(sigma * np.sqrt(variance * unit), LARGEST_SIGMA)
    return _Climate(sigma, np.clip(sign * drift * days, -0.1, 0.1))


def _regimes(rng: np.random.Generator, count: int, days: float) -> IntArray:
    """A Markov chain over the volatility regimes: leave with a fixed chance per candle, to either other one."""
    leave = np.minimum(days / REGIME_DAYS, 1.0)
    chance, other = rng.random(count), rng.integers(1, REGIME_SIGMA.size, count)
    states = np.empty(count, dtype=np.int64)
    state = 1
    for index in range(count):
        if chance[index] < leave[state]:
            state = (state + int(other[index])) % REGIME_SIGMA.size
        states[index] = state
    return states


def _paths(rng: np.random.Generator, climate: _Climate) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return of each candle from its open, and its extremes on the way, all as fractions of the open."""
    count = climate.sigma.size
    step_sigma = climate.sigma[:, None] / SUBSTEPS**0.5
    steps = rng.standard_normal((count, SUBSTEPS)) * step_sigma + climate.drift[:, None] / SUBSTEPS
    ends = np.cumsum(steps, axis=1)
    begins = ends - steps
    # Highest point of a Brownian bridge: P(max > m) = exp(−2 (m − a)(m − b) / σ²). Drift does not enter.
    spread = -2.0 * step_sigma**2
    above = np.sqrt(steps**2 + spread * np.log1p(-rng.random((count, SUBSTEPS))))
    below = np.sqrt(steps**2 + spread * np.log1p(-rng.random((count, SUBSTEPS))))
    highs = ((begins + ends + above) / 2.0).max(axis=1)
    lows = ((begins + ends - below) / 2.0).min(axis=1)
    # A tail so far out that the price would reach zero: stop the whole candle short of it, on both sides alike.
    reach = np.maximum(np.maximum(highs, -lows), 0.9)
    return ends[:, -1] * (0.9 / reach), highs * (0.9 / reach), lows * (0.9 / reach)


def _openings(rng: np.random.Generator, sigma: FloatArray) -> FloatArray:
    """Jumps between a close and the next open: rare, symmetric, a fraction of the close."""
    jump = rng.random(sigma.size) < 1.0 / GAP_EVERY
    size = np.clip(GAP_SIGMA * sigma * rng.standard_normal(sigma.size), -0.5, 0.5)
    jumps = np.where(jump, size, 0.0)
    jumps[0] = 0.0
    return jumps


def _volumes(rng: np.random.Generator, sigma: FloatArray, spans: FloatArray) -> FloatArray:
    """Volume rises with volatility and with the candle's own range, and is noisy beyond both."""
    typical = float(np.median(sigma))
    busy = np.sqrt((sigma / typical) * (spans / (1.6 * typical)))
    return np.asarray(1_000.0 * busy * np.exp(0.4 * rng.standard_normal(sigma.size)), dtype=np.float64)


def _present(rng: np.random.Generator, count: int) -> BoolArray:
    """Which candles the exchange delivered. The first and the last are always there."""
    present = np.ones(count, dtype=np.bool_)
    for start in np.flatnonzero(rng.random(count) < 1.0 / OUTAGE_EVERY).tolist():
        present[start : start + int(rng.integers(1, OUTAGE_CANDLES + 1))] = False
    present[0] = present[-1] = True
    return present
