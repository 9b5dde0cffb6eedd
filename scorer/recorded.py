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
MAX_RECORDS: Final = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class PartRecords:
    """Parts of the scores of past decisive outcomes, out of fold, in the order of their exits.

    ``heuristic``: float64 of shape (n,), in [0, 100], NaN where none was recorded; ``ensemble``: float64 (n,), in
    [0, 100], by heads that had not seen the record; ``won``: int32 (n,), 0 or 1; ``net_r``: float64 (n,), results after
    costs in R; ``bucket``: int32 (n,), places in ``buckets`` or -1; ``buckets``: ``session|volatility``, each once.

    Raises
    ------
    ValueError : if shapes, types or ranges are others
    """

    heuristic: FloatArray
    ensemble: FloatArray
    won: IntArray
    net_r: FloatArray
    bucket: IntArray
    buckets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        columns = (self.heuristic, self.ensemble, self.won, self.net_r, self.bucket)
        if any(column.shape != (len(self.won),) for column in columns) or len(self.won) > MAX_RECORDS:
            raise ValueError("records: one value of each kind for each, within the limit")
        if any(column.dtype != np.float64 for column in (self.heuristic, self.ensemble, self.net_r)):
            raise ValueError("records: scores and results are float64")
        if any(column.dtype != np.int32 for column in (self.won, self.bucket)):
            raise ValueError("records: outcomes and buckets are int32")
        parts = np.concatenate([self.heuristic[~np.isnan(self.heuristic)], self.ensemble])
        # Written as what must hold: a NaN fails it.
        if not np.all((parts >= 0.0) & (parts <= 100.0)):
            raise ValueError("records: scores lie in [0, 100]")
        if not (np.all(np.abs(self.net_r) <= LARGEST_R) and np.all((self.won == 0) | (self.won == 1))):
            raise ValueError("records: results are finite, outcomes 0 or 1")
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
    ) -> PartRecords:
        """Columns of plain values as compact arrays.

        Parameters
        ----------
        heuristic : scores in [0, 100], none where none was recorded
        ensemble : scores in [0, 100]
        won, net_r, bucket : outcome, result in R, ``session|volatility`` or none

        Raises
        ------
        ValueError : as the type itself
        """
        buckets = tuple(sorted({name for name in bucket if name is not None}))
        place = {name: number for number, name in enumerate(buckets)}
        return cls(
            np.array([np.nan if score is None else score for score in heuristic], dtype=np.float64),
            np.array(ensemble, dtype=np.float64),
            np.array(won, dtype=np.int32),
            np.array(net_r, dtype=np.float64),
            np.array([-1 if name is None else place[name] for name in bucket], dtype=np.int32),
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
            buckets=tuple(str(name) for name in record["buckets"]),
        )
