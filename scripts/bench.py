"""What every benchmark shares: rows, the line about the machine, percentiles, and how they are printed."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from runtime.clock import stopwatch
from signals.errors import Permanent

LIBRARIES = ("numpy", "scikit-learn", "scipy", "redis", "rq", "psycopg")
PAGE_WIDTH = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured figure; less is better.

    ``baseline`` was measured in the same run, and ``work`` names it; ``ratio`` is baseline over ours. ``goal`` is in
    ``unit`` too, where a document of the project states one. ``agree``: whether both sides gave the same answer, or
    the work gave the answer it must give.
    """

    work: str
    size: int
    ours: float
    unit: str
    agree: bool
    baseline: float | None = None
    goal: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the baseline takes of what ours takes."""
        return None if self.baseline is None or self.ours <= 0.0 else self.baseline / self.ours

    @property
    def record(self) -> dict[str, object]:
        """The row as JSON values."""
        return asdict(self) | {"ratio": self.ratio}


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    found: dict[str, object] = {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def machine_line() -> str:
    """The same in one line."""
    return ", ".join(f"{name} {value}" for name, value in machine().items())


def timed(work: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    started = stopwatch()
    work()
    return stopwatch() - started


def interleaved(
    ours: Callable[[], object], baseline: Callable[[], object], *, repeats: int, ours_more: int = 1
) -> tuple[list[float], list[float]]:
    """Seconds of both sides, taken in turns so that a busy moment of the machine falls on both."""
    ours(), baseline()
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(repeats):
        mine += [timed(ours) for _ in range(ours_more)]
        theirs.append(timed(baseline))
    return mine, theirs


def percentile(values: Sequence[float], share: float) -> float:
    """A percentile, by linear interpolation."""
    return float(np.percentile(np.asarray(values, dtype=np.float64), share))


def show(rows: Sequence[Row], title: str) -> None:
    """The rows as a table."""
    table = Table("work", "size", "ours", "baseline", "unit", "baseline / ours", "goal", "agree", title=title)
    table.box = SIMPLE_HEAD
    for row in rows:
        table.add_row(
            row.work,
            f"{row.size:,}",
            _figure(row.ours),
            _figure(row.baseline),
            row.unit,
            _figure(row.ratio),
            _figure(row.goal),
            "yes" if row.agree else "NO",
        )
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=PAGE_WIDTH)).print(table)


def echo(rows: Sequence[Row]) -> None:
    """The rows as JSON, with the machine they come from."""
    click.echo(json.dumps({"machine": machine(), "rows": [row.record for row in rows]}, indent=2))


def require_agreement(rows: Sequence[Row]) -> None:
    """A faster wrong answer is no figure: say which, and fail."""
    wrong = [f"{row.work} at {row.size}" for row in rows if not row.agree]
    if wrong:
        raise Permanent(f"not the same answer: {'; '.join(wrong)}")


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100.0 else f"{value:.3g}"
