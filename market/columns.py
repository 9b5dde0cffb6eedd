"""Raw candle columns of a file, before anything is judged: parquet, feather or CSV, one reader each."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from signals.errors import Permanent

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SUFFIXES = (".parquet", ".feather", ".csv")
UNKNOWN_TS = -1
"""Stands for a time that could not be read: no candle opens before 1970."""

_ALIASES = {
    "ts": ("ts", "timestamp", "time", "date", "datetime", "open_time", "opentime", "open time", "unix"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("volume", "vol", "v", "base_volume", "tick_volume"),
    "symbol": ("symbol", "pair", "ticker"),
}
_HEADERLESS = ("ts", "open", "high", "low", "close", "volume")
_OPTIONAL = frozenset({"volume", "symbol"})


@dataclass(frozen=True, slots=True)
class Columns:
    """What the file says, row by row. An unreadable number is NaN, an unreadable time ``UNKNOWN_TS``."""

    ts: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray


def read_columns(path: Path, symbol: str | None) -> Columns:
    """Columns of a file; of one symbol's rows when the file holds several."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise Permanent(f"{path.name}: not a candle file; expected one of {', '.join(SUFFIXES)}")
    try:
        return _from_csv(path, symbol) if suffix == ".csv" else _from_arrow(path, symbol)
    except Permanent:
        raise
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's own errors derive from these
        raise Permanent(f"{path.name}: cannot be read: {error}") from error


def epoch_ms(values: npt.ArrayLike) -> IntArray:
    """Epoch times of any unit as milliseconds, told apart by size: seconds end in 5138, milliseconds begin in 1973."""
    number = np.asarray(values, dtype=np.float64)
    known = np.isfinite(number) & (number >= 0.0) & (number < 1e20)
    number = np.where(known, number, 0.0)
    # Nanoseconds of today exceed 2**53, but a float still tells them apart finer than a millisecond.
    scaled = np.select(
        [number < 1e11, number < 1e14, number < 1e17], [number * 1e3, number, number / 1e3], number / 1e6
    )
    return np.where(known, np.rint(scaled), UNKNOWN_TS).astype(np.int64)


def _locate(header: Sequence[str], path: Path) -> dict[str, int]:
    names = [name.strip().lower() for name in header]
    found = {}
    for column, aliases in _ALIASES.items():
        index = next((names.index(alias) for alias in aliases if alias in names), None)
        if index is not None:
            found[column] = index
        elif column not in _OPTIONAL:
            raise Permanent(f"{path.name}: no column for {column}; it has {', '.join(header)[:200]}")
    return found


def _rows_of(symbols: Sequence[Any], symbol: str | None, path: Path) -> BoolArray:
    """Which rows belong to the wanted symbol. A file of many symbols cannot be read as one series."""
    names = np.asarray([str(name) for name in symbols])
    distinct = np.unique(names)
    if distinct.size <= 1:
        return np.ones(names.size, dtype=np.bool_)
    if symbol is None:
        raise Permanent(f"{path.name}: holds {distinct.size} symbols; say which one")
    return np.asarray(names == symbol, dtype=np.bool_)


# --- parquet and feather ---------------------------------------------------------------------------------------------


def _from_arrow(path: Path, symbol: str | None) -> Columns:
    try:
        from pyarrow import feather, parquet  # noqa: PLC0415 - an optional dependency, and 60 ms to import
    except ImportError as error:
        raise Permanent(f"{path.name}: reading it needs pyarrow; install penumbra[market]") from error
    table = parquet.read_table(path) if path.suffix.lower() == ".parquet" else feather.read_table(path)
    where = _locate(table.schema.names, path)
    if "symbol" in where:
        table = table.filter(_rows_of(table.column(where["symbol"]).to_pylist(), symbol, path))
    zeros = np.zeros(table.num_rows)
    prices = {name: _arrow_numbers(table.column(where[name])) for name in ("open", "high", "low", "close")}
    volume = _arrow_numbers(table.column(where["volume"])) if "volume" in where else zeros
    return Columns(ts=_arrow_times(table.column(where["ts"]), path), volume=volume, **prices)


