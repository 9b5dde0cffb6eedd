"""Recent candles from an exchange's public endpoint, kept in a folder so that they are asked for once."""

from __future__ import annotations

import csv
import json
import math
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

import numpy as np

from market.candles import Candles, read_candles
from market.columns import Columns, epoch_ms
from market.sieve import sift
from signals.errors import Invalid, Permanent, Transient
from signals.reasons import Reason
from signals.signal import SYMBOL_PATTERN
from signals.timeframe import timeframe_ms

ENDPOINT = "https://data-api.binance.vision/api/v3/klines"
"""Binance's market-data mirror: public, no key, klines as ``[open time, o, h, l, c, volume, …]``."""
PAGE = 1_000
"""The most rows one request may ask for."""
TIMEOUT_S = 6.0
LARGEST_ANSWER = 4_000_000
"""Bytes; a thousand klines take a tenth of it."""

_FOREVER = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND)


def fetch_candles(
    symbol: str, timeframe: str, limit: int, cache: Path, *, endpoint: str = ENDPOINT, refresh: bool = False
) -> Candles:
    """The last ``limit`` closed candles of a symbol.

    A cached file with enough candles is used as it is, unless ``refresh`` asks for newer ones. ``Transient`` when the
    network does not allow it, ``Permanent`` when the exchange does not know the symbol or the timeframe.
    """
    step_ms = timeframe_ms(timeframe)
    if SYMBOL_PATTERN.fullmatch(symbol) is None:
        raise Invalid(Reason.FIELD_FORMAT, "symbol", symbol[:32])
    if not 1 <= limit <= 100_000:
        raise Invalid(Reason.FIELD_RANGE, "limit", "1 to 100,000")
    listed = symbol.replace("/", "")  # the exchange, and a folder, know BTC/USDT as BTCUSDT
    path = cache / f"{listed}_{timeframe}.csv"
    if not refresh and path.exists():
        kept = read_candles(path, symbol=symbol, timeframe=timeframe).candles
        if len(kept) >= limit:
            return kept.slice(len(kept) - limit)
    rows = _download(endpoint, listed, timeframe, limit)
    columns, _ = sift(_columns(rows), step_ms)
    candles = Candles.from_columns(symbol, timeframe, columns)
    if len(candles) == 0:
        raise Transient(f"the exchange has no candles of {symbol} {timeframe}")
    _keep(candles, path)
    return candles.slice(max(0, len(candles) - limit))


def _download(endpoint: str, symbol: str, timeframe: str, limit: int) -> list[list[object]]:
    """Rows of the newest candles, page by page into the past, without the one that is still forming."""
    rows: list[list[object]] = []
    end_ms: int | None = None
    while len(rows) <= limit:
        wanted = min(PAGE, limit + 1 - len(rows))
        query: dict[str, str | int] = {"symbol": symbol, "interval": timeframe, "limit": wanted}
        if end_ms is not None:
            query["endTime"] = end_ms
        page = _get(f"{endpoint}?{urllib.parse.urlencode(query)}")
        if len(page) == 0:
            break
        oldest_ms = _open_time(page[0])
        if end_ms is not None and oldest_ms > end_ms:
            raise Transient("the exchange repeats itself instead of going back in time")
        rows = page + rows
        end_ms = oldest_ms - 1
        if len(page) < wanted:
            break
    # The newest row is a candle in progress; its last row would change after we kept it.
    return rows[:-1]


def _get(url: str) -> list[list[object]]:
    if not url.startswith(("https://", "http://")):
        raise Invalid(Reason.FIELD_FORMAT, "endpoint", "expected http or https")
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - scheme checked above
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            body = answer.read(LARGEST_ANSWER + 1)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _FOREVER:
            raise Permanent(f"the exchange refuses the request: {error.code} {error.reason}") from error
        # 403 and 451 are a place's network, 418 and 429 a full quota, 5xx a bad day: another time, another answer.
        raise Transient(f"the exchange does not answer now: {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:  # refused, timed out, no name service, cut off in the middle
        raise Transient(f"the exchange cannot be reached: {error}") from error
    return _rows(body)


def _rows(body: bytes) -> list[list[object]]:
    try:
        page = json.loads(body) if len(body) <= LARGEST_ANSWER else None
    except (ValueError, RecursionError):
        page = None
    # A login page of a hotel's network is an answer too.
    if not isinstance(page, list) or not all(isinstance(row, list) and len(row) >= 6 for row in page):
        raise Transient("the exchange's answer is not a list of candles")
    return page


def _open_time(row: Sequence[object]) -> int:
    if isinstance(row[0], bool) or not isinstance(row[0], int):
        raise Transient("the exchange's answer has no open times")
    return row[0]


def _columns(rows: Sequence[Sequence[object]]) -> Columns:
    table = np.asarray([[_number(value) for value in row[:6]] for row in rows], dtype=np.float64).reshape(-1, 6).T
    return Columns(epoch_ms(table[0]), table[1], table[2], table[3], table[4], table[5])


def _number(value: object) -> float:
    # Prices come as text, so that no decimal is lost on the way.
    try:
        return float(value) if isinstance(value, (int, float, str)) else math.nan
    except (ValueError, OverflowError):
        return math.nan


def _keep(candles: Candles, path: Path) -> None:
    """Write the cache file in one move: whoever reads it meanwhile sees the old one or the new one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=path.stem, suffix=".part", delete=False, newline="", encoding="utf-8"
        ) as file:
            writer = csv.writer(file)
            writer.writerow(("ts", "open", "high", "low", "close", "volume"))
            writer.writerows((candle.ts, *candle.prices, candle.volume) for candle in candles)
        Path(file.name).replace(path)
    except OSError as error:
        raise Permanent(f"{path}: cannot be written: {error}") from error
