"""The learning part of a report on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from lab import learned_words as words
from lab import wording
from lab.compare import Setting
from lab.learned import Forecasts, Learning
from lab.tables import add_row, titled_table

MOST_BUNDLES = 6


def learning_tables(learning: Learning) -> list[Table]:
    """Every table of the learning part; empty ones have no rows."""
    return [
        _settings(learning),
        _placebos(learning),
        _forecasts(learning),
        _curve(learning),
        _reliability(learning),
        *_thresholds(learning),
        _moves(learning),
        _heads(learning),
        _ablations(learning),
        _attempts(learning),
    ]


def print_learning(learning: Learning, console: Console, width: int) -> None:
    """Print the learning part."""
    for table in learning_tables(learning):
        if table.row_count > 0:
            table.width = width
            console.print(table)


def _settings(learning: Learning) -> Table:
    table = titled_table(
        "The same signals under each setting (decided trades, mean R, 95 % by days; * as reported above)",
        "", "n", "win rate", "0 bp", "5 bp", "10 bp", "lift", "shuffled", "refused",
    )  # fmt: skip
    for item in learning.settings:
        add_row(table, *_setting_cells(item))
    if learning.settings:
        add_row(table, *_always_cells(learning.settings[0]))
    return table


def _setting_cells(item: Setting) -> tuple[str, ...]:
    group = item.split.executed
    means = (f"{wording.signed(at.mean_r.value)}\n{wording.mean_bounds(at.mean_r, 2)}" for at in group.at_cost)
    return (
        f"{item.name}{' *' if item.reported else ''}{_skill(item)}",
        f"{group.n:,}",
        f"{wording.percent(group.win_rate.value)}\n{wording.rate_bounds(group.win_rate)}",
        *means,
        f"{wording.signed(item.lift.lift.value)}\np {wording.probability(item.lift.random.p)}",
        f"{wording.signed(item.placebo.placebo_mean)}\np {wording.probability(item.placebo.p)}",
        wording.signed(item.split.refused.verdict.mean_r.value),
    )


def _skill(item: Setting) -> str:
    """Brier skill of the setting's bundles out of sample, as a second line."""
    if item.skill is None:
        return ""
    bounds = item.skill.day
    told = f"{wording.signed(100.0 * bounds.low, 1)} to {wording.signed(100.0 * bounds.high, 1)}"
    return f"\nskill {wording.signed(100.0 * item.skill.value, 1)} %" + (f"\n{told}" if bounds.known else "")


def _always_cells(item: Setting) -> tuple[str, ...]:
    group = item.split.everything
    means = (f"{wording.signed(at.mean_r.value)}\n{wording.mean_bounds(at.mean_r, 2)}" for at in group.at_cost)
    rate = f"{wording.percent(group.win_rate.value)}\n{wording.rate_bounds(group.win_rate)}"
    return ("always-take", f"{group.n:,}", rate, *means, *[wording.DASH] * 3)


def _placebos(learning: Learning) -> Table:
    table = titled_table(
        "Score-shuffle placebo: the same thresholds, scores of other signals (R at 10 bp)",
        "", "executed", "of", "lift", "shuffled", "middle 95 %", "p",
    )  # fmt: skip
    for item in learning.placebos:
        add_row(
            table,
            item.name,
            f"{item.n_executed:,}",
            f"{item.n:,}",
            wording.signed(item.lift),
            wording.signed(item.placebo_mean),
            words.placebo_bounds(item),
            wording.probability(item.p),
        )
    return table


def _forecasts(learning: Learning) -> Table:
    table = titled_table("Forecasts against outcomes", "", *words.FORECAST_HEADINGS, first_width=8)
    if learning.out_of_sample is not None and len(learning.bundles) > 1:
        add_row(table, "all, out of sample", *words.forecasts_line(learning.out_of_sample))
    for bundle in learning.bundles[-MOST_BUNDLES:]:
        for name, found in (("out of sample", bundle.out_of_sample), ("out of fold", bundle.out_of_fold)):
            if found is not None:
                add_row(table, f"{bundle.address[:6]}, {name}", *words.forecasts_line(found))
    if len(learning.bundles) > MOST_BUNDLES:
        add_row(table, f"… {len(learning.bundles) - MOST_BUNDLES} earlier bundles in the page", style="dim")
    return table


def _curve(learning: Learning) -> Table:
    table = titled_table("Calibration out of sample", "forecast", "n", "mean forecast", "won", "95 % Wilson")
    found: Forecasts | None = learning.out_of_sample
    for entry in () if found is None else found.curve:
        add_row(
            table,
            f"{100 * entry.low:.0f}–{100 * entry.high:.0f} %",
            f"{entry.n:,}",
            wording.percent(entry.mean_probability),
            wording.percent(entry.win_rate),
            f"{100 * entry.win_rate_low:.1f}–{100 * entry.win_rate_high:.1f} %",
        )
    return table


