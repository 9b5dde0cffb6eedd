"""Recorded outcomes as columns in an order of their own, and how often each falls on which whole score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from qscore.plain import LARGEST
from signals.bucket import Bucket, Session, VolatilityRegime

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

TOP = 100
"""The highest score, and the threshold that says that nothing passes."""
SCORES = TOP + 1
BUCKETS = tuple(Bucket(session, volatility) for session in Session for volatility in VolatilityRegime)
PLACE = MappingProxyType({str(bucket): place for place, bucket in enumerate(BUCKETS)})
NOWHERE = len(BUCKETS)
"""Where records without a market situation are kept: they count for the whole only."""
PLACES = NOWHERE + 1
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Outcomes of both kinds, shape (n,) each, sorted by all their fields: the order of recording means nothing.

    ``place`` in 0..16 (``BUCKETS``, then ``NOWHERE``); ``cell`` is the whole score, 0..100; ``net_r`` is the result
    after costs in R, of a timeout (not ``decisive``) that of its mark price; ``weight`` > 0; times in UTC epoch ms.
    """

    entry_ms: IntArray
    exit_ms: IntArray
    place: IntArray
    cell: IntArray
    won: BoolArray
    decisive: BoolArray
    net_r: FloatArray
    weight: FloatArray

    @classmethod
    def of(
        cls,
        scores: FloatArray,
        won: BoolArray,
        net_r: FloatArray,
        buckets: Sequence[str | None],
        *,
        decisive: BoolArray | None = None,
        weight: FloatArray | None = None,
        entry_ms: IntArray | None = None,
        exit_ms: IntArray | None = None,
    ) -> Outcomes:
        """Check columns and bring them into their order.

        Parameters
        ----------
        scores : ndarray of shape (n,), in [0, 100]
        won : ndarray of bool, shape (n,); false for what is not decisive
        net_r : ndarray of shape (n,), in R
        buckets : sequence of length n, ``session|volatility`` or none
        decisive : ndarray of bool, shape (n,); all are, by default
        weight : ndarray of shape (n,), finite, > 0; 1 by default
        entry_ms, exit_ms : ndarray of int64, shape (n,); unknown (0) by default

        Raises
        ------
        ValueError : if the shapes differ, a score leaves [0, 100], a result or weight is not finite, a bucket is
            unknown, what is not decisive has won, or a label ends before it begins
        """
        n = len(scores)
        decided = np.ones(n, dtype=np.bool_) if decisive is None else decisive
        weights = np.ones(n) if weight is None else weight
        entry = np.zeros(n, dtype=np.int64) if entry_ms is None else entry_ms
        ended = np.zeros(n, dtype=np.int64) if exit_ms is None else exit_ms
        columns = (scores, won, net_r, decided, weights, entry, ended)
        if len(buckets) != n or any(column.shape != (n,) for column in columns):
            raise ValueError("expected one score, one outcome, one result and one bucket for each record")
        unknown = {name for name in buckets if name is not None and name not in PLACE}
        if len(unknown) > 0:
            raise ValueError(f"unknown buckets: {', '.join(sorted(unknown))}")
        if won.dtype != np.bool_ or decided.dtype != np.bool_ or np.any(won & ~decided):
            raise ValueError("outcomes must be booleans, and what is not decisive has not won")
        if not np.all((scores >= 0.0) & (scores <= TOP)):
            raise ValueError("scores must lie in [0, 100]")
        if not (np.all(np.abs(net_r) <= LARGEST) and np.all((weights > 0.0) & (weights <= LARGEST))):
            raise ValueError("results and weights must be finite, weights positive")
        if not np.all((entry >= 0) & (entry <= ended)):
            raise ValueError("a label ends after it begins")
        place = np.array([NOWHERE if name is None else PLACE[name] for name in buckets], dtype=np.int64)
        found = cls(entry, ended, place, np.floor(scores).astype(np.int64), won, decided, net_r, weights)
        # The last key of a lexsort counts first: entries, then exits.
        keys = [getattr(found, field.name) for field in fields(cls)]
        return found._at(np.lexsort(keys[::-1]))

    def __len__(self) -> int:
        """Number of records."""
        return len(self.cell)

    def _at(self, where: IntArray | BoolArray) -> Outcomes:
        return Outcomes(*(getattr(self, field.name)[where] for field in fields(self)))

    @property
    def of_decisive(self) -> Outcomes:
        """Those that ended by target or stop."""
        return self._at(self.decisive)

    @property
    def unweighted(self) -> Outcomes:
        """The same, each counting once."""
        return replace(self, weight=np.ones(len(self)))

    def inside(self, place: int | None) -> Outcomes:
        """Those of one market situation; all of them for none.

        Parameters
        ----------
        place : 0..16, or none
        """
        return self if place is None else self._at(self.place == place)

    @property
    def timed(self) -> bool:
        """Whether it is known when they were entered and left."""
        return len(self) > 0 and bool(np.all(self.exit_ms > 0))

    @property
    def blocks(self) -> IntArray:
        """What is drawn together when records are drawn anew, shape (n,), 0..: days where times are known.

        Outcomes of one day share its market, across all symbols; drawing them one by one would make every interval
        too narrow.
        """
        if not self.timed:
            return np.arange(len(self), dtype=np.int64)
        _, block = np.unique(self.entry_ms // DAY_MS, return_inverse=True)
        return block.astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Sums over outcomes, several sets of them at once: leading axis n_sets.

    ``count``, ``wins`` and ``result_r`` are weighted sums of 1, of wins and of net results by place and whole score,
    shape (n_sets, 17, 101). ``payoff`` holds for wins and losses (second axis) the weighted number of records, their
    weighted results and squared results (last axis: 3), losses counted positive, shape (n_sets, 2, 17, 3); and
    ``pieces`` the unweighted number of wins and losses, shape (n_sets, 2, 17).
    """

    count: FloatArray
    wins: FloatArray
    result_r: FloatArray
    payoff: FloatArray
    pieces: FloatArray

    @classmethod
    def of(cls, outcomes: Outcomes, times: FloatArray) -> Tally:
        """Count sets of outcomes.

        Parameters
        ----------
        outcomes : Outcomes, n of them
        times : ndarray of shape (n_sets, n), >= 0, how often each set holds each of them
        """
        sets = len(times)
        weight = times * outcomes.weight

        def summed(index: IntArray, values: FloatArray, size: int) -> FloatArray:
            flat = index + size * np.arange(sets)[:, None]
            return (
                np.bincount(flat.ravel(), weights=values.ravel(), minlength=sets * size)
                .reshape(sets, size)
                .astype(np.float64)
            )

        cells = outcomes.place * SCORES + outcomes.cell
        shape = (sets, PLACES, SCORES)
        sides = []
        for mask, sign in ((outcomes.won, 1.0), (outcomes.decisive & ~outcomes.won, -1.0)):
            place, result = outcomes.place[mask], sign * outcomes.net_r[mask]
            kept = weight[:, mask]
            sides.append(
                [summed(place, values, PLACES) for values in (kept, kept * result, kept * result**2, times[:, mask])]
            )
        sums = np.array(sides).reshape(2, 4, sets, PLACES)
        return cls(
            count=summed(cells, weight, PLACES * SCORES).reshape(shape),
            wins=summed(cells, weight * outcomes.won, PLACES * SCORES).reshape(shape),
            result_r=summed(cells, weight * outcomes.net_r, PLACES * SCORES).reshape(shape),
            payoff=np.moveaxis(sums[:, :3], (0, 1, 2, 3), (1, 3, 0, 2)),
            pieces=np.moveaxis(sums[:, 3], 0, 1),
        )

    def where(self, kept: BoolArray) -> Tally:
        """Some of the sets.

        Parameters
        ----------
        kept : ndarray of bool, shape (n_sets,)
        """
        return Tally(*(getattr(self, field.name)[kept] for field in fields(self)))
