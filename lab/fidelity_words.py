"""What the twins say in plain sentences. Doubt is said first, as everywhere in a report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lab.clustered import Clustered
from lab.fidelity import ENOUGH_EXPLORED, TESTED, Below, Fidelity, Residual
from lab.sizing import Sizing
from lab.wording import DASH, ENOUGH_DAYS, basis_points, mean_bounds, number, percent, signed

BY_REPLAY = (
    "A replay is its own engine: it reports what the simulation says, so live and simulated results are equal by "
    "construction and nothing here tests how faithful phantoms are. That takes a live record: penumbra fidelity."
)


def sentences(found: Fidelity) -> tuple[str, ...]:
    """The verdict on the phantoms, then what it rests on."""
    n = found.filled.bias_r.n
    if n == 0:
        return (f"No executed signal has both a reported result and a finished twin yet: {_missing(found)}.",)
    if found.by_construction:
        told = f"Each of {n:,} live results is what its simulation says: they are equal by construction"
        return (f"{told}, and nothing here tests how faithful phantoms are.",)
    return (_verdict(found.filled), _orders(found), *below_sentences(found.below), _missing(found) + ".")


def _verdict(residual: Residual) -> str:
    bias = residual.bias_r
    figures = (
        f"live minus twin is {signed(bias.value)} R a trade (95 % {mean_bounds(bias)} R, {bias.n:,} pairs on "
        f"{bias.n_days:,} days)"
    )
    if residual.flagged:
        way = "worse" if bias.value < 0.0 else "better"
        # Two standard errors of a handful of days are not what they are of many.
        sure = bias.n_days >= ENOUGH_DAYS and bias.day.known and not bias.day.holds(0.0)
        told = "Phantoms are biased" if sure else "Phantoms look biased, though not surely"
        return f"{told}: {figures}, more than two standard errors; the market was {way} than they say."
    if not bias.day.known:
        return f"Too few days to judge phantoms: {figures}."
    return f"No bias of phantoms can be shown: {figures}; one of up to {_largest(residual)} R cannot be excluded."


def _largest(residual: Residual) -> str:
    bounds = residual.bias_r.day
    return number(max(abs(bounds.low), abs(bounds.high)), 3)


def _orders(found: Fidelity) -> str:
    unfilled = found.sent.bias_r.n - found.filled.bias_r.n
    if unfilled == 0:
        return f"Engine and twin left by the same door in {percent(found.same_exit, 0)} of pairs."
    sent = found.sent.bias_r
    return (
        f"Engine and twin left by the same door in {percent(found.same_exit, 0)} of pairs; with {unfilled:,} orders "
        f"that only one of them had filled, at 0 R, live minus twin is {signed(sent.value)} R (95 % "
        f"{mean_bounds(sent)} R)."
    )


def below_sentences(below: Below) -> tuple[str, ...]:
    """What is known of the signals that score alone refused."""
    if below.n == 0:
        return ("No signal was refused by its score alone.",)
    told = [
        f"Of {below.n:,} signals that score alone refused phantoms earned {signed(below.phantom_r.value)} R on average."
    ]
    if below.transported_r is not None:
        told.append(
            f"With the bias of executed twins carried over by score, session and entry slip it would be "
            f"{signed(below.transported_r)} R: {below.status if below.explored < ENOUGH_EXPLORED else 'a comparison'}."
        )
    if below.powered is not None:
        corrected = below.powered.corrected
        if below.status == TESTED:
            told.append(
                f"Corrected by {below.explored:,} that were explored: {signed(corrected.value)} R (95 % "
                f"{bounds(corrected)} R)."
            )
        else:
            told.append(
                f"{below.explored:,} were explored, too few for an interval ({ENOUGH_EXPLORED}): corrected "
                f"{signed(corrected.value)} R, {below.status}."
            )
    elif below.transported_r is None:
        told.append(f"What the market would have given is {below.status}.")
    return tuple(told)


def _missing(found: Fidelity) -> str:
    order = ("paired", "waiting for a claim", "waiting for a report", "twin still followed", "not claimed in time",
             "never reported", "without candles", "eligible", "explored")  # fmt: skip
    words = {"eligible": "could have been explored", "explored": "were drawn to be explored"}
    told = [f"{found.counts[name]:,} {words.get(name, name)}" for name in order if found.counts.get(name, 0) > 0]
    return "; ".join(told) if told else "no signal was executed"


def bounds(found: Clustered, digits: int = 3) -> str:
    """The interval of a clustered figure in R."""
    if not found.interval.known:
        return "unknown"
    return f"{signed(found.interval.low, digits)} to {signed(found.interval.high, digits)}"


def residual_cells(row: Residual) -> tuple[str, ...]:
    """One line of a table of residuals; a star stands for more than two standard errors."""
    bias = row.bias_r
    star = "*" if row.flagged else ""
    days, iid = mean_bounds(bias), mean_bounds(bias, iid=True)
    return (
        row.name, f"{bias.n:,}", f"{bias.n_days:,}", signed(row.live_r), signed(row.phantom_r),
        signed(bias.value) + star, days, iid,
    )  # fmt: skip


RESIDUAL_HEADINGS = ("", "pairs", "days", "live R", "twin R", "live − twin", "95 % by days", "95 % iid")


def residual_rows(found: Fidelity) -> list[tuple[str, ...]]:
    """The whole and every group, for a table."""
    rows = [residual_cells(found.filled), residual_cells(found.sent)]
    for item in found.breakdowns:
        rows += [(f"{item.name}: {name}", *rest) for name, *rest in map(residual_cells, item.rows)]
    return rows


TERM_HEADINGS = ("live − twin", "R", "se", "95 % by days")


def term_rows(found: Fidelity) -> list[tuple[str, ...]]:
    """The regression's coefficients, for a table."""
    return [
        (term.name, signed(term.effect_r.value) + ("*" if term.effect_r.stands_out else ""),
         number(term.effect_r.se, 3), bounds(term.effect_r))
        for term in found.terms
    ]  # fmt: skip


