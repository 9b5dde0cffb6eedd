"""The common curve laid under each situation's own records, and how much of it serves records not seen yet best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from qscore.breakeven import BreakEven, break_evens
from qscore.crossing import NEVER, crossings
from qscore.curve import Curves, fit_curves
from qscore.outcomes import PLACES, Outcomes, Tally
from qscore.pooled import ALONE
from signals.method import Method

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

WEIGHTS: Final = (ALONE, 10.0, 30.0, 100.0, 300.0, 1000.0, math.inf)
"""How many pseudo-records of the common curve a situation may be given."""
UNTRIED: Final = 100.0
"""Taken where no weight can be tried, since no part of the records has both wins that pay and losses that cost."""
LEVELS: Final[FloatArray] = np.linspace(-0.2, 0.2, 9)
"""Around break-even: a curve is judged by what it would gain at payoffs a little better and worse, too."""
FOLDS: Final = 4
ROWS: Final = PLACES + 1
"""The places, then all records together."""


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Sets of records as the blend takes them, by row (17 places, then all) and whole score; leading axis n_sets.

    ``count`` and ``total`` are weights and weighted sums of labels, shape (n_sets, 18, 101); ``density`` is the share
    of all records at each score, shape (n_sets, 101).
    """

    count: FloatArray
    total: FloatArray
    density: FloatArray

    @classmethod
    def of(cls, tally: Tally, even: BreakEven, labels: Method) -> Cells:
        """Label the records: 1 for a win and 0 else, or how far each result lies above a loss, u = (R + L)/(W + L).

        With shrunk break-even the second is p_min + R/(W + L), which is the same for W and L of their own: its mean
        reaches p_min exactly where the mean result reaches 0. It is not clipped, or that would not hold.

        Parameters
        ----------
        tally : Tally of n_sets sets
        even : their break-even
        labels : ``spec`` or ``evidence``

        Source: STATISTICS 8.3.
        """
        count = np.concatenate([tally.count, tally.count.sum(axis=1, keepdims=True)], axis=1)
        if labels is Method.SPEC:
            total = np.concatenate([tally.wins, tally.wins.sum(axis=1, keepdims=True)], axis=1)
        else:
            result = np.concatenate([tally.result_r, tally.result_r.sum(axis=1, keepdims=True)], axis=1)
            total = even.p_min[..., None] * count + result / even.size_r[..., None]
        whole = count[:, PLACES]
        return cls(count, total, whole / whole.sum(axis=-1, keepdims=True))

    def mixed(self, probability: FloatArray) -> FloatArray:
        """The common curve of every row: those of the places, and their mixture for all together.

        Parameters
        ----------
        probability : ndarray of shape (n_sets, 17, 101)
        """
        return np.concatenate([probability, np.einsum("sp,spg->sg", self.shares, probability)[:, None]], axis=1)

    @property
    def shares(self) -> FloatArray:
        """The share of each place in all records, shape (n_sets, 17)."""
        size = self.count[:, :PLACES].sum(axis=-1)
        found: FloatArray = size / size.sum(axis=-1, keepdims=True)
        return found

    def laid_on(self, curve: FloatArray, m: float) -> tuple[FloatArray, FloatArray]:
        """Sums of labels and weights with m pseudo-records of the common curve in every row, shape (n_sets, 18, 101).

        Parameters
        ----------
        curve : ndarray of shape (n_sets, 18, 101), in [0, 1]
        m : number of pseudo-records, >= 0; infinite for the curve alone
        """
        if math.isinf(m):
            # Where it rises the weights do not matter; where it falls its mean over the scores that occur is meant.
            weight = np.broadcast_to(self.density[:, None] + 1e-12, curve.shape)
            return weight * curve, weight
        pseudo = m * self.density[:, None]
        return self.total + pseudo * curve, self.count + pseudo


