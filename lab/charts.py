"""Pictures of a summary as inline SVG whose colours are the page's own variables, so they follow light and dark.

Matplotlib is imported where a picture is drawn: a summary without pictures needs none of it.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from lab import wording
from lab.figures import VERDICT_COST_BPS, Curve, Split
from lab.statistics import FloatArray, IntArray, Interval
from lab.summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

# Colours no chart would use by chance; each stands for a variable of the page's style.
INK, MUTED, LINE, SURFACE = "#010101", "#020202", "#030303", "#040404"
TAKEN, REFUSED, ALWAYS, GOOD, BAD = "#050505", "#060606", "#070707", "#080808", "#090909"
VARIABLES = {
    INK: "ink", MUTED: "muted", LINE: "line", SURFACE: "surface", TAKEN: "taken", REFUSED: "refused",
    ALWAYS: "always", GOOD: "good", BAD: "bad",
}  # fmt: skip
COLOURS = {"executed": TAKEN, "refused": REFUSED, "always-take": ALWAYS, "win": GOOD, "loss": BAD, "timeout": MUTED}
MOST_POINTS = 700
HOUR_MS = 3_600_000
MOST_STRETCHES = 180


@dataclass(frozen=True, slots=True)
class Picture:
    """One chart: its SVG and the words around it. ``wide`` is drawn for the full width of a large screen."""

    name: str
    title: str
    caption: str
    svg: str
    wide: str = ""


Draw = Callable[[Summary, "Figure"], str]
Size = tuple[float, float]
Chart = tuple[str, str, Draw, Size, Size | None]
"""Name, title, how it is drawn (returns its caption), size in inches, and size for the full width where it has one."""


def draw_pictures(summary: Summary) -> tuple[Picture, ...]:
    """Draw every chart the trades allow; the bytes depend on the summary alone."""
    return draw_charts(summary, _CHARTS)


def draw_charts(summary: Summary, charts: Sequence[Chart]) -> tuple[Picture, ...]:
    """Draw some charts in the style of the page."""
    return tuple(
        draw_picture(name, title, partial(draw, summary), size, wide) for name, title, draw, size, wide in charts
    )


def draw_picture(name: str, title: str, draw: Callable[[Figure], str], size: Size, wide: Size | None = None) -> Picture:
    """Draw one chart in the style of the page; ``draw`` fills the figure and gives the caption."""
    with _style(f"penumbra-{name}"):
        caption, svg = _draw(draw, size, name, title)
    wide_svg = ""
    if wide is not None:
        # Markers get their names from the salt: the same one would name them alike in both pictures.
        with _style(f"penumbra-{name}-wide"):
            wide_svg = _draw(draw, wide, f"{name}-wide", title)[1]
    return Picture(name, title, caption, svg, wide_svg)


def _draw(draw: Callable[[Figure], str], size: Size, name: str, title: str) -> tuple[str, str]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - lazy on purpose

    figure = Figure(figsize=size, layout="constrained")
    caption = draw(figure)
    return caption, _inline_svg(figure, name, f"{title}. {caption}")


@contextmanager
def _style(salt: str) -> Iterator[None]:
    import matplotlib as mpl  # noqa: PLC0415 - lazy on purpose

    own: dict[RcKeyType, Any] = {
        "svg.hashsalt": salt,  # ids of SVG parts: the same each time, different in each picture of a page
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.family": ["DejaVu Sans"],
        "font.size": 9.5,
        "axes.titlesize": 9.5,
        "axes.facecolor": "none",
        "axes.edgecolor": LINE,
        "axes.labelcolor": MUTED,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": LINE,
        "grid.linewidth": 0.8,
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "legend.labelcolor": INK,
        "legend.handlelength": 1.2,
        "axes.unicode_minus": True,
        "date.converter": "concise",
    }
    # From the defaults, not from the user's matplotlibrc: the page must look alike everywhere.
    with mpl.rc_context():
        mpl.rcdefaults()
        with mpl.rc_context(rc=own):
            yield


def _inline_svg(figure: Figure, name: str, description: str) -> str:
    figure.patch.set_alpha(0.0)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    # The page's own typeface, at the size matplotlib laid the text out for.
    text = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", text)
    # A hundredth of a point is finer than any screen; six decimals double the page.
    text = re.sub(r' d="[^"]+"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)
    # Groups are numbered alike in every picture of the page; only what is referred to needs a name.
    used = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", text)
    view = re.search(r'viewBox="([^"]+)"', text)
    if view is None:
        raise ValueError("the SVG writer gave no viewBox")
    head = (
        f'<svg role="img" aria-label="{escape(description)}" viewBox="{view[1]}" class="chart-{name}" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" xmlns="http://www.w3.org/2000/svg">'
    )
    body = text[text.index(">", text.index("<svg")) + 1 :]
    return head + re.sub(r"\n\s*", "\n", body)


def empty_axes(axes: Axes, words: str) -> str:
    """Say on the axes that there is nothing to draw."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, ha="center", va="center", color=MUTED, transform=axes.transAxes)
    return words


