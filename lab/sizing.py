"""What executed trades earned at the size they had, beside the unit R every other figure is in."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from lab.figures import VERDICT_COST_BPS
from lab.statistics import RESAMPLES, UNKNOWN, Estimate, max_drawdown, percentile_interval, resample_days
from lab.trade import TradeTable


@dataclass(frozen=True, slots=True)
class SizeGroup:
    """Executed trades of one size multiplier: how many, how many of them explored, and their sums of R."""

    size_multiplier: float
    n: int
    explored: int
    total_unit_r: float
    total_sized_r: float


@dataclass(frozen=True, slots=True)
class Sizing:
    """Closed executed trades, timeouts at 0 R before costs, at the cost of the verdict.

    ``unit_r`` is the mean when each is one unit; ``sized_r`` the sum at size over the sum of sizes: what one unit at
    risk earned; drawdowns are of the running sum by exit.
    """

    cost_bps: float
    groups: tuple[SizeGroup, ...]
    explored: int
    unit_r: Estimate
    sized_r: Estimate
    total_unit_r: float
    total_sized_r: float
    max_drawdown_unit_r: float
    max_drawdown_sized_r: float


def sizing(table: TradeTable, seed: int) -> Sizing | None:
    """The figures at size; none where every executed trade has full size and none was explored."""
    chosen = table.closed & table.executed
    size, explored = table.size[chosen], table.explored[chosen]
    if not bool(np.any(size < 1.0)) and not bool(explored.any()):
        return None
    net, day = table.net_r(VERDICT_COST_BPS)[chosen], table.day[chosen]
    order = np.argsort(table.exit_ts[chosen], kind="stable")
    rng = np.random.default_rng([seed, zlib.crc32(b"sizing")])
    columns = np.stack([net, np.ones(len(net)), net * size, size], axis=1)
    totals, n_days = resample_days(day, columns, rng=rng, resamples=RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit, sized = totals[:, 0] / totals[:, 1], totals[:, 2] / totals[:, 3]
        mean_sized = float(np.sum(net * size) / np.sum(size))
    groups = []
    for multiplier in np.unique(size)[::-1]:
        here = size == multiplier
        total = float(net[here].sum())
        counts = int(np.count_nonzero(here)), int(np.count_nonzero(explored[here]))
        groups.append(SizeGroup(float(multiplier), *counts, total, total * float(multiplier)))
    return Sizing(
        VERDICT_COST_BPS,
        tuple(groups),
        int(np.count_nonzero(explored)),
        Estimate(float(np.mean(net)), percentile_interval(unit, n_days), UNKNOWN, len(net), n_days),
        Estimate(mean_sized, percentile_interval(sized, n_days), UNKNOWN, len(net), n_days),
        float(np.sum(net)),
        float(np.sum(net * size)),
        max_drawdown(net[order]),
        max_drawdown((net * size)[order]),
    )
