"""The mean of the heads: forest, boosted trees and, with enough outcomes, a small network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scorer.calibration import logistic
from scorer.compiled import LARGEST_VALUE, Network, Trees, as_trained

FloatArray = npt.NDArray[np.float64]

LARGEST_INPUT = 1e30
"""Beyond it a value does not survive the rounding to float32 that the trees were grown on."""
ROWS_AT_ONCE = 512
"""Rows walked through the trees together: 350 trees times this still fit into a processor's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """Win probability as the mean of its members.

    ``trees`` holds the trees of the forest and behind them the boosted ones, because one walk through all is
    cheaper than two. ``n_forest`` says where the boosted begin; they are summed, times ``rate``, onto ``init``
    (log-odds). Values of forest leaves are win shares in [0, 1].

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
        if self.network is not None and len(self.network.standard.mean) != self.width:
            raise ValueError("the network reads rows of another width")

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the heads, in the order of ``member_probabilities``."""
        return ("forest", "boosting") if self.network is None else ("forest", "boosting", "network")

    def win_probability(self, row: FloatArray) -> float:
        """Mean win probability for one row; NaN if the row holds anything that is no plausible number.

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
        if self.network is None:
            return float((forest + boosted) / 2.0)
        return float((forest + boosted + logistic(self.network.log_odds(row[None, :]))[0]) / 3.0)

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
            if self.network is not None:
                out[part, 2] = logistic(self.network.log_odds(rows))
        return out

    def win_probabilities(self, matrix: FloatArray) -> FloatArray:
        """Mean win probability of many rows, shape (n_rows,): row by row the same as ``win_probability``.

        Parameters
        ----------
        matrix : ndarray of shape (n_rows, width)

        Raises
        ------
        ValueError : if the matrix has another width
        """
        said = self.member_probabilities(matrix)
        total = said[:, 0] + said[:, 1]
        if self.network is not None:
            total = total + said[:, 2]
        return np.asarray(total / len(self.members), dtype=np.float64)
