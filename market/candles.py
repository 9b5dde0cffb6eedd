"""One symbol's closed candles as arrays, where they come from, and the higher timeframes they make."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

from market.columns import SUFFIXES, Columns, FloatArray, IntArray, read_columns
from market.sieve import CandleReport, possible, sift, typical_step_ms
from signals.candle import Candle
from signals.errors import Invalid, Permanent
from signals.reasons import Reason
from signals.signal import SYMBOL_PATTERN
from signals.timeframe import timeframe_ms

_FILE_NAME = re.compile(r"(?P<symbol>.+?)[_-](?P<timeframe>[1-9][0-9]{0,3}[smhdw])(?:[_-].*)?")
Number = TypeVar("Number", np.int64, np.float64)
_UNITS = (("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000))


def timeframe_word(step_ms: int) -> str:
    """A candle length as users write it: ``5m``, ``1h``; the inverse of ``timeframe_ms``."""
    for unit, length_ms in _UNITS:
        # 168h is 1w but 24h is written 1d and 90m stays 90m: the longest unit that divides.
        if step_ms > 0 and step_ms % length_ms == 0:
            return f"{step_ms // length_ms}{unit}"
    raise Invalid(Reason.FIELD_RANGE, "timeframe", f"{step_ms} ms is not a whole number of seconds")


@dataclass(frozen=True, slots=True, eq=False)
class Candles:
    """Closed candles of one series, oldest first: read-only arrays of one length, ``ts`` = open time in UTC ms.

    Open times are strictly rising multiples of ``step_ms``; a missing candle is simply not there.
    """

    symbol: str
    timeframe: str
    ts: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    step_ms: int = field(init=False)

    def __post_init__(self) -> None:
        if SYMBOL_PATTERN.fullmatch(self.symbol) is None:
            raise Invalid(Reason.FIELD_FORMAT, "symbol", self.symbol[:32])
        object.__setattr__(self, "step_ms", timeframe_ms(self.timeframe))
        object.__setattr__(self, "ts", _frozen(self.ts, np.int64))
        for name in ("open", "high", "low", "close", "volume"):
            object.__setattr__(self, name, _frozen(getattr(self, name), np.float64))
            if getattr(self, name).shape != self.ts.shape or self.ts.ndim != 1:
                raise Invalid(Reason.FIELD_RANGE, name, "columns differ in length")
        if bool(np.any(np.diff(self.ts) <= 0)):
            raise Invalid(Reason.CANDLE_LATE, "ts", "open times must rise")
        if bool(np.any(self.ts % self.step_ms != 0)):
            raise Invalid(Reason.CANDLE_MISALIGNED, "ts", f"open times must be multiples of {self.step_ms} ms")
        good = possible(self.columns)
        if not bool(good.all()):
            row = int(np.argmin(good))
            raise Invalid(Reason.CANDLE_IMPOSSIBLE, "candle", f"row {row}, ts={int(self.ts[row])}")

    @classmethod
    def of(cls, symbol: str, timeframe: str, candles: Iterable[Candle]) -> Self:
        """Build a series from single candles, oldest first."""
        rows = [(c.ts, c.open, c.high, c.low, c.close, c.volume) for c in candles]
        ts = np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))
        prices = np.asarray([row[1:] for row in rows], dtype=np.float64).reshape(len(rows), 5).T
        return cls(symbol, timeframe, ts, prices[0], prices[1], prices[2], prices[3], prices[4])

    @classmethod
    def from_columns(cls, symbol: str, timeframe: str, columns: Columns) -> Self:
        """Build a series from columns that have been sifted."""
        c = columns
        return cls(symbol, timeframe, c.ts, c.open, c.high, c.low, c.close, c.volume)

    @property
    def columns(self) -> Columns:
        """The six arrays without the series' name."""
        return Columns(self.ts, self.open, self.high, self.low, self.close, self.volume)

    @property
    def close_ts(self) -> IntArray:
        """When each candle closes (UTC ms): the first moment at which its prices are known."""
        return self.ts + self.step_ms

    def __len__(self) -> int:
        return int(self.ts.size)

    def __iter__(self) -> Iterator[Candle]:
        columns = (self.ts, self.open, self.high, self.low, self.close, self.volume)
        return map(Candle, *(column.tolist() for column in columns))

    def at(self, index: int) -> Candle:
        """The candle at a position; negative positions count from the end."""
        return Candle(
            int(self.ts[index]),
            float(self.open[index]),
            float(self.high[index]),
            float(self.low[index]),
            float(self.close[index]),
            float(self.volume[index]),
        )

    def slice(self, start: int, stop: int | None = None) -> Candles:
        """Candles at positions ``start`` to ``stop`` (not included), as Python slices count."""
        rows = np.s_[start:stop]
        return Candles(
            self.symbol,
            self.timeframe,
            self.ts[rows],
            self.open[rows],
            self.high[rows],
            self.low[rows],
            self.close[rows],
            self.volume[rows],
        )

    def between(self, start_ms: int, end_ms: int) -> Candles:
        """Candles that open in [start_ms, end_ms)."""
        first, last = np.searchsorted(self.ts, (start_ms, end_ms), side="left").tolist()
        return self.slice(first, max(first, last))

    def closed_by(self, moment_ms: int) -> Candles:
        """Candles whose close is at or before a moment: what an observer knows then."""
        return self.slice(0, int(np.searchsorted(self.ts, moment_ms - self.step_ms, side="right")))

    def resample(self, timeframe: str) -> Candles:
        """Closed candles of a higher timeframe, aligned to the UTC epoch."""
        return self.resample_known(timeframe)[0]

    def resample_known(self, timeframe: str) -> tuple[Candles, IntArray]:
        """The same, and when each became known (UTC ms): never before its own end.

        A higher candle exists when at least one candle lies in it. It is known at its end when its last
        sub-candle is there; otherwise nobody can tell that it is complete until a later candle has closed.
        """
        higher_ms = timeframe_ms(timeframe)
        if higher_ms % self.step_ms != 0:
            raise Invalid(Reason.FIELD_RANGE, "timeframe", f"{timeframe} is not a multiple of {self.timeframe}")
        if higher_ms == self.step_ms or len(self) == 0:
            return Candles.from_columns(self.symbol, timeframe, self.columns), self.close_ts
        opens = self.ts - self.ts % higher_ms
        starts = np.flatnonzero(np.concatenate(([True], opens[1:] != opens[:-1])))
        ends = np.append(starts[1:], len(self)) - 1
        complete = self.ts[ends] + self.step_ms == opens[ends] + higher_ms
        # A group with a successor is closed by it; the last one only by its own last sub-candle.
        next_close = self.close_ts[np.minimum(ends + 1, len(self) - 1)]
        known_ms = np.where(complete, opens[ends] + higher_ms, next_close)
        keep = np.s_[:] if bool(complete[-1]) else np.s_[:-1]
        group = np.repeat(np.arange(starts.size), np.diff(np.append(starts, len(self))))
        higher = Candles(
            self.symbol,
            timeframe,
            opens[starts][keep],
            self.open[starts][keep],
            np.maximum.reduceat(self.high, starts)[keep],
            np.minimum.reduceat(self.low, starts)[keep],
            self.close[ends][keep],
            # bincount adds one by one in order, exactly as the live aggregator does; reduceat sums pairwise.
            np.asarray(np.bincount(group, weights=self.volume)[keep], dtype=np.float64),
        )
        return higher, known_ms[keep]


