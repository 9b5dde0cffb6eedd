"""A gate report as one self-contained page: deltas, synergy, trends, what luck brings, and every table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gates.report import Row, Standing
from lab import gate_words as words
from lab import wording
from lab.charts import (
    BAD,
    GOOD,
    INK,
    MUTED,
    REFUSED,
    SURFACE,
    TAKEN,
    Picture,
    draw_picture,
    empty_axes,
)
from lab.gates import GateAnswer
from lab.page import page_template, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 400
"""Combinations of each size on the page; JSON has them all."""
MOST_CELLS = 14
MOST_LINES = 5
LINES = (TAKEN, REFUSED, GOOD, BAD, INK)


def write_gate_page(answer: GateAnswer, path: Path) -> None:
    """Write the page; the same report gives the same bytes."""
    path.write_text(render_gate_page(answer), encoding="utf-8", newline="\n")


def render_gate_page(answer: GateAnswer) -> str:
    """The page as text."""
    return page_template("gates.html.j2").render(
        answer=answer,
        words=words,
        w=wording,
        pictures=shown(draw_gates(answer)) if answer.report.n > 0 else [],
        pairs=answer.pairs[:MOST_ROWS],
        triplets=answer.triplets[:MOST_ROWS],
        leaks=words.leaks(answer),
    )


def draw_gates(answer: GateAnswer) -> tuple[Picture, ...]:
    """Every picture of a report."""
    tall = 1.0 + 0.24 * max(4, len(answer.report.solos))
    return (
        draw_picture("gates-delta", "Delta of every variable", lambda sheet: _deltas(answer, sheet), (5.4, tall)),
        draw_picture("gates-null", "The best look and luck", lambda sheet: _null(answer, sheet), (4.9, 3.6)),
        draw_picture("gates-synergy", "Synergy of pairs", lambda sheet: _synergy(answer, sheet), (5.4, 4.9)),
        draw_picture("gates-trend", "Month by month", lambda sheet: _trends(answer, sheet), (4.9, 3.6)),
    )


def _deltas(answer: GateAnswer, figure: Figure) -> str:
    axes = figure.subplots()
    rows = [row for row in answer.ranked if math.isfinite(row.delta)]
    if not rows:
        return empty_axes(axes, "No variable has signals on both sides.")
    axes.axvline(0.0, color=INK, linewidth=1.0)
    for place, row in enumerate(rows):
        colour = _colour(row)
        low, high = 100.0 * row.delta_interval.low, 100.0 * row.delta_interval.high
        axes.plot([low, high], [place, place], color=colour, linewidth=1.4, alpha=0.8)
        axes.plot([100.0 * row.delta], [place], "o", color=colour, markersize=4.5)
        if math.isfinite(row.shrunk_delta):
            axes.plot([100.0 * row.shrunk_delta], [place], "|", color=INK, markersize=9)
    axes.set_yticks(range(len(rows)), [words.name(row) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("win rate passing minus failing, points")
    discovered = [words.name(row) for row in rows if _stands(row)]
    return (
        "Point and line: delta with its 95 % Newcombe interval, of one look alone; dash: what is left when the "
        f"noise of all deltas is taken out. Discovered among them: {', '.join(discovered) or 'none'}."
    )


def _colour(row: Row) -> str:
    if row.leak_suspect:
        return BAD
    return GOOD if _stands(row) else MUTED


def _stands(row: Row) -> bool:
    return row.standing in (Standing.DISCOVERED, Standing.CONFIRMED, Standing.LIVE)


def _null(answer: GateAnswer, figure: Figure) -> str:
    axes, searched = figure.subplots(), answer.report.searched
    known = np.empty(0) if searched is None else searched.null[np.isfinite(searched.null)]
    if searched is None or len(known) == 0:
        return empty_axes(axes, "There was no search.")
    axes.hist(known, bins=30, color=MUTED, edgecolor=SURFACE, linewidth=0.6, label="best look of each shift")
    best = searched.looked.highest
    told = "no cell was large enough to be looked at"
    if math.isfinite(best):
        as_good = float(np.mean(known >= best - 1e-12))
        axes.axvline(best, color=TAKEN, linewidth=2.4, label="best real look")
        told = f"the best real look has z {wording.number(best, 2)}, "
        told += f"and {wording.percent(as_good)} of the shifts have one as good"
    axes.set_xlabel("z of the best look")
    axes.set_ylabel("shifts")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2, columnspacing=1.0)
    return f"The whole search again on {len(known):,} shifts of the outcomes, where nothing can be true: {told}."


def _synergy(answer: GateAnswer, figure: Figure) -> str:
    axes = figure.subplots()
    told = {row.members: row.synergy for row in answer.pairs if row.synergy is not None and row.n > 0}
    order = [row.members[0] for row in answer.ranked]
    names = [name for name in order if any(name in members for members in told)][:MOST_CELLS]
    if len(names) < 2:
        return empty_axes(axes, "No pair was combined.")
    grid = np.full((len(names), len(names)), np.nan)
    for members, synergy in told.items():
        if set(members) <= set(names):
            one, other = (names.index(name) for name in members)
            grid[one, other] = grid[other, one] = 100.0 * synergy
    most = max(1.0, float(np.nanmax(np.abs(grid))) if np.isfinite(grid).any() else 1.0)
    for row in range(len(names)):
        for column in range(row):
            value = grid[row, column]
            if not math.isfinite(value):
                continue
            # Squares and no image: their colours are the page's own, in light and in dark.
            axes.fill_between(
                [column - 0.48, column + 0.48],
                row - 0.48,
                row + 0.48,
                color=GOOD if value > 0 else BAD,
                alpha=0.08 + 0.62 * min(1.0, abs(value) / most),
                linewidth=0,
            )
            axes.text(column, row, wording.signed(value, 0), ha="center", va="center", fontsize=8, color=INK)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 1.5)
    axes.set_ylim(len(names) - 0.5, 0.5)
    axes.grid(visible=False)
    true = [words.name(row) for row in answer.pairs if row.true_synergy]
    return (
        "Points of win rate above the mean of the two alone; empty where one contains the other. True by both scales "
        f"and corrected: {', '.join(true) or 'none'}."
    )


def _trends(answer: GateAnswer, figure: Figure) -> str:
    axes = figure.subplots()
    told = [item for item in answer.report.months if item.trend != "unknown"]
    if not told:
        return empty_axes(axes, "No variable has two months with enough signals on both sides.")
    rank = {row.members[0]: place for place, row in enumerate(answer.ranked)}
    told.sort(key=lambda item: rank[item.name])
    for item, colour in zip(told[:MOST_LINES], LINES, strict=False):
        deltas = 100.0 * np.array(item.deltas)
        axes.plot(range(len(deltas)), deltas, "o-", color=colour, linewidth=1.6, markersize=4, label=item.name)
    months = told[0].months
    step = max(1, len(months) // 6)
    axes.set_xticks(range(0, len(months), step), months[::step])
    axes.axhline(0.0, color=MUTED, linewidth=0.8)
    axes.set_ylabel("delta, points")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2, columnspacing=1.0)
    told_words = "; ".join(f"{item.name} {item.trend}" for item in told[:MOST_LINES])
    return f"The surest variables: {told_words}. Stable is less than two points from one month to the next."
