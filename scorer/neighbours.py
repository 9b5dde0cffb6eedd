"""The past signals most like this one, and what became of them: shown beside a score, never a part of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from scorer.compiled import LARGEST_VALUE

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

MAX_POOL: Final = 5_000
"""Past signals a bundle carries: the newest. A pool of that size is searched in some hundred microseconds."""
MAX_NEIGHBOURS: Final = 500
FARTHEST: Final = 4.0
"""Standard deviations beyond which a number is as far away as it gets: one wild value must not hide all others."""
Z_90: Final = 1.6448536269514722
"""Two-sided 90 % point of the standard normal distribution."""
LARGEST_MS: Final = 2.0**53
LARGEST_R: Final = 1e12


class Ending(IntEnum):
    """What became of a past signal."""

    LOSS = 0
    WIN = 1
    TIMEOUT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """One past signal: how far away (standard deviations, Euclidean), how much it counted, and its result in R."""

    id: str
    distance: float
    weight: float
    ending: Ending
    net_r: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """What became of the past signals most like one.

    ``win_probability`` in (0, 1) is the weighted share of wins among those that were decided, drawn towards the
    pool's by one record, with a 90 % interval (``low``, ``high``); none where none was decided. ``mean_net_r`` is the
    weighted mean result in R with its standard error, timeouts by their mark price. ``n_effective`` = (Σw)²/Σw²;
    ``similarity`` the mean of 1/(1 + distance), 1 for the same signal again; ``entropy`` that of the weighted
    endings in bits: 0 all alike, 1.58 wins, losses and timeouts in equal parts. ``nearest`` in order of distance.
    """

    k: int
    pool: int
    n_effective: float
    win_probability: float | None
    low: float | None
    high: float | None
    mean_net_r: float
    mean_net_r_se: float
    similarity: float
    entropy: float
    nearest: tuple[Neighbour, ...]

    def record(self, shown: int = 5) -> dict[str, Any]:
        """The same as JSON values, with the nearest few by name."""
        return {
            "k": self.k,
            "pool": self.pool,
            "n_effective": round(self.n_effective, 3),
            "win_probability": _rounded(self.win_probability),
            "low": _rounded(self.low),
            "high": _rounded(self.high),
            "mean_net_r": round(self.mean_net_r, 6),
            "mean_net_r_se": round(self.mean_net_r_se, 6),
            "similarity": round(self.similarity, 6),
            "entropy": round(self.entropy, 6),
            "nearest": [
                {
                    "id": one.id,
                    "distance": round(one.distance, 6),
                    "ending": one.ending.name.lower(),
                    "net_r": round(one.net_r, 6),
                }
                for one in self.nearest[:shown]
            ],
        }


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Past signals as points, each with its end, in the order of their exits.

    ``points``: float64 (n, n_used), standardised and bounded; ``centre`` and ``scale``: float64 (width,), how a row
    of the design becomes a point, scale 0 for a column that takes no part; ``ending``: int32 (n,), as ``Ending``;
    ``net_r``: float64 (n,), in R; ``exit_ms``: float64 (n,), whole epoch ms; ``ids``: n names; ``k`` how many are
    asked, ``bandwidth`` of the Gaussian kernel in standard deviations (infinite: all count alike), ``base_rate`` the
    win rate of all, drawn off 0 and 1.

    Raises
    ------
    ValueError : if shapes, types or ranges are others
    """

    points: FloatArray
    centre: FloatArray
    scale: FloatArray
    ending: IntArray
    net_r: FloatArray
    exit_ms: FloatArray
    ids: tuple[str, ...]
    k: int
    bandwidth: float
    base_rate: float

    def __post_init__(self) -> None:
        n = len(self.ids)
        if not 1 <= n <= MAX_POOL or not 1 <= self.k <= MAX_NEIGHBOURS:
            raise ValueError("pool: at least one past signal and one neighbour, within the limits")
        if self.centre.ndim != 1 or self.centre.shape != self.scale.shape or self.points.ndim != 2:
            raise ValueError("pool: one centre and one scale for each column")
        if self.points.shape != (n, int(np.count_nonzero(self.scale))):
            raise ValueError("pool: one point for each past signal, of the columns that take part")
        if any(column.shape != (n,) for column in (self.ending, self.net_r, self.exit_ms)):
            raise ValueError("pool: one ending, one result and one exit for each past signal")
        # Written as what must hold: a NaN fails it.
        if not (np.all(np.abs(self.points) <= FARTHEST) and np.all(np.abs(self.net_r) <= LARGEST_R)):
            raise ValueError("pool: points and results are bounded")
        if not (
            np.all(np.abs(self.centre) <= LARGEST_VALUE)
            and np.all((self.scale >= 0.0) & (self.scale <= LARGEST_VALUE))
            and np.all((self.exit_ms >= 0.0) & (self.exit_ms <= LARGEST_MS))
            and np.all(np.diff(self.exit_ms) >= 0.0)
        ):
            raise ValueError("pool: columns are plausible, exits do not descend")
        if not np.all((self.ending >= 0) & (self.ending <= max(Ending))):
            raise ValueError("pool: an ending of another kind")
        if not (self.bandwidth > 0.0 and 0.0 < self.base_rate < 1.0):
            raise ValueError("pool: bandwidth and base rate")

    @property
    def width(self) -> int:
        """Columns of the design it reads."""
        return len(self.centre)

    def point(self, row: FloatArray) -> FloatArray:
        """A row of the design as a point, shape (..., n_used).

        Parameters
        ----------
        row : ndarray of shape (..., width), in the columns' own units
        """
        used = self.scale > 0.0
        return bounded((row[..., used] - self.centre[used]) * self.scale[used])

    def ask(self, row: FloatArray, at_ms: int) -> Neighbours | None:
        """Look up the past signals most like one, among those that had ended before it came.

        A past signal that was still open then is not in the pool: its end was not known, and where the two were open
        together they share part of their future, so that the likest of all would be the signal's own double.

        Parameters
        ----------
        row : ndarray of shape (width,), in the columns' own units, as the bundle's encoding writes it
        at_ms : moment of the signal, UTC epoch ms

        Returns
        -------
        Neighbours, or none while nothing had ended

        Raises
        ------
        ValueError : if the row has another width or holds anything that is no number

        Source: STATISTICS 5 (purged pool, Gaussian kernel instead of inverse distance).
        """
        if row.shape != (self.width,) or not np.all(np.isfinite(row)):
            raise ValueError(f"expected {self.width} finite numbers")
        # Exits do not descend: what had ended is a prefix.
        ended = int(np.searchsorted(self.exit_ms, at_ms, side="left"))
        if ended == 0:
            return None
        distance = distances(self.point(row)[None, :], self.points[:ended])[0]
        near = nearest(distance, self.k)
        return self._told(near, distance[near], ended)

    def _told(self, near: npt.NDArray[np.int64], distance: FloatArray, ended: int) -> Neighbours:
        weight = kernel(distance, self.bandwidth)
        ending, result = self.ending[near], self.net_r[near]
        total = float(weight.sum())
        mean = float(weight @ result) / total
        spread = math.sqrt(float(weight**2 @ (result - mean) ** 2)) / total
        # The sandwich forgets that the mean was fitted to the same few results.
        n_effective = total**2 / float(weight @ weight)
        se = spread * math.sqrt(n_effective / (n_effective - 1.0)) if n_effective > 1.0 + 1e-9 else math.inf
        probability, low, high = self._win(weight, ending)
        shares = [float(weight[ending == kind].sum()) / total for kind in Ending]
        return Neighbours(
            k=len(near),
            pool=ended,
            n_effective=n_effective,
            win_probability=probability,
            low=low,
            high=high,
            mean_net_r=mean,
            # One neighbour tells nothing of its own error; a number that large says so and stays a JSON value.
            mean_net_r_se=min(se, LARGEST_R),
            similarity=float((1.0 / (1.0 + distance)).mean()),
            entropy=-sum(share * math.log2(share) for share in shares if share > 0.0) + 0.0,
            nearest=tuple(
                Neighbour(id=self.ids[place], distance=far, weight=much, ending=Ending(end), net_r=r)
                for place, far, much, end, r in zip(
                    near.tolist(), distance.tolist(), weight.tolist(), ending.tolist(), result.tolist(), strict=True
                )
            ),
        )

    def _win(self, weight: FloatArray, ending: IntArray) -> tuple[float | None, float | None, float | None]:
        decided = ending != Ending.TIMEOUT
        if not decided.any():
            return None, None, None
        counted = weight[decided]
        wins = float(counted[ending[decided] == Ending.WIN].sum())
        size = float(counted.sum()) ** 2 / float(counted @ counted)
        share = win_share(wins, float(counted.sum()), size, self.base_rate)
        # Wilson's bounds at the effective number, one record of the base rate included.
        n, z2 = size + 1.0, Z_90 * Z_90
        centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n)
        reach = Z_90 * math.sqrt(share * (1.0 - share) / n + z2 / (4.0 * n * n)) / (1.0 + z2 / n)
        return share, max(0.0, centre - reach), min(1.0, centre + reach)

    @property
    def arrays(self) -> dict[str, FloatArray | IntArray]:
        """The columns by the names they have in a bundle."""
        return {
            "neighbours.points": self.points,
            "neighbours.centre": self.centre,
            "neighbours.scale": self.scale,
            "neighbours.ending": self.ending,
            "neighbours.net_r": self.net_r,
            "neighbours.exit_ms": self.exit_ms,
        }

    @property
    def record(self) -> dict[str, Any]:
        """The rest as JSON values; floats as text, since canonical JSON folds whole ones into integers."""
        return {
            "ids": list(self.ids),
            "k": self.k,
            "bandwidth": self.bandwidth.hex(),
            "base_rate": self.base_rate.hex(),
        }

    @classmethod
    def read(cls, record: Mapping[str, Any], arrays: Mapping[str, Any]) -> Pool:
        """Read what a bundle carries.

        Parameters
        ----------
        record : mapping, as ``record`` gives it
        arrays : by name, as ``arrays`` gives them

        Raises
        ------
        KeyError, TypeError, ValueError : if something is missing, of another type or out of bounds
        """
        found = {name: arrays[f"neighbours.{name}"] for name in ("points", "centre", "scale", "net_r", "exit_ms")}
        if any(array.dtype != np.float64 for array in found.values()):
            raise ValueError("pool: numbers are float64")
        ending = arrays["neighbours.ending"]
        if ending.dtype != np.int32:
            raise ValueError("pool: endings are int32")
        return cls(
            **found,
            ending=ending,
            ids=tuple(str(name) for name in record["ids"]),
            k=int(record["k"]),
            bandwidth=float.fromhex(record["bandwidth"]),
            base_rate=float.fromhex(record["base_rate"]),
        )


