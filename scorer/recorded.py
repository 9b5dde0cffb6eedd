"""What a bundle remembers of past records: the parts of their scores, from which any blend's thresholds follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from signals.bucket import Bucket

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]
LARGEST_R: Final = 1e12
"""No result of a record is larger, in R."""
LARGEST_WEIGHT: Final = 1e6
LARGEST_MS: Final = 2.0**53
"""Whole milliseconds up to here survive being kept as floats."""
MAX_RECORDS: Final = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class PartRecords:
    """Parts of the scores of past outcomes, out of fold, in the order of their exits.

    ``heuristic``: float64 of shape (n,), in [0, 100], NaN where none was recorded; ``ensemble``: float64 (n,), in
    [0, 100], by heads that had not seen the record; ``won``: int32 (n,), 0 or 1; ``net_r``: float64 (n,), results after
    costs in R, of a timeout that of its mark price; ``bucket``: int32 (n,), places in ``buckets`` or -1; ``decisive``:
    int32 (n,), 0 for a timeout; ``weight``: float64 (n,), > 0, what a record counts for where records are weighted;
    ``entry_ms`` and ``exit_ms``: float64 (n,), whole epoch ms; ``buckets``: ``session|volatility``, each once.

    Raises
    ------
    ValueError : if shapes, types or ranges are others
    """

    heuristic: FloatArray
    ensemble: FloatArray
    won: IntArray
    net_r: FloatArray
    bucket: IntArray
    decisive: IntArray
    weight: FloatArray
    entry_ms: FloatArray
    exit_ms: FloatArray
    buckets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        numbers = (self.heuristic, self.ensemble, self.net_r, self.weight, self.entry_ms, self.exit_ms)
        counts = (self.won, self.bucket, self.decisive)
        columns = (*numbers, *counts)
        if any(column.shape != (len(self.won),) for column in columns) or len(self.won) > MAX_RECORDS:
            raise ValueError("records: one value of each kind for each, within the limit")
        if any(column.dtype != np.float64 for column in numbers):
            raise ValueError("records: scores, results, weights and times are float64")
        if any(column.dtype != np.int32 for column in counts):
            raise ValueError("records: outcomes and buckets are int32")
        parts = np.concatenate([self.heuristic[~np.isnan(self.heuristic)], self.ensemble])
        # Written as what must hold: a NaN fails it.
        if not np.all((parts >= 0.0) & (parts <= 100.0)):
            raise ValueError("records: scores lie in [0, 100]")
        if not (np.all(np.abs(self.net_r) <= LARGEST_R) and np.all((self.won == 0) | (self.won == 1))):
            raise ValueError("records: results are finite, outcomes 0 or 1")
        # A timeout has no winner; whether it gained or lost is in its result.
        if not np.all(((self.decisive == 1) | (self.decisive == 0)) & (self.won <= self.decisive)):
            raise ValueError("records: a record is decisive or not, and what is not has not won")
        if not np.all((self.weight > 0.0) & (self.weight <= LARGEST_WEIGHT)):
            raise ValueError("records: weights are positive")
        if not np.all((self.entry_ms >= 0.0) & (self.entry_ms <= self.exit_ms) & (self.exit_ms <= LARGEST_MS)):
            raise ValueError("records: a label ends after it begins")
        if not np.all((self.bucket >= -1) & (self.bucket < len(self.buckets))):
            raise ValueError("records: a bucket that is not listed")
        if len({Bucket.parse(name) for name in self.buckets}) != len(self.buckets):
            raise ValueError("records: a bucket is listed twice")

    def __len__(self) -> int:
        """Number of records."""
        return len(self.won)

    @classmethod
    def of(
        cls,
        *,
        heuristic: Sequence[float | None],
        ensemble: Sequence[float],
        won: Sequence[bool],
        net_r: Sequence[float],
        bucket: Sequence[str | None],
        decisive: Sequence[bool] | None = None,
        weight: Sequence[float] | None = None,
        entry_ms: Sequence[int] | None = None,
        exit_ms: Sequence[int] | None = None,
    ) -> PartRecords:
        """Columns of plain values as compact arrays.

        Parameters
        ----------
        heuristic : scores in [0, 100], none where none was recorded
        ensemble : scores in [0, 100]
        won, net_r, bucket : outcome, result in R, ``session|volatility`` or none
        decisive : false for timeouts; all are, by default
        weight : > 0; 1 by default
        entry_ms, exit_ms : UTC epoch ms; unknown (0) by default

        Raises
        ------
        ValueError : as the type itself
        """
        buckets = tuple(sorted({name for name in bucket if name is not None}))
        place = {name: number for number, name in enumerate(buckets)}
        n = len(won)
        return cls(
            np.array([np.nan if score is None else score for score in heuristic], dtype=np.float64),
            np.array(ensemble, dtype=np.float64),
            np.array(won, dtype=np.int32),
            np.array(net_r, dtype=np.float64),
            np.array([-1 if name is None else place[name] for name in bucket], dtype=np.int32),
            np.array([True] * n if decisive is None else decisive, dtype=np.int32),
            np.array([1.0] * n if weight is None else weight, dtype=np.float64),
            np.array([0] * n if entry_ms is None else entry_ms, dtype=np.float64),
            np.array([0] * n if exit_ms is None else exit_ms, dtype=np.float64),
            buckets,
        )

    @property
    def arrays(self) -> dict[str, FloatArray | IntArray]:
        """The columns by the names they have in a bundle."""
        return {
            "records.heuristic": self.heuristic,
            "records.ensemble": self.ensemble,
            "records.won": self.won,
            "records.net_r": self.net_r,
            "records.bucket": self.bucket,
            "records.decisive": self.decisive,
            "records.weight": self.weight,
            "records.entry_ms": self.entry_ms,
            "records.exit_ms": self.exit_ms,
        }

    @classmethod
    def read(cls, record: Mapping[str, Any], arrays: Mapping[str, Any]) -> PartRecords:
        """Read what a bundle carries.

        Parameters
        ----------
        record : mapping with the list ``buckets``, as parsed from JSON
        arrays : by name, as ``arrays`` gives them

        Raises
        ------
        KeyError, TypeError, ValueError : if something is missing, of another type or out of bounds
        """
        return cls(
            heuristic=arrays["records.heuristic"],
            ensemble=arrays["records.ensemble"],
            won=arrays["records.won"],
            net_r=arrays["records.net_r"],
            bucket=arrays["records.bucket"],
            decisive=arrays["records.decisive"],
            weight=arrays["records.weight"],
            entry_ms=arrays["records.entry_ms"],
            exit_ms=arrays["records.exit_ms"],
            buckets=tuple(str(name) for name in record["buckets"]),
        )
