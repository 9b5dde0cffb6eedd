"""Learned thresholds per market situation, and which scores they belong to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from qscore.estimate import Estimate, estimate
from qscore.plain import PlainRow
from qscore.threshold import OPEN, SEED, TABLE_RECORDS, Clamp, Threshold, ThresholdSource, static_threshold
from signals.bucket import Bucket, Session, VolatilityRegime
from signals.errors import Invalid
from signals.method import Method
from signals.reasons import Reason

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

BUCKET_RECORDS = 20
"""From how many records on a bucket has a threshold of its own."""
HEURISTIC = "heuristic"
"""The source whose scores no model has a part in."""
ALL = "all"
"""How a row names the estimate over every bucket."""
BUCKETS = tuple(Bucket(session, volatility) for session in Session for volatility in VolatilityRegime)
_PLACE = MappingProxyType({str(bucket): place for place, bucket in enumerate(BUCKETS)})


@dataclass(frozen=True, slots=True, order=True)
class TableKey:
    """Which scores a table is for: their source, and the ensemble's share in them, in [0, 1].

    Raises
    ------
    ValueError : if the source is empty, the share leaves [0, 1], or a heuristic score is said to contain a model's
    """

    score_source: str
    w: float

    def __post_init__(self) -> None:
        if self.score_source == "" or not 0.0 <= self.w <= 1.0:
            raise ValueError(f"expected a source and a share in [0, 1], not {self.score_source!r} and {self.w}")
        if self.score_source == HEURISTIC and self.w != 0.0:
            raise ValueError("no model has a share in a heuristic score")
        # 1 and 1.0 are one key, and are spelled alike in JSON.
        object.__setattr__(self, "w", float(self.w) + 0.0)

    @classmethod
    def of(cls, score_source: str, w: float) -> Self:
        """The key of a score under a profile's blend weight, which heuristic scores do not feel.

        Parameters
        ----------
        score_source : ``ensemble``, ``ensemble_raw`` or ``heuristic``
        w : blend weight, in [0, 1]

        Raises
        ------
        ValueError : as the type itself
        """
        return cls(score_source, 0.0 if score_source == HEURISTIC else w)

    @property
    def default_clamp(self) -> Clamp:
        """60–95 where the number compared is the heuristic's, no limit where a model has a share in it (SPEC 7)."""
        return SEED if self.w == 0.0 else OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One line of a table for a reader: scores in [0, 100], W and L in the unit of the records (R), p_min in [0, 1].

    ``bucket`` is ``session|volatility`` or ``all``; ``threshold`` is the one in effect under ``clamp``.
    """

    bucket: str
    n: int
    wins: int
    losses: int
    mean_win_r: float | None
    mean_loss_r: float | None
    p_min: float | None
    threshold: Threshold
    clamp: Clamp
    note: str


@dataclass(frozen=True, slots=True)
class ThresholdTable:
    """The thresholds learned for one kind of score; empty while there were too few records.

    ``records`` is how many decisive outcomes were at hand. ``overall`` is learned from all of them, ``buckets`` from
    those of each market situation that has 20 or more.

    Raises
    ------
    ValueError : if the parts contradict each other or were learned from too few records
    """

    key: TableKey
    records: int = 0
    overall: Estimate | None = None
    buckets: Mapping[Bucket, Estimate] = field(default_factory=dict)
    method: Method = Method.SPEC

    def __post_init__(self) -> None:
        if (self.overall is None) != (self.records < TABLE_RECORDS) or self.records < 0:
            raise ValueError(f"a table is learned from {TABLE_RECORDS} records on")
        if self.overall is not None and self.overall.n != self.records:
            raise ValueError("the estimate over all buckets takes every record")
        sizes = [found.n for found in self.buckets.values()]
        if (len(sizes) > 0 and self.overall is None) or sum(sizes) > self.records:
            raise ValueError("buckets hold more records than the table")
        if any(size < BUCKET_RECORDS for size in sizes):
            raise ValueError(f"a bucket is learned from {BUCKET_RECORDS} records on")
        ordered = {bucket: self.buckets[bucket] for bucket in BUCKETS if bucket in self.buckets}
        object.__setattr__(self, "buckets", MappingProxyType(ordered))

    @property
    def score_source(self) -> str:
        """Whose scores it is for."""
        return self.key.score_source

    @property
    def w(self) -> float:
        """The ensemble's share in those scores, in [0, 1]."""
        return self.key.w

    def matches(self, score_source: str, w: float) -> bool:
        """Whether it was learned on scores of this kind; any other score must not be compared with it.

        Parameters
        ----------
        score_source : ``ensemble``, ``ensemble_raw`` or ``heuristic``
        w : the profile's blend weight, in [0, 1]; heuristic scores do not feel it
        """
        return self.key == TableKey.of(score_source, w)

    def lookup(self, bucket: Bucket, clamp: Clamp, static: float) -> Threshold:
        """The threshold of a market situation: its own, else the one over all, else the profile's.

        Parameters
        ----------
        bucket : Bucket of the signal
        clamp : range of learned thresholds, in score points
        static : float in [0, 100], the profile's own threshold; never clamped

        Source: SPEC 7.
        """
        own = self.buckets.get(bucket)
        if own is not None:
            return clamp.apply(float(own.threshold), ThresholdSource.QSCORE, closed=own.nothing_passes)
        if self.overall is not None:
            return clamp.apply(float(self.overall.threshold), ThresholdSource.EV, closed=self.overall.nothing_passes)
        return static_threshold(static)

    def break_even(self, bucket: Bucket) -> float | None:
        """The win probability that breaks even in a market situation: its own, else the one over all, in [0, 1].

        Parameters
        ----------
        bucket : Bucket of the signal

        Returns
        -------
        float, or None while nothing was learned or wins or losses are missing

        Source: SPEC 7, p_min.
        """
        found = self.buckets.get(bucket, self.overall)
        return None if found is None else found.p_min

    def rows(self, clamp: Clamp) -> list[TableRow]:
        """The table for a reader: buckets in their fixed order, then all together; none while it is empty.

        Parameters
        ----------
        clamp : range of learned thresholds, in score points
        """
        if self.overall is None:
            return []
        learned = [(str(bucket), ThresholdSource.QSCORE, found) for bucket, found in self.buckets.items()]
        return [
            TableRow(
                bucket=name,
                n=found.n,
                wins=found.wins,
                losses=found.losses,
                mean_win_r=found.mean_win_r,
                mean_loss_r=found.mean_loss_r,
                p_min=found.p_min,
                threshold=clamp.apply(float(found.threshold), source, closed=found.nothing_passes),
                clamp=clamp,
                note=found.note.value,
            )
            for name, source, found in [*learned, (ALL, ThresholdSource.EV, self.overall)]
        ]

    def as_json(self) -> dict[str, Any]:
        """The table as plain JSON values; equal tables give equal values."""
        return {
            "method": self.method.value,
            "score_source": self.score_source,
            "w": self.w,
            "records": self.records,
            "overall": None if self.overall is None else self.overall.as_json(),
            "buckets": {str(bucket): found.as_json() for bucket, found in self.buckets.items()},
        }

    @classmethod
    def from_json(cls, record: object) -> Self:
        """Read ``as_json`` back.

        Parameters
        ----------
        record : mapping, as parsed from JSON

        Raises
        ------
        Invalid : if a field is missing, of another type or out of range, a bucket is unknown, or parts contradict
        """
        row = PlainRow.of(record, "table")
        method = row.text("method")
        if method not in {known.value for known in Method}:
            raise Invalid(Reason.FIELD_RANGE, "method", f"{method!r} is not known here")
        overall = row.value("overall")
        buckets = PlainRow.of(row.value("buckets"), "buckets").fields
        try:
            return cls(
                TableKey(row.text("score_source"), row.number("w")),
                row.count("records"),
                None if overall is None else Estimate.from_json(overall),
                {_known(name): Estimate.from_json(found) for name, found in buckets.items()},
                Method(method),
            )
        except ValueError as error:
            raise Invalid(Reason.FIELD_RANGE, "table", str(error)) from error


