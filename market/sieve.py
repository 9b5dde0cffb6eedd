"""Which rows of a file are candles: impossible, repeated and misaligned ones are counted and left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from market.columns import BoolArray, Columns, IntArray
from signals.reasons import Reason
from signals.signal import EARLIEST_TS, LATEST_TS

EXAMPLES_PER_REASON = 3


@dataclass(frozen=True, slots=True)
class RowExample:
    """One row that was left out or is worth a look; ``row`` counts data rows from 0 in file order."""

    reason: Reason
    row: int
    ts: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleReport:
    """What was found in a file. ``rows = kept + impossible + misaligned + duplicate + corrected``.

    ``disordered`` rows are kept, in their place; ``gaps`` counts holes and ``missing`` the candles that would fill
    them. ``first_ts`` and ``last_ts`` are open times (UTC ms) of the kept rows, ``None`` when there are none.
    """

    rows: int
    kept: int
    impossible: int
    misaligned: int
    duplicate: int
    corrected: int
    disordered: int
    gaps: int
    missing: int
    first_ts: int | None
    last_ts: int | None
    examples: tuple[RowExample, ...]

    @property
    def counts(self) -> Mapping[Reason, int]:
        """How often each reason code applied, zeros included."""
        return MappingProxyType(
            {
                Reason.CANDLE_IMPOSSIBLE: self.impossible,
                Reason.CANDLE_MISALIGNED: self.misaligned,
                Reason.CANDLE_DUPLICATE: self.duplicate,
                Reason.CANDLE_CORRECTED: self.corrected,
                Reason.CANDLE_LATE: self.disordered,
                Reason.CANDLE_GAP: self.gaps,
            }
        )

    @property
    def clean(self) -> bool:
        """Whether every row was kept, in order and without a hole."""
        return all(count == 0 for count in self.counts.values())


def possible(columns: Columns) -> BoolArray:
    """Rows that obey the rules of a candle, the same rules as ``signals.candle.Candle``."""
    low, high = columns.low, columns.high
    with np.errstate(invalid="ignore"):
        return np.asarray(
            (columns.ts > EARLIEST_TS)
            & (columns.ts <= LATEST_TS)
            & (low > 0.0)
            & (high < np.inf)
            & (low <= columns.open)
            & (columns.open <= high)
            & (low <= columns.close)
            & (columns.close <= high)
            & (columns.volume >= 0.0)
            & (columns.volume < np.inf),
            dtype=np.bool_,
        )


def typical_step_ms(columns: Columns) -> int | None:
    """Median distance between neighbouring open times; ``None`` with fewer than two of them."""
    ts = np.unique(columns.ts[possible(columns)])
    return int(np.median(np.diff(ts))) if ts.size >= 2 else None


def sift(columns: Columns, step_ms: int) -> tuple[Columns, CandleReport]:
    """Keep the good rows, sorted by time; of rows with one time the first in file order. Report the rest."""
    valid = possible(columns)
    aligned = columns.ts % step_ms == 0
    candidates = np.flatnonzero(valid & aligned)
    # Stable: among equal times the file's order decides, so "first copy" is a fact and not an accident.
    candidates = candidates[np.argsort(columns.ts[candidates], kind="stable")]
    ts = columns.ts[candidates]
    first = np.concatenate(([True], ts[1:] != ts[:-1])) if ts.size else np.zeros(0, dtype=np.bool_)
    kept = candidates[first]
    copies = candidates[~first]
    originals = kept[np.cumsum(first)[~first] - 1] if ts.size else kept
    same = _same_prices(columns, copies, originals)
    late = _late_rows(columns.ts, kept)
    holes = np.flatnonzero(np.diff(columns.ts[kept]) > step_ms)
    missing = int((np.diff(columns.ts[kept]) // step_ms - 1).sum()) if kept.size else 0
    found = {
        Reason.CANDLE_IMPOSSIBLE: np.flatnonzero(~valid),
        Reason.CANDLE_MISALIGNED: np.flatnonzero(valid & ~aligned),
        Reason.CANDLE_DUPLICATE: copies[same],
        Reason.CANDLE_CORRECTED: copies[~same],
        Reason.CANDLE_LATE: late,
        Reason.CANDLE_GAP: kept[holes],
    }
    report = CandleReport(
        rows=int(columns.ts.size),
        kept=int(kept.size),
        impossible=int(found[Reason.CANDLE_IMPOSSIBLE].size),
        misaligned=int(found[Reason.CANDLE_MISALIGNED].size),
        duplicate=int(found[Reason.CANDLE_DUPLICATE].size),
        corrected=int(found[Reason.CANDLE_CORRECTED].size),
        disordered=int(late.size),
        gaps=int(holes.size),
        missing=missing,
        first_ts=int(columns.ts[kept[0]]) if kept.size else None,
        last_ts=int(columns.ts[kept[-1]]) if kept.size else None,
        examples=tuple(_examples(columns, found)),
    )
    return _take(columns, kept), report


def _take(columns: Columns, rows: IntArray) -> Columns:
    return Columns(
        ts=columns.ts[rows],
        open=columns.open[rows],
        high=columns.high[rows],
        low=columns.low[rows],
        close=columns.close[rows],
        volume=columns.volume[rows],
    )


def _same_prices(columns: Columns, left: IntArray, right: IntArray) -> BoolArray:
    """Volume may still be revised by an exchange; a price that changes is a correction."""
    same = np.ones(left.size, dtype=np.bool_)
    for prices in (columns.open, columns.high, columns.low, columns.close):
        same &= prices[left] == prices[right]
    return same


def _late_rows(ts: IntArray, kept: IntArray) -> IntArray:
    """Kept rows that stand in the file after a row of a later time."""
    in_file_order = np.sort(kept)
    stamps = ts[in_file_order]
    return in_file_order[stamps < np.maximum.accumulate(stamps)] if stamps.size else in_file_order


def _examples(columns: Columns, found: Mapping[Reason, IntArray]) -> list[RowExample]:
    examples = []
    for reason, rows in found.items():
        for row in rows[:EXAMPLES_PER_REASON].tolist():
            prices = [float(column[row]) for column in (columns.open, columns.high, columns.low, columns.close)]
            detail = "ohlc " + " ".join(f"{price:g}" for price in prices) + f" volume {float(columns.volume[row]):g}"
            examples.append(RowExample(reason, row, int(columns.ts[row]), detail))
    return examples
