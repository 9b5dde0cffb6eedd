"""A what-if as one self-contained page: value curve, equity, disagreement, and every table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lab import wording
from lab.charts import ALWAYS, BAD, GOOD, INK, MUTED, REFUSED, TAKEN, Picture, draw_picture, empty_axes
from lab.page import page_template, shown
from lab.statistics import FloatArray, IntArray
from lab.whatif import WhatIf
from lab.whatif_value import GREY_BELOW
from lab.whatif_words import bounds, focus, remarks, verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LINES = 5
MOST_STEPS = 600
COLOURS = (TAKEN, REFUSED, GOOD, BAD, ALWAYS)


def write_whatif(found: WhatIf, path: Path, source: str = "") -> None:
    """Write the page; the same answer gives the same bytes."""
    path.write_text(render_whatif(found, source), encoding="utf-8", newline="\n")


def render_whatif(found: WhatIf, source: str = "") -> str:
    """The page as text; ``source`` says where the signals come from."""
    value = focus(found)
    contains = value.verdict.per_accepted.interval.holds(0.0)
    return page_template("whatif.html.j2").render(
        found=found,
        source=source,
        verdict=verdict(found),
        remarks=remarks(found),
        standing="none" if contains else "edge" if value.verdict.per_accepted.value > 0.0 else "loss",
        pictures=shown(draw_whatif(found)),
        bounds=bounds,
        w=wording,
    )


def draw_whatif(found: WhatIf) -> tuple[Picture, ...]:
    """Every picture the answer allows."""
    drawn = [
        draw_picture("whatif-equity", "Equity", lambda sheet: _equity(found, sheet), (4.9, 3.6), (11.0, 4.0)),
        draw_picture("whatif-difference", "Against the current gate", lambda sheet: _differences(found, sheet),
                     (5.4, 1.0 + 0.42 * max(1, len(found.values) - 1))),
        draw_picture("whatif-falls", "How deep equity falls", lambda sheet: _falls(found, sheet), (4.9, 3.6)),
    ]  # fmt: skip
    if found.curve is not None:
        drawn.insert(
            0, draw_picture("whatif-curve", "Value of every threshold", lambda sheet: _curve(found, sheet), (4.9, 3.8))
        )
        drawn.insert(
            1,
            draw_picture(
                "whatif-disagree", "Where a threshold differs", lambda sheet: _disagree(found, sheet), (4.9, 3.8)
            ),
        )
    return tuple(drawn)


def _curve(found: WhatIf, figure: Figure) -> str:
    axes, curve = figure.subplots(), found.curve
    if curve is None:
        return empty_axes(axes, "No grid was asked for.")
    axes.axhline(0.0, color=INK, linewidth=1.0)
    known = np.isfinite(curve.value.low)
    axes.fill_between(
        curve.thresholds[known], curve.value.low[known], curve.value.high[known], color=TAKEN, alpha=0.16, linewidth=0
    )
    axes.plot(curve.thresholds, curve.value.value, color=TAKEN, linewidth=2.2, label="threshold")
    axes.axhline(curve.current, color=REFUSED, linewidth=1.4, linestyle=(0, (4, 2)), label="current gate")
    if found.nested is not None:
        axes.plot([found.nested.best], [found.nested.best_value], "o", color=MUTED, label="best, chosen after looking")
        axes.axhline(found.nested.value.value, color=MUTED, linewidth=1.2, linestyle=":", label="best, chosen before")
    axes.set_xlabel("threshold")
    axes.set_ylabel(f"R a signal after {found.verdict_bps:g} bp")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2, columnspacing=1.0)
    return (
        "The shaded band holds the whole curve at once with 95 % confidence, so no peak inside it may be picked for "
        "its height."
    )


def _disagree(found: WhatIf, figure: Figure) -> str:
    axes, curve = figure.subplots(), found.curve
    if curve is None:
        return empty_axes(axes, "No grid was asked for.")
    step = float(np.min(np.diff(curve.thresholds))) if len(curve.thresholds) > 1 else 1.0
    grey = curve.disagree < GREY_BELOW
    for mask, colour, label in ((~grey, TAKEN, "told apart"), (grey, MUTED, f"grey: below {GREY_BELOW}")):
        if bool(mask.any()):
            axes.bar(curve.thresholds[mask], curve.disagree[mask], width=0.8 * step, color=colour, label=label)
    axes.axhline(GREY_BELOW, color=MUTED, linewidth=0.8)
    axes.set_xlabel("threshold")
    axes.set_ylabel("signals judged otherwise")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2)
    return "Only signals on which a threshold and the current gate disagree can tell them apart."


def _equity(found: WhatIf, figure: Figure) -> str:
    axes = figure.subplots()
    values = [value for value in found.values if len(value.portfolio.at) > 0][:MOST_LINES]
    if not values:
        return empty_axes(axes, "No closed positions.")
    for value, colour in zip(values, COLOURS, strict=False):
        at, equity = _thinned(value.portfolio.at, value.portfolio.equity_r)
        axes.step(at.astype("datetime64[ms]"), equity, where="post", color=colour, linewidth=1.6, label=value.name)
    axes.axhline(0.0, color=MUTED, linewidth=0.8)
    axes.set_ylabel(f"R after {found.verdict_bps:g} bp")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2, columnspacing=1.0)
    ends = "; ".join(
        f"{value.name} {wording.signed(value.portfolio.final_r, 1)} R, most open {value.portfolio.most_open:,}"
        for value in values
    )
    return f"Running sum by exit time: {ends}."


def _thinned(at: IntArray, equity: FloatArray) -> tuple[IntArray, FloatArray]:
    if len(at) <= MOST_STEPS:
        return at, equity
    kept = np.unique(np.linspace(0, len(at) - 1, MOST_STEPS).astype(np.int64))
    return at[kept], equity[kept]


def _differences(found: WhatIf, figure: Figure) -> str:
    axes = figure.subplots()
    others = found.values[1:]
    if not others:
        return empty_axes(axes, "Nothing was compared.")
    axes.axvline(0.0, color=INK, linewidth=1.0)
    for row, value in enumerate(others):
        gained, colour = value.verdict.difference, MUTED if value.grey else TAKEN
        for interval, width in ((value.adjusted, 1.2), (gained.interval, 2.4), (gained.fan, 5.0)):
            if interval.known:
                axes.plot([interval.low, interval.high], [row, row], color=colour, linewidth=width, alpha=0.75)
        if math.isfinite(gained.value):
            axes.plot([gained.value], [row], "o", color=colour, markersize=7)
    axes.set_yticks(range(len(others)), [value.name for value in others])
    axes.set_ylim(len(others) - 0.5, -0.5)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("R a signal more than the current gate")
    return "From thick to thin: 80 %, 95 %, and 95 % for all rows at once. Grey: too few disagreements."


def _falls(found: WhatIf, figure: Figure) -> str:
    axes = figure.subplots()
    values = [value for value in found.values if math.isfinite(value.portfolio.drawdown_quantiles_r[0])]
    if not values:
        return empty_axes(axes, "No closed positions.")
    for row, value in enumerate(values):
        falls = value.portfolio.drawdown_quantiles_r
        axes.plot([falls[0], falls[2]], [row, row], color=TAKEN, linewidth=4.0, alpha=0.5)
        axes.plot([falls[2], falls[3]], [row, row], color=TAKEN, linewidth=1.2)
        axes.plot([value.portfolio.drawdown_r], [row], "o", color=BAD, markersize=6)
    axes.set_yticks(range(len(values)), [value.name for value in values])
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("drawdown, R")
    return "Thick: from the median to 1 history in 20; thin: to 1 in 100; the point is what happened."