def learn_table(
    scores: FloatArray,
    won: BoolArray,
    net_r: FloatArray,
    buckets: Sequence[str | None],
    *,
    score_source: str,
    w: float,
) -> ThresholdTable:
    """Learn the thresholds of one kind of score from decisive outcomes of both kinds, unweighted, in any order.

    Parameters
    ----------
    scores : ndarray of shape (n,), in [0, 100], final scores of the kind the table is for
    won : ndarray of bool, shape (n,)
    net_r : ndarray of shape (n,), results after costs in R (or percent)
    buckets : sequence of length n, ``session|volatility``; a record without one counts for the whole only
    score_source : ``ensemble``, ``ensemble_raw`` or ``heuristic``
    w : blend weight behind the scores, in [0, 1]; heuristic scores do not feel it

    Returns
    -------
    ThresholdTable, empty below 50 records

    Raises
    ------
    ValueError : if the shapes differ, a score leaves [0, 100], a result is not finite or a bucket is unknown

    Source: SPEC 7.
    """
    key, n = TableKey.of(score_source, w), len(scores)
    if len(buckets) != n or not scores.shape == won.shape == net_r.shape:
        raise ValueError("expected one score, one outcome, one result and one bucket for each record")
    unknown = {name for name in buckets if name is not None and name not in _PLACE}
    if len(unknown) > 0:
        raise ValueError(f"unknown buckets: {', '.join(sorted(unknown))}")
    if n < TABLE_RECORDS:
        return ThresholdTable(key, n)
    place = np.array([-1 if name is None else _PLACE[name] for name in buckets])
    learned = {}
    for number, bucket in enumerate(BUCKETS):
        inside = place == number
        if np.count_nonzero(inside) >= BUCKET_RECORDS:
            learned[bucket] = estimate(scores[inside], won[inside], net_r[inside])
    return ThresholdTable(key, n, estimate(scores, won, net_r), learned)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRecord:
    """An outcome with the parts of its score, each in [0, 100] and none (or NaN) when it was not known.

    ``ensemble`` is the part of a model that had not seen the record; ``net_r`` the result after costs, in R. One that
    is not ``decisive`` ended by timeout: its result is that of its mark price, and the seed rule does not look at it.
    ``weight`` is what it counts for where records are weighted, which the seed rule does not do either.
    """

    heuristic: float | None
    ensemble: float | None
    won: bool
    net_r: float
    bucket: str | None = None
    decisive: bool = True
    weight: float = 1.0
    entry_ms: int = 0
    exit_ms: int = 0