@dataclass(frozen=True, slots=True, eq=False)
class CandleFile:
    """The good candles of a file and what was found wrong with the rest."""

    path: Path
    candles: Candles
    report: CandleReport


def read_candles(path: Path | str, *, symbol: str | None = None, timeframe: str | None = None) -> CandleFile:
    """Read a parquet, feather or CSV file; bad rows are left out and counted, an unreadable file is ``Permanent``.

    Symbol and timeframe come from the arguments, else from a name like ``BTCUSDT_5m.parquet``; a timeframe that
    neither gives is the median distance of the rows.
    """
    path = Path(path)
    named = _FILE_NAME.fullmatch(path.stem)
    columns = read_columns(path, symbol)
    if timeframe is None and named is not None:
        timeframe = named["timeframe"]
    if timeframe is None:
        step_ms = typical_step_ms(columns)
        if step_ms is None:
            raise Permanent(f"{path.name}: fewer than two candles and no timeframe in its name")
        try:
            timeframe = timeframe_word(step_ms)
        except Invalid as error:
            raise Permanent(f"{path.name}: its candles are {step_ms} ms apart, which is no timeframe") from error
    if symbol is None:
        symbol = (named["symbol"] if named is not None else path.stem).upper()
    if SYMBOL_PATTERN.fullmatch(symbol) is None:
        raise Permanent(f"{path.name}: {symbol[:40]!r} is not a symbol; name one")
    kept, report = sift(columns, timeframe_ms(timeframe))
    return CandleFile(path, Candles.from_columns(symbol, timeframe, kept), report)


def find_candles(paths: Iterable[Path | str]) -> list[Path]:
    """Candle files among files and folders (not below them), folders sorted by name, each file once."""
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(child for child in path.iterdir() if child.suffix.lower() in SUFFIXES and child.is_file())
            found.update(dict.fromkeys(inside))
        elif path.is_file():
            found[path] = None
        else:
            raise Permanent(f"{path}: no such file or folder")
    return list(found)


def _frozen(values: npt.ArrayLike, kind: type[Number]) -> npt.NDArray[Number]:
    array = np.ascontiguousarray(values, dtype=kind)
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array