def bounded(standard: FloatArray) -> FloatArray:
    """Standardised numbers, none farther out than four standard deviations.

    Parameters
    ----------
    standard : ndarray of any shape, finite
    """
    return np.asarray(np.clip(standard, -FARTHEST, FARTHEST), dtype=np.float64)


def distances(asked: FloatArray, points: FloatArray) -> FloatArray:
    """Euclidean distance per root column, shape (n_asked, n_points): 1 is one standard deviation in every column.

    Parameters
    ----------
    asked : ndarray of shape (n_asked, n_used)
    points : ndarray of shape (n_points, n_used)

    Notes
    -----
    Per root column, so that 1/(1 + distance) means the same whatever the number of features.
    """
    # Differences first: the quick formula with squared norms loses the digits that tell near points apart.
    total = np.zeros((len(asked), len(points)))
    for column in range(points.shape[1]):
        total += (asked[:, column, None] - points[None, :, column]) ** 2
    return np.asarray(np.sqrt(total / max(1, points.shape[1])), dtype=np.float64)


def nearest(distance: FloatArray, k: int) -> npt.NDArray[np.int64]:
    """Places of the k smallest distances, ascending; of equal ones the later places, which ended last, come first.

    Parameters
    ----------
    distance : ndarray of shape (n,)
    k : int >= 1
    """
    order = np.lexsort((-np.arange(len(distance)), distance))
    return np.asarray(order[:k], dtype=np.int64)


