"""The same signals under several settings, side by side: replays of their own, because what they learn differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lab.figures import COSTS_BPS, VERDICT_COST_BPS, GateLift, Split
from lab.placebo import Placebo, gate_of, shuffled_lift
from lab.reduce import Figures
from lab.statistics import Estimate, estimate_mean
from lab.trade import Trade, TradeTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting's run. ``gain`` is what it made per signal more than the first setting, paired signal by signal.

    A signal that is not executed makes 0; ``gain`` is in R per decided signal at the cost of the verdict. ``skill`` is
    the Brier skill of its bundles on the decided signals they answered, all out of sample, and ``auc`` on the same;
    none where no bundle answered.
    """

    name: str
    reported: bool
    bundles: int
    by_model: int
    skill: Estimate | None
    auc: float | None
    split: Split
    lift: GateLift
    placebo: Placebo
    gain: Estimate | None
    decisions_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingRun:
    """A finished run of one setting; ``reported`` marks the one the rest of the report is about.

    ``skill`` and ``auc`` are those of its bundles out of sample.
    """

    name: str
    trades: Sequence[Trade]
    bundles: int
    decisions_hash: str
    reported: bool = False
    skill: Estimate | None = None
    auc: float | None = None


def compare(runs: Sequence[SettingRun], *, seed: int) -> tuple[Setting, ...]:
    """Figures of each run, and of each against the first on the signals both decided."""
    tables = [TradeTable.of(run.trades) for run in runs]
    return tuple(
        _setting(run, table, None if place == 0 else tables[0], seed)
        for place, (run, table) in enumerate(zip(runs, tables, strict=True))
    )


def _setting(run: SettingRun, table: TradeTable, first: TradeTable | None, seed: int) -> Setting:
    figures = Figures(table, COSTS_BPS, seed)
    sample = figures.sample().where(table.decisive)
    gate, net = gate_of(table).where(table.decisive), table.net_r(VERDICT_COST_BPS)[table.decisive]
    return Setting(
        name=run.name,
        reported=run.reported,
        bundles=run.bundles,
        by_model=sum(trade.decisive and trade.forecast is not None for trade in table.trades),
        skill=run.skill,
        auc=run.auc,
        split=figures.split(run.name, sample),
        lift=figures.lift(VERDICT_COST_BPS),
        placebo=shuffled_lift("all scores", net, gate, cost_bps=VERDICT_COST_BPS, rng=figures.rng("all scores")),
        gain=None if first is None else _gain(table, first, figures),
        decisions_hash=run.decisions_hash,
    )


def _gain(table: TradeTable, first: TradeTable, figures: Figures) -> Estimate:
    """Paired difference in R per signal: most of a market's noise is common to both and falls out."""
    other = {trade.signal_id: place for place, trade in enumerate(first.trades)}
    pairs = [
        (place, other[trade.signal_id])
        for place, trade in enumerate(table.trades)
        if trade.decisive and trade.signal_id in other and first.trades[other[trade.signal_id]].decisive
    ]
    here = np.array([place for place, _ in pairs], dtype=np.int64)
    there = np.array([place for _, place in pairs], dtype=np.int64)
    net, base = table.net_r(VERDICT_COST_BPS), first.net_r(VERDICT_COST_BPS)
    made = net[here] * table.executed[here] - base[there] * first.executed[there]
    return estimate_mean(table.day[here], made, rng=figures.rng("gain"))