def _thin(points: FloatArray, most: int) -> FloatArray:
    """Every k-th row, the last included: a picture has no room for more."""
    if len(points) <= most:
        return points
    kept: FloatArray = points[np.unique(np.linspace(0, len(points) - 1, most).astype(np.int64))]
    return kept


def _turns(equity: FloatArray, fall: FloatArray) -> IntArray:
    """Positions that keep the shape of a long curve: ends and extremes of equal stretches."""
    if len(equity) <= 4 * MOST_STRETCHES:
        return np.arange(len(equity))
    kept = [0, len(equity) - 1]
    for stretch in np.array_split(np.arange(len(equity)), MOST_STRETCHES):
        found = equity[stretch].argmin(), equity[stretch].argmax(), fall[stretch].argmax()
        kept.extend(int(stretch[position]) for position in found)
    return np.unique(kept)


def whiskers(axes: Axes, x: float, value: float, interval: Interval, colour: str, width: float) -> None:
    """A point with its interval."""
    if interval.known:
        axes.plot([x, x], [interval.low, interval.high], color=colour, solid_capstyle="round", linewidth=width)
    if math.isfinite(value):
        axes.plot([x], [value], "o", color=colour, markersize=6)


def _equity(summary: Summary, figure: Figure) -> str:
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    curves = [curve for curve in summary.curves if curve.n > 0]
    if not curves:
        lower.set_axis_off()
        return empty_axes(upper, "No closed positions.")
    for curve in curves:
        moments, equity, fall = _path(curve)
        colour, width = COLOURS[curve.name], 2.2 if curve.name == "executed" else 1.4
        upper.step(moments, equity, where="post", color=colour, linewidth=width, label=curve.name)
        lower.step(moments, -fall, where="post", color=colour, linewidth=width * 0.7)
    upper.axhline(0.0, color=MUTED, linewidth=0.8)
    upper.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2, columnspacing=1.2)
    upper.set_ylabel("R")
    lower.set_ylabel("drawdown R")
    ends = "; ".join(
        f"{curve.name} ends at {wording.signed(curve.final_r, 1)} R, deepest drawdown "
        f"{wording.number(curve.max_drawdown_r)} R"
        for curve in curves
    )
    after = f"after {VERDICT_COST_BPS:g} bp round trip"
    return f"Running sum of R {after}, by exit time, timeouts at 0 R before costs: {ends}."


def _path(curve: Curve) -> tuple[np.ndarray[tuple[int], np.dtype[np.datetime64]], FloatArray, FloatArray]:
    """Moments, equity and drawdown of a curve from its start at zero, thin enough to draw."""
    equity = np.concatenate([[0.0], curve.equity_r])
    fall = np.maximum.accumulate(equity) - equity
    ts = np.concatenate([curve.ts[:1], curve.ts])
    kept = _turns(equity, fall)
    return ts[kept].astype("datetime64[ms]"), equity[kept], fall[kept]


def _mean_r(summary: Summary, figure: Figure) -> str:
    axes = figure.subplots()
    groups = [g for g in (summary.headline.executed, summary.headline.refused, summary.headline.everything) if g.n > 0]
    if not groups:
        return empty_axes(axes, "No decided trades.")
    axes.axhline(0.0, color=INK, linewidth=1.0)
    for place, group in enumerate(groups):
        colour = COLOURS[group.name]
        for index, at in enumerate(group.at_cost):
            x = index + (place - (len(groups) - 1) / 2) * 0.22
            whiskers(axes, x, at.mean_r.value, at.mean_r.day, colour, 2.4)
            if at.mean_r.iid.known:
                axes.plot([x + 0.06] * 2, [at.mean_r.iid.low, at.mean_r.iid.high], color=MUTED, linewidth=1.0)
        axes.plot([], [], "o-", color=colour, label=group.name, linewidth=2.4)
    axes.plot([], [], "-", color=MUTED, label="iid", linewidth=1.0)
    axes.set_xticks(range(len(summary.costs_bps)), [wording.basis_points(cost) for cost in summary.costs_bps])
    axes.set_ylabel("mean R a trade")
    axes.set_xlabel("round-trip cost")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, borderaxespad=0.2, columnspacing=1.0)
    even = summary.headline.executed.break_even_cost_bps.value
    tail = f" Executed trades break even at {wording.number(even)} bp." if math.isfinite(even) else ""
    return f"Points with 95 % intervals from resampled days; the thin line takes trades as independent.{tail}"


