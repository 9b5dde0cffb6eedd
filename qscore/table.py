"""Learned thresholds per market situation, and which scores they belong to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from qscore.estimate import Estimate, estimate
from qscore.evidence import BUCKET_RECORDS, Drawn, learn_pooled
from qscore.outcomes import BUCKETS, PLACE, IntArray, Outcomes
from qscore.plain import PlainRow
from qscore.pooled import PooledEstimate, PooledTable
from qscore.row import ALL, TableRow
from qscore.threshold import OPEN, SEED, TABLE_RECORDS, Clamp, Threshold, ThresholdSource, static_threshold
from signals.bucket import Bucket
from signals.errors import Invalid
from signals.method import Method
from signals.profile import ThresholdMode, ThresholdPolicy
from signals.reasons import Reason

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

HEURISTIC = "heuristic"
"""The source whose scores no model has a part in."""


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


SEED_POLICY = ThresholdPolicy()


@dataclass(frozen=True, slots=True)
class ThresholdTable:
    """The thresholds learned for one kind of score, by both methods; empty while there were too few records.

    ``records`` is how many decisive outcomes were at hand. ``overall`` is learned by the seed rule from all of them,
    ``buckets`` from those of each market situation that has 20 or more; ``evidence`` holds what the evidence method
    says of the same situations. ``policy`` tells which of the two decides; where the evidence does, it was learned on
    the labels and in the mode of the policy, or this would be no table for it.

    Raises
    ------
    ValueError : if the parts contradict each other or were learned from too few records
    """

    key: TableKey
    records: int = 0
    overall: Estimate | None = None
    buckets: Mapping[Bucket, Estimate] = field(default_factory=dict)
    evidence: PooledTable | None = None
    policy: ThresholdPolicy = SEED_POLICY

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
        self._check_evidence()

    def _check_evidence(self) -> None:
        found = self.evidence
        if not self.fits(self.policy):
            raise ValueError("the evidence in force was learned on other labels or in another mode, or never")
        if found is None:
            return
        if self.overall is None or set(found.buckets) != set(self.buckets):
            raise ValueError("both methods learn the same situations")
        pairs = [(self.overall, found.overall), *((own, found.buckets[bucket]) for bucket, own in self.buckets.items())]
        for plain, pooled in pairs:
            if (plain.wins, plain.losses) != (pooled.wins, pooled.losses):
                raise ValueError("both methods learn from the same decisive records")

    def fits(self, policy: ThresholdPolicy) -> bool:
        """Whether what a policy puts in force was learned as it asks: on its labels and in its mode.

        Parameters
        ----------
        policy : ThresholdPolicy of the profile whose scores are compared
        """
        if not policy.reads_evidence or self.overall is None:
            return True
        found = self.evidence
        return found is not None and (found.labels, found.mode) == (policy.labels, policy.mode)

    def under(self, policy: ThresholdPolicy) -> ThresholdTable:
        """The same table with another policy in force.

        Parameters
        ----------
        policy : ThresholdPolicy

        Raises
        ------
        ValueError : unless it ``fits``
        """
        return self if policy == self.policy else replace(self, policy=policy)

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

        Source: SPEC 7. Where the policy requires the badge, what has none of its own is closed, and what has one opens
        where it begins at the earliest: that can only refuse more.
        """
        if self.overall is None:
            found = static_threshold(static)
            return replace(found, closed=True) if self.policy.require_badge else found
        own = bucket if bucket in self.buckets else None
        found = self._learned(own, clamp, self.policy.method)
        if not self.policy.require_badge:
            return found
        badge = None if own is None or self.evidence is None else self.evidence.buckets[own].certified_from
        if badge is None:
            return replace(found, closed=True)
        # A badge above the ceiling would be overruled by it, as everything above it always passes.
        if badge <= found.value:
            return found
        return Threshold(float(badge), found.source, moved_from=found.unclamped, closed=found.closed)

    def break_even(self, bucket: Bucket) -> float | None:
        """The win probability that breaks even in a market situation: its own, else the one over all, in [0, 1].

        Parameters
        ----------
        bucket : Bucket of the signal

        Returns
        -------
        float, or None while nothing was learned or wins or losses are missing

        Where the evidence method is in force this is its own, shrunk where a situation has too few records.

        Source: SPEC 7, p_min.
        """
        if self.policy.method is Method.EVIDENCE and self.evidence is not None:
            return self._pooled(bucket if bucket in self.buckets else None, self.evidence).p_min
        found = self.buckets.get(bucket, self.overall)
        return None if found is None else found.p_min

    def _learned(self, own: Bucket | None, clamp: Clamp, method: Method) -> Threshold:
        source = ThresholdSource.EV if own is None else ThresholdSource.QSCORE
        if method is Method.EVIDENCE and self.evidence is not None:
            pooled, mode = self._pooled(own, self.evidence), self.evidence.mode
            return clamp.apply(float(pooled.in_force(mode)), source, closed=pooled.closed_in(mode))
        plain = self.overall if own is None else self.buckets[own]
        if plain is None:
            raise ValueError("nothing was learned")
        return clamp.apply(float(plain.threshold), source, closed=plain.nothing_passes)

    @staticmethod
    def _pooled(own: Bucket | None, evidence: PooledTable) -> PooledEstimate:
        return evidence.overall if own is None else evidence.buckets[own]

    def rows(self, clamp: Clamp, method: Method | None = None) -> list[TableRow]:
        """The table for a reader: buckets in their fixed order, then all together; none while it is empty.

        Parameters
        ----------
        clamp : range of learned thresholds, in score points
        method : whose thresholds; those in force by default, none while this method's were not learned
        """
        asked = self.policy.method if method is None else method
        if self.overall is None or (asked is Method.EVIDENCE and self.evidence is None):
            return []
        in_force = asked is self.policy.method
        rows = []
        for own in (*self.buckets, None):
            name = ALL if own is None else str(own)
            threshold = self._learned(own, clamp, asked)
            pooled = None if self.evidence is None else self._pooled(own, self.evidence)
            plain = self.overall if own is None else self.buckets[own]
            if asked is Method.EVIDENCE and pooled is not None and self.evidence is not None:
                rows.append(TableRow.of_evidence(name, pooled, self.evidence, threshold, clamp, in_force=in_force))
            else:
                rows.append(TableRow.of_seed(name, plain, pooled, threshold, clamp, in_force=in_force))
        return rows

    def as_json(self) -> dict[str, Any]:
        """The table as plain JSON values; equal tables give equal values."""
        return {
            "method": self.policy.method.value,
            "labels": self.policy.labels.value,
            "mode": self.policy.mode.value,
            "require_badge": self.policy.require_badge,
            "score_source": self.score_source,
            "w": self.w,
            "records": self.records,
            "overall": None if self.overall is None else self.overall.as_json(),
            "buckets": {str(bucket): found.as_json() for bucket, found in self.buckets.items()},
            "evidence": None if self.evidence is None else self.evidence.as_json(),
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
        overall, evidence = row.value("overall"), row.value("evidence")
        buckets = PlainRow.of(row.value("buckets"), "buckets").fields
        try:
            return cls(
                TableKey(row.text("score_source"), row.number("w")),
                row.count("records"),
                None if overall is None else Estimate.from_json(overall),
                {_known(name): Estimate.from_json(found) for name, found in buckets.items()},
                None if evidence is None else PooledTable.from_json(evidence),
                ThresholdPolicy(
                    method=Method(row.text("method")),
                    labels=Method(row.text("labels")),
                    mode=ThresholdMode(row.text("mode")),
                    require_badge=row.flag("require_badge"),
                ),
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
    decisive: BoolArray | None = None,
    weight: FloatArray | None = None,
    entry_ms: IntArray | None = None,
    exit_ms: IntArray | None = None,
    policy: ThresholdPolicy = SEED_POLICY,
    drawn: Drawn | None = None,
    incumbent: ThresholdTable | None = None,
) -> ThresholdTable:
    """Learn the thresholds of one kind of score from outcomes of both kinds, in any order, by both methods.

    The seed rule takes the decisive ones, unweighted; the evidence method takes what its labels take, with its weight.

    Parameters
    ----------
    scores : ndarray of shape (n,), in [0, 100], final scores of the kind the table is for
    won : ndarray of bool, shape (n,)
    net_r : ndarray of shape (n,), results after costs in R (or percent), of a timeout that of its mark price
    buckets : sequence of length n, ``session|volatility``; a record without one counts for the whole only
    score_source : ``ensemble``, ``ensemble_raw`` or ``heuristic``
    w : blend weight behind the scores, in [0, 1]; heuristic scores do not feel it
    decisive : ndarray of bool, shape (n,), false for timeouts; all are, by default
    weight : ndarray of shape (n,), > 0; 1 by default
    entry_ms, exit_ms : ndarray of int64, shape (n,), UTC epoch ms; unknown (0) by default
    policy : which method decides, on which labels and in which mode the evidence is learned
    drawn : how the intervals are drawn; none are, by default
    incumbent : the table in force until now for the very same scores, where thresholds are not to move for nothing

    Returns
    -------
    ThresholdTable, empty below 50 decisive records

    Raises
    ------
    ValueError : if the shapes differ, a score leaves [0, 100], a result is not finite or a bucket is unknown

    Source: SPEC 7.
    """
    key = TableKey.of(score_source, w)
    outcomes = Outcomes.of(
        scores, won, net_r, buckets, decisive=decisive, weight=weight, entry_ms=entry_ms, exit_ms=exit_ms
    )
    plain = outcomes.of_decisive
    n = len(plain)
    if n < TABLE_RECORDS:
        return ThresholdTable(key, n, policy=policy)
    learned = {}
    # The score's fraction decides nothing: every rule looks at whole scores.
    whole = plain.cell.astype(np.float64)
    for number, bucket in enumerate(BUCKETS):
        inside = plain.place == number
        if np.count_nonzero(inside) >= BUCKET_RECORDS:
            learned[bucket] = estimate(whole[inside], plain.won[inside], plain.net_r[inside])
    evidence = learn_pooled(
        outcomes,
        labels=policy.labels,
        mode=policy.mode,
        drawn=drawn,
        incumbent=None if incumbent is None or incumbent.key != key else incumbent.evidence,
    )
    return ThresholdTable(key, n, estimate(whole, plain.won, plain.net_r), learned, evidence, policy)


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
        policy: ThresholdPolicy = SEED_POLICY,
        drawn: Drawn | None = None,
        incumbent: ThresholdTable | None = None,
    ) -> ThresholdBook:
        """The book with the table of one blend learned anew from the recorded parts of the scores.

        Parameters
        ----------
        records : outcomes of both kinds; one whose final score cannot be told is left out
        w : blend weight, in [0, 1]; heuristic scores do not feel it
        score_source : ``ensemble``, ``ensemble_raw`` or ``heuristic``
        blend : final score from heuristic part, ensemble part and weight; ``scorer.blend.blend``, which is handed in
            because the two rooms stand on one floor
        policy, drawn, incumbent : as for ``learn_table``

        Raises
        ------
        ValueError : as ``learn_table``

        Source: SPEC 7.
        """
        key = TableKey.of(score_source, w)
        finals = [(blend(_number(past.heuristic), _number(past.ensemble), key.w), past) for past in records]
        known = [(score, past) for score, past in finals if math.isfinite(score)]
        return self.having(
            learn_table(
                np.array([score for score, _ in known], dtype=np.float64),
                np.array([past.won for _, past in known], dtype=np.bool_),
                np.array([past.net_r for _, past in known], dtype=np.float64),
                [past.bucket for _, past in known],
                score_source=score_source,
                w=key.w,
                decisive=np.array([past.decisive for _, past in known], dtype=np.bool_),
                weight=np.array([past.weight for _, past in known], dtype=np.float64),
                entry_ms=np.array([past.entry_ms for _, past in known], dtype=np.int64),
                exit_ms=np.array([past.exit_ms for _, past in known], dtype=np.int64),
                policy=policy,
                drawn=drawn,
                incumbent=incumbent,
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
    if name not in PLACE:
        raise Invalid(Reason.FIELD_RANGE, "buckets", f"{name!r} is no market situation")
    return BUCKETS[PLACE[name]]


def _number(part: float | None) -> float:
    return math.nan if part is None else part
