"""Permutation tests for the gate's lift: would a gate that accepts as many at random do as well?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lab.statistics import CHUNK, RESAMPLES, TIE, BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Lift:
    """Mean of the accepted minus mean of all, against gates that accept as many at random.

    ``expected`` is the exact mean of the null distribution, ``null`` its draws, shape ``(permutations,)``.
    """

    value: float
    expected: float
    p: float
    null: FloatArray


def lift_against_random(
    values: FloatArray, accepted: BoolArray, *, rng: np.random.Generator, permutations: int = RESAMPLES
) -> Lift:
    """Test the gate against gates that accept as many trades, drawn from all alike.

    Parameters
    ----------
    values : ndarray of shape (n_trades,), usually R
    accepted : ndarray of bool, shape (n_trades,)
    rng : seeded generator
    permutations : int >= 1

    Returns
    -------
    Lift : two-sided p with the +1 correction, floored at 1 / (permutations + 1); all NaN and an empty null
        when the gate accepted all or none, because then there is nothing to compare

    Raises
    ------
    ValueError : if the shapes differ

    Source: Phipson & Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9(1), 39.
    """
    n, taken = _accepted_of(values, accepted)
    if taken in (0, n):
        return _NO_LIFT
    # Drawing the refused instead of the accepted is the same event: draw the smaller set.
    drawn = min(taken, n - taken)
    sums = np.array(
        [values[rng.choice(n, size=drawn, replace=False, shuffle=False)].sum() for _ in range(permutations)]
    )
    if drawn != taken:
        sums = values.sum() - sums
    return _lift(values, accepted, sums / taken - float(np.mean(values)), expected=0.0)


def lift_within_day(
    day: IntArray, values: FloatArray, accepted: BoolArray, *, rng: np.random.Generator, permutations: int = RESAMPLES
) -> Lift:
    """Test the gate against gates that accept as many trades on each day: scores shuffled within the day.

    What a gate gains by choosing good days is common to all of them, so only the choice among a day's trades counts.

    Parameters
    ----------
    day : ndarray of int, shape (n_trades,)
    values : ndarray of shape (n_trades,), usually R
    accepted : ndarray of bool, shape (n_trades,)
    rng : seeded generator
    permutations : int >= 1

    Returns
    -------
    Lift : as ``lift_against_random``, but ``expected`` is the lift that the choice of days alone gives;
        p is NaN when no day was split

    Raises
    ------
    ValueError : if the shapes differ

    Source: stratified permutation, Good (2005), Permutation, Parametric and Bootstrap Tests, 3.
    """
    n, taken = _accepted_of(values, accepted)
    if taken in (0, n):
        return _NO_LIFT
    order = np.argsort(day, kind="stable")
    _, starts, sizes = np.unique(day[order], return_index=True, return_counts=True)
    kept = np.add.reduceat(accepted[order].astype(np.int64), starts)
    ordered = values[order]
    split = (kept > 0) & (kept < sizes)
    overall = float(np.mean(values))
    expected = float(np.sum(np.add.reduceat(ordered, starts) * kept / sizes)) / taken - overall
    if not bool(split.any()):
        return Lift(float(np.mean(values[accepted])) - overall, expected, math.nan, np.empty(0))
    whole = float(np.sum(np.add.reduceat(ordered, starts)[kept == sizes]))
    sums = np.full(permutations, whole)
    for size, keep in np.unique(np.stack([sizes[split], kept[split]], axis=1), axis=0):
        first = starts[split & (sizes == size) & (kept == keep)]
        sums += _shuffled_sums(ordered[first[:, None] + np.arange(size)], int(keep), rng, permutations)
    return _lift(values, accepted, sums / taken - overall, expected=expected)


_NO_LIFT = Lift(math.nan, math.nan, math.nan, np.empty(0))


def _accepted_of(values: FloatArray, accepted: BoolArray) -> tuple[int, int]:
    if values.shape != accepted.shape:
        raise ValueError("expected one acceptance per trade")
    return len(values), int(np.count_nonzero(accepted))


def _lift(values: FloatArray, accepted: BoolArray, null: FloatArray, *, expected: float) -> Lift:
    value = float(np.mean(values[accepted]) - np.mean(values))
    as_far = np.count_nonzero(np.abs(null - expected) >= abs(value - expected) - TIE)
    return Lift(value, expected, (1 + int(as_far)) / (len(null) + 1), null)


def _shuffled_sums(block: FloatArray, keep: int, rng: np.random.Generator, permutations: int) -> FloatArray:
    """Sum of ``keep`` random members of each row of a (days, size) block, added over its days, many times."""
    sums = np.empty(permutations)
    step = max(1, CHUNK // block.size)
    for start in range(0, permutations, step):
        rows = min(step, permutations - start)
        shuffled = rng.permuted(np.broadcast_to(block, (rows, *block.shape)), axis=2)
        sums[start : start + rows] = shuffled[:, :, :keep].sum(axis=(1, 2))
    return sums
