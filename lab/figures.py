"""The figures of a report as values: what is estimated, for whom, and against what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from lab.permutation import Lift
from lab.statistics import Estimate
from lab.trade import FloatArray, IntArray

VERDICT_COST_BPS = 10.0
"""Round-trip cost at which the first line judges: what a liquid market costs somebody without a rebate."""


COSTS_BPS = (0.0, 5.0, 10.0)
"""Round-trip costs at which every mean R is given."""


class Standing(StrEnum):
    """What the executed trades prove."""

    EMPTY = "empty"
    THIN = "thin"
    LOSS = "loss"
    NONE = "none"
    FRAGILE = "fragile"
    EDGE = "edge"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """Where the trades come from. ``first_ts`` and ``last_ts`` span the candles, in UTC epoch ms.

    ``record_head`` is the head of the audit chain over ``record_facts`` facts, empty when no record was read.
    """

    strategy: str
    timeframe: str
    symbols: tuple[str, ...]
    first_ts: int
    last_ts: int
    source: Literal["files", "exchange", "generated"]
    source_detail: str = ""
    source_seed: int | None = None
    profile: str
    limits: bool
    threshold_source: str
    clamp: str
    decisions_hash: str
    record_head: str = ""
    record_facts: int = 0


@dataclass(frozen=True, slots=True)
class AtCost:
    """Mean and total R after a round-trip cost, and the win rate that would break even."""

    cost_bps: float
    mean_r: Estimate
    total_r: float
    break_even_rate: float


@dataclass(frozen=True, slots=True)
class Group:
    """Results of some trades. ``break_even_cost_bps`` is the round trip that turns mean R into zero."""

    name: str
    n: int
    wins: int
    n_days: int
    win_rate: Estimate
    at_cost: tuple[AtCost, ...]
    break_even_cost_bps: Estimate

    def at(self, cost_bps: float) -> AtCost:
        """Results at one of the costs."""
        return next(item for item in self.at_cost if item.cost_bps == cost_bps)

    @property
    def verdict(self) -> AtCost:
        """Results at the cost the verdict is given at."""
        return self.at(VERDICT_COST_BPS)


@dataclass(frozen=True, slots=True)
class Split:
    """One way to look at the trades: executed, refused and both."""

    name: str
    executed: Group
    refused: Group
    everything: Group


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Results by the values of one property."""

    name: str
    rows: tuple[Split, ...]


@dataclass(frozen=True, slots=True)
class Balance:
    """What refusing cost (R of refused winners) and saved (R of refused losers, as a positive number)."""

    cost_bps: float
    winners: int
    losers: int
    forgone_r: float
    saved_r: float
    net_r: float


@dataclass(frozen=True, slots=True)
class GateLift:
    """Mean R of executed minus mean R of all, tested against random gates of the same acceptance."""

    cost_bps: float
    lift: Estimate
    random: Lift
    within_day: Lift


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Cumulative net R by exit time; timeouts count 0 R before costs. Figures traders quote come with it."""

    name: str
    ts: IntArray
    equity_r: FloatArray
    n: int
    final_r: float
    max_drawdown_r: float
    profit_factor: float
    sqn: float
    longest_losing_streak: int
    median_hold_hours: float


@dataclass(frozen=True, slots=True)
class Excursion:
    """Quantiles (10, 25, 50, 75, 90 %) of the best and worst excursion in R."""

    kind: str
    outcome: str
    n: int
    mfe_r: tuple[float, ...]
    mae_r: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """Signals by kind: outcomes, exit reasons and flags."""

    kind: str
    n: int
    outcomes: dict[str, int]
    exits: dict[str, int]
    ambiguous: int
    gap: int
    late_mark: int
    tp1_hit: int