def _incidence(summary: Summary, figure: Figure) -> str:
    axes = figure.subplots()
    if not summary.endings:
        return empty_axes(axes, "No closed positions.")
    whole = summary.endings[-1]
    curve, hours = whole.curve, whole.horizon_ms / HOUR_MS
    for place, (name, colour) in enumerate((("target", GOOD), ("stop", BAD), ("timeout", MUTED), ("other", INK))):
        if curve.share[place, -1] <= 0.0:
            continue
        points = _thin(np.stack([curve.life_ms / HOUR_MS, 100.0 * curve.share[place]], axis=1), MOST_POINTS)
        # A share holds until the next position ends: drawn to the end, from nothing at the entry.
        moments, share = np.concatenate(([0.0], points[:, 0], [hours])), np.concatenate(([0.0], points[:, 1]))
        axes.step(moments, np.concatenate((share, share[-1:])), where="post", color=colour, linewidth=1.8, label=name)
        bounds = whole.shares[place][1].day
        if bounds.known:
            axes.plot([hours * 1.02] * 2, [100.0 * bounds.low, 100.0 * bounds.high], color=colour, linewidth=2.4)
    axes.set_ylabel("% of positions")
    axes.set_xlabel("hours since entry")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, borderaxespad=0.2, columnspacing=1.0)
    shares = ", ".join(f"{name} {wording.percent(share.value)}" for name, share in whole.shares if share.value > 0.0)
    return (
        f"Cumulative incidence of {whole.n:,} positions, {whole.n_open:,} of them still open and counted as such: "
        f"{shares}. Of decided trades alone {wording.percent(whole.win_rate)} won. Bars: 95 % from resampled days."
    )


def _outcomes(summary: Summary, figure: Figure) -> str:
    axes = figure.subplots()
    tallies = [tally for tally in summary.tallies if tally.n > 0]
    if not tallies:
        return empty_axes(axes, "No signals.")
    colours = {**COLOURS, "no_fill": LINE, "no_data": INK}
    drawn = [name for name in colours if any(tally.outcomes.get(name, 0) > 0 for tally in tallies)]
    left = np.zeros(len(tallies))
    for name in drawn:
        share = np.array([100.0 * tally.outcomes[name] / tally.n for tally in tallies])
        axes.barh(range(len(tallies)), share, left=left, color=colours[name], height=0.55, label=name.replace("_", " "))
        for row, (width, start) in enumerate(zip(share, left, strict=True)):
            if width >= 9.0 and name in ("win", "loss"):
                axes.text(start + width / 2, row, f"{width:.0f} %", ha="center", va="center", color=SURFACE)
        left += share
    axes.set_yticks(range(len(tallies)), [f"{tally.kind}\nn {tally.n:,}" for tally in tallies])
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of signals")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=5, borderaxespad=0.2, columnspacing=1.0)
    return "How signals ended: target, stop, deadline, never filled, or without candles."


def _excursions(summary: Summary, figure: Figure) -> str:
    axes = figure.subplots()
    table = summary.table
    if not bool(table.closed.any()):
        return empty_axes(axes, "No closed positions.")
    shown = 0
    share = min(1.0, MOST_POINTS / int(np.count_nonzero(table.closed)))
    for outcome in ("loss", "timeout", "win"):
        chosen = table.outcome == outcome
        points = np.stack([table.mae_r[chosen], table.mfe_r[chosen]], axis=1)
        points = _thin(points, max(1, math.ceil(share * len(points))))
        shown += len(points)
        if len(points) > 0:
            axes.plot(
                *points.T, ".", color=COLOURS[outcome], alpha=0.55, markersize=5, markeredgewidth=0, label=outcome
            )
    reach = float(np.quantile(np.concatenate([table.mae_r[table.closed], table.mfe_r[table.closed]]), 0.99)) * 1.08
    axes.set_xlim(-0.03 * reach, max(reach, 1.1))
    axes.set_ylim(-0.03 * reach, max(reach, 1.1))
    axes.grid(visible=True, axis="both")
    axes.set_xlabel("MAE: worst against the trade, R")
    axes.set_ylabel("MFE: best for the trade, R")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2, markerscale=2)
    return f"Each point is a trade, executed and refused; {shown:,} of {int(np.count_nonzero(table.closed)):,} shown."


def _buckets(summary: Summary, figure: Figure) -> str:
    axes = figure.subplots()
    rows = [row for row in summary.breakdown("bucket").rows if row.everything.n > 0]
    if not rows:
        return empty_axes(axes, "No decided trades.")
    for y, row in enumerate(rows):
        _bucket_row(axes, y, row)
    axes.set_yticks(range(len(rows)), [row.name.replace("|", " · ") for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 100)
    axes.set_xlabel("win rate, %")
    axes.plot([], [], "o-", color=ALWAYS, markersize=4, linewidth=1.6, label="always-take")
    axes.plot([], [], "o-", color=TAKEN, markersize=5, linewidth=2.2, label="executed")
    axes.plot([], [], "|", color=BAD, markersize=9, markeredgewidth=2, label="break-even")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2, columnspacing=1.0)
    return (
        "Win rate with 95 % intervals from resampled days, against the rate that breaks even after "
        f"{VERDICT_COST_BPS:g} bp (always-take)."
    )


