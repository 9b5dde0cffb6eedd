"""Trades reduced to figures: groups with intervals, lifts, curves, breakdowns."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

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
    Split,
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
from lab.trade import OUTCOMES, BoolArray, FloatArray, IntArray, TextArray, TradeTable

QUANTILES = (0.10, 0.25, 0.50, 0.75, 0.90)
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Columns an estimate needs, shape ``(n_trades,)`` each."""

    day: IntArray
    gross_r: FloatArray
    cost_r_per_bp: FloatArray
    won: BoolArray
    executed: BoolArray

    def where(self, mask: BoolArray) -> Sample:
        """The part of it that a mask keeps."""
        return Sample(*(getattr(self, item.name)[mask] for item in fields(self)))


@dataclass(frozen=True, slots=True)
class Figures:
    """The parts of a summary over one table."""

    table: TradeTable
    costs: tuple[float, ...]
    seed: int

    def rng(self, label: str) -> np.random.Generator:
        """A generator of its own for each figure."""
        # A stream per label: a new figure must not move the resamples of the others.
        return np.random.default_rng([self.seed, zlib.crc32(label.encode())])

    def sample(self, gross_r: FloatArray | None = None, won: BoolArray | None = None) -> Sample:
        """All trades, with results or outcomes read another way when they are given."""
        table = self.table
        return Sample(
            table.day,
            table.gross_r if gross_r is None else gross_r,
            table.cost_r_per_bp,
            table.won if won is None else won,
            table.executed,
        )

    def group(self, name: str, sample: Sample) -> Group:
        """Results of some trades, with intervals."""
        n, wins = len(sample.day), int(np.count_nonzero(sample.won))
        columns = np.stack([np.ones(n), sample.won.astype(np.float64), sample.gross_r, sample.cost_r_per_bp], axis=1)
        totals, n_days = resample_days(sample.day, columns, rng=self.rng(name), resamples=RESAMPLES)
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

    def split(self, name: str, sample: Sample) -> Split:
        """Results of executed, refused and all."""
        return Split(
            name,
            self.group("executed", sample.where(sample.executed)),
            self.group("refused", sample.where(~sample.executed)),
            self.group("always-take", sample),
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
        return tuple(self.split(name, self.sample(gross, won).where(mask)) for name, mask, gross, won in rows)

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
            estimate_lift(day, net, accepted, rng=self.rng("lift interval")),
            lift_against_random(net, accepted, rng=self.rng("lift random")),
            lift_within_day(day, net, accepted, rng=self.rng("lift within day")),
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
        table, sample = self.table, self.sample()
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
            splits = (self.split(value, sample.where(mask(value) & table.decisive)) for value in values)
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
