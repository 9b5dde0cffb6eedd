"""Where non-decreasing fits of many cells first reach a level, without fitting them one by one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qscore.estimate import TOLERANCE
from qscore.outcomes import SCORES

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

NEVER = SCORES
"""One above the highest score: the level is not reached."""


def crossings(total: FloatArray, weight: FloatArray, level: FloatArray) -> IntArray:
    """The smallest whole score whose isotonic mean reaches a level, for many sets of cells at once.

    The isotonic fit reaches a level from the cell on at which the sum of (total - level * weight) over it and all
    above is largest; between that cell and the one below the curve is linear, outside the cells flat, and it is
    clipped to [0, 1]. Cells of weight 0 do not exist.

    Parameters
    ----------
    total : ndarray of shape (..., 101), weighted sum of labels in each cell
    weight : ndarray of shape (..., 101), >= 0
    level : ndarray of shape (...), in [0, 1]

    Returns
    -------
    ndarray of int64, shape (...), in 0..101; 101 where no score reaches the level, or there is no record

    Source: the min-max formula of isotonic regression, Barlow et al. (1972); STATISTICS 1.1.
    """
    total, weight = np.broadcast_arrays(total, weight)
    above = np.cumsum((total - level[..., None] * weight)[..., ::-1], axis=-1)[..., ::-1]
    above = np.concatenate([above, np.zeros_like(above[..., :1])], axis=-1)
    # Sums that are equal on paper differ by rounding: the lowest of them is the one that counts.
    slack = TOLERANCE * (1.0 + weight.sum(axis=-1))[..., None]
    start = np.argmax(above >= above.max(axis=-1, keepdims=True) - slack, axis=-1)
    score = np.arange(SCORES)
    held = weight > 0.0
    right = np.min(np.where(held & (score >= start[..., None]), score, NEVER), axis=-1)
    left = np.max(np.where(held & (score < start[..., None]), score, -1), axis=-1)
    high = _least_mean(total, weight, right)
    low = -_least_mean(-total[..., ::-1], weight[..., ::-1], SCORES - 1 - left)
    high, low = np.clip(high, 0.0, 1.0), np.clip(low, 0.0, 1.0)
    rise = high - low
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(rise > 0.0, np.clip((level - TOLERANCE - low) / rise, 0.0, 1.0), 1.0)
    between = np.ceil(left + share * (right - left) - 1e-9)
    found = np.where(right == NEVER, NEVER, np.where(left < 0, 0, np.minimum(between, right)))
    return found.astype(np.int64)


def _least_mean(total: FloatArray, weight: FloatArray, start: IntArray) -> FloatArray:
    """The least mean of cells from ``start`` up to any other; 0 where there is no cell from there on."""
    inside = np.arange(SCORES) >= start[..., None]
    sums = np.cumsum(np.where(inside, total, 0.0), axis=-1)
    weights = np.cumsum(np.where(inside, weight, 0.0), axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(weights > 0.0, sums / weights, np.inf)
    least = np.min(means, axis=-1)
    return np.where(np.isfinite(least), least, 0.0)
