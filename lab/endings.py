"""How positions end, open ones included, and what they were worth at the market: the honest numbers of a run."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lab.figures import VERDICT_COST_BPS
from lab.statistics import Estimate, Interval, estimate_mean, percentile_interval, wilson_interval
from lab.trade import DAY_MS, BoolArray, FloatArray, IntArray, TradeTable
from learning.incidence import CAUSES, OPEN, Incidence, code_of, incidence, resampled_shares
from learning.labels import Bounds, ambiguity_bounds, effective_size, uniqueness

RESAMPLES = 500
"""Of a curve over all positions; a share's bounds need no more."""
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class OpenPosition:
    """One in the market when the candles ended: entered at ``entry_ts``, watched for ``life_ms`` since."""

    entry_ts: int
    life_ms: int
    executed: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Endings:
    """How one group of positions ended. Shares are Aalen–Johansen at the longest life seen, ``horizon_ms``.

    ``n`` were in the market, ``n_open`` of them still are. Weighted by uniqueness the closed ones count as ``n_eff``
    equally weighted ones; ``n_alone`` is the sum of their uniqueness, as many as never shared their time.
    ``win_rate`` is the specified one, of decisive outcomes alone. ``mean_r`` and ``bounds`` are at
    the cost of the verdict, timeouts at their marks; the bounds say what the order inside ambiguous candles can change.
    """

    name: str
    n: int
    n_open: int
    n_eff: float
    n_alone: float
    horizon_ms: int
    win_rate: float
    target: Estimate
    stop: Estimate
    timeout: Estimate
    other: Estimate
    mean_r: Estimate
    bounds: Bounds
    ambiguous: int
    curve: Incidence

    @property
    def shares(self) -> tuple[tuple[str, Estimate], ...]:
        """Each way to end with its share, in a fixed order."""
        return (("target", self.target), ("stop", self.stop), ("timeout", self.timeout), ("other", self.other))


def endings_of(table: TradeTable, waiting: Sequence[OpenPosition], *, seed: int) -> tuple[Endings, ...]:
    """Endings of executed, refused and all positions; groups that have none are left out."""
    everything = np.ones(len(table), dtype=np.bool_)
    groups = (
        ("executed", table.executed, [one for one in waiting if one.executed]),
        ("refused", ~table.executed, [one for one in waiting if not one.executed]),
        ("always-take", everything, list(waiting)),
    )
    return tuple(
        _endings(name, table, table.closed & mask, still, np.random.default_rng([seed, zlib.crc32(name.encode())]))
        for name, mask, still in groups
        if bool((table.closed & mask).any())
    )


def marked_r(table: TradeTable, bps: float) -> FloatArray:
    """Results after costs with timeouts at their marks, shape (n_trades,), in R."""
    known = table.timed_out & np.isfinite(table.mark_r)
    return np.where(known, table.mark_r, table.gross_r) - np.where(table.closed, bps * table.cost_r_per_bp, 0.0)


def _endings(
    name: str, table: TradeTable, mask: BoolArray, waiting: Sequence[OpenPosition], rng: np.random.Generator
) -> Endings:
    entry, exit_ = table.entry_ts[mask], table.exit_ts[mask]
    code = np.array([code_of(reason) for reason in table.exit_reason[mask].tolist()], dtype=np.int64)
    life = np.concatenate((exit_ - entry, np.array([one.life_ms for one in waiting], dtype=np.int64)))
    cause = np.concatenate((code, np.full(len(waiting), OPEN, dtype=np.int64)))
    day = np.concatenate((entry, np.array([one.entry_ts for one in waiting], dtype=np.int64))) // DAY_MS
    curve = incidence(life, cause, CAUSES)
    horizon = int(curve.life_ms[-1])
    draws = resampled_shares(life, cause, len(CAUSES), day, horizon, rng=rng, resamples=RESAMPLES)
    n_days = len(np.unique(day))
    target, stop, timeout, other = (
        _share(curve, cause_, draws[:, place], horizon, n_days) for place, cause_ in enumerate(CAUSES)
    )
    net, decisive = marked_r(table, VERDICT_COST_BPS)[mask], table.decisive[mask]
    doubtful = table.ambiguous[mask] & np.equal(table.outcome[mask], "loss")
    at_target = table.reward_to_risk[mask] - VERDICT_COST_BPS * table.cost_r_per_bp[mask]
    alone = uniqueness(entry, exit_)
    return Endings(
        name=name,
        n=len(life),
        n_open=len(waiting),
        n_eff=effective_size(alone),
        n_alone=float(np.sum(alone)),
        horizon_ms=horizon,
        win_rate=float(np.mean(table.won[mask][decisive])) if bool(decisive.any()) else float("nan"),
        target=target,
        stop=stop,
        timeout=timeout,
        other=other,
        mean_r=estimate_mean(_days(entry), net, rng=rng),
        bounds=ambiguity_bounds(net, np.maximum(at_target, net), doubtful),
        ambiguous=int(np.count_nonzero(doubtful)),
        curve=curve,
    )


def _days(entry_ts: IntArray) -> IntArray:
    return entry_ts // DAY_MS


def _share(curve: Incidence, cause: str, draws: FloatArray, horizon_ms: int, n_days: int) -> Estimate:
    value, (low, high) = curve.at(cause, horizon_ms), curve.interval(cause, horizon_ms)
    day = percentile_interval(draws, n_days)
    if not day.known and n_days >= 2:
        # Never seen, or nothing else: resamples have no spread, so one position a day stands in, as for win rates.
        day = wilson_interval(n_days if value > 0.5 else 0, n_days)
    return Estimate(value, day, Interval(low, high), curve.n, n_days)
