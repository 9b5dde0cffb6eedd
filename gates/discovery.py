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
SMALLEST_CELL: Final = 10
"""Signals every cell of an interaction needs."""
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
    ``together`` is the interaction's z of each pair and triplet, the smaller of the two scales, without sign; NaN for
    solos, nested combinations and those with a cell too small.
    """

    members: IntArray
    z: FloatArray
    together: FloatArray

    @property
    def highest(self) -> float:
        """The largest z, −inf when nothing was large enough to be looked at."""
        return _highest(self.z)

    @property
    def highest_together(self) -> float:
        """The largest z of an interaction, −inf when none was looked at."""
        return _highest(self.together)


@dataclass(frozen=True, slots=True, eq=False)
class MaxT:
    """Corrected p-values of everything that was looked at.

    ``p``: (n_cells,), the share of shifted outcomes whose best look was as good, the real one counted in; NaN for
    cells too small. ``null``: (n_shifts,), the best z of each shift. ``p_together`` the same for interactions, among
    themselves. ``floor`` = 1/(n_shifts + 1): no p lies below.
    """

    looked: Looked
    p: FloatArray
    null: FloatArray
    p_together: FloatArray

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
    nested : bool (n_variables, n_variables), which contain each other by definition: they have no interaction
    interactions : whether they are looked at as well
    """

    def __init__(
        self,
        trades: TimeOrdered,
        *,
        top: int | None = TOP,
        enough: int = ENOUGH,
        nested: BoolArray | None = None,
        interactions: bool = True,
    ) -> None:
        self.trades, self.top, self.enough, self.interactions = trades, top, enough, interactions
        self._nested = np.eye(len(trades.names), dtype=np.bool_) if nested is None else nested
        self._places = np.arange(len(trades.names))
        self._passing = _ones(trades.passed)
        self._known = _ones(trades.known)

    def look(self, won: BoolArray) -> Looked:
        """Run it on outcomes in the order of time.

        Parameters
        ----------
        won : ndarray of bool, shape (n,)
        """
        outcome, wins = packed_bits(won[None, :])[0], int(np.count_nonzero(won))
        solo_z, delta = self._solo(outcome, wins)
        looked = [np.column_stack((self._places, np.full((len(self._places), 2), -1)))]
        found, together = [solo_z], [np.full(len(self._places), np.nan)]
        best = self._best(delta)
        for size in (2, 3):
            if len(best) >= size:
                members = best[cells(len(best), size)]
                looked.append(np.column_stack((members, np.full((len(members), 3 - size), -1))))
                found.append(self._cell_z(members, outcome, wins))
                together.append(
                    self._together(members, outcome) if self.interactions else np.full(len(members), np.nan)
                )
        return Looked(np.concatenate(looked).astype(np.int64), np.concatenate(found), np.concatenate(together))

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

    def _together(self, members: IntArray, outcome: WordArray) -> FloatArray:
        """Interaction z of each combination: the smaller of log-odds and additive, without sign."""
        size = members.shape[1]
        n, wins = (self._states(members, words) for words in (None, outcome))
        sign = np.array([-1.0 if (size - state.bit_count()) % 2 else 1.0 for state in range(2**size)])
        with np.errstate(invalid="ignore", divide="ignore"):
            rate, smooth = wins / n, (wins + 0.5) / (n + 1.0)
            spread = smooth * (1.0 - smooth)
            log_odds = (np.log(smooth) - np.log1p(-smooth)) @ sign / np.sqrt((1.0 / ((n + 1.0) * spread)).sum(axis=1))
            additive = rate @ sign / np.sqrt((spread / n).sum(axis=1))
        inside = np.zeros(len(members), dtype=np.bool_)
        for one in range(size):
            for other in range(one + 1, size):
                inside |= self._nested[members[:, one], members[:, other]]
        small = (n.min(axis=1) < SMALLEST_CELL) | inside
        return np.where(small, np.nan, np.minimum(np.abs(log_odds), np.abs(additive)))

    def _states(self, members: IntArray, outcome: WordArray | None) -> FloatArray:
        """Signals (or wins) in each state of the members, shape (n_cells, 2**size); bit 0 is the last member."""
        trades, size = self.trades, members.shape[1]
        found = np.empty((len(members), 2**size), dtype=np.float64)
        for state in range(2**size):
            rows = [
                trades.passed[column] if state >> (size - 1 - place) & 1 else trades.known[column]
                for place, column in enumerate(members.T)
            ]
            both = np.bitwise_and.reduce(rows, axis=0)
            found[:, state] = _ones(both if outcome is None else both & outcome)
        # So far "passes these, anything known of the others": take what passes more out, one member after another.
        for bit in range(size):
            for state in range(2**size):
                if not state >> bit & 1:
                    found[:, state] -= found[:, state | 1 << bit]
        return found

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
    shifted = [pipeline.look(np.roll(trades.won, size)) for size in sizes.tolist()]
    null = np.array([look.highest for look in shifted], dtype=np.float64)
    null_together = np.array([look.highest_together for look in shifted], dtype=np.float64)
    return MaxT(real, _corrected(real.z, null), null, _corrected(real.together, null_together))


def _corrected(z: FloatArray, null: FloatArray) -> FloatArray:
    ordered, known = np.sort(null), np.isfinite(z)
    # Sums of the same counts in another order: equal z on paper must count as equal.
    as_good = len(ordered) - np.searchsorted(ordered, np.where(known, z, 0.0) - 1e-12, side="left")
    return np.where(known, (1.0 + as_good) / (len(ordered) + 1.0), np.nan)


def _highest(z: FloatArray) -> float:
    known = z[np.isfinite(z)]
    return float(known.max()) if len(known) > 0 else -math.inf


def _ones(words: WordArray) -> IntArray:
    return np.asarray(np.bitwise_count(words).sum(axis=-1, dtype=np.int64), dtype=np.int64)
