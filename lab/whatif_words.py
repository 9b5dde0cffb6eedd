"""What a what-if says in plain sentences, doubt first, and its tables on a terminal."""

from __future__ import annotations

import math

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lab.figures import VERDICT_COST_BPS
from lab.fixed_b import DayMean
from lab.statistics import Interval
from lab.tables import add_row, titled_table
from lab.whatif import WhatIf
from lab.whatif_value import GREY_BELOW, Value
from lab.wording import DASH, ENOUGH_DAYS, ENOUGH_TRADES, MANY_TIMEOUTS, basis_points, number, percent, signed

WIDTH = 140
MOST_DIFFERENCES = 20


def bounds(interval: Interval, digits: int = 3) -> str:
    """An interval in R."""
    return f"{signed(interval.low, digits)} to {signed(interval.high, digits)}" if interval.known else "unknown"


def asked(found: WhatIf) -> tuple[Value, ...]:
    """The policies that were compared with the current gate: what everybody is shown does not count."""
    yardsticks = ("as answered", "always-take", "heuristic alone")
    return tuple(value for value in found.values[1:] if value.name not in yardsticks)


def focus(found: WhatIf) -> Value:
    """Which policy the first line is about: of those asked for the one that gained most, else the current gate."""
    return max(asked(found), key=lambda value: value.verdict.difference.value, default=found.current)


def verdict(found: WhatIf) -> str:
    """The one sentence that comes first."""
    value, cost = focus(found), basis_points(found.verdict_bps)
    after = value.verdict
    earned = _earned(value, cost)
    days = after.per_signal.n_days
    if value.decisive < ENOUGH_TRADES or days < ENOUGH_DAYS or not after.per_accepted.interval.known:
        return (
            f"Nothing is shown: {value.name} accepted {value.accepted:,} signals, {value.decisive:,} of them decided, "
            f"on {days:,} days; it takes {ENOUGH_TRADES} on {ENOUGH_DAYS}."
        )
    if value is found.current:
        opening = "No demonstrated edge" if after.per_accepted.interval.holds(0.0) else _sign(after.per_accepted)
        return f"{opening}: {earned}."
    many = len(found.values) > 2
    interval = value.adjusted if many else after.difference.interval
    together = " for all compared policies at once" if many else ""
    against = (
        f"at {cost} {value.name} made {signed(after.difference.value)} R a signal against the current gate "
        f"(95 %{together} {bounds(interval)} R"
    )
    if value.grey:
        return (
            f"Not to be told apart: {against}; they disagree on only {value.n_disagree:,} signals, "
            f"below {GREY_BELOW}); {earned}."
        )
    if interval.holds(0.0):
        return f"Not shown to be better: {against}, which contains 0, on {days:,} days); {earned}."
    word = "Better" if after.difference.value > 0.0 else "Worse"
    return f"{word} than the current gate on these signals: {against}, on {days:,} days); {earned}."


def _sign(mean: DayMean) -> str:
    return "An edge in this sample" if mean.value > 0.0 else "No edge but a loss"


def _earned(value: Value, cost: str) -> str:
    mean = value.verdict.per_accepted
    inside = ", which contains 0: no demonstrated edge" if _doubtful(mean) else ""
    at_ten = next((item.per_accepted for item in value.at_cost if item.cost_bps == VERDICT_COST_BPS), mean)
    dearer = f"; at {basis_points(VERDICT_COST_BPS)} its interval contains 0" if _doubtful(at_ten) else ""
    return (
        f"an accepted trade of {value.name} made {signed(mean.value)} R at {cost} "
        f"(95 % {bounds(mean.interval)} R{inside}; {value.accepted:,} accepted){'' if inside else dearer}"
    )


def _doubtful(mean: DayMean) -> bool:
    return mean.interval.known and mean.interval.holds(0.0)


