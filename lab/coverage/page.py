"""The coverage page: every promise with its measured rate and its band, self-contained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab import wording
from lab.charts import BAD, GOOD, LINE, MUTED, Picture, draw_picture
from lab.coverage.check import Check, Size
from lab.coverage.measured import Coverage, Finding
from lab.page import page_template, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REACH = 1.0
"""How many widths of its band a figure may lie outside and still be drawn where it is."""
LETTERS = 70


def write_coverage(coverage: Coverage, path: Path) -> None:
    """Write the page; the same coverage gives the same bytes."""
    path.write_text(render_coverage(coverage), encoding="utf-8", newline="\n")


def render_coverage(coverage: Coverage) -> str:
    """The page as text."""
    return page_template("coverage.html.j2").render(
        coverage=coverage,
        verdict=verdict(coverage),
        w=wording,
        figure=figure,
        bounds=bounds,
        full=coverage.size is Size.FULL,
        pictures=shown(draw_bands(coverage.findings)),
    )


def verdict(coverage: Coverage) -> str:
    """The one sentence that comes first."""
    checks = coverage.checks
    broken = sum(not check.holds for check in checks)
    if not checks:
        return "Nothing was measured."
    if broken:
        return f"{broken} of {len(checks)} checks {'does' if broken == 1 else 'do'} not hold."
    return f"All {len(checks)} checks hold." if len(checks) > 1 else "The one check holds."


def figure(value: float) -> str:
    """A measured figure, to four significant digits."""
    if not math.isfinite(value):
        return wording.DASH
    text = f"{value:.4f}".rstrip("0").rstrip(".") if abs(value) < 1000.0 else f"{value:,.0f}"
    if value != 0.0 and abs(value) < 0.0005:
        text = f"{value:.2g}"
    return ("0" if text in ("-0", "") else text).replace("-", "−")


def bounds(check: Check) -> str:
    """The 95 % interval of a rate."""
    found = check.interval
    return "" if found is None else f"{figure(found[0])} to {figure(found[1])}"


def draw_bands(findings: Sequence[Finding]) -> tuple[Picture, ...]:
    """One picture for each promise: where its figures lie in their bands."""
    return tuple(
        draw_picture(
            f"promise-{place}",
            f"{finding.item}. {finding.name}",
            lambda sheet, finding=finding: _bands(finding.checks, sheet),  # type: ignore[misc]
            (5.4, 0.4 + 0.5 * len(finding.checks)),
        )
        for place, finding in enumerate(findings)
        if finding.checks
    )


def _bands(checks: Sequence[Check], sheet: Figure) -> str:
    axes = sheet.subplots()
    for row, check in enumerate(checks):
        left, right = (0.0 if math.isfinite(check.low) else -REACH), (1.0 if math.isfinite(check.high) else 1.0 + REACH)
        axes.barh(row, right - left, left=left, height=0.3, color=LINE)
        axes.text(-REACH, row - 0.34, _short(check.name), va="center", fontsize=9)
        axes.text(1.0 + REACH, row - 0.34, figure(check.measured), va="center", ha="right", color=MUTED, fontsize=9)
        ends = check.interval
        colour = GOOD if check.holds else BAD
        if ends is not None:
            axes.plot([_place(check, end) for end in ends], [row, row], color=colour, linewidth=1.6)
        if math.isfinite(check.measured):
            axes.plot([_place(check, check.measured)], [row], "o", color=colour, markersize=6)
    axes.set_xlim(-REACH - 0.06, 1.0 + REACH + 0.06)
    axes.set_ylim(len(checks) - 0.7, -0.6)
    axes.set_axis_off()
    inside = sum(check.holds for check in checks)
    return f"{inside} of {len(checks)} in their bands (shaded; each row has its own scale). Lines: 95 % of a rate."


def _place(check: Check, value: float) -> float:
    """Where a figure lies: 0 at the lower end of its band, 1 at the upper; one band wide beyond it at most."""
    low, high = check.low, check.high
    if math.isfinite(low) and math.isfinite(high):
        # A band that is one point: any distance from it is outside.
        found = (value - low) / (high - low) if high > low else (0.5 if value == low else math.copysign(9, value - low))
    elif math.isfinite(high):
        found = 1.0 + (value - high) / _scale(high)
    elif math.isfinite(low):
        found = (value - low) / _scale(low)
    else:
        found = 0.5
    return min(1.0 + REACH, max(-REACH, found))


def _scale(end: float) -> float:
    return abs(end) if end != 0.0 else 1.0


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