@dataclass(frozen=True, slots=True, eq=False)
class Folds:
    """Sets of records to learn from and the records they are then judged by, bool of shape (n_folds, n) each."""

    train: BoolArray
    test: BoolArray

    @classmethod
    def of(cls, outcomes: Outcomes) -> Folds:
        """Split records for the choice of m.

        Walk-forward where times are known: the later half, by entry, in four blocks, each judged by what had ended
        before it began. Without times there is no before and after: each record is held out in one of four parts.

        Parameters
        ----------
        outcomes : Outcomes, which are in order of their entries
        """
        n, number = len(outcomes), np.arange(len(outcomes))
        if not outcomes.timed:
            held = _scattered(number) % FOLDS == np.arange(FOLDS, dtype=np.uint64)[:, None]
            return cls(~held, held)
        starts = [n // 2 + (n - n // 2) * fold // FOLDS for fold in range(FOLDS + 1)]
        train, test = [], []
        for start, stop in pairwise(starts):
            if start < stop:
                train.append(outcomes.exit_ms <= outcomes.entry_ms[start])
                test.append((number >= start) & (number < stop))
        return cls(np.array(train).reshape(-1, n), np.array(test).reshape(-1, n))


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """All records, and for each fold what it learned and what it was then judged by.

    The first set of ``even``, ``cells`` and ``curve`` are all records, the others the folds. ``held`` are the folds'
    own records with the labels of what they had learned; ``curve`` is that of every row, shape (n_sets, 18, 101).
    """

    even: BreakEven
    cells: Cells
    curves: Curves
    curve: FloatArray
    held: Cells

    @classmethod
    def of(cls, outcomes: Outcomes, labels: Method) -> Fitted | None:
        """Fit all records and every fold that can be.

        Parameters
        ----------
        outcomes : Outcomes, as the labels take them
        labels : ``spec`` or ``evidence``

        Returns
        -------
        Fitted, or none when all records together lack wins that pay or losses that cost: there is nothing to pool
        """
        folds = Folds.of(outcomes)
        whole = np.ones((1, len(outcomes)))
        tally = Tally.of(outcomes, np.concatenate([whole, folds.train.astype(np.float64)]))
        even = break_evens(tally.payoff, tally.pieces)
        if not even.pooled[0]:
            return None
        kept = even.pooled
        tally, even = tally.where(kept), even.where(kept)
        cells = Cells.of(tally, even, labels)
        curves = fit_curves(cells.count[:, :PLACES], cells.total[:, :PLACES])
        judged = Tally.of(outcomes, folds.test[kept[1:]].astype(np.float64))
        held = Cells.of(judged, even.where(np.arange(len(even.p_min)) > 0), labels)
        return cls(even, cells, curves, cells.mixed(curves.probability), held)

    @property
    def folds(self) -> int:
        """How many folds could be fitted."""
        return len(self.cells.count) - 1

    def starts(self, m: float, levels: FloatArray) -> IntArray:
        """From which score on each fold accepts, 0..101, shape (n_folds, 18, n_levels).

        Parameters
        ----------
        m : number of pseudo-records
        levels : ndarray of shape (n_folds, 18, n_levels), win probabilities that must be reached
        """
        total, weight = self.cells.laid_on(self.curve, m)
        found = crossings(total[1:, :, None], weight[1:, :, None], np.clip(levels, 0.0, 1.0))
        return np.where(self.even.closed[1:, :, None], NEVER, found)

    def gained(self, start: IntArray, levels: FloatArray) -> FloatArray:
        """What the held-out records from a score on gain over a level, in units of W + L, shape as ``start``.

        Parameters
        ----------
        start : ndarray of int64, shape (n_folds, 18, n_levels), 0..101
        levels : ndarray of the same shape
        """

        def from_score(values: FloatArray) -> FloatArray:
            sums = np.cumsum(values[..., ::-1], axis=-1)[..., ::-1]
            sums = np.concatenate([sums, np.zeros_like(sums[..., :1])], axis=-1)
            return np.take_along_axis(sums, start, axis=-1)

        return from_score(self.held.total) - levels * from_score(self.held.count)

    @property
    def levels(self) -> FloatArray:
        """Break-even of each fold and row, shape (n_folds, 18, 1)."""
        return self.even.p_min[1:, :, None]

    def tried(self) -> tuple[tuple[float, float], ...]:
        """Every weight with its held-out gain per record, in units of W + L; empty where none can be tried.

        D(m) is the mean, over levels within 0.2 of break-even, of what the records each fold did not see gain above
        the level where its curve accepts them: a proper score of the curve, sharpest where the decision falls.

        Source: STATISTICS 1.2.
        """
        n = float(self.held.count[:, PLACES].sum()) if self.folds > 0 else 0.0
        if n <= 0.0:
            return ()
        levels = self.levels + LEVELS
        return tuple(
            (m, float(self.gained(self.starts(m, levels), levels)[:, :PLACES].mean(axis=-1).sum()) / n) for m in WEIGHTS
        )


def _scattered(number: IntArray) -> npt.NDArray[np.uint64]:
    """Numbers without any order, the same every time, shape as given.

    Records are sorted, by their outcome too. Dealt out in turn, each part would hold the same share of wins in every
    cell: the held-out records would repeat what was learned, and the fit that follows every record would look best.

    Source: Steele, Lea, Flood (2014), Fast splittable pseudorandom number generators, OOPSLA.
    """
    mixed = (number.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def best_weight(tried: tuple[tuple[float, float], ...]) -> float:
    """The weight with the largest gain; of equals the largest, which leans least on single records.

    Parameters
    ----------
    tried : pairs of weight and gain, in ascending order of the weights
    """
    return max(tried, key=lambda pair: (pair[1], pair[0]))[0] if len(tried) > 0 else UNTRIED