BELOW_HEADINGS = ("signals refused by score alone", "n", "mean R", "95 % by days")


def below_rows(found: Fidelity) -> list[tuple[str, ...]]:
    """The ways to value what was refused, for a table."""
    below = found.below
    rows = [_below_row("phantoms, believed", below.phantom_r)] if below.n > 0 else []
    if below.transported_r is not None:
        rows.append((f"with the twins' bias, {below.status}", f"{below.n:,}", signed(below.transported_r), DASH))
    if below.powered is not None:
        rows.append(_below_row("explored alone", below.powered.live_only))
        rows.append(_below_row(f"corrected by them, {below.status}", below.powered.corrected))
    return rows


def _below_row(name: str, found: Clustered) -> tuple[str, ...]:
    shown = bounds(found) if found.interval.known else DASH
    return name, f"{found.n:,}", signed(found.value), shown


FOOTNOTE = (
    "* more than two standard errors from 0; of twenty groups without any bias one has a star. R of one unit after "
    "costs, a twin's timeout at its mark."
)


SIZE_HEADINGS = ("size", "trades", "explored", "sum R of units", "sum R at size")


def size_rows(found: Sizing) -> list[tuple[str, ...]]:
    """Executed trades by size, for a table."""
    rows = [
        (f"{row.size_multiplier:g}", f"{row.n:,}", f"{row.explored:,}", signed(row.total_unit_r, 1),
         signed(row.total_sized_r, 1))
        for row in found.groups
    ]  # fmt: skip
    whole = ("all", f"{found.unit_r.n:,}", f"{found.explored:,}", signed(found.total_unit_r, 1))
    return [*rows, (*whole, signed(found.total_sized_r, 1))]


def size_sentence(found: Sizing) -> str:
    """Mean R a unit at risk, both ways, and the drawdowns."""
    at = basis_points(found.cost_bps)
    sized = signed(found.sized_r.value) if math.isfinite(found.sized_r.value) else DASH
    return (
        f"At {at} a trade made {signed(found.unit_r.value)} R of one unit (95 % {mean_bounds(found.unit_r)}), and "
        f"{sized} R for each unit at risk at the sizes given (95 % {mean_bounds(found.sized_r)}); deepest drawdown "
        f"{number(found.max_drawdown_unit_r)} R of units, {number(found.max_drawdown_sized_r)} R at size."
    )


def explored_sentence(found: Sizing) -> Sequence[str]:
    """How many executed trades were explored, when any were."""
    if found.explored == 0:
        return ()
    return (f"{found.explored:,} executed trades were explored: their score alone would have refused them.",)
