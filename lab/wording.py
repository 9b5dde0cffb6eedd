"""What the figures say in plain sentences, and how a figure is written. Doubt is always said first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from lab.figures import VERDICT_COST_BPS, GateLift, RunInfo, Split, Standing, Tally
from lab.statistics import Estimate
from lab.trade import DAY_MS

ENOUGH_TRADES = 30
ENOUGH_DAYS = 20
"""Below either no verdict is given: a resampled interval from a handful of days covers far less than it says."""
DEMANDING_READINGS = (1, 2, 3, 5)
"""Readings an edge must survive besides the headline; ambiguous candles counted as wins prove nothing."""
MANY_TIMEOUTS = 0.10
SHORT_HISTORY_DAYS = 730
DASH = "–"


def signed(value: float, digits: int = 3) -> str:
    """A figure in R with its sign."""
    # Rounded before it is signed, or -0.0004 would read as a negative nothing.
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−") if math.isfinite(value) else DASH


def percent(share: float, digits: int = 1) -> str:
    """A share in [0, 1] as percent."""
    return f"{100.0 * share:.{digits}f} %".replace("-", "−") if math.isfinite(share) else DASH


def number(value: float, digits: int = 1) -> str:
    """A plain figure."""
    return f"{value:,.{digits}f}".replace("-", "−") if math.isfinite(value) else DASH


def basis_points(value: float) -> str:
    """A cost: 10 bp, 2.5 bp."""
    return f"{value:g} bp".replace("-", "−") if math.isfinite(value) else DASH


def probability(p: float) -> str:
    """A p-value; small ones keep their order of magnitude."""
    if not math.isfinite(p):
        return DASH
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1g}"


def mean_bounds(estimate: Estimate, digits: int = 3, *, iid: bool = False) -> str:
    """The interval of a mean in R."""
    bounds = estimate.iid if iid else estimate.day
    if estimate.n == 0:
        return DASH
    return f"{signed(bounds.low, digits)} to {signed(bounds.high, digits)}" if bounds.known else "unknown"


def rate_bounds(estimate: Estimate, *, iid: bool = False) -> str:
    """The interval of a share."""
    bounds = estimate.iid if iid else estimate.day
    if estimate.n == 0:
        return DASH
    return f"{100.0 * bounds.low:.1f}–{100.0 * bounds.high:.1f} %" if bounds.known else "unknown"


def moment(ts: int) -> str:
    """A UTC moment to the minute."""
    return datetime.fromtimestamp(ts / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M")


def source(run: RunInfo) -> str:
    """Where the candles come from."""
    words = {"files": "candle files", "exchange": "exchange", "generated": "generated market"}[run.source]
    seed = "" if run.source_seed is None else f", seed {run.source_seed}"
    detail = f" ({run.source_detail})" if run.source_detail else ""
    return f"{words}{seed}{detail}"


def standing(readings: Sequence[Split], tallies: Sequence[Tally]) -> Standing:
    """What the executed trades prove; uncertainty may only take away."""
    executed = readings[0].executed
    interval = executed.verdict.mean_r.day
    if tallies[0].n == 0:
        return Standing.EMPTY
    if executed.n < ENOUGH_TRADES or executed.n_days < ENOUGH_DAYS or not interval.known:
        return Standing.THIN
    if interval.high < 0.0:
        return Standing.LOSS
    if interval.low <= 0.0:
        return Standing.NONE
    return Standing.FRAGILE if _failing(readings) else Standing.EDGE


def _failing(readings: Sequence[Split]) -> list[Split]:
    demanding = (readings[index] for index in DEMANDING_READINGS)
    return [item for item in demanding if not item.executed.verdict.mean_r.day.low > 0.0]


def verdict(found: Standing, readings: Sequence[Split], tallies: Sequence[Tally]) -> str:
    """The one sentence that comes first."""
    executed, total = readings[0].executed, tallies[-1].n
    if found is Standing.EMPTY:
        return (
            f"No demonstrated edge: the gate executed none of {total:,} signals."
            if total > 0
            else "No demonstrated edge: there were no signals."
        )
    if found is Standing.THIN:
        return (
            f"No demonstrated edge: {executed.n:,} decided executed {_noun(executed.n, 'trade')} on "
            f"{executed.n_days:,} {_noun(executed.n_days, 'day')} cannot show one "
            f"(it takes {ENOUGH_TRADES} on {ENOUGH_DAYS} days and results that differ)."
        )
    mean = executed.verdict.mean_r
    at = f"at {basis_points(VERDICT_COST_BPS)} round trip"
    made = f"{at} an executed trade made {signed(mean.value)} R on average"
    basis = f"{executed.n:,} trades on {executed.n_days:,} days"
    bounds = f"95 % interval {mean_bounds(mean)} R"
    if found is Standing.NONE:
        return f"No demonstrated edge: {made}, and its {bounds} contains 0 ({basis})."
    if found is Standing.LOSS:
        return f"No edge but a loss: {made}, and its whole {bounds} lies below 0 ({basis})."
    if found is Standing.FRAGILE:
        weak = _failing(readings)[0]
        return (
            f"No robust edge: {made} ({bounds}, {basis}), but read “{weak.name}” the interval is "
            f"{mean_bounds(weak.executed.verdict.mean_r)} R."
        )
    return f"An edge in this sample: {made}, {bounds}, above 0 however timeouts and doubtful candles count ({basis})."


def remarks(run: RunInfo, readings: Sequence[Split], tallies: Sequence[Tally], lift: GateLift) -> tuple[str, ...]:
    """What a careful reader should know next, most important first."""
    found = [_on_the_gate(lift)]
    executed = tallies[0]
    if run.source == "generated":
        found.append("The candles are generated: these results say nothing about a real market.")
    else:
        found.append(_on_the_sample(run))
    timeouts = executed.outcomes["timeout"]
    closed = timeouts + executed.outcomes["win"] + executed.outcomes["loss"]
    if closed > 0 and timeouts / closed > MANY_TIMEOUTS:
        found.append(
            f"{percent(timeouts / closed, 0)} of executed positions timed out and are not in the headline; "
            f"marked to market the mean is {signed(readings[2].executed.verdict.mean_r.value)} R."
        )
    if executed.ambiguous > 0:
        low, high = (readings[index].executed.verdict.mean_r.value for index in (3, 4))
        found.append(
            f"{executed.ambiguous:,} executed {_noun(executed.ambiguous, 'trade')} ended in a candle that held both "
            f"barriers; counted against or for the trades, the mean lies between {signed(low)} and {signed(high)} R."
        )
    lost = tallies[-1].outcomes["no_data"]
    if lost > 0:
        found.append(f"{lost:,} {_noun(lost, 'position')} ended without candles and count in no figure.")
    found.append(
        "Limits and breakers were applied as live."
        if run.limits
        else "Limits and breakers were off: this measures the gate alone."
    )
    return tuple(filter(None, found))


def _on_the_sample(run: RunInfo) -> str:
    """How little history there is. Silent above two years, which is no promise either."""
    days = (run.last_ts - run.first_ts) / DAY_MS
    if days >= SHORT_HISTORY_DAYS:
        return ""
    span = f"{days / 30.44:.0f} months" if days >= 61 else f"{days:.0f} {_noun(round(days), 'day')}"
    symbols = len(run.symbols)
    return (
        f"{span} of {symbols:,} {_noun(symbols, 'symbol')} are one market regime at most, and symbols with history "
        "today are the ones that survived: no interval here covers another market."
    )


def _on_the_gate(item: GateLift) -> str:
    if not (item.lift.n > 0 and math.isfinite(item.random.p)):
        return "The gate executed all or none of the decided signals, so its choice cannot be tested."
    p = max(item.random.p, item.within_day.p) if math.isfinite(item.within_day.p) else item.random.p
    better = item.lift.value > 0.0 and p < 0.05
    return (
        f"The gate's choice {'beats' if better else 'cannot be told from' if p >= 0.05 else 'is worse than'} chance: "
        f"executed minus always-take is {signed(item.lift.value)} R a trade "
        f"(95 % {mean_bounds(item.lift)} R; p {probability(item.random.p)} against random gates, "
        f"{probability(item.within_day.p)} within days)."
    )


def _noun(n: int, word: str) -> str:
    return word if n == 1 else f"{word}s"


GLOSSARY: tuple[tuple[str, str], ...] = (
    ("R", "The distance from entry to the initial stop-loss. +2 R is a gain of twice what was risked."),
    ("always-take", "Every signal taken, as if there were no gate: the yardstick of the gate."),
    ("executed", "Signals the gate let through."),
    ("refused", "Signals the gate held back; followed to their end as phantom positions, so their outcome is known."),
    ("decided", "Ended at take-profit or stop-loss. The headline counts these; timeouts are shown beside it."),
    ("win rate", "Decided trades that reached their target, as a share of all decided trades."),
    (
        "cumulative incidence",
        "Share of positions that ended in one way by a time, the other ways taken as what they are: the shares add up.",
    ),
    ("n eff", "Equally weighted positions that these are worth when each is weighted by the time it had to itself."),
    ("break-even rate", "The win rate at which mean R is zero: L / (W + L), with the mean win W and the mean loss L."),
    ("break-even cost", "The round-trip cost in basis points at which mean R falls to zero. Negative: already below."),
    (
        "95 % interval",
        "From resampling UTC days across all symbols, because trades of one day rise and fall together.",
    ),
    ("iid interval", "The same as if every trade were independent. Usually too narrow; for comparison only."),
    ("bp", "Basis point, a hundredth of a percent of the entry price. Costs are for entry and exit together."),
    ("lift", "Mean R of executed trades minus mean R of all."),
    ("p", "How often a gate that accepts as many signals by chance differs at least as much from what chance expects."),
    ("within days", "The same test with scores shuffled inside each day: it ignores luck in the choice of days."),
    ("timeout", "Neither barrier reached in time. The book's rule counts 0 R; marked to market counts the last price."),
    ("ambiguous", "A candle held both barriers, so its path is unknown. The stop is assumed first."),
    ("MFE, MAE", "Maximum favourable and adverse excursion: the best and the worst a trade stood at, in R."),
    ("profit factor", "Sum of gains divided by sum of losses."),
    ("SQN", "Square root of the number of trades times mean R over its standard deviation."),
    ("drawdown", "Fall of the running sum of R from its highest point."),
    ("bucket", "Trading session and volatility regime; a threshold is learned for each of the sixteen."),
    ("no fill", "The first candle opened beyond a barrier: no position. No data: the candles ended too early."),
)
