"""Item 5: a known bias is put into phantoms; twins must measure it, and exploration must take it out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lab.coverage.check import Check, Size, inside, rate
from lab.fidelity import residual
from lab.prediction_powered import Tried, Untried, prediction_powered
from lab.statistics import FloatArray, IntArray

ITEM = 5
CONFIDENCE = 0.90
LOW, HIGH = 0.87, 0.93
BIASES_R = (-0.1, 0.0, 0.1)
REPEATS = {Size.SMALL: 150, Size.FULL: 1_500}
RESAMPLES = {Size.SMALL: 400, Size.FULL: 1_000}
DAYS = 120
PER_DAY = 4.0
RATE = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class _World:
    """Signals with both results in R, arrays of shape (n,)."""

    day: IntArray
    live_r: FloatArray
    phantom_r: FloatArray


def _world(rng: np.random.Generator, bias_r: float, *, days: int, per_day: float, true_r: float = 0.0) -> _World:
    """Trades of 1.5 R against 1 R whose days share luck; live pays slippage that is skewed and shares its day as well.

    One twin in fifty ends at the other barrier: the tick that decided was not in the candles. What that moves on
    average, and the mean of the slippage, is taken out, so that the bias is exactly what was asked for.
    """
    counts = rng.poisson(per_day, days)
    day = np.repeat(np.arange(days), counts)
    n = len(day)
    win = 0.4 + true_r / 2.5
    luck = rng.normal(0.0, 0.08, days)[day]
    won = rng.random(n) < np.clip(win + luck, 0.0, 1.0)
    flipped = rng.random(n) < 0.02
    seen = won ^ flipped
    results = np.array([-1.0, 1.5])
    # A flip turns as many wins as there are, so it lowers phantoms where wins are rare the other way round.
    moved = 0.02 * 2.5 * (1.0 - 2.0 * win)
    slip = rng.gamma(2.0, 0.04, n) - 0.08 + rng.normal(0.0, 0.03, days)[day]
    live = results[won.astype(np.int64)] - slip
    phantom = results[seen.astype(np.int64)] - moved - bias_r
    return _World(day, live, phantom)


def study(size: Size, seed: int) -> Iterator[Check]:
    """Coverage of the twins' bias and of the corrected value at 90 %, and when phantoms alone are flagged."""
    for bias_r in BIASES_R:
        yield from _twins(size, seed, bias_r)
    for bias_r in BIASES_R:
        yield from _explored(size, seed, bias_r)


def _twins(size: Size, seed: int, bias_r: float) -> Iterator[Check]:
    repeats, covered, flagged, due = REPEATS[size], 0, 0, 0
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, 1, repeat, round(1_000 * (bias_r + 1.0))])
        world = _world(rng, bias_r, days=DAYS, per_day=PER_DAY)
        found = residual(
            "", world.day, world.live_r, world.phantom_r, rng, confidence=CONFIDENCE, resamples=RESAMPLES[size]
        )
        covered += found.bias_r.day.holds(bias_r)
        must = bias_r == 0.0 or abs(bias_r) > 2.0 * found.se_r
        flagged += found.flagged and must
        due += must
    name = f"bias {bias_r:+.1f} R"
    yield rate(ITEM, f"twin residual covers it, {name}", covered, repeats, low=LOW, high=HIGH)
    if bias_r == 0.0:
        # Two standard errors of a t with so many days; the resampled error adds a little.
        yield rate(ITEM, "phantoms flagged without a bias", flagged, repeats, high=0.07)
    else:
        yield rate(ITEM, f"phantoms flagged where |bias| > 2 se, {name}", flagged, due, low=0.95)


def _explored(size: Size, seed: int, bias_r: float) -> Iterator[Check]:
    repeats, covered, alone, believed = REPEATS[size], 0, 0, 0
    widths = np.zeros(2)
    true_r = -0.05
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, 2, repeat, round(1_000 * (bias_r + 1.0))])
        world = _world(rng, bias_r, days=2 * DAYS, per_day=2.0 * PER_DAY, true_r=true_r)
        # The rate was changed once, as a profile may be: weights must make up for it.
        propensity = np.where(world.day < DAYS, RATE, 0.6 * RATE)
        drawn = rng.random(len(world.day)) < propensity
        found = prediction_powered(
            Tried(world.day[drawn], world.live_r[drawn], world.phantom_r[drawn], propensity[drawn]),
            Untried(world.day[~drawn], world.phantom_r[~drawn], propensity[~drawn]),
            confidence=CONFIDENCE,
        )
        covered += found.corrected.interval.holds(true_r)
        alone += found.live_only.interval.holds(true_r)
        believed += found.phantom_only.interval.holds(true_r)
        widths += [_width(found.corrected.interval.low, found.corrected.interval.high),
                   _width(found.live_only.interval.low, found.live_only.interval.high)]  # fmt: skip
    name = f"bias {bias_r:+.1f} R"
    yield rate(ITEM, f"prediction-powered covers the truth, {name}", covered, repeats, low=LOW, high=HIGH)
    yield rate(ITEM, f"explored alone cover the truth, {name}", alone, repeats, low=LOW, high=HIGH)
    yield inside(ITEM, f"width against the explored alone, {name}", float(widths[0] / widths[1]), high=0.75, n=repeats)
    if bias_r != 0.0:
        yield rate(ITEM, f"phantoms alone cover the truth, {name}", believed, repeats, high=0.30)


def _width(low: float, high: float) -> float:
    return high - low
