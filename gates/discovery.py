"""What is left of the best of many looks: the whole pipeline again on outcomes that were shifted in time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gates.bits import cells, packed_bits
from gates.combinations import ENOUGH, TOP
from gates.evaluate import Verdicts
from gates.intervals import pooled_z

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
WordArray = npt.NDArray[np.uint64]

SHIFTS: Final = 1_000
LEVEL: Final = 0.05
DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True, eq=False)
class TimeOrdered:
    """Verdicts of decided signals in the order of time, as bits: uint64 of shape (n_variables, n_words).

    ``won``: bool (n,); ``exit_ms``: int64 (n,), not descending; ``nested``: bool (n_variables, n_variables).
    """

    names: tuple[str, ...]
    passed: WordArray
    known: WordArray
    won: BoolArray
    at_ms: IntArray
    complete: bool

    @classmethod
    def of(cls, verdicts: Verdicts, won: BoolArray, at_ms: IntArray) -> TimeOrdered:
        """Pack verdicts of signals that are already in the order of time.

        Parameters
        ----------
        verdicts : Verdicts of n decided signals
        won : ndarray of bool, shape (n,)
        at_ms : ndarray of int64, shape (n,), not descending, UTC epoch ms

        Raises
        ------
        ValueError : if shapes differ or time runs backwards
        """
        if won.shape != at_ms.shape or verdicts.passed.shape[1:] != won.shape:
            raise ValueError("one outcome and one moment for each signal")
        if bool(np.any(np.diff(at_ms) < 0)):
            raise ValueError("signals come in the order of time")
        return cls(
            verdicts.names,
            packed_bits(verdicts.passed),
            packed_bits(verdicts.known),
            won,
            at_ms,
            bool(verdicts.known.all()),
        )

    def __len__(self) -> int:
        """Decided signals."""
        return len(self.won)


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """Everything one run of the pipeline looked at: places of the members and the z of each cell, NaN if too small.

    ``members`` holds the solos, then pairs and triplets of the best; -1 fills the empty places: int64 (n_cells, 3).
    """

    members: IntArray
    z: FloatArray

    @property
    def highest(self) -> float:
        """The largest z, −inf when nothing was large enough to be looked at."""
        known = self.z[np.isfinite(self.z)]
        return float(known.max()) if len(known) > 0 else -math.inf


@dataclass(frozen=True, slots=True, eq=False)
class MaxT:
    """Corrected p-values of everything that was looked at.

    ``p``: (n_cells,), the share of shifted outcomes whose best look was as good, the real one counted in; NaN for
    cells too small. ``null``: (n_shifts,), the best z of each shift. ``floor`` = 1/(n_shifts + 1): no p lies below.
    """

    looked: Looked
    p: FloatArray
    null: FloatArray

    @property
    def shifts(self) -> int:
        """How many different shifts were tried."""
        return len(self.null)

    @property
    def floor(self) -> float:
        """The smallest p there can be."""
        return 1.0 / (self.shifts + 1)


class Pipeline:
    """Solo, the ten best, their pairs and triplets: as one function of the outcomes.

    Parameters
    ----------
    trades : TimeOrdered
    top : how many of the best solo variables are combined; none for all of them
    enough : signals on either side from which on a cell is looked at
    """

    def __init__(self, trades: TimeOrdered, *, top: int | None = TOP, enough: int = ENOUGH) -> None:
        self.trades, self.top, self.enough = trades, top, enough
        self._places = np.arange(len(trades.names))
        self._passing = _ones(trades.passed)
        self._known = _ones(trades.known)

    def look(self, won: BoolArray) -> Looked:
        """Run it on outcomes in the order of time.

        Parameters
        ----------
        won : ndarray of bool, shape (n,)
        """
        outcome = packed_bits(won[None, :])[0]
        solo_z, delta = self._solo(outcome, int(np.count_nonzero(won)))
        looked = [np.column_stack((self._places, np.full((len(self._places), 2), -1)))]
        found = [solo_z]
        best = self._best(delta)
        for size in (2, 3):
            if len(best) >= size:
                members = best[cells(len(best), size)]
                found.append(self._cell_z(members, outcome, int(np.count_nonzero(won))))
                looked.append(np.column_stack((members, np.full((len(members), 3 - size), -1))))
        return Looked(np.concatenate(looked).astype(np.int64), np.concatenate(found))

    def _best(self, delta: FloatArray) -> IntArray:
        if self.top is None:
            return self._places
        told = np.flatnonzero(np.isfinite(delta))
        # Stable and by −delta, as the ranking the reader sees: equal ones in the order of the variables.
        order = told[np.argsort(-delta[told], kind="stable")]
        return np.sort(order[: self.top])

    def _solo(self, outcome: WordArray, wins: int) -> tuple[FloatArray, FloatArray]:
        trades = self.trades
        passing_wins = _ones(trades.passed & outcome)
        known_wins = np.full(len(self._places), wins) if trades.complete else _ones(trades.known & outcome)
        n, failing = self._passing, self._known - self._passing
        z = self._enough(pooled_z(passing_wins, n, known_wins - passing_wins, failing), n, failing)
        with np.errstate(invalid="ignore", divide="ignore"):
            delta = passing_wins / n - (known_wins - passing_wins) / failing
        # Ranked by delta among those with enough on both sides, whether or not a z is defined.
        return z, self._enough(delta, n, failing)

    def _cell_z(self, members: IntArray, outcome: WordArray, wins: int) -> FloatArray:
        trades = self.trades
        passing = np.bitwise_and.reduce(trades.passed[members], axis=1)
        n, passing_wins = _ones(passing), _ones(passing & outcome)
        if trades.complete:
            known, known_wins = np.full(len(members), len(trades)), np.full(len(members), wins)
        else:
            both = np.bitwise_and.reduce(trades.known[members], axis=1)
            known, known_wins = _ones(both), _ones(both & outcome)
        return self._enough(pooled_z(passing_wins, n, known_wins - passing_wins, known - n), n, known - n)

    def _enough(self, value: FloatArray, n: IntArray, failing: IntArray) -> FloatArray:
        return np.where(np.minimum(n, failing) >= self.enough, value, np.nan)


def shift_sizes(at_ms: IntArray, shifts: int, rng: np.random.Generator) -> IntArray:
    """Different circular shifts of time-ordered signals that move every outcome by at least a day.

    Parameters
    ----------
    at_ms : ndarray of int64, shape (n,), not descending
    shifts : how many are wanted
    rng : draws them without replacement

    Returns
    -------
    ndarray of at most ``shifts`` sizes, ascending; empty when the signals span too little time

    Notes
    -----
    Outcomes of one day hang together. Shifted as one ring they keep hanging together, which a shuffle would undo; a
    shift by less than a day would leave them where they were.
    """
    n = len(at_ms)
    if n < 2:
        return np.empty(0, dtype=np.int64)
    inside = np.searchsorted(at_ms, at_ms + DAY_MS, side="right") - np.arange(n)
    day = int(inside.max())
    possible = np.arange(day, n - day + 1)
    if len(possible) <= shifts:
        return possible.astype(np.int64)
    return np.sort(rng.choice(possible, size=shifts, replace=False)).astype(np.int64)


def max_t(pipeline: Pipeline, *, rng: np.random.Generator, shifts: int = SHIFTS) -> MaxT:
    """Corrected p-values of the whole pipeline.

    Parameters
    ----------
    pipeline : Pipeline
    rng : draws the shifts
    shifts : how many at most

    Returns
    -------
    MaxT; without any possible shift every p is 1

    Source: Westfall and Young (1993), Resampling-Based Multiple Testing; STATISTICS 3, point 3: the choice of the ten
    best is part of what is repeated, or it would be dipped into twice.
    """
    trades = pipeline.trades
    real = pipeline.look(trades.won)
    sizes = shift_sizes(trades.at_ms, shifts, rng)
    null = np.array([pipeline.look(np.roll(trades.won, size)).highest for size in sizes.tolist()], dtype=np.float64)
    ordered = np.sort(null)
    known = np.isfinite(real.z)
    # Sums of the same counts in another order: equal z on paper must count as equal.
    as_good = len(ordered) - np.searchsorted(ordered, np.where(known, real.z, 0.0) - 1e-12, side="left")
    return MaxT(real, np.where(known, (1.0 + as_good) / (len(ordered) + 1.0), np.nan), null)


def _ones(words: WordArray) -> IntArray:
    return np.asarray(np.bitwise_count(words).sum(axis=-1, dtype=np.int64), dtype=np.int64)