@dataclass(frozen=True, slots=True)
class ThresholdBook:
    """The tables of one bundle, in order of their keys.

    Raises
    ------
    ValueError : if two tables are for the same kind of score
    """

    tables: tuple[ThresholdTable, ...] = ()

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.tables, key=lambda table: table.key))
        if len({table.key for table in ordered}) != len(ordered):
            raise ValueError("two tables for the same kind of score")
        object.__setattr__(self, "tables", ordered)

    def table(self, score_source: str, w: float) -> ThresholdTable:
        """The table of one kind of score; an empty one, which leads to the static threshold, if none was learned.

        Parameters
        ----------
        score_source : ``ensemble``, ``ensemble_raw`` or ``heuristic``
        w : the profile's blend weight, in [0, 1]; heuristic scores do not feel it

        Raises
        ------
        ValueError : if the weight leaves [0, 1]
        """
        key = TableKey.of(score_source, w)
        return next((table for table in self.tables if table.key == key), ThresholdTable(key))

    def having(self, table: ThresholdTable) -> ThresholdBook:
        """The book with this table in the place of any other for the same kind of score.

        Parameters
        ----------
        table : ThresholdTable
        """
        return ThresholdBook((*(other for other in self.tables if other.key != table.key), table))

    def relearn(
        self,
        records: Iterable[ScoredRecord],
        w: float,
        *,
        score_source: str,
        blend: Callable[[float, float, float], float],
    ) -> ThresholdBook:
        """The book with the table of one blend learned anew from the recorded parts of the scores.

        Parameters
        ----------
        records : decisive outcomes of both kinds; one whose final score cannot be told is left out
        w : blend weight, in [0, 1]; heuristic scores do not feel it
        score_source : ``ensemble``, ``ensemble_raw`` or ``heuristic``
        blend : final score from heuristic part, ensemble part and weight; ``scorer.blend.blend``, which is handed in
            because the two rooms stand on one floor

        Raises
        ------
        ValueError : as ``learn_table``

        Source: SPEC 7.
        """
        key = TableKey.of(score_source, w)
        finals = [(blend(_number(past.heuristic), _number(past.ensemble), key.w), past) for past in records]
        known = [(score, past) for score, past in finals if math.isfinite(score) and past.decisive]
        return self.having(
            learn_table(
                np.array([score for score, _ in known], dtype=np.float64),
                np.array([past.won for _, past in known], dtype=np.bool_),
                np.array([past.net_r for _, past in known], dtype=np.float64),
                [past.bucket for _, past in known],
                score_source=score_source,
                w=key.w,
            )
        )

    def as_json(self) -> dict[str, Any]:
        """The book as plain JSON values; equal books give equal values."""
        return {"tables": [table.as_json() for table in self.tables]}

    @classmethod
    def from_json(cls, record: object) -> Self:
        """Read ``as_json`` back.

        Parameters
        ----------
        record : mapping, as parsed from JSON

        Raises
        ------
        Invalid : as ``ThresholdTable.from_json``, or if two tables are for the same kind of score
        """
        row = PlainRow.of(record, "thresholds")
        try:
            return cls(tuple(ThresholdTable.from_json(table) for table in row.items("tables")))
        except ValueError as error:
            raise Invalid(Reason.FIELD_RANGE, "tables", str(error)) from error


def _known(name: str) -> Bucket:
    if name not in _PLACE:
        raise Invalid(Reason.FIELD_RANGE, "buckets", f"{name!r} is no market situation")
    return BUCKETS[_PLACE[name]]


def _number(part: float | None) -> float:
    return math.nan if part is None else part
