"""What the price did after an entry, whatever became of the position: how far, and when it first came there.

A position that is stopped says nothing of the rest of the way. The path goes on to its horizon all the same, so that
what is learned of it is not cut off by the stop that the signal happened to have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from phantom.position import Terms
from signals.candle import Candle
from signals.errors import Invalid
from signals.reasons import Reason

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

HORIZONS: Final = (60, 120)
"""Tracking candles from entry on within which levels are reached or not."""
LEVELS_R: Final = (1.0, 2.0)
"""Distances from entry that count as reached, in R, either way."""
HORIZON: Final = HORIZONS[-1]
NEVER: Final = 0


@dataclass(frozen=True, slots=True)
class Path:
    """The price's way so far, from entry outwards.

    ``with_at`` and ``against_at`` hold for each of ``LEVELS_R`` the number of the candle that first reached it, in the
    trade's direction and against it, counted from 1 at the entry candle; 0 while it was not reached. ``best_r`` and
    ``worst_r`` hold for each of ``HORIZONS`` the greatest excursion either way in R, both at least 0. ``candles`` of
    the horizon's were seen; ``last_ts`` is the open of the last one, UTC epoch ms.
    """

    candles: int = 0
    last_ts: int = -1
    with_at: tuple[int, int] = (NEVER, NEVER)
    against_at: tuple[int, int] = (NEVER, NEVER)
    best_r: tuple[float, float] = (0.0, 0.0)
    worst_r: tuple[float, float] = (0.0, 0.0)

    @property
    def known(self) -> bool:
        """Whether every candle of the horizon was seen: what a missing one held is not guessed."""
        return self.candles == HORIZON

    def reached(self, level: int, horizon: int, *, in_favour: bool) -> bool:
        """Whether a level was reached within a horizon, one way.

        Parameters
        ----------
        level, horizon : places in ``LEVELS_R`` and ``HORIZONS``
        in_favour : in the trade's direction, or against it
        """
        at = (self.with_at if in_favour else self.against_at)[level]
        return NEVER < at <= HORIZONS[horizon]

    def strength_r(self, horizon: int = -1) -> float:
        """The greatest excursion within a horizon, in R, signed: negative when it was against the trade, or both alike.

        Parameters
        ----------
        horizon : place in ``HORIZONS``; the longest by default
        """
        best, worst = self.best_r[horizon], self.worst_r[horizon]
        return best if best > worst else 0.0 - worst


def path_end_ms(terms: Terms) -> int:
    """Close of the horizon's last candle, UTC epoch ms: before it nobody knows the path.

    Parameters
    ----------
    terms : Terms
    """
    return terms.entry_ms + HORIZON * terms.step_ms


def walk(path: Path, terms: Terms, candle: Candle) -> Path:
    """Carry a path through one closed candle.

    Parameters
    ----------
    path : Path
    terms : Terms of the position whose entry it starts at
    candle : Candle of the tracking series. One that is unfinished, misaligned, outside the horizon or not newer than
        the last one changes nothing.

    Returns
    -------
    Path with the candle in it. A candle that holds levels both ways has reached both: which came first stays unknown.
    """
    number = _number(terms, candle.ts)
    if not candle.final or candle.ts <= path.last_ts or number is None:
        return path
    sign = terms.side.value
    best, worst = (candle.high, candle.low) if sign > 0 else (candle.low, candle.high)
    ahead, behind = _levels(terms)
    best_r, worst_r = terms.in_r(best), 0.0 - terms.in_r(worst)
    inside = [number <= horizon for horizon in HORIZONS]
    return Path(
        path.candles + 1,
        candle.ts,
        _pair(_first(at, number, sign * best >= sign * level) for at, level in zip(path.with_at, ahead, strict=True)),
        _pair(
            _first(at, number, sign * worst <= sign * level) for at, level in zip(path.against_at, behind, strict=True)
        ),
        _pair(max(far, best_r) if within else far for far, within in zip(path.best_r, inside, strict=True)),
        _pair(max(far, worst_r) if within else far for far, within in zip(path.worst_r, inside, strict=True)),
    )


def walked(terms: Terms, candles: Iterable[Candle]) -> Path:
    """The path through candles in their order.

    Parameters
    ----------
    terms : Terms
    candles : Candles of the tracking series, oldest first; others than the horizon's are passed over
    """
    path = Path()
    for candle in candles:
        path = walk(path, terms, candle)
    return path


def walk_batch(terms: Sequence[Terms], ts: IntArray, high: FloatArray, low: FloatArray) -> list[Path]:
    """The paths of many positions of one symbol over one series of closed candles.

    Parameters
    ----------
    terms : sequence of Terms, length n_positions, in any order
    ts : ndarray of int64, shape (n_candles,), open times in UTC epoch ms, ascending
    high, low : ndarray of float64, shape (n_candles,), in quote currency

    Returns
    -------
    list of Path, length n_positions : what ``walk`` gives after every candle in turn, bit for bit

    Raises
    ------
    ValueError : if the arrays differ in shape or the times do not ascend
    """
    if not (ts.ndim == 1 and ts.shape == high.shape == low.shape) or np.any(np.diff(ts) <= 0):
        raise ValueError("candles must be three equal columns with ascending times")
    return [_batched(one, ts, high, low) for one in terms]


def _batched(terms: Terms, ts: IntArray, high: FloatArray, low: FloatArray) -> Path:
    start, stop = np.searchsorted(ts, (terms.entry_ms, path_end_ms(terms))).tolist()
    at = start + np.flatnonzero((ts[start:stop] - terms.entry_ms) % terms.step_ms == 0)
    if len(at) == 0:
        return Path()
    number = (ts[at] - terms.entry_ms) // terms.step_ms + 1
    sign = terms.side.value
    best, worst = (high[at], low[at]) if sign > 0 else (low[at], high[at])
    ahead, behind = _levels(terms)
    # As ``Terms.in_r`` does it, in the same order, so that the last digit is the same.
    best_r, worst_r = (sign * (price - terms.entry) / terms.risk for price in (best, worst))

    def first(mask: npt.NDArray[np.bool_]) -> int:
        return int(number[np.argmax(mask)]) if mask.any() else NEVER

    def farthest(values: FloatArray, horizon: int) -> float:
        return float(np.max(values, where=number <= horizon, initial=0.0)) + 0.0

    return Path(
        len(at),
        int(ts[at[-1]]),
        _pair(first(sign * best >= sign * level) for level in ahead),
        _pair(first(sign * worst <= sign * level) for level in behind),
        _pair(farthest(best_r, horizon) for horizon in HORIZONS),
        _pair(farthest(0.0 - worst_r, horizon) for horizon in HORIZONS),
    )


def path_record(path: Path) -> dict[str, object]:
    """Plain form of a path.

    Parameters
    ----------
    path : Path
    """
    return {
        "candles": path.candles,
        "last_ts": path.last_ts,
        "with_at": list(path.with_at),
        "against_at": list(path.against_at),
        "best_r": list(path.best_r),
        "worst_r": list(path.worst_r),
    }


def path_from(record: Mapping[str, Any]) -> Path:
    """A path from its plain form.

    Raises
    ------
    Invalid, KeyError, TypeError, ValueError : if the record is not one that ``path_record`` wrote
    """
    path = Path(
        int(record["candles"]),
        int(record["last_ts"]),
        _pair(int(at) for at in record["with_at"]),
        _pair(int(at) for at in record["against_at"]),
        _pair(float(far) for far in record["best_r"]),
        _pair(float(far) for far in record["worst_r"]),
    )
    numbered = all(NEVER <= at <= HORIZON for at in (*path.with_at, *path.against_at))
    # Written as what must hold: a NaN fails it.
    if not (0 <= path.candles <= HORIZON and numbered and all(far >= 0.0 for far in (*path.best_r, *path.worst_r))):
        raise Invalid(Reason.FIELD_RANGE, "path")
    return path


def _number(terms: Terms, ts: int) -> int | None:
    """Which candle of the horizon opens at a moment, counted from 1; none if none does."""
    places, rest = divmod(ts - terms.entry_ms, terms.step_ms)
    return places + 1 if rest == 0 and 0 <= places < HORIZON else None


def _levels(terms: Terms) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Prices of the levels in the trade's direction and against it. One R against it is the stop itself, to the bit."""
    sign, risk = terms.side.value, terms.risk
    ahead = tuple(terms.entry + sign * (level * risk) for level in LEVELS_R)
    return ahead, (terms.stop_loss, *(terms.entry - sign * (level * risk) for level in LEVELS_R[1:]))


def _first(at: int, number: int, touched: bool) -> int:  # noqa: FBT001 - a plain condition, passed by position
    return number if at == NEVER and touched else at


def _pair(values: Iterable[Any]) -> Any:
    first, second = values
    return first, second
