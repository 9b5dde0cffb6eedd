"""Reading candle files: layouts, names, and what happens to rows that are no candles."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from market.candles import find_candles, read_candles
from signals.errors import Permanent
from signals.reasons import Reason

START = 1_704_067_200_000
M5 = 300_000


def row(index: int, *, high: float = 102.0, open_: float = 100.0) -> str:
    return f"{START + index * M5},{open_},{high},99,101,7"


def write(folder: Path, name: str, *rows: str, header: str = "ts,open,high,low,close,volume") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows] if header else rows) + "\n", encoding="utf-8")
    return path


def test_clean_file(tmp_path: Path) -> None:
    read = read_candles(write(tmp_path, "BTCUSDT_5m.csv", *(row(i) for i in range(4))))
    assert (read.candles.symbol, read.candles.timeframe) == ("BTCUSDT", "5m")
    assert read.candles.ts.tolist() == [START + i * M5 for i in range(4)]
    assert read.candles.at(0).prices == (100.0, 102.0, 99.0, 101.0)
    assert read.report.clean
    assert read.report.rows == read.report.kept == 4
    assert (read.report.first_ts, read.report.last_ts) == (START, START + 3 * M5)


def test_every_kind_of_bad_row_is_counted_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "BTCUSDT_5m.csv",
        row(0),
        row(0),  # duplicate
        row(1),
        row(1, high=103.0),  # corrected: the first copy stays
        row(2, high=98.0),  # impossible: high below low
        f"{START + 3 * M5},nan,102,99,101,7",  # impossible
        f"{START + 3 * M5},100,102,-1,101,7",  # impossible
        f"{START + 3 * M5},100,inf,99,101,7",  # impossible
        f"{START + 3 * M5},hundred,102,99,101,7",  # impossible
        f"{START + 4 * M5}",  # impossible: a line cut off
        f"{START + 5 * M5 + 1},100,102,99,101,7",  # misaligned
        row(8),
        row(6),  # out of order, kept
        row(9),
    )
    read = read_candles(path)
    report = read.report
    assert read.candles.ts.tolist() == [START + i * M5 for i in (0, 1, 6, 8, 9)]
    assert read.candles.high.tolist() == [102.0] * 5
    assert (report.rows, report.kept) == (14, 5)
    assert report.counts == {
        Reason.CANDLE_IMPOSSIBLE: 6,
        Reason.CANDLE_MISALIGNED: 1,
        Reason.CANDLE_DUPLICATE: 1,
        Reason.CANDLE_CORRECTED: 1,
        Reason.CANDLE_LATE: 1,
        Reason.CANDLE_GAP: 2,
    }
    assert report.missing == 5  # four before number 6, one before number 8
    assert not report.clean
    assert {(e.reason, e.row) for e in report.examples} >= {(Reason.CANDLE_DUPLICATE, 1), (Reason.CANDLE_LATE, 12)}
    assert sum(e.reason is Reason.CANDLE_IMPOSSIBLE for e in report.examples) == 3


def test_an_impossible_first_copy_does_not_shadow_a_good_one(tmp_path: Path) -> None:
    read = read_candles(write(tmp_path, "BTCUSDT_5m.csv", row(0), row(1, high=1.0), row(1)))
    assert len(read.candles) == 2
    assert (read.report.impossible, read.report.corrected) == (1, 0)


def test_newest_first_is_turned_round(tmp_path: Path) -> None:
    read = read_candles(write(tmp_path, "BTCUSDT_5m.csv", row(2), row(1), row(0)))
    assert len(read.candles) == 3
    assert read.report.disordered == 2


MOMENT = datetime.fromtimestamp(START / 1000, tz=UTC)


@pytest.mark.parametrize(
    "stamp",
    [
        pytest.param(str(START // 1000), id="seconds"),
        pytest.param(f"{START // 1000}.0", id="seconds as float"),
        pytest.param(str(START), id="milliseconds"),
        pytest.param(str(START * 1000), id="microseconds"),
        pytest.param(str(START * 1_000_000), id="nanoseconds"),
        pytest.param("2024-01-01T00:00:00Z", id="ISO with Z"),
        pytest.param("2024-01-01 02:00:00+02:00", id="ISO with offset"),
        pytest.param("2024-01-01", id="date"),
    ],
)
@pytest.mark.parametrize("name", ["ts", "timestamp", "Time", "date", "open_time"])
def test_ways_to_write_a_time(tmp_path: Path, stamp: str, name: str) -> None:
    path = write(tmp_path, "X_5m.csv", f"{stamp},1,1,1,1,0", header=f"{name},open,high,low,close,volume")
    assert read_candles(path).candles.ts.tolist() == [START]


def test_times_without_an_offset_are_refused_and_a_single_one_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="offset"):
        read_candles(write(tmp_path, "A_5m.csv", "2024-01-01T00:00:00,1,1,1,1,0"))
    rows = ("2024-01-01T00:00:00Z,1,1,1,1,0", "2024-01-01T00:05:00,1,1,1,1,0", "soon,1,1,1,1,0")
    report = read_candles(write(tmp_path, "B_5m.csv", *rows)).report
    assert (report.kept, report.impossible) == (1, 2)


@pytest.mark.parametrize(
    ("name", "symbol", "timeframe"),
    [
        ("BTCUSDT_5m.csv", "BTCUSDT", "5m"),
        ("BTC_USDT-1h.csv", "BTC_USDT", "1h"),
        ("BTC_USDT_USDT-1h-futures.csv", "BTC_USDT_USDT", "1h"),
        ("btcusdt-1m-2024-01.csv", "BTCUSDT", "1m"),
        ("BTCUSDT.P_15m.csv", "BTCUSDT.P", "15m"),
        ("gold.csv", "GOLD", "1h"),
    ],
)
def test_names_say_symbol_and_timeframe(tmp_path: Path, name: str, symbol: str, timeframe: str) -> None:
    rows = [f"{START + i * 3_600_000},1,1,1,1,0" for i in (0, 1, 2, 5)]
    candles = read_candles(write(tmp_path, name, *rows)).candles
    assert (candles.symbol, candles.timeframe) == (symbol, timeframe)


def test_arguments_win_over_the_name(tmp_path: Path) -> None:
    path = write(tmp_path, "BTCUSDT_5m.csv", row(0), row(1), row(3))
    candles = read_candles(path, symbol="BTC/USDT", timeframe="15m").candles
    assert (candles.symbol, candles.timeframe, len(candles)) == ("BTC/USDT", "15m", 2)


def test_without_header_in_the_order_of_exchange_dumps(tmp_path: Path) -> None:
    rows = (row(0) + ",1704067499999,0,0,0,0,0", row(1) + ",1704067799999,0,0,0,0,0")
    assert len(read_candles(write(tmp_path, "BTCUSDT-5m-2024-01.csv", *rows, header="")).candles) == 2


def test_semicolons_byte_order_mark_and_no_volume(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT_5m.csv"
    path.write_text(f"﻿Date;Open;High;Low;Close\n{START};1;2;1;2\n", encoding="utf-8")
    candles = read_candles(path).candles
    assert candles.volume.tolist() == [0.0]
    assert candles.close.tolist() == [2.0]


def test_a_file_of_many_symbols_needs_a_name(tmp_path: Path) -> None:
    header = "symbol,ts,open,high,low,close"
    path = write(tmp_path, "all.csv", f"A,{START},1,1,1,1", f"B,{START},2,2,2,2", header=header)
    with pytest.raises(Permanent, match="2 symbols"):
        read_candles(path)
    assert read_candles(path, symbol="B", timeframe="5m").candles.close.tolist() == [2.0]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        pytest.param("X_5m.csv", b"\xff\xfe\x00\x01", "cannot be read", id="not text"),
        pytest.param("X_5m.csv", b"when,what\n1,2\n", "no column for ts", id="other columns"),
        pytest.param("X_5m.csv", b"", "no column for ts", id="empty"),
        pytest.param("X_5m.parquet", b"PAR1 not really", "cannot be read", id="broken parquet"),
        pytest.param("X_5m.xlsx", b"", "not a candle file", id="other kind"),
        pytest.param("X.csv", b"ts,open,high,low,close\n1704067200,1,1,1,1\n", "no timeframe", id="one row, no name"),
        pytest.param("@_5m.csv", b"ts,open,high,low,close\n1704067200,1,1,1,1\n", "not a symbol", id="no symbol"),
    ],
)
def test_unreadable_files_say_why(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Permanent, match=sentence):
        read_candles(path)


def test_a_file_of_nothing_but_bad_rows_is_empty_with_a_report(tmp_path: Path) -> None:
    read = read_candles(write(tmp_path, "X_5m.csv", row(0, high=1.0)))
    assert len(read.candles) == 0
    assert read.report.first_ts is None
    assert read.report.impossible == 1


@pytest.mark.parametrize("kind", ["int64 ms", "timestamp", "date32", "text"])
@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
def test_arrow_files(tmp_path: Path, kind: str, suffix: str) -> None:

    stamps = {
        "int64 ms": pa.array([START, START + 86_400_000]),
        "timestamp": pa.array([START * 1000, (START + 86_400_000) * 1000], pa.timestamp("us", tz="Europe/Berlin")),
        "date32": pa.array([19_723, 19_724], pa.date32()),
        "text": pa.array(["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"]),
    }[kind]
    ones = pa.array([1.0, None]) if kind == "int64 ms" else pa.array([1, 1])
    table = pa.table({"date": stamps, "open": ones, "high": ones, "low": ones, "close": ones})
    path = tmp_path / f"BTC_USDT-1d{suffix}"
    parquet.write_table(table, path) if suffix == ".parquet" else feather.write_feather(table, str(path))
    read = read_candles(path)
    kept = 1 if kind == "int64 ms" else 2
    assert read.candles.ts.tolist() == [START, START + 86_400_000][:kept]
    assert read.report.impossible == 2 - kept


def test_arrow_times_without_a_zone_are_refused(tmp_path: Path) -> None:

    one = pa.array([1.0])
    table = pa.table(
        {"date": pa.array([START], pa.timestamp("ms")), "open": one, "high": one, "low": one, "close": one}
    )
    parquet.write_table(table, tmp_path / "X_5m.parquet")
    with pytest.raises(Permanent, match="no zone"):
        read_candles(tmp_path / "X_5m.parquet")


def test_find_candles(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    b, a = write(folder, "B_5m.csv", row(0)), write(folder, "A_5m.csv", row(0))
    write(folder, "notes.txt", "none")
    single = write(tmp_path, "C_5m.csv", row(0))
    assert find_candles([single, folder, a]) == [single, a, b]
    with pytest.raises(Permanent, match="no such file"):
        find_candles([tmp_path / "nowhere"])


@pytest.mark.skipif("PENUMBRA_REFERENCE_DATA" not in os.environ, reason="reference candles not at hand")
def test_a_reference_file_is_clean() -> None:
    read = read_candles(Path(os.environ["PENUMBRA_REFERENCE_DATA"]) / "BTCUSDT_5m.parquet")
    assert read.report.clean
    assert len(read.candles) == 71_768
    assert np.all(np.diff(read.candles.ts) == M5)
