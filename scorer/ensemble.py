"""What the heads say together: forest, boosted trees, with enough outcomes a small network, and a linear one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.calibration import logistic
from scorer.compiled import LARGEST_VALUE, Network, Trees, as_trained

FloatArray = npt.NDArray[np.float64]

LARGEST_INPUT = 1e30
"""Beyond it a value does not survive the rounding to float32 that the trees were grown on."""
SUM_SLACK = 1e-9
ROWS_AT_ONCE = 512
"""Rows walked through the trees together: 350 trees times this still fit into a processor's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """How much each head counts, and how far their word is trusted against the base rate.

    The forecast is ``base + trust · (Σ weightᵢ · pᵢ − base)``. ``weights``: shape (n_members,), none negative, summing
    to 1; ``base``, the win rate of the training rows, and ``trust`` lie in [0, 1].

    Raises
    ------
    ValueError : if one of them breaks its rule
    """

    weights: FloatArray
    base: float
    trust: float

    def __post_init__(self) -> None:
        if self.weights.ndim != 1 or not (np.all(self.weights >= 0.0) and abs(self.weights.sum() - 1.0) <= SUM_SLACK):
            raise ValueError("weights of the heads must be no less than 0 and sum to 1")
        if not (0.0 <= self.base <= 1.0 and 0.0 <= self.trust <= 1.0):
            raise ValueError("base rate and trust must lie in [0, 1]")

    def pooled(self, said: FloatArray) -> FloatArray:
        """One forecast of many, shape (...,); NaN where a head says NaN.

        Parameters
        ----------
        said : ndarray of shape (n_members, ...), win probabilities in [0, 1], heads first
        """
        total = self.weights[0] * said[0]
        # One after the other: a matrix product adds in an order that depends on how many rows are asked.
        for weight, one in zip(self.weights[1:], said[1:], strict=True):
            total = total + weight * one
        pooled = self.base + self.trust * (total - self.base)
        return np.asarray(np.minimum(np.maximum(pooled, 0.0), 1.0), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """Win probability as the mean of its members, or with a ``stack`` as it weighs them.

    ``trees`` holds the trees of the forest and behind them the boosted ones, because one walk through all is
    cheaper than two. ``n_forest`` says where the boosted begin; they are summed, times ``rate``, onto ``init``
    (log-odds). Values of forest leaves are win shares in [0, 1]. ``linear`` is a network without hidden layers.

    Raises
    ------
    ValueError : if the parts do not fit each other or a number is out of range
    """

    width: int
    trees: Trees
    n_forest: int
    init: float
    rate: float
    network: Network | None = None
    linear: Network | None = None
    stack: Stack | None = None

    def __post_init__(self) -> None:
        if not 0 < self.n_forest < len(self.trees.roots):
            raise ValueError("a forest and boosted trees, each at least one")
        if not 0 < self.trees.n_features <= self.width:
            raise ValueError("a tree asks for a column that a row does not have")
        shares = self.trees.value[: self.trees.roots[self.n_forest]]
        if not np.all((shares >= 0.0) & (shares <= 1.0)):
            raise ValueError("win shares of the forest must lie in [0, 1]")
        if not (abs(self.init) <= LARGEST_VALUE and 0.0 < self.rate <= 1.0):
            raise ValueError("start and rate of the boosted trees")
        if any(len(head.standard.mean) != self.width for head in (self.network, self.linear) if head is not None):
            raise ValueError("the network or the linear head reads rows of another width")
        if self.linear is not None and len(self.linear.weights) != 1:
            raise ValueError("a linear head with hidden layers")
        if self.stack is not None and self.stack.weights.shape != (len(self.members),):
            raise ValueError("one weight for each head")

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the heads, in the order of ``member_probabilities``."""
        more = [name for name, head in (("network", self.network), ("linear", self.linear)) if head is not None]
        return ("forest", "boosting", *more)

    def win_probability(self, row: FloatArray) -> float:
        """Win probability of one row; NaN if the row holds anything that is no plausible number.

        Parameters
        ----------
        row : ndarray of shape (width,)

        Raises
        ------
        ValueError : if the row has another width
        """
        if row.shape != (self.width,):
            raise ValueError(f"a row of {row.shape}, not ({self.width},)")
        # NaN fails the comparison too.
        if not (np.abs(row) <= LARGEST_INPUT).all():
            return math.nan
        leaves = self.trees.leaf_values(as_trained(row))
        forest = leaves[: self.n_forest].mean()
        boosted = logistic(self.init + self.rate * leaves[self.n_forest :].sum())
        said = [forest, boosted]
        said += [logistic(head.log_odds(row[None, :]))[0] for head in (self.network, self.linear) if head is not None]
        return float(self._together(said))

    def member_probabilities(self, matrix: FloatArray) -> FloatArray:
        """What each head says: shape (n_rows, n_members), in the order of ``members``; NaN for implausible rows.

        Parameters
        ----------
        matrix : ndarray of shape (n_rows, width)

        Raises
        ------
        ValueError : if the matrix has another width
        """
        if matrix.ndim != 2 or matrix.shape[1] != self.width:
            raise ValueError(f"a matrix of {matrix.shape}, not (n, {self.width})")
        out = np.full((len(matrix), len(self.members)), math.nan)
        places = np.flatnonzero((np.abs(matrix) <= LARGEST_INPUT).all(axis=1))
        for start in range(0, len(places), ROWS_AT_ONCE):
            part = places[start : start + ROWS_AT_ONCE]
            rows = matrix[part]
            leaves = self.trees.leaf_matrix(as_trained(rows))
            # Contiguous halves: a reduction over strided memory adds in another order than the one for one row.
            forest = np.ascontiguousarray(leaves[:, : self.n_forest])
            boosted = np.ascontiguousarray(leaves[:, self.n_forest :])
            out[part, 0] = forest.mean(axis=1)
            out[part, 1] = logistic(self.init + self.rate * boosted.sum(axis=1))
            more = [head for head in (self.network, self.linear) if head is not None]
            for place, head in enumerate(more, start=2):
                out[part, place] = logistic(head.log_odds(rows))
        return out

    def win_probabilities(self, matrix: FloatArray) -> FloatArray:
        """Win probability of many rows, shape (n_rows,): row by row the same as ``win_probability``.

        Parameters
        ----------
        matrix : ndarray of shape (n_rows, width)

        Raises
        ------
        ValueError : if the matrix has another width
        """
        return np.asarray(self._together(list(self.member_probabilities(matrix).T)), dtype=np.float64)

    def _together(self, said: list[Any]) -> Any:
        """One forecast of what each head says, to one row or to many, by the same sums."""
        if self.stack is not None:
            return self.stack.pooled(np.asarray(said))
        total = said[0] + said[1]
        for one in said[2:]:
            total = total + one
        return total / len(said)
