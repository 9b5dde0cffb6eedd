"""``penumbra feed``: candles from files into the stream, in the order of their closing."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path

from market.candles import Candles, find_candles, read_candles
from runtime.wiring import Wiring
from signals.candle import Candle
from worker.follow import candle_text


def feed_files(wiring: Wiring, paths: Iterable[Path]) -> int:
    """Feed every candle of the files; finer series first where two close together. Returns how many."""
    series = sorted((read_candles(path).candles for path in find_candles(paths)), key=lambda candles: candles.step_ms)
    fed = 0
    for closes_ms, _, _, candles, candle in heapq.merge(
        *(_closings(rank, candles) for rank, candles in enumerate(series))
    ):
        wiring.store.feed(candles.symbol, candles.timeframe, candle_text(candle), closes_ms)
        fed += 1
    return fed


def _closings(rank: int, candles: Candles) -> Iterator[tuple[int, int, int, Candles, Candle]]:
    for index, candle in enumerate(candles):
        yield candle.ts + candles.step_ms, rank, index, candles, candle
