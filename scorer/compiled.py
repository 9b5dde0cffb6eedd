"""Trained heads as plain arrays: trees, a small network and its standardiser. Numbers only, checked when built."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]
PlaceArray = npt.NDArray[np.intp]

MAX_STEPS = 64
MAX_NODES = 4_000_000
MAX_UNITS = 4_096
LARGEST_VALUE = 1e15
"""No leaf, weight or threshold of an honest model comes near it, and sums of such stay finite."""


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """Binary trees laid end to end.

    ``feature``, ``threshold``, ``left``, ``value``: shape (n_nodes,); ``roots``: shape (n_trees,), ascending from 0.
    A row goes to ``left`` where ``float32(x[feature]) <= threshold``, else to the node after ``left``: children are
    neighbours, so one index serves both. A leaf is its own ``left``, with threshold +inf.
    ``steps`` is the depth of the deepest tree.

    Raises
    ------
    ValueError : if an index leaves its tree, children do not come after their parent, a node is shared or
        unreachable, a number is not finite, or a size is beyond its limit
    """

    feature: IntArray
    threshold: FloatArray
    left: IntArray
    value: FloatArray
    roots: IntArray
    steps: int = field(init=False)
    # The same indices in the width numpy gathers with: converted at every step they cost half of a walk.
    _left: PlaceArray = field(init=False, repr=False)
    _feature: PlaceArray = field(init=False, repr=False)
    _roots: PlaceArray = field(init=False, repr=False)
    _moving: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        nodes = len(self.left)
        if not 1 <= nodes <= MAX_NODES or any(
            array.shape != (nodes,) for array in (self.feature, self.threshold, self.left, self.value)
        ):
            raise ValueError("trees need four columns of one length")
        if len(self.roots) == 0 or self.roots[0] != 0 or not np.all(np.diff(self.roots) > 0):
            raise ValueError("roots must ascend from 0")
        if self.roots[-1] >= nodes or int(self.feature.min()) < 0:
            raise ValueError("a root or a feature index out of range")
        places = np.arange(nodes, dtype=np.int32)
        inner = self.left != places
        ends = np.append(self.roots[1:], np.int32(nodes))
        end = np.repeat(ends, ends - self.roots)
        if not np.all((self.left[inner] > places[inner]) & (self.left[inner] + 1 < end[inner])):
            raise ValueError("children must come after their parent, inside its tree")
        if not np.all(np.abs(self.value) <= LARGEST_VALUE):
            raise ValueError("a leaf value that is no plausible number")
        if not (np.all(np.abs(self.threshold[inner]) <= LARGEST_VALUE) and np.all(np.isposinf(self.threshold[~inner]))):
            raise ValueError("thresholds must be finite inside a tree and +inf at its leaves")
        moving = self._levels(inner)
        object.__setattr__(self, "steps", len(moving))
        object.__setattr__(self, "_moving", moving)
        for name in ("left", "feature", "roots"):
            object.__setattr__(self, f"_{name}", getattr(self, name).astype(np.intp))

    def _levels(self, inner: npt.NDArray[np.bool_]) -> tuple[int, ...]:
        """For each step down, how many trees must be looked at: those up to the last that goes on."""
        level, moving = self.roots, list[int]()
        reached = [level]
        seen = len(level)
        while True:
            parents = level[inner[level]]
            if len(parents) == 0:
                break
            moving.append(int(np.searchsorted(self.roots, parents.max(), side="right")))
            level = np.concatenate((self.left[parents], self.left[parents] + 1))
            reached.append(level)
            seen += len(level)
            # Checked on the way: shared nodes multiply from level to level.
            if len(moving) > MAX_STEPS or seen > len(self.left):
                raise ValueError("a tree that is too deep, or nodes that share their children")
        if not np.array_equal(np.sort(np.concatenate(reached)), np.arange(len(self.left))):
            raise ValueError("nodes that no path reaches, or two")
        return tuple(moving)

    @property
    def n_features(self) -> int:
        """How many columns a row must at least have."""
        return int(self.feature.max()) + 1

    def leaf_values(self, row: FloatArray) -> FloatArray:
        """Value of the leaf one row reaches in each tree.

        Parameters
        ----------
        row : ndarray of shape (width,), finite, already rounded to float32

        Returns
        -------
        ndarray of shape (n_trees,)
        """
        # Every tree at every step: for one row a shorter array saves less than cutting it costs.
        node = self._roots
        for _ in range(self.steps):
            node = self._left.take(node) + (row.take(self._feature.take(node)) > self.threshold.take(node))
        return self.value.take(node)

    def leaf_matrix(self, matrix: FloatArray) -> FloatArray:
        """The same for many rows: shape (n_rows, n_trees).

        Parameters
        ----------
        matrix : ndarray of shape (n_rows, width), finite, already rounded to float32
        """
        # Trees along the first axis: the ones that are done lie behind and are left out.
        node = np.repeat(self._roots[:, None], len(matrix), axis=1)
        flat, start = matrix.ravel(), np.arange(len(matrix)) * matrix.shape[1]
        for trees in self._moving:
            at = node[:trees]
            node[:trees] = self._left.take(at) + (flat.take(self._feature.take(at) + start) > self.threshold.take(at))
        return self.value.take(node).T


def as_trained(values: FloatArray) -> FloatArray:
    """Values as the trees saw them: rounded to single precision.

    They were grown on float32 and compare it with float64 thresholds; any other rounding splits elsewhere.

    Parameters
    ----------
    values : ndarray of any shape, within ±1e30
    """
    return values.astype(np.float32).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Boosted:
    """``init + rate`` · the sum of the trees: the log-odds of an event, or a number in the unit it was trained on.

    Raises
    ------
    ValueError : if the start is no plausible number, or the rate is not in (0, 1]
    """

    trees: Trees
    init: float
    rate: float

    def __post_init__(self) -> None:
        if not (abs(self.init) <= LARGEST_VALUE and 0.0 < self.rate <= 1.0):
            raise ValueError("start and rate of the boosted trees")

    def said(self, matrix: FloatArray) -> FloatArray:
        """What the trees say to many rows, shape (n_rows,).

        Parameters
        ----------
        matrix : ndarray of shape (n_rows, width), within ±1e30
        """
        # Contiguous: a reduction over strided memory adds in another order than the one for one row.
        leaves = np.ascontiguousarray(self.trees.leaf_matrix(as_trained(matrix)))
        return np.asarray(self.init + self.rate * leaves.sum(axis=1), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Standard:
    """(x − mean)·scale, where a column that never moved in training has scale 0 and so never speaks.

    ``mean`` and ``scale``: shape (width,), in the unit of the column and its inverse.

    Raises
    ------
    ValueError : if the shapes differ, or a number is not finite or negative as a scale
    """

    mean: FloatArray
    scale: FloatArray

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.mean.shape != self.scale.shape:
            raise ValueError("one mean and one scale for each column")
        if not (
            np.all(np.abs(self.mean) <= LARGEST_VALUE) and np.all((self.scale >= 0) & (self.scale <= LARGEST_VALUE))
        ):
            raise ValueError("means and scales must be plausible numbers")

    @classmethod
    def fit(cls, matrix: FloatArray) -> Standard:
        """Learn mean and spread of each column.

        Parameters
        ----------
        matrix : ndarray of shape (n_rows, width), finite
        """
        mean, spread = matrix.mean(axis=0), matrix.std(axis=0)
        # The mean of equal numbers is off by a rounding, which would make a constant column look alive.
        alive = spread > 1e-9 * np.maximum(np.abs(mean), 1e-3)
        return cls(mean, np.where(alive, 1.0 / np.where(alive, spread, 1.0), 0.0))

    def apply(self, matrix: FloatArray) -> FloatArray:
        """Standardise rows, shape (..., width).

        Parameters
        ----------
        matrix : ndarray of shape (..., width)
        """
        return (matrix - self.mean) * self.scale


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A perceptron with rectified hidden layers and one output in log-odds.

    ``weights[i]``: shape (n_in, n_out) and ``biases[i]``: shape (n_out,), each layer fitting the next.

    Raises
    ------
    ValueError : if the layers do not fit, are too large, or hold a number that is not finite
    """

    standard: Standard
    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]

    def __post_init__(self) -> None:
        if len(self.weights) == 0 or len(self.weights) != len(self.biases):
            raise ValueError("one bias for each layer")
        inputs = len(self.standard.mean)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            if weight.ndim != 2 or bias.shape != weight.shape[1:] or weight.shape[0] != inputs:
                raise ValueError("layers that do not fit each other")
            if weight.shape[1] > MAX_UNITS or not (
                np.all(np.abs(weight) <= LARGEST_VALUE) and np.all(np.abs(bias) <= LARGEST_VALUE)
            ):
                raise ValueError("a layer that is too large or holds no plausible number")
            inputs = weight.shape[1]
        if inputs != 1:
            raise ValueError("one output")

    def log_odds(self, matrix: FloatArray) -> FloatArray:
        """Log-odds of a win for rows of a design, shape (n_rows,).

        Parameters
        ----------
        matrix : ndarray of shape (n_rows, width), finite
        """
        # Row by row as (1, width) products: one batched product rounds otherwise, and a score must not depend on
        # who else is asked at the same time.
        flow = self.standard.apply(matrix)[:, None, :]
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            flow = flow @ weight + bias
            if layer < last:
                flow = np.maximum(flow, 0.0)
        return np.asarray(flow[:, 0, 0], dtype=np.float64)
