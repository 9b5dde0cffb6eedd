"""A summary on a terminal: the verdict first, then tables that fit a hundred columns."""

from __future__ import annotations

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lab import wording
from lab.fidelity_console import print_fidelity, print_sizing
from lab.figures import Split, Standing
from lab.learned_console import print_learning
from lab.summary import Summary
from lab.tables import add_row, titled_table

WIDTH = 100
STYLES = {
    Standing.EMPTY: "yellow",
    Standing.THIN: "yellow",
    Standing.LOSS: "red",
    Standing.NONE: "yellow",
    Standing.FRAGILE: "yellow",
    Standing.EDGE: "green",
}
SHOWN_BREAKDOWNS = ("symbol", "bucket", "month", "reason")
MOST_ROWS = 16


def print_summary(summary: Summary, console: Console) -> None:
    """Print a summary; nothing in it is read as markup."""
    width = min(WIDTH, console.width)
    remarks = [Text(f"• {remark}") for remark in summary.remarks]
    verdict = Text(summary.verdict, style=f"bold {STYLES[summary.standing]}")
    console.print(Panel(Group(verdict, *remarks), title=Text(_title(summary)), title_align="left", width=width))
    tables = [_headline(summary), _costs(summary), _endings(summary), _readings(summary)]
    tables += [_balance(summary), _curves(summary)]
    tables.extend(_breakdown(summary, name) for name in SHOWN_BREAKDOWNS)
    for table in tables:
        if table.row_count > 0:
            table.width = width
            console.print(table)
    if summary.sizing is not None:
        print_sizing(summary.sizing, console, width)
    print_fidelity(summary.fidelity, console, width)
    if summary.learning is not None:
        print_learning(summary.learning, console, width)
    console.print(Text(f"digest {summary.digest()}", style="dim"))


def _title(summary: Summary) -> str:
    run = summary.run
    period = f"{wording.moment(run.first_ts)[:10]} to {wording.moment(run.last_ts)[:10]}"
    return f"{run.strategy} {run.timeframe}, {len(run.symbols)} symbols, {period}, {wording.source(run)}"


def _headline(summary: Summary) -> Table:
    table = titled_table(
        "Decided trades at 10 bp round trip (95 % intervals from resampled days)",
        "", "n", "days", "win rate", "95 %", "break-even", "mean R", "95 %", "zero at",
    )  # fmt: skip
    for group in (summary.headline.executed, summary.headline.refused, summary.headline.everything):
        at = group.verdict
        add_row(
            table,
            group.name,
            f"{group.n:,}",
            f"{group.n_days:,}",
            wording.percent(group.win_rate.value),
            wording.rate_bounds(group.win_rate),
            wording.percent(at.break_even_rate),
            wording.signed(at.mean_r.value),
            wording.mean_bounds(at.mean_r, 2),
            wording.basis_points(round(group.break_even_cost_bps.value, 1)),
        )
    return table


def _costs(summary: Summary) -> Table:
    table = titled_table("Executed trades after costs", "round trip", "mean R", "95 % by days", "95 % iid", "sum R")
    for at in summary.headline.executed.at_cost:
        mean = at.mean_r
        day, iid = wording.mean_bounds(mean), wording.mean_bounds(mean, iid=True)
        total = wording.signed(at.total_r, 1)
        add_row(table, wording.basis_points(at.cost_bps), wording.signed(mean.value), day, iid, total)
    return table


def _endings(summary: Summary) -> Table:
    table = titled_table(
        "How positions end, open ones as not ended yet; mean R at 10 bp with timeouts at their marks",
        "", "n", "open", "n eff", "target", "stop", "timeout", "win rate", "mean R",
    )  # fmt: skip
    for item in summary.endings:
        add_row(
            table,
            item.name,
            f"{item.n:,}",
            f"{item.n_open:,}",
            wording.number(item.n_eff, 0),
            *(f"{wording.percent(share.value)}\n{wording.rate_bounds(share)}" for _, share in item.shares[:3]),
            wording.percent(item.win_rate),
            f"{wording.signed(item.mean_r.value)}\n{wording.mean_bounds(item.mean_r, 2)}",
        )
    return table


def _readings(summary: Summary) -> Table:
    table = titled_table(
        "Other ways to count, mean R at 10 bp",
        "reading", "executed n", "mean R", "95 %", "refused", "always-take",
    )  # fmt: skip
    for split in summary.readings:
        mean = split.executed.verdict.mean_r
        rest = (wording.signed(group.verdict.mean_r.value) for group in (split.refused, split.everything))
        add_row(table, split.name, f"{mean.n:,}", wording.signed(mean.value), wording.mean_bounds(mean), *rest)
    return table


def _balance(summary: Summary) -> Table:
    table = titled_table(
        "What refusing did", "round trip", "winners", "forgone R", "losers", "saved R", "saved − forgone"
    )
    for item in summary.balances:
        forgone, saved = wording.number(item.forgone_r), wording.number(item.saved_r)
        counts = f"{item.winners:,}", f"{item.losers:,}"
        net = wording.signed(item.net_r, 1)
        add_row(table, wording.basis_points(item.cost_bps), counts[0], forgone, counts[1], saved, net)
    return table


def _curves(summary: Summary) -> Table:
    table = titled_table(
        "All closed positions at 10 bp, timeouts at 0 R",
        "", "n", "sum R", "max drawdown R", "profit factor", "SQN", "losing streak", "median hold h",
    )  # fmt: skip
    for curve in summary.curves:
        add_row(
            table,
            curve.name,
            f"{curve.n:,}",
            wording.signed(curve.final_r, 1),
            wording.number(curve.max_drawdown_r),
            wording.number(curve.profit_factor, 2),
            wording.number(curve.sqn, 2),
            f"{curve.longest_losing_streak:,}",
            wording.number(curve.median_hold_hours),
        )
    return table


def _breakdown(summary: Summary, name: str) -> Table:
    table = titled_table(
        f"By {name}, mean R at 10 bp", "", "executed n", "win rate", "mean R", "95 %", "refused n", "mean R"
    )
    rows = summary.breakdown(name).rows
    chosen = sorted(rows, key=lambda split: (-split.everything.n, split.name))[:MOST_ROWS]
    for split in (row for row in rows if row in chosen):
        add_row(table, *_cells(split))
    if len(rows) > MOST_ROWS:
        add_row(table, f"… {len(rows) - MOST_ROWS} more in the page", style="dim")
    return table


def _cells(split: Split) -> tuple[str, ...]:
    executed, refused = split.executed, split.refused
    mean = executed.verdict.mean_r
    return (
        split.name,
        f"{executed.n:,}",
        wording.percent(executed.win_rate.value),
        wording.signed(mean.value),
        wording.mean_bounds(mean, 2),
        f"{refused.n:,}",
        wording.signed(refused.verdict.mean_r.value),
    )
