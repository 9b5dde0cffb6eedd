"""The position rule on arrays: finds the candles where something can happen and lets the rule itself judge those."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from phantom.advance import advance
from phantom.position import Closed, Position, Terms
from signals.candle import Candle
from signals.errors import Invalid
from signals.reasons import Reason

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Series:
    """The candles of one step that can move a position: closed, aligned, each newer than all before it."""

    ts: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray

    def candle(self, at: int) -> Candle:
        return Candle(
            int(self.ts[at]), float(self.open[at]), float(self.high[at]), float(self.low[at]), float(self.close[at])
        )

    def extremes(self, sign: int, start: int, stop: int) -> tuple[FloatArray, FloatArray]:
        """Favourable and adverse prices of the candles [start, stop), times the sign: for either side, up is good."""
        high, low = self.high[start:stop], self.low[start:stop]
        return (high, low) if sign > 0 else (-low, -high)


def follow_batch(
    terms: Sequence[Terms],
    ts: IntArray,
    open_: FloatArray,
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    final: BoolArray | None = None,
) -> list[Closed | Position]:
    """Follow many positions of one symbol over one series of candles.

    Parameters
    ----------
    terms : sequence of Terms, length n_positions; in any order, sides and steps may differ
    ts : ndarray of int64, shape (n_candles,), open times in UTC epoch ms, in the order of arrival
    open_, high, low, close : ndarray of float64, shape (n_candles,), in quote currency
    final : ndarray of bool, shape (n_candles,), false for candles still forming; all are closed when absent

    Returns
    -------
    list, length n_positions : for each position what ``advance`` gives after every candle in turn, without a finer
        series: Closed, or the Position that is still open. Equal bit for bit: every candle that can do more than
        widen an excursion goes through ``advance`` itself, at most three a position.

    Raises
    ------
    ValueError : if the arrays are not one-dimensional and equally long
    Invalid : ``CANDLE_IMPOSSIBLE`` if any row could not be a ``Candle``

    Source: SPEC 9, "live, replay, backfill and the vectorised engine agree exactly".
    """
    done = np.ones(len(ts), dtype=np.bool_) if final is None else np.asarray(final, dtype=np.bool_)
    whole = _Series(
        np.asarray(ts, dtype=np.int64), *(np.asarray(prices, dtype=np.float64) for prices in (open_, high, low, close))
    )
    _require_candles(whole, done)
    prepared: dict[int, _Series] = {}
    results: list[Closed | Position] = []
    for one in terms:
        if one.step_ms not in prepared:
            prepared[one.step_ms] = _usable(whole, done, one.step_ms)
        results.append(_follow(one, prepared[one.step_ms]))
    return results


def _require_candles(series: _Series, final: BoolArray) -> None:
    columns = (series.ts, series.open, series.high, series.low, series.close, final)
    if any(column.shape != (len(series.ts),) for column in columns):
        raise ValueError(f"candle arrays differ in shape: {[column.shape for column in columns]}")
    open_, high, low, close = series.open, series.high, series.low, series.close
    possible = (low > 0.0) & (low <= open_) & (open_ <= high) & (high < math.inf) & (low <= close) & (close <= high)
    if not possible.all():
        first = int(np.argmin(possible))
        raise Invalid(Reason.CANDLE_IMPOSSIBLE, "candle", f"row {first}, ts={int(series.ts[first])}")


def _usable(series: _Series, final: BoolArray, step_ms: int) -> _Series:
    chosen = np.flatnonzero(final & (series.ts % step_ms == 0))
    moments = series.ts[chosen]
    # A position takes a candle only when it is newer than every one before; then all positions take the same ones.
    if len(moments) > 1:
        newer = moments[1:] > np.maximum.accumulate(moments)[:-1]
        chosen = chosen[np.concatenate(([True], newer))]
    return _Series(
        series.ts[chosen], series.open[chosen], series.high[chosen], series.low[chosen], series.close[chosen]
    )


def _follow(terms: Terms, series: _Series) -> Closed | Position:
    position = Position.open(terms)
    at = int(np.searchsorted(series.ts, terms.entry_ms))
    # The first candle that closes at or after the deadline ends every position that comes so far.
    end = int(np.searchsorted(series.ts, terms.deadline_ms - terms.step_ms))
    while at < len(series.ts):
        event = at if not position.track.filled else _next_event(position, series, at, end)
        position = _widened(position, series, at, event)
        if event == len(series.ts):
            break
        after = advance(position, series.candle(event))
        if isinstance(after, Closed):
            return after
        position, at = after, event + 1
    return position


def _next_event(position: Position, series: _Series, start: int, end: int) -> int:
    """First candle from ``start`` on that touches a level or reaches the deadline; the series' end when none does."""
    terms, track = position.terms, position.track
    sign = terms.side.value
    favourable, adverse = series.extremes(sign, start, end)
    # The first target lies before the target: whoever waits for it meets it no later.
    level = terms.take_profit if terms.first_target is None or track.tp1_ms is not None else terms.first_target
    events = np.flatnonzero((adverse <= sign * track.stop) | (favourable >= sign * level))
    return start + int(events[0]) if events.size > 0 else max(start, end)


def _widened(position: Position, series: _Series, start: int, stop: int) -> Position:
    """The position after candles that touched nothing."""
    if start == stop:
        return position
    sign, track = position.terms.side.value, position.track
    favourable, adverse = series.extremes(sign, start, stop)
    best, worst = sign * float(favourable.max()), sign * float(adverse.min())
    return Position(
        position.terms,
        replace(
            track,
            last_ts=int(series.ts[stop - 1]),
            candles=track.candles + stop - start,
            best=best if sign * best > sign * track.best else track.best,
            worst=worst if sign * worst < sign * track.worst else track.worst,
        ),
    )