def remarks(found: WhatIf) -> tuple[str, ...]:
    """What a careful reader should know next, most important first."""
    told: list[str] = []
    if found.nested is not None:
        nested = found.nested
        nothing = ", which takes nothing," if nested.best_accepted == 0 else ""
        told.append(
            f"The best of the grid, threshold {nested.best:g}{nothing} at {signed(nested.best_value)} R a signal, was "
            f"chosen after looking. Chosen on the past alone and scored on what came next, it would have made "
            f"{signed(nested.value.value)} R a signal (95 % {bounds(nested.value.interval)}), "
            f"{signed(nested.against.value)} R against the current gate ({bounds(nested.against.interval)})."
        )
    told += _on_chance(focus(found))
    if found.short_span:
        told.append(
            f"The record spans {found.span_days:,} days: one regime at most. What was better in it may be worse in "
            "the next."
        )
    told += [_trained(value) for value in found.values if value.excluded > 0]
    told += [
        f"{value.name} could not judge {value.unknown:,} signals and refuses them." for value in found.values
        if value.unknown > 0
    ]  # fmt: skip
    if len(found.score_kinds) > 1:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.score_kinds.items()))
        told.append(f"A threshold compares scores of several kinds as if they were one: {kinds}.")
    told += _on_timeouts(found)
    mean = found.current.verdict.per_signal
    told.append(
        f"{mean.n:,} signals on {mean.n_days:,} days say as much as {number(mean.effective_n, 0)} independent ones; "
        "intervals come from day sums over all symbols."
    )
    told.append(
        "Limits and breakers were applied as live, to every policy in its own order."
        if found.limited
        else "Limits and breakers were off: this measures gates alone, the current one by what it wanted."
    )
    if found.cases.still_open > 0:
        told.append(f"{found.cases.still_open:,} signals are still open and count in no figure.")
    if found.ledger is not None:
        told.append(ledger_line(found))
    return tuple(told)


def _trained(value: Value) -> str:
    return (
        f"{value.name} was trained on {value.excluded:,} of the signals, or on what overlaps them: they are left "
        f"out of its figures, which rest on the other {value.n:,}."
    )


def _on_chance(value: Value) -> list[str]:
    if not math.isfinite(value.random_p):
        return []
    lift = value.verdict.lift
    chance = value.random_p >= 0.05 or lift.interval.holds(0.0)
    told = "cannot be told from chance" if chance else "beats chance" if lift.value > 0.0 else "is worse than chance"
    line = (
        f"What {value.name} chooses {told}: an accepted trade makes {signed(lift.value)} R more than all do "
        f"(95 % {bounds(lift.interval)}; p {number(value.random_p, 3)} against random gates that accept as many)."
    )
    return [line]


def _on_timeouts(found: WhatIf) -> list[str]:
    value = focus(found)
    if value.accepted == 0 or value.timeouts / value.accepted <= MANY_TIMEOUTS:
        return []
    told = (
        f"{percent(value.timeouts / value.accepted, 0)} of what {value.name} accepted timed out and counts 0 R before "
        f"costs; at their marks a signal makes {signed(value.marked.per_signal.value)} R instead of "
        f"{signed(value.verdict.per_signal.value)} R."
    )
    return [told]


def ledger_line(found: WhatIf) -> str:
    """Whether playing the record again gave the ledger."""
    ledger = found.ledger
    if ledger is None:
        return "The record was not played again."
    line = f"ledger reproduced: {ledger.reproduced:,} of {ledger.signals:,}"
    if ledger.exact:
        return f"{line} signals, {ledger.endings:,} results, executed equity {signed(ledger.equity_r, 6)} R."
    return f"{line} signals; {len(ledger.differences):,} differences, listed below."


def print_whatif(found: WhatIf, console: Console) -> None:
    """Print it: the verdict first; nothing in it is read as markup."""
    width = min(WIDTH, console.width)
    lines = [Text(f"• {remark}") for remark in remarks(found)]
    console.print(Panel(Group(Text(verdict(found), style="bold"), *lines), title="What if", width=width))
    tables = [_policies(found), _against(found), _portfolios(found)]
    tables += [_curve(found)] if found.curve is not None else []
    for table in tables:
        table.width = width
        console.print(table)
    if found.ledger is not None and not found.ledger.exact:
        console.print(_differences(found))


