"""Positions drawn once, for a long from 100, and read for either side: a short sees every price mirrored in 100."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from phantom.advance import advance
from phantom.position import Closed, Position, Terms
from signals.candle import Candle
from signals.profile import FillRule
from signals.signal import Side

STEP = 300_000
START = 1_704_067_200_000  # 2024-01-01, a whole day and so a whole candle of every length
MINUTE = 60_000

BOTH_SIDES = (Side.LONG, Side.SHORT)


def price(side: Side, value: float) -> float:
    """A long's price as the side sees it. Exact for multiples of a power of two."""
    return value if side is Side.LONG else 200.0 - value


def terms(
    side: Side,
    *,
    tp1: float | None = None,
    sl: float = 98.0,
    tp: float = 104.0,
    deadline_ms: int = START + 100 * STEP,
    fill: FillRule = FillRule.ENTRY,
    step_ms: int = STEP,
) -> Terms:
    """From 100, stop 98, target 104: one R is 2."""
    return Terms(
        side=side,
        entry=100.0,
        stop_loss=price(side, sl),
        take_profit=price(side, tp),
        first_target=None if tp1 is None else price(side, tp1),
        entry_ms=START,
        deadline_ms=deadline_ms,
        step_ms=step_ms,
        fill=fill,
    )


def candle(side: Side, ohlc: str, ts: int = START, *, final: bool = True) -> Candle:
    """``open high low close`` as a long sees them."""
    open_, high, low, close = (price(side, float(word)) for word in ohlc.split())
    return Candle(ts, open_, max(high, low), min(high, low), close, final=final)


def path(side: Side, *lines: str, start: int = START, step: int = STEP) -> list[Candle]:
    """Consecutive candles; ``-`` is one that never came."""
    return [candle(side, line, start + i * step) for i, line in enumerate(lines) if line != "-"]


def follow(position: Terms | Position, candles: Iterable[Candle], finer: Sequence[Candle] = ()) -> Position | Closed:
    """Step the rule until it closes the position or the candles end."""
    state: Position | Closed = Position.open(position) if isinstance(position, Terms) else position
    for one in candles:
        if isinstance(state, Closed):
            break
        state = advance(state, one, finer)
    return state


def closed(state: Position | Closed) -> Closed:
    """The ending, or a loud no."""
    if not isinstance(state, Closed):
        raise TypeError(f"still open: {state}")
    return state


def still_open(state: Position | Closed) -> Position:
    """The open position, or a loud no."""
    if not isinstance(state, Position):
        raise TypeError(f"closed: {state}")
    return state


def same(one: Position | Closed, other: Position | Closed) -> bool:
    """Equality in which an entry open that is not known yet equals another: both are NaN."""
    return type(one) is type(other) and _comparable(one) == _comparable(other)


def _comparable(state: Position | Closed) -> Position | Closed:
    unknown = math.isnan(state.track.entry_open)
    return replace(state, track=replace(state.track, entry_open=-1.0)) if unknown else state