def _arrow_numbers(column: Any) -> FloatArray:
    import pyarrow as pa  # noqa: PLC0415

    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return np.asarray(column.to_numpy(), dtype=np.float64)
    return np.asarray([_number(value) for value in column.to_pylist()], dtype=np.float64)


def _arrow_times(column: Any, path: Path) -> IntArray:
    import pyarrow as pa  # noqa: PLC0415

    kind = column.type
    if pa.types.is_timestamp(kind):
        if kind.tz is None:
            raise Permanent(f"{path.name}: its times carry no zone; store them as UTC or as epoch milliseconds")
        stamps = column.cast(pa.timestamp("ms", tz="UTC"), safe=False).cast(pa.int64())
        return np.asarray(stamps.fill_null(UNKNOWN_TS).to_numpy(), dtype=np.int64)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return epoch_ms(column.to_numpy())
    return _times([str(value) for value in column.to_pylist()], path)


# --- CSV -------------------------------------------------------------------------------------------------------------


def _from_csv(path: Path, symbol: str | None) -> Columns:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        delimiter = max(",;\t", key=first.count)
        rows = csv.reader(itertools.chain([first], file), delimiter=delimiter)
        header = next(rows, [])
        table = [row for row in rows if row]
    if header and math.isfinite(_number(header[0])):
        # The exchanges' own dumps have no header line.
        table.insert(0, header)
        header = list(_HEADERLESS[: len(header)])
    where = _locate(header, path)
    if "symbol" in where:
        mine = _rows_of([_cell(row, where["symbol"]) for row in table], symbol, path)
        table = [row for row, keep in zip(table, mine.tolist(), strict=True) if keep]
    prices = {name: _csv_numbers(table, where[name]) for name in ("open", "high", "low", "close")}
    volume = _csv_numbers(table, where["volume"]) if "volume" in where else np.zeros(len(table))
    return Columns(ts=_times([_cell(row, where["ts"]) for row in table], path), volume=volume, **prices)


def _cell(row: Sequence[str], index: int) -> str:
    return row[index] if index < len(row) else ""


def _csv_numbers(table: Sequence[Sequence[str]], index: int) -> FloatArray:
    try:
        return np.fromiter((float(row[index]) for row in table), dtype=np.float64, count=len(table))
    except (ValueError, IndexError):  # one bad cell: the slow way, which marks it and keeps the rest
        return np.asarray([_number(_cell(row, index)) for row in table], dtype=np.float64)


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return math.nan


def _times(cells: Sequence[str], path: Path) -> IntArray:
    try:
        return epoch_ms(np.fromiter(map(float, cells), dtype=np.float64, count=len(cells)))
    except ValueError:
        pass
    unzoned = 0
    stamps = np.full(len(cells), UNKNOWN_TS, dtype=np.int64)
    for index, cell in enumerate(cells):
        number = _number(cell)
        if math.isfinite(number):
            stamps[index] = epoch_ms([number])[0]
            continue
        moment = _moment(cell)
        if moment is None:
            continue
        if moment.tzinfo is None:
            unzoned += 1
        else:
            stamps[index] = round(moment.timestamp() * 1000)
    if unzoned > 0 and unzoned == len(cells):
        raise Permanent(f"{path.name}: its times carry no offset from UTC, like 2024-01-01T00:00:00+00:00")
    return stamps


def _moment(cell: str) -> datetime | None:
    text = cell.strip()
    parse: Callable[[str], datetime] = datetime.fromisoformat
    try:
        if len(text) == len("2024-01-01"):
            # A bare date is a trade date; by convention it stands for 00:00 UTC.
            day = date.fromisoformat(text)
            return datetime(day.year, day.month, day.day, tzinfo=UTC)
        return parse(text)
    except ValueError:
        return None
