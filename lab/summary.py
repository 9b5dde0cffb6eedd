"""All figures of a replay as one value: counts, estimates with intervals, what the gate cost and saved."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from lab import learned_words
from lab.endings import Endings, OpenPosition, endings_of
from lab.fidelity import Fidelity
from lab.figures import (
    COSTS_BPS,
    VERDICT_COST_BPS,
    Balance,
    Breakdown,
    Curve,
    Excursion,
    GateLift,
    RunInfo,
    Split,
    Standing,
    Tally,
)
from lab.learned import Learning
from lab.reduce import Figures
from lab.sizing import Sizing, sizing
from lab.trade import Trade, TradeTable
from lab.wording import remarks, standing, verdict

SIGNIFICANT_DIGITS = 6

__all__ = ["RunInfo", "Standing", "Summary", "summarise"]
RECORDED = ("record_head", "record_facts")
OPTIONAL = ("learning", "sizing", "fidelity")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Summary:
    """Everything a report shows. ``headline`` takes decisive trades, ``readings`` the other ways to count."""

    run: RunInfo
    seed: int
    costs_bps: tuple[float, ...]
    standing: Standing
    verdict: str
    remarks: tuple[str, ...]
    n_signals: int
    n_executed: int
    tallies: tuple[Tally, ...]
    headline: Split
    readings: tuple[Split, ...]
    balances: tuple[Balance, ...]
    lifts: tuple[GateLift, ...]
    curves: tuple[Curve, ...]
    excursions: tuple[Excursion, ...]
    breakdowns: tuple[Breakdown, ...]
    endings: tuple[Endings, ...]
    table: TradeTable
    learning: Learning | None = None
    sizing: Sizing | None = None
    fidelity: Fidelity | None = None

    @property
    def lift(self) -> GateLift:
        """The gate's lift at the cost of the verdict."""
        return next(item for item in self.lifts if item.cost_bps == VERDICT_COST_BPS)

    def ending(self, name: str) -> Endings:
        """How one group of positions ended."""
        return next(item for item in self.endings if item.name == name)

    def breakdown(self, name: str) -> Breakdown:
        """Results by one property."""
        return next(item for item in self.breakdowns if item.name == name)

    def rounded(self) -> dict[str, Any]:
        """Every figure as JSON can carry it, to six significant digits; what is unknown is None."""
        plain = _plain(self)
        # A run without a learner, or all at one size, has no such part, rather than an empty one.
        left_out = {"table", *(name for name in OPTIONAL if getattr(self, name) is None)}
        return {key: plain[key] for key in plain if key not in left_out}

    def digest(self) -> str:
        """SHA-256 of decisions, outcomes and rounded figures: the same input always gives the same."""
        rows = [
            (
                trade.signal_id,
                trade.kind.value,
                trade.outcome,
                trade.exit_reason,
                trade.exit_ts,
                _rounded(trade.gross_r),
                _rounded(trade.score),
                _rounded(trade.threshold),
                [str(reason) for reason in trade.reasons],
            )
            for trade in self.table.trades
        ]
        figures = self.rounded()
        # The chain holds when each fact was recorded: another run of the same input has another head.
        figures["run"] = {name: value for name, value in figures["run"].items() if name not in RECORDED}
        text = json.dumps([rows, figures], sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def summarise(
    trades: Iterable[Trade],
    *,
    seed: int,
    costs_bps: Sequence[float] = COSTS_BPS,
    run: RunInfo,
    learning: Learning | None = None,
    fidelity: Fidelity | None = None,
    waiting: Sequence[OpenPosition] = (),
) -> Summary:
    """Reduce trades, and positions still open at the end, to a summary.

    The order of the trades means nothing; ``seed`` fixes every resample.
    """
    table = TradeTable.of(trades)
    costs = tuple(sorted({0.0, VERDICT_COST_BPS, *(float(cost) for cost in costs_bps)}))
    if not all(0.0 <= cost < math.inf for cost in costs):
        raise ValueError("costs are basis points, finite and at least 0")
    figures = Figures(table, costs, seed)
    readings, tallies = figures.readings(), figures.tallies()
    lifts = tuple(figures.lift(cost) for cost in (0.0, VERDICT_COST_BPS))
    found = standing(readings, tallies)
    return Summary(
        run=run,
        seed=seed,
        costs_bps=costs,
        standing=found,
        verdict=verdict(found, readings, tallies) + ("" if learning is None else learned_words.no_model(learning)),
        remarks=(
            *remarks(run, readings, tallies, lifts[-1]),
            *(() if learning is None else learned_words.remarks(learning)),
        ),
        n_signals=len(table),
        n_executed=int(np.count_nonzero(table.executed)),
        tallies=tallies,
        headline=readings[0],
        readings=readings,
        balances=figures.balances(),
        lifts=lifts,
        curves=figures.curves(),
        excursions=figures.excursions(),
        breakdowns=figures.breakdowns(),
        endings=endings_of(table, waiting, seed=seed),
        table=table,
        learning=learning,
        sizing=sizing(table, seed),
        fidelity=fidelity,
    )


def plain_figures(value: Any) -> Any:
    """Figures as JSON can carry them, to six significant digits; what is unknown is None."""
    return _plain(value)


def _rounded(value: float) -> float | None:
    # Twelve decimals first: what a sum that should be 0 leaves over differs between machines. Adding 0.0 turns -0.0,
    # which JSON would print differently, into 0.0.
    return float(f"{round(value, 12):.{SIGNIFICANT_DIGITS}g}") + 0.0 if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """Recursively, what JSON can carry; arrays and the table itself are material, not figures, and left out."""
    if isinstance(value, (np.ndarray, TradeTable)):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        names = (item.name for item in fields(value))
        kept = {name: getattr(value, name) for name in names}
        return {name: _plain(item) for name, item in kept.items() if not isinstance(item, (np.ndarray, TradeTable))}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    return _rounded(value) if isinstance(value, float) else value
