"""All figures of a replay as one value: counts, estimates with intervals, what the gate cost and saved."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from lab.figures import (
    VERDICT_COST_BPS,
    AtCost,
    Balance,
    Breakdown,
    Curve,
    Excursion,
    GateLift,
    Group,
    RunInfo,
    Split,
    Standing,
    Tally,
)
from lab.permutation import lift_against_random, lift_within_day
from lab.statistics import (
    RESAMPLES,
    UNKNOWN,
    Estimate,
    break_even_cost_bps,
    break_even_rate,
    estimate_lift,
    iid_mean_interval,
    max_drawdown,
    percentile_interval,
    rate_from_totals,
    resample_days,
)
from lab.trade import OUTCOMES, BoolArray, FloatArray, IntArray, TextArray, Trade, TradeTable
from lab.wording import remarks, standing, verdict

SIGNIFICANT_DIGITS = 6
QUANTILES = (0.10, 0.25, 0.50, 0.75, 0.90)
HOUR_MS = 3_600_000

__all__ = ["RunInfo", "Standing", "Summary", "summarise"]
RECORDED = ("record_head", "record_facts")


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
    table: TradeTable

    @property
    def lift(self) -> GateLift:
        """The gate's lift at the cost of the verdict."""
        return next(item for item in self.lifts if item.cost_bps == VERDICT_COST_BPS)

    def breakdown(self, name: str) -> Breakdown:
        """Results by one property."""
        return next(item for item in self.breakdowns if item.name == name)

    def rounded(self) -> dict[str, Any]:
        """Every figure as JSON can carry it, to six significant digits; what is unknown is None."""
        plain = _plain(self)
        return {key: plain[key] for key in plain if key != "table"}

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
    trades: Iterable[Trade], *, seed: int, costs_bps: Sequence[float] = (0.0, 5.0, 10.0), run: RunInfo
) -> Summary:
    """Reduce trades to a summary. The order of the trades means nothing; ``seed`` fixes every resample."""
    table = TradeTable.of(trades)
    costs = tuple(sorted({0.0, VERDICT_COST_BPS, *(float(cost) for cost in costs_bps)}))
    if not all(0.0 <= cost < math.inf for cost in costs):
        raise ValueError("costs are basis points, finite and at least 0")
    figures = _Figures(table, costs, seed)
    readings, tallies = figures.readings(), figures.tallies()
    lifts = tuple(figures.lift(cost) for cost in (0.0, VERDICT_COST_BPS))
    found = standing(readings, tallies)
    return Summary(
        run=run,
        seed=seed,
        costs_bps=costs,
        standing=found,
        verdict=verdict(found, readings, tallies),
        remarks=remarks(run, readings, tallies, lifts[-1]),
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
        table=table,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """Columns an estimate needs, shape ``(n_trades,)`` each."""

    day: IntArray
    gross_r: FloatArray
    cost_r_per_bp: FloatArray
    won: BoolArray
    executed: BoolArray

    def where(self, mask: BoolArray) -> _Sample:
        return _Sample(*(getattr(self, item.name)[mask] for item in fields(self)))


@dataclass(frozen=True, slots=True)
class _Figures:
    """The parts of a summary over one table."""

    table: TradeTable
    costs: tuple[float, ...]
    seed: int

    def _rng(self, label: str) -> np.random.Generator:
        # A stream per label: a new figure must not move the resamples of the others.
        return np.random.default_rng([self.seed, zlib.crc32(label.encode())])

    def _sample(self, gross_r: FloatArray | None = None, won: BoolArray | None = None) -> _Sample:
        table = self.table
        return _Sample(
            table.day,
            table.gross_r if gross_r is None else gross_r,
            table.cost_r_per_bp,
            table.won if won is None else won,
            table.executed,
        )

    def _group(self, name: str, sample: _Sample) -> Group:
        n, wins = len(sample.day), int(np.count_nonzero(sample.won))
        columns = np.stack([np.ones(n), sample.won.astype(np.float64), sample.gross_r, sample.cost_r_per_bp], axis=1)
        totals, n_days = resample_days(sample.day, columns, rng=self._rng(name), resamples=RESAMPLES)
        count, won, gross, cost = totals.T
        at_cost = []
        for bps in self.costs:
            net = sample.gross_r - bps * sample.cost_r_per_bp
            value = float(np.mean(net)) if n > 0 else math.nan
            interval = percentile_interval((gross - bps * cost) / count, n_days)
            mean = Estimate(value, interval, iid_mean_interval(net), n, n_days)
            at_cost.append(AtCost(bps, mean, float(np.sum(net)), break_even_rate(net, sample.won)))
        even_cost = break_even_cost_bps(sample.gross_r, sample.cost_r_per_bp)
        even = Estimate(even_cost, percentile_interval(gross / cost, n_days), UNKNOWN, n, n_days)
        return Group(name, n, wins, n_days, rate_from_totals(wins, n, won / count, n_days), tuple(at_cost), even)

    def _split(self, name: str, sample: _Sample) -> Split:
        return Split(
            name,
            self._group("executed", sample.where(sample.executed)),
            self._group("refused", sample.where(~sample.executed)),
            self._group("always-take", sample),
        )

    def readings(self) -> tuple[Split, ...]:
        """The headline first, then every other way to count what is doubtful."""
        table = self.table
        doubtful = table.ambiguous & table.decisive
        marked = np.where(table.timed_out & np.isfinite(table.mark_r), table.mark_r, table.gross_r)
        # Resolved by a finer series, an ambiguous candle may be a win: the worst case is the stop, one R.
        as_loss = np.where(doubtful & table.won, -1.0, table.gross_r)
        as_win = np.where(doubtful, table.reward_to_risk, table.gross_r)
        rows: tuple[tuple[str, BoolArray, FloatArray, BoolArray], ...] = (
            ("decisive trades (headline)", table.decisive, table.gross_r, table.won),
            ("with timeouts at 0 R", table.closed, table.gross_r, table.won),
            ("with timeouts marked to market", table.closed, marked, table.won),
            ("ambiguous candles all lost", table.decisive, as_loss, table.won & ~doubtful),
            ("ambiguous candles all won", table.decisive, as_win, table.won | doubtful),
            ("filled at the next open", table.decisive, table.gross_next_open_r, table.won),
        )
        return tuple(self._split(name, self._sample(gross, won).where(mask)) for name, mask, gross, won in rows)

    def tallies(self) -> tuple[Tally, ...]:
        """Counts by kind."""
        table = self.table

        def count(values: TextArray) -> dict[str, int]:
            names, counts = np.unique(values, return_counts=True)
            return {str(name): int(n) for name, n in zip(names, counts, strict=True)}

        def tally(kind: str, mask: BoolArray) -> Tally:
            outcomes = count(table.outcome[mask])
            flags = (table.ambiguous, table.gap, table.late_mark, table.tp1_hit)
            return Tally(
                kind,
                int(np.count_nonzero(mask)),
                {outcome: outcomes.get(outcome, 0) for outcome in OUTCOMES},
                count(table.exit_reason[mask]),
                *(int(np.count_nonzero(flag & mask)) for flag in flags),
            )

        everything = np.ones(len(table), dtype=np.bool_)
        return (
            tally("executed", table.executed),
            tally("refused", ~table.executed),
            tally("always-take", everything),
        )

    def balances(self) -> tuple[Balance, ...]:
        """Refused winners against refused losers, decisive trades, at each cost."""
        table, found = self.table, []
        refused = ~table.executed & table.decisive
        for bps in self.costs:
            net = table.net_r(bps)
            winners, losers = refused & table.won, refused & ~table.won
            forgone, saved = float(net[winners].sum()), -float(net[losers].sum())
            counts = int(np.count_nonzero(winners)), int(np.count_nonzero(losers))
            found.append(Balance(bps, *counts, forgone, saved, saved - forgone))
        return tuple(found)

    def lift(self, bps: float) -> GateLift:
        """Executed against all decisive trades."""
        table, mask = self.table, self.table.decisive
        day, net, accepted = table.day[mask], table.net_r(bps)[mask], table.executed[mask]
        return GateLift(
            bps,
            estimate_lift(day, net, accepted, rng=self._rng("lift interval")),
            lift_against_random(net, accepted, rng=self._rng("lift random")),
            lift_within_day(day, net, accepted, rng=self._rng("lift within day")),
        )

    def curves(self) -> tuple[Curve, ...]:
        """Always-take, gated and refused at the cost of the verdict."""
        table, closed = self.table, self.table.closed
        return (
            self._curve("always-take", closed),
            self._curve("executed", closed & table.executed),
            self._curve("refused", closed & ~table.executed),
        )

    def _curve(self, name: str, mask: BoolArray) -> Curve:
        table = self.table
        # Stable: trades that end together stay in the order of their signals.
        order = np.flatnonzero(mask)[np.argsort(table.exit_ts[mask], kind="stable")]
        net, ts = table.net_r(VERDICT_COST_BPS)[order], table.exit_ts[order]
        equity = np.cumsum(net)
        gains, losses = float(net[net > 0.0].sum()), -float(net[net < 0.0].sum())
        deviation = float(np.std(net, ddof=1)) if len(net) > 1 else 0.0
        hold = (table.exit_ts - table.entry_ts)[order] / HOUR_MS
        return Curve(
            name,
            ts,
            equity,
            len(net),
            float(equity[-1]) if len(net) > 0 else 0.0,
            max_drawdown(net),
            gains / losses if losses > 0.0 else math.nan,
            math.sqrt(len(net)) * float(np.mean(net)) / deviation if deviation > 0.0 else math.nan,
            _longest_run(table.outcome[order] == "loss"),
            float(np.median(hold)) if len(hold) > 0 else math.nan,
        )

    def excursions(self) -> tuple[Excursion, ...]:
        """Excursions by kind and outcome, where there are any."""
        table, found = self.table, []
        for kind, mask in (("executed", table.executed), ("refused", ~table.executed)):
            for outcome in ("win", "loss", "timeout"):
                chosen = mask & (table.outcome == outcome)
                n = int(np.count_nonzero(chosen))
                if n > 0:
                    mfe, mae = (np.quantile(values[chosen], QUANTILES) for values in (table.mfe_r, table.mae_r))
                    found.append(Excursion(kind, outcome, n, tuple(map(float, mfe)), tuple(map(float, mae))))
        return tuple(found)

    def breakdowns(self) -> tuple[Breakdown, ...]:
        """Decisive trades by everything known when the signal came."""
        table, sample = self.table, self._sample()
        buckets = [trade.bucket for trade in table.trades]
        session = np.array([bucket.session.value for bucket in buckets], dtype=np.str_)
        regime = np.array([bucket.volatility.value for bucket in buckets], dtype=np.str_)
        month = table.entry_ts.astype("datetime64[ms]").astype("datetime64[M]").astype(np.str_)
        side = np.where(table.side > 0, "long", "short")
        reasons = [frozenset(map(str, trade.reasons)) for trade in table.trades]

        def having(reason: str) -> BoolArray:
            return np.array([reason in found for found in reasons], dtype=np.bool_)

        def by(name: str, values: TextArray) -> Breakdown:
            return rows(name, sorted({str(value) for value in values}), lambda value: values == value)

        def rows(name: str, values: Sequence[str], mask: Callable[[str], BoolArray]) -> Breakdown:
            splits = (self._split(value, sample.where(mask(value) & table.decisive)) for value in values)
            return Breakdown(name, tuple(split for split in splits if split.everything.n > 0))

        tagged = np.where(table.tag == "", "(none)", table.tag)
        return (
            by("symbol", table.symbol),
            by("side", side),
            by("session", session),
            by("regime", regime),
            by("bucket", table.bucket),
            by("month", month),
            by("tag", tagged),
            rows("reason", sorted(frozenset().union(*reasons)), having),
        )


def _longest_run(flags: BoolArray) -> int:
    longest = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        longest = max(longest, run)
    return longest


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