def _bucket_row(axes: Axes, y: int, row: Split) -> None:
    drawn = ((row.everything, ALWAYS, 0.16, 4.0, 1.6), (row.executed, TAKEN, -0.16, 5.0, 2.2))
    for group, colour, shift, size, width in drawn:
        if group.n == 0:
            continue
        rate = group.win_rate
        if rate.day.known:
            bounds = [100.0 * rate.day.low, 100.0 * rate.day.high]
            axes.plot(bounds, [y + shift] * 2, color=colour, linewidth=width, solid_capstyle="round")
        axes.plot([100.0 * rate.value], [y + shift], "o", color=colour, markersize=size)
    even = row.everything.verdict.break_even_rate
    if math.isfinite(even):
        axes.plot([100.0 * even], [y], "|", color=BAD, markersize=11, markeredgewidth=2)


def _histogram(summary: Summary, figure: Figure) -> str:
    axes = figure.subplots()
    table = summary.table
    net = table.net_r(VERDICT_COST_BPS)
    groups = (("executed", table.executed & table.decisive), ("refused", ~table.executed & table.decisive))
    values = net[table.decisive]
    if len(values) == 0:
        return empty_axes(axes, "No decided trades.")
    low, high = (np.floor(4.0 * np.quantile(values, 0.002)) / 4.0, np.ceil(4.0 * np.quantile(values, 0.998)) / 4.0)
    bins = np.linspace(low - 0.125, high + 0.125, int(np.clip(round((high - low) / 0.125), 4, 48))).tolist()
    for name, mask in groups:
        if bool(mask.any()):
            share = np.full(int(np.count_nonzero(mask)), 100.0 / np.count_nonzero(mask))
            clipped = np.clip(net[mask], bins[0], bins[-1])
            axes.hist(clipped, bins=bins, weights=share, color=COLOURS[name], alpha=0.5, label=name)
            mean = float(np.mean(net[mask]))
            axes.axvline(mean, color=COLOURS[name], linewidth=1.6, linestyle=(0, (4, 2)))
    axes.set_xlabel(f"R after {VERDICT_COST_BPS:g} bp")
    axes.set_ylabel("% of its trades")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2)
    return "Results of decided trades; dashed lines are the means, the outermost bars hold what lies beyond."


def _lift(summary: Summary, figure: Figure) -> str:
    axes = figure.subplots()
    item = summary.lift
    if len(item.random.null) == 0:
        return empty_axes(axes, "The gate executed all or none: nothing to compare.")
    tests: Sequence[tuple[str, FloatArray, str]] = (
        ("random gates", item.random.null, ALWAYS),
        ("random within days", item.within_day.null, REFUSED),
    )
    shown = [values for _, values, _ in tests if len(values) > 0]
    reach = np.concatenate([*shown, [item.lift.value]])
    bins = np.linspace(float(reach.min()), float(reach.max()), 60).tolist()
    for name, values, colour in tests:
        if len(values) > 0 and bins[0] < bins[-1]:
            share = np.full(len(values), 100.0 / len(values))
            axes.hist(values, bins=bins, weights=share, color=colour, alpha=0.5, label=name)
    axes.axvline(item.lift.value, color=TAKEN, linewidth=2.4, label="this gate")
    axes.set_xlabel("mean R executed − mean R always-take")
    axes.set_ylabel("% of random gates")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2, columnspacing=1.0)
    return (
        f"This gate {wording.signed(item.lift.value)} R; p {wording.probability(item.random.p)} against "
        f"{len(item.random.null):,} random gates that accept as many, "
        f"{wording.probability(item.within_day.p)} against those that also accept as many each day."
    )


_CHARTS: tuple[Chart, ...] = (
    ("equity", "Always-take, executed and refused", _equity, (4.9, 4.5), (11.0, 4.4)),
    ("mean-r", "Mean R after costs", _mean_r, (4.9, 3.6), None),
    ("outcomes", "How signals ended", _outcomes, (4.9, 3.6), None),
    ("endings", "When positions end", _incidence, (4.9, 3.6), None),
    ("lift", "The gate against chance", _lift, (4.9, 3.6), None),
    ("histogram", "Distribution of results", _histogram, (4.9, 3.6), None),
    ("buckets", "Win rate and break-even by bucket", _buckets, (4.9, 4.6), None),
    ("excursions", "How far trades went", _excursions, (4.9, 4.6), None),
)
