"""Past signals as a pool of neighbours: how far a kernel should reach, and how good its answers were."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from learning.metrics import SMALLEST, Metrics, measure
from learning.split import Walk, folds
from scorer.compiled import Standard
from scorer.neighbours import (
    MAX_POOL,
    Ending,
    Pool,
    bounded,
    distances,
    kernel,
    nearest,
    win_share,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

NEIGHBOURS = 50
"""How many are asked: the number of the founding document."""
REACHES = (0.5, 1.0, 2.0, math.inf)
"""Bandwidths tried, as multiples of the median distance to the last of the k neighbours."""
ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Past:
    """Past signals as rows of one design, in the order of their exits.

    ``matrix``: (n, width), finite; ``ending``: int32 (n,), as ``Ending``; ``net_r``: (n,), in R, a timeout's by its
    mark price; ``entry_ms``, ``exit_ms``: (n,), UTC epoch ms; ``ids``: n names; ``dummies``: bool (width,), the
    columns that are one level of a category, which keep their 0 and 1.

    Raises
    ------
    ValueError : if the shapes differ or exits descend
    """

    matrix: FloatArray
    ending: IntArray
    net_r: FloatArray
    entry_ms: npt.NDArray[np.int64]
    exit_ms: npt.NDArray[np.int64]
    ids: tuple[str, ...]
    dummies: BoolArray

    def __post_init__(self) -> None:
        n = len(self.ids)
        if self.matrix.ndim != 2 or self.matrix.shape != (n, len(self.dummies)):
            raise ValueError("one row for each past signal, one mark for each column")
        if any(column.shape != (n,) for column in (self.ending, self.net_r, self.entry_ms, self.exit_ms)):
            raise ValueError("one ending, result and life for each past signal")
        if np.any(np.diff(self.exit_ms) < 0):
            raise ValueError("past signals come in the order of their exits")

    def __len__(self) -> int:
        """Number of past signals."""
        return len(self.ids)

    def at(self, places: npt.NDArray[np.int64]) -> Past:
        """Some of them, by ascending place."""
        return Past(
            matrix=self.matrix[places],
            ending=self.ending[places],
            net_r=self.net_r[places],
            entry_ms=self.entry_ms[places],
            exit_ms=self.exit_ms[places],
            ids=tuple(self.ids[place] for place in places.tolist()),
            dummies=self.dummies,
        )


@dataclass(slots=True, eq=False)
class NeighbourSearch:
    """Learns how past signals are compared: scales, and the reach of the kernel by purged leave-one-out.

    Parameters
    ----------
    k : neighbours asked
    reaches : bandwidths tried, in multiples of the median distance to the k-th neighbour
    columns : places of the design's columns that take part; none for all of them

    Attributes
    ----------
    pool_ : Pool, the newest 5,000 past signals
    log_loss_ : dict, purged leave-one-out log-loss in nats per decided signal, by multiple

    Source: STATISTICS 5: the pool is purged of what was open together with the signal, the kernel is Gaussian, its
    reach by leave-one-out.
    """

    k: int = NEIGHBOURS
    reaches: tuple[float, ...] = REACHES
    columns: tuple[int, ...] | None = None
    pool_: Pool = field(init=False)
    log_loss_: dict[float, float] = field(init=False)

    def fit(self, past: Past) -> Self:
        """Learn from past signals.

        Parameters
        ----------
        past : Past, at least one win and one loss

        Raises
        ------
        ValueError : without both classes
        """
        wins, losses = (int(np.count_nonzero(past.ending == kind)) for kind in (Ending.WIN, Ending.LOSS))
        if min(wins, losses) == 0:
            raise ValueError("neighbours are told apart by wins and losses: both are needed")
        newest = past.at(np.arange(max(0, len(past) - MAX_POOL), len(past), dtype=np.int64))
        standard = Standard.fit(newest.matrix)
        # A level that is rare would be many deviations from its absence and decide alone who is near.
        scale = np.where(newest.dummies & (standard.scale > 0.0), 1.0, standard.scale)
        if self.columns is not None:
            taking = np.zeros(len(scale), dtype=np.bool_)
            taking[list(self.columns)] = True
            scale = np.where(taking, scale, 0.0)
        used = scale > 0.0
        points = bounded((newest.matrix[:, used] - standard.mean[used]) * scale[used])
        base = (wins + 1.0) / (wins + losses + 2.0)
        bandwidth = self._reach(points, newest, base)
        self.pool_ = Pool(
            points=np.ascontiguousarray(points),
            centre=standard.mean,
            scale=scale,
            ending=newest.ending,
            net_r=newest.net_r,
            exit_ms=newest.exit_ms.astype(np.float64),
            ids=newest.ids,
            k=self.k,
            bandwidth=bandwidth,
            base_rate=base,
        )
        return self

    def _reach(self, points: FloatArray, past: Past, base: float) -> float:
        """The bandwidth whose answers cost least when each signal asks all that shared no moment with it."""
        near, far = _purged_nearest(points, past, self.k)
        told = np.isfinite(far)
        if not told.any():
            self.log_loss_ = {}
            return math.inf
        last = np.where(told, far, -np.inf).max(axis=1)
        unit = float(np.median(last[np.isfinite(last)]))
        won, decided = past.ending == Ending.WIN, past.ending != Ending.TIMEOUT
        found = {
            reach: _cost(near, far, reach * unit if unit > 0.0 else math.inf, won, decided, base)
            for reach in self.reaches
        }
        self.log_loss_ = found
        # Of equals the widest: it leans least on any one neighbour.
        best = min(found, key=lambda reach: (found[reach], -reach))
        return best * unit if unit > 0.0 and math.isfinite(best) else math.inf


Design = Callable[[npt.NDArray[np.int64]], tuple[FloatArray, BoolArray]]
"""All past signals as rows of a design learned from some of them only, with its marks: (n, width) and (width,)."""


def walk_forward(
    past: Past, search: NeighbourSearch, *, n_blocks: int, design: Design | None = None
) -> tuple[FloatArray, FloatArray]:
    """What neighbours would have said at the time: each signal by a pool and a reach of earlier blocks only.

    Parameters
    ----------
    past : Past
    search : NeighbourSearch, whose settings are used; it is not fitted itself
    n_blocks : blocks in time; the first gets no answer
    design : from the places of earlier signals to the rows of all; by default the rows are what they are

    Returns
    -------
    win_probability, mean_net_r : ndarrays of shape (n,), NaN where there was no pool with both classes
    """
    probability, mean_r = np.full(len(past), np.nan), np.full(len(past), np.nan)
    split = folds(past.entry_ms.tolist(), past.exit_ms.tolist(), n_blocks=n_blocks, walk=Walk.EXPANDING)
    for fold in split:
        ends = past.ending[fold.train]
        if not (np.any(ends == Ending.WIN) and np.any(ends == Ending.LOSS)):
            continue
        # Medians and levels of the design would carry later signals in as surely as their ends.
        matrix, dummies = (past.matrix, past.dummies) if design is None else design(fold.train)
        seen = replace(past, matrix=matrix, dummies=dummies)
        earlier = seen.at(fold.train)
        pool = NeighbourSearch(k=search.k, reaches=search.reaches, columns=search.columns).fit(earlier).pool_
        for place in fold.test.tolist():
            told = pool.ask(seen.matrix[place], int(past.entry_ms[place]))
            if told is not None and told.win_probability is not None:
                probability[place], mean_r[place] = told.win_probability, told.mean_net_r
    return probability, mean_r


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalFigures:
    """How good neighbours were, walking forward: forecasts of wins, and of results in R.

    ``r_squared`` is 1 − squared error / squared error of the mean known from earlier blocks (unitless, negative when
    worse than that mean).
    """

    metrics: Metrics
    r_squared: float
    n_results: int

    @property
    def record(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {**self.metrics.record, "r_squared": self.r_squared, "n_results": self.n_results}


def evaluate(
    past: Past, search: NeighbourSearch, *, n_blocks: int, design: Design | None = None
) -> RetrievalFigures | None:
    """Walk forward and measure; none when nothing could be asked.

    Parameters
    ----------
    past : Past
    search : NeighbourSearch
    n_blocks : blocks in time
    design : as in ``walk_forward``
    """
    probability, mean_r = walk_forward(past, search, n_blocks=n_blocks, design=design)
    answered = np.isfinite(probability)
    decided = answered & (past.ending != Ending.TIMEOUT)
    if not decided.any():
        return None
    known = np.array([_mean_before(past, place) for place in np.flatnonzero(answered).tolist()])
    result = past.net_r[answered]
    spread = float(np.sum((result - known) ** 2))
    return RetrievalFigures(
        metrics=measure(probability[decided], past.ending[decided] == Ending.WIN),
        r_squared=1.0 - float(np.sum((result - mean_r[answered]) ** 2)) / spread if spread > 0.0 else 0.0,
        n_results=int(answered.sum()),
    )


def _mean_before(past: Past, place: int) -> float:
    ended = int(np.searchsorted(past.exit_ms, past.entry_ms[place], side="left"))
    return float(past.net_r[:ended].mean()) if ended > 0 else 0.0


def _purged_nearest(points: FloatArray, past: Past, k: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """For each signal the k nearest that shared no moment with it: places and distances, shape (n, k), inf for none."""
    n = len(points)
    near = np.zeros((n, k), dtype=np.int64)
    far = np.full((n, k), np.inf)
    for start in range(0, n, ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, n))
        distance = distances(points[rows], points)
        together = (past.entry_ms[rows, None] <= past.exit_ms[None, :]) & (
            past.exit_ms[rows, None] >= past.entry_ms[None, :]
        )
        distance[together] = np.inf
        for row, one in zip(rows.tolist(), distance, strict=True):
            found = nearest(one, k)
            near[row, : len(found)], far[row, : len(found)] = found, one[found]
    return near, far


def _cost(
    near: npt.NDArray[np.int64],
    far: FloatArray,
    bandwidth: float,
    won: BoolArray,
    decided: BoolArray,
    base: float,
) -> float:
    """Mean log-loss in nats of the decided signals that had decided neighbours."""
    asked = np.flatnonzero(decided & np.isfinite(far).any(axis=1))
    lost: list[float] = []
    for place in asked.tolist():
        there = np.isfinite(far[place]) & decided[near[place]]
        if not there.any():
            continue
        weight = kernel(far[place][there], bandwidth)
        total = float(weight.sum())
        wins = float(weight[won[near[place][there]]].sum())
        said = win_share(wins, total, total**2 / float(weight @ weight), base)
        lost.append(-math.log(max(said if won[place] else 1.0 - said, SMALLEST)))
    return math.fsum(lost) / len(lost) if lost else math.inf


def dummies_of(columns: Sequence[str]) -> BoolArray:
    """Which columns of a design are one level of a category: named ``feature=level``.

    Parameters
    ----------
    columns : names, as ``Encoding.columns`` gives them
    """
    return np.array(["=" in name for name in columns], dtype=np.bool_)