def _policies(found: WhatIf) -> Table:
    table = titled_table(
        f"Policies at {basis_points(found.verdict_bps)} round trip (95 %, HAC over days)",
        "", "accepted", "real", "win rate", "95 %", "break-even", "R a trade", "95 %",
    )  # fmt: skip
    for value in found.values:
        mean = value.verdict.per_accepted
        rate = value.win_interval
        add_row(
            table, value.name, f"{value.accepted:,} of {value.n:,}", f"{value.accepted_real:,}",
            percent(value.win_rate), f"{percent(rate.low)}–{percent(rate.high)}" if rate.known else DASH,
            percent(value.break_even_rate), signed(mean.value), bounds(mean.interval, 2),
        )  # fmt: skip
    return table


def _against(found: WhatIf) -> Table:
    table = titled_table(
        "Against the current gate, R a signal",
        "", "disagree", "difference", "95 %", "all at once", "P(better)", "detectable", "p random",
    )  # fmt: skip
    for value in found.values[1:]:
        gained = value.verdict.difference
        add_row(
            table, value.name, f"{value.n_disagree:,}{_shade(value)}", signed(gained.value),
            bounds(gained.interval), bounds(value.adjusted), percent(value.p_better, 0),
            number(gained.least_detectable, 3), number(value.random_p, 3),
        )  # fmt: skip
    return table


def _shade(value: Value) -> str:
    return " same" if value.n_disagree == 0 else " grey" if value.grey else ""


def _portfolios(found: WhatIf) -> Table:
    table = titled_table(
        "Together, in R", "", "total", "drawdown", "half", "1 in 20", "ratio", "95 %", "most open", "mean open",
        "at risk",
    )  # fmt: skip
    for value in found.values:
        it = value.portfolio
        falls = it.drawdown_quantiles_r
        add_row(
            table, value.name, signed(it.final_r, 1), number(it.drawdown_r), number(falls[0]), number(falls[2]),
            number(it.ratio, 2), bounds(it.ratio_interval, 1), f"{it.most_open:,}", number(it.mean_open),
            number(it.most_at_risk_r),
        )  # fmt: skip
    return table


def _curve(found: WhatIf) -> Table:
    table = titled_table(
        "Thresholds, R a signal (bounds hold for the whole curve at once)",
        "threshold", "accepted", "value", "95 %", "against current", "95 %", "disagree",
    )  # fmt: skip
    curve = found.curve
    if curve is None:
        return table
    places = range(len(curve.thresholds))
    for place in places:
        if place + 1 in places and curve.accepted[place] == curve.accepted[place + 1]:
            # The next one takes the same signals: of equal thresholds the highest is shown.
            continue
        threshold = float(curve.thresholds[place])
        value, gained = float(curve.value.value[place]), float(curve.difference.value[place])
        add_row(
            table, f"{threshold:g}", f"{int(curve.accepted[place]):,}", signed(value), bounds(curve.value.at(place)),
            signed(gained), bounds(curve.difference.at(place)), f"{int(curve.disagree[place]):,}",
        )  # fmt: skip
    return table


def _differences(found: WhatIf) -> Table:
    table = titled_table("What did not come out as it is recorded", "signal", "what", "recorded", "replayed")
    differences = () if found.ledger is None else found.ledger.differences
    for item in differences[:MOST_DIFFERENCES]:
        add_row(table, item.signal_id, item.what, item.recorded, item.replayed)
    if len(differences) > MOST_DIFFERENCES:
        add_row(table, f"and {len(differences) - MOST_DIFFERENCES:,} more", "", "", "")
    return table


def finite(value: float) -> float | None:
    """A figure as JSON can carry it, to six significant digits."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
