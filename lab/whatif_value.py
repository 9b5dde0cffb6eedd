"""What a policy is worth on recorded signals, beside the gate that stood there: the same signals for both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lab.day_blocks import RESAMPLES, block_length, resampled
from lab.fixed_b import DayMean, Days, day_mean
from lab.permutation import lift_against_random
from lab.statistics import UNKNOWN, BoolArray, FloatArray, IntArray, Interval, break_even_rate, wilson_interval
from lab.whatif_case import Cases
from lab.whatif_policy import Choice
from lab.whatif_portfolio import Portfolio, portfolio_of

GREY_BELOW = 30
"""Fewer disagreements than this cannot tell two policies apart, whatever their interval says."""
PERMUTATIONS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class AtCost:
    """Results in R after a round-trip cost: per signal, per accepted trade, against the current gate, against chance.

    ``lift`` is the mean of the accepted minus the mean of all: what a random gate of the same acceptance would miss.
    """

    cost_bps: float
    total_r: float
    per_signal: DayMean
    per_accepted: DayMean
    difference: DayMean
    lift: DayMean


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Value:
    """Everything about one policy. Figures are over ``n`` signals; ``excluded`` were trained on by it.

    ``marked`` is the result at the cost of the verdict with simulated timeouts at their marks instead of 0 R.
    ``adjusted`` is the interval of the difference that holds for all compared policies at once.
    """

    name: str
    n: int
    excluded: int
    unknown: int
    accepted: int
    accepted_real: int
    accepted_phantom: int
    decisive: int
    wins: int
    win_rate: float
    win_interval: Interval
    break_even_rate: float
    timeouts: int
    at_cost: tuple[AtCost, ...]
    marked: AtCost
    verdict_bps: float
    random_p: float
    p_better: float
    n_disagree: int
    limited: Mapping[str, int] | None
    portfolio: Portfolio
    adjusted: Interval = UNKNOWN

    @property
    def verdict(self) -> AtCost:
        """Results at the cost of the verdict."""
        return next(item for item in self.at_cost if item.cost_bps == self.verdict_bps)

    @property
    def grey(self) -> bool:
        """Whether it and the current gate disagree on too few signals to be told apart."""
        return self.n_disagree < GREY_BELOW


def lift_of(day: IntArray, values: FloatArray, accepted: BoolArray) -> DayMean:
    """Mean of the accepted minus mean of all, in the unit of the values, with HAC intervals from day sums."""
    taken = int(np.count_nonzero(accepted))
    if taken == 0:
        return day_mean(day, values, np.zeros(len(day)))
    inside, overall = float(values[accepted].mean()), float(values.mean())
    # To first order a ratio moves by the sum of what each row adds to it.
    influence = accepted * (values - inside) * (len(values) / taken) - (values - overall)
    found, value = day_mean(day, influence), inside - overall
    shift = value - found.value

    def moved(interval: Interval) -> Interval:
        return Interval(interval.low + shift, interval.high + shift) if interval.known else UNKNOWN

    return replace(
        found,
        value=value,
        fan=moved(found.fan),
        interval=moved(found.interval),
        interval_90=moved(found.interval_90),
        n=taken,
    )


def value_of(
    name: str,
    cases: Cases,
    choice: Choice,
    current: BoolArray,
    *,
    costs_bps: Sequence[float],
    verdict_bps: float,
    rng: np.random.Generator,
    limited: Mapping[str, int] | None = None,
) -> Value:
    """Reduce a choice to figures. ``cases`` and both choices are of the same signals, in the same order.

    Raises
    ------
    ValueError : if the verdict's cost is not among the costs
    """
    if verdict_bps not in costs_bps:
        raise ValueError(f"no results are asked for at {verdict_bps:g} bp")
    usable = ~choice.trained_on
    table, executed = cases.table, cases.table.executed
    accepted, day = (choice.accepted & usable), table.day

    def at(bps: float, *, marked: bool = False) -> AtCost:
        net = cases.net_r(bps, marked=marked)[usable]
        took, other, days = accepted[usable], current[usable], day[usable]
        return AtCost(
            cost_bps=bps,
            total_r=math.fsum(net[took]),
            per_signal=day_mean(days, took * net),
            per_accepted=day_mean(days, took * net, took.astype(np.float64)),
            difference=day_mean(days, (took.astype(np.float64) - other) * net),
            lift=lift_of(days, net, took),
        )

    decisive = accepted & table.decisive
    n_decisive, wins = int(np.count_nonzero(decisive)), int(np.count_nonzero(decisive & table.won))
    net = cases.net_r(verdict_bps)
    random = lift_against_random(net[usable], accepted[usable], rng=rng, permutations=PERMUTATIONS)
    return Value(
        name=name,
        n=int(np.count_nonzero(usable)),
        excluded=int(np.count_nonzero(~usable)),
        unknown=choice.unknown,
        accepted=int(np.count_nonzero(accepted)),
        accepted_real=int(np.count_nonzero(accepted & executed)),
        accepted_phantom=int(np.count_nonzero(accepted & ~executed)),
        decisive=n_decisive,
        wins=wins,
        win_rate=wins / n_decisive if n_decisive > 0 else math.nan,
        win_interval=wilson_interval(wins, n_decisive),
        break_even_rate=break_even_rate(net[decisive], table.won[decisive]) if n_decisive > 0 else math.nan,
        timeouts=int(np.count_nonzero(accepted & table.timed_out)),
        at_cost=tuple(at(bps) for bps in costs_bps),
        marked=at(verdict_bps, marked=True),
        verdict_bps=verdict_bps,
        random_p=random.p,
        p_better=_better(day[usable], ((accepted.astype(np.float64) - current) * net)[usable], rng),
        n_disagree=int(np.count_nonzero((accepted != current) & usable)),
        limited=limited,
        portfolio=portfolio_of(cases, accepted, net, rng),
    )


def _better(day: IntArray, gained: FloatArray, rng: np.random.Generator) -> float:
    """Share of resampled histories in which the policy made more than the current gate; a tie counts half."""
    if len(day) == 0:
        return math.nan
    days = Days.of(day, gained)
    sums, _ = resampled(days, length=block_length(days.deviations[:, 0]), rng=rng, resamples=RESAMPLES)
    return float(np.mean(sums > 0.0) + 0.5 * np.mean(sums == 0.0))
