"""Promise 1: nothing that was not known at the decision can teach a model, and folds do not leak.

The world of the folds is noise that looks like a market: features that change slowly and know nothing, labels that
live for twenty bars and so overlap. Whoever shuffles such rows finds the future in the neighbours of each test row.

Source: STATISTICS 5, 8.1, 8.5 and 11 (item 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier

from lab.coverage.check import Check, Size, inside
from learning.metrics import measure
from learning.split import folds

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

BAR_MS = 300_000
LABEL_BARS = 20
FEATURES = 16
MEMORY = 0.97
"""Of a feature from one bar to the next: in twenty bars it has hardly moved."""
BLOCKS = 5
NOISE = (0.47, 0.53)
SHUFFLED = 0.8


class _Worlds(NamedTuple):
    """How many worlds, how many rows in each, and the trees that answer for them."""

    worlds: int
    rows: int
    trees: int
    shuffled: int
    shuffled_trees: int


SIZES = {Size.SMALL: _Worlds(24, 4_000, 6, 3, 30), Size.FULL: _Worlds(40, 4_000, 100, 20, 100)}


def study(size: Size, seed: int) -> list[Check]:
    """Measure what the folds say of noise."""
    return list(_noise(SIZES[size], seed))


class _World(NamedTuple):
    matrix: FloatArray
    won: BoolArray
    entry_ms: IntArray
    exit_ms: IntArray


def _noise(worlds: _Worlds, seed: int) -> Iterator[Check]:
    purged, shuffled = [], []
    for number in range(worlds.count):
        rng = np.random.default_rng((seed, number))
        world = _world(rng, worlds.rows)
        horizon_ms = int((world.exit_ms - world.entry_ms).max())
        split = folds(world.entry_ms.tolist(), world.exit_ms.tolist(), n_blocks=BLOCKS, embargo_ms=horizon_ms)
        purged.append(_auc(world, [(fold.train, fold.test) for fold in split], worlds.trees, number))
        parts = np.array_split(rng.permutation(worlds.rows), BLOCKS)
        pairs = [(np.setdiff1d(np.arange(worlds.rows), part), part) for part in parts]
        shuffled.append(_auc(world, pairs, worlds.trees, number))
    low, high = NOISE
    yield inside(1, "AUC on noise, purged and embargoed", float(np.mean(purged)), low=low, high=high, n=worlds.count)
    yield inside(1, "AUC on noise, shuffled", float(np.mean(shuffled)), low=SHUFFLED, n=worlds.count)


def _world(rng: np.random.Generator, rows: int) -> _World:
    path = np.concatenate(([0.0], np.cumsum(rng.standard_normal(rows + LABEL_BARS))))
    shocks = rng.standard_normal((rows, FEATURES)) * np.sqrt(1.0 - MEMORY**2)
    matrix = np.empty_like(shocks)
    matrix[0] = rng.standard_normal(FEATURES)
    for bar in range(1, rows):
        matrix[bar] = MEMORY * matrix[bar - 1] + shocks[bar]
    entry_ms = np.arange(rows, dtype=np.int64) * BAR_MS
    won = path[LABEL_BARS : LABEL_BARS + rows] > path[:rows]
    return _World(matrix, won, entry_ms, entry_ms + LABEL_BARS * BAR_MS)


def _auc(world: _World, pairs: list[tuple[IntArray, IntArray]], trees: int, number: int) -> float:
    """Of the forecasts of all test rows together, by the forest of the ensemble."""
    out = np.full(len(world.won), np.nan)
    for train, test in pairs:
        forest = RandomForestClassifier(trees, max_depth=8, min_samples_leaf=5, random_state=number, n_jobs=1)
        forest.fit(world.matrix[train], world.won[train])
        out[test] = forest.predict_proba(world.matrix[test])[:, 1]
    answered = np.isfinite(out)
    auc = measure(out[answered], world.won[answered]).auc
    return float("nan") if auc is None else auc
