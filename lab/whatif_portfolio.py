"""What a policy's positions look like together: how many are open at once, what is at risk, how deep equity falls."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lab.day_blocks import RESAMPLES, block_length, drawn_days, middle
from lab.fixed_b import Days
from lab.statistics import TIE, UNKNOWN, FloatArray, IntArray, Interval, max_drawdown
from lab.trade import DAY_MS, BoolArray
from lab.whatif_case import Cases

YEAR_DAYS = 365.25
"""Crypto trades every day; a market with holidays has empty days in its sums."""
FALL_QUANTILES = (0.50, 0.90, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Portfolio:
    """Equity and exposure of accepted signals, each position with one R times its size at risk.

    ``at`` are the moments at which ``equity_r`` changed, in UTC epoch ms. ``mean_open`` is the average over time from
    the first entry to the last exit. ``drawdown_quantiles_r`` belong to ``FALL_QUANTILES`` of histories of the same
    length made of days drawn in blocks, by the close of each day. ``ratio`` is the yearly mean over the yearly
    deviation of a day's R.
    """

    at: IntArray
    equity_r: FloatArray
    final_r: float
    most_open: int
    mean_open: float
    most_at_risk_r: float
    drawdown_r: float
    drawdown_quantiles_r: tuple[float, ...]
    ratio: float
    ratio_interval: Interval


def portfolio_of(cases: Cases, accepted: BoolArray, net_r: FloatArray, rng: np.random.Generator) -> Portfolio:
    """Put accepted signals together; ``net_r`` of shape (n,) is after costs and by size."""
    table = cases.table
    held = accepted & table.closed
    order = np.flatnonzero(held)[np.argsort(table.exit_ts[held], kind="stable")]
    equity = np.cumsum(net_r[order])
    most, mean, at_risk = _exposure(table.entry_ts[held], table.exit_ts[held], cases.size[held])
    falls, ratio, interval = _by_days(cases, held, net_r, rng)
    return Portfolio(
        at=table.exit_ts[order],
        equity_r=equity,
        final_r=float(equity[-1]) if len(equity) > 0 else 0.0,
        most_open=most,
        mean_open=mean,
        most_at_risk_r=at_risk,
        drawdown_r=max_drawdown(net_r[order]),
        drawdown_quantiles_r=falls,
        ratio=ratio,
        ratio_interval=interval,
    )


def _exposure(entry_ts: IntArray, exit_ts: IntArray, size: FloatArray) -> tuple[int, float, float]:
    """Most positions at once, their average over time, and the most R at risk at once."""
    if len(entry_ts) == 0:
        return 0, 0.0, 0.0
    moment = np.concatenate([exit_ts, entry_ts])
    # What ends at a moment makes room for what begins at it.
    order = np.lexsort((np.repeat([0, 1], len(entry_ts)), moment))
    step = np.concatenate([-np.ones(len(exit_ts)), np.ones(len(entry_ts))])[order]
    risk = np.concatenate([-size, size])[order]
    open_now = np.cumsum(step)
    span = int(moment.max() - moment.min())
    mean = float(np.sum(exit_ts - entry_ts) / span) if span > 0 else float(len(entry_ts))
    return int(max(open_now.max(), 1.0)), mean, float(max(np.cumsum(risk).max(), size.max()))


def _by_days(
    cases: Cases, held: BoolArray, net_r: FloatArray, rng: np.random.Generator
) -> tuple[tuple[float, ...], float, Interval]:
    nothing = tuple(math.nan for _ in FALL_QUANTILES), math.nan, UNKNOWN
    if not bool(held.any()):
        return nothing
    # Over the whole span, not from the policy's own first trade: idle days are days.
    exit_day = cases.table.exit_ts // DAY_MS
    days = Days.of(exit_day, np.where(held, net_r, 0.0)).sums[:, 0]
    deviation = float(np.std(days))
    if len(days) < 2 or deviation <= TIE:
        return nothing
    falls, ratios = [], []
    for places in drawn_days(len(days), block_length(days), rng, RESAMPLES, 200):
        drawn = days[places]
        equity = np.concatenate([np.zeros((len(drawn), 1)), np.cumsum(drawn, axis=1)], axis=1)
        falls.append(np.max(np.maximum.accumulate(equity, axis=1) - equity, axis=1))
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios.append(np.mean(drawn, axis=1) / np.std(drawn, axis=1))
    yearly = math.sqrt(YEAR_DAYS)
    interval = middle(np.concatenate(ratios) * yearly)
    quantiles = np.quantile(np.concatenate(falls), FALL_QUANTILES)
    return tuple(map(float, quantiles)), yearly * float(np.mean(days)) / deviation, interval