def _reliability(learning: Learning) -> Table:
    table = titled_table(
        "Do forecasts come true? (null: the plain error of a perfect forecaster)",
        "", "n", "debiased ECE²", "95 %", "ECE", "null", "MCE", "null", "MCB", "DSC", "Spiegelhalter p", first_width=8,
    )  # fmt: skip
    told = [("all, out of sample", learning.out_of_sample)]
    for bundle in learning.bundles[-MOST_BUNDLES:]:
        told += [(f"{bundle.address[:6]}, out of fold", bundle.out_of_fold)]
    for name, found in told:
        if found is not None:
            add_row(table, name, *words.reliability_line(found.reliability))
    return table


def _thresholds(learning: Learning) -> list[Table]:
    tables = []
    for found in learning.tables:
        kind = words.kind(found.score_source)
        table = titled_table(
            f"Thresholds of {kind} scores at the end ({found.records:,} records, method {found.method})",
            "", "n", "wins", "losses", "W", "L", "p_min", "threshold", "90 %", "clamp", "source",
        )  # fmt: skip
        beside = titled_table(
            f"Beside them, of {kind} scores: {words.method(found)}",
            "", "other method", "90 %", "effective n", "own records", "badge",
        )  # fmt: skip
        for row, other, evidence in words.by_method(found):
            add_row(
                table,
                row.bucket,
                f"{row.n:,}",
                f"{row.wins:,}",
                f"{row.losses:,}",
                words.optional(row.mean_win_r, 2),
                words.optional(row.mean_loss_r, 2),
                words.optional(row.p_min),
                words.threshold(row),
                words.interval(row),
                words.clamp(row),
                row.source,
            )
            if other is not None and evidence is not None:
                add_row(
                    beside,
                    row.bucket,
                    words.threshold(other),
                    words.interval(other),
                    words.optional(evidence.effective_n, 0),
                    words.share(evidence.own_weight),
                    words.badge(row),
                )
        tables += [table, beside]
    return tables


def _moves(learning: Learning) -> Table:
    table = titled_table("How the thresholds over all buckets moved", "scores", "from", "threshold", "n")
    for move in learning.moves:
        if move.bucket != "all":
            continue
        for at_ms, value, n in zip(move.at_ms, move.threshold, move.n, strict=True):
            add_row(table, words.kind(move.score_source), wording.moment(at_ms), words.optional(value, 0), f"{n:,}")
    return table


def _heads(learning: Learning) -> Table:
    table = titled_table(
        "Forecasts beside the score, out of sample (skill against the mean of these outcomes; they decide nothing)",
        "", "n", "days", "mean", "forecast", "skill, %", "95 % by days", "AUC", "Brier",
        "ECE / perfect", "MCE / perfect",
    )  # fmt: skip
    for item in learning.heads:
        add_row(
            table,
            item.name,
            f"{item.n:,}",
            f"{item.n_days:,}",
            words.optional(item.mean),
            words.optional(item.mean_said),
            wording.signed(100.0 * item.skill, 1),
            words.skill_bounds(item.skill_low, item.skill_high),
            words.optional(item.auc),
            words.optional(item.brier),
            f"{words.optional(item.ece)} / {words.optional(item.ece_null)}",
            f"{words.optional(item.mce)} / {words.optional(item.mce_null)}",
        )
    return table


def _ablations(learning: Learning) -> Table:
    table = titled_table(
        "All features against one family and context, walking forward (mean loss spared, 95 % by days, paired)",
        "", "against", "n", "spared", "from", "to",
    )  # fmt: skip
    for item in learning.ablations:
        add_row(
            table,
            item.name,
            f"{item.worse} alone",
            f"{item.n:,}",
            wording.signed(item.gain, 4),
            wording.DASH if item.low is None else wording.signed(item.low, 4),
            wording.DASH if item.high is None else wording.signed(item.high, 4),
        )
    return table


def _attempts(learning: Learning) -> Table:
    table = titled_table(
        "Attempts at training (skill and AUC out of fold, as judged)",
        "", "moment, UTC", "outcomes", "next at", "skill", "AUC", "came to", first_width=2,
    )  # fmt: skip
    # Words, not a figure: it takes the room the others leave.
    table.columns[-1].justify, table.columns[-1].ratio = "left", 1
    for item in learning.attempts:
        add_row(
            table,
            str(item.number),
            wording.moment(item.at_ms),
            f"{item.count:,}",
            f"{item.next_at:,}",
            wording.DASH if item.skill is None else f"{wording.signed(100.0 * item.skill, 1)} %",
            words.optional(item.auc),
            words.came_to(item),
        )
    return table