def kernel(distance: FloatArray, bandwidth: float) -> FloatArray:
    """Gaussian weights, largest 1; shape as the distances.

    Parameters
    ----------
    distance : ndarray of shape (..., k), not all infinite along the last axis
    bandwidth : > 0, in the unit of the distances; infinite makes all weights 1

    Notes
    -----
    Unlike 1/distance it does not blow up at 0, where a single double would answer alone.
    """
    if math.isinf(bandwidth):
        return np.ones_like(distance)
    # Relative to the nearest, or a signal far from everything would have no neighbours at all.
    squared = distance**2
    return np.asarray(np.exp(-(squared - squared.min(axis=-1, keepdims=True)) / (2.0 * bandwidth**2)), dtype=np.float64)


def win_share(wins: float, total: float, size: float, base_rate: float) -> float:
    """Weighted share of wins, drawn towards the base rate by one record, so that it is never 0 or 1.

    Parameters
    ----------
    wins, total : sums of weights, 0 <= wins <= total
    size : effective number of records, >= 1
    base_rate : in (0, 1)
    """
    return (wins / total * size + base_rate) / (size + 1.0)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def endings(won: Sequence[bool], decisive: Sequence[bool]) -> IntArray:
    """What became of signals, shape (n,), as ``Ending``.

    Parameters
    ----------
    won, decisive : sequences of length n; what is not decisive ended by timeout
    """
    kinds = [
        (Ending.WIN if win else Ending.LOSS) if told else Ending.TIMEOUT
        for win, told in zip(won, decisive, strict=True)
    ]
    return np.array(kinds, dtype=np.int32)
