"""What a variable adds once the score and the market are known: a gate that re-encodes the score is unmasked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gates.intervals import UNKNOWN, Interval, z_of

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

RIDGE: Final = 1e-2
"""Prior precision of every coefficient: keeps a separated cell finite and moves no ordinary one visibly."""
STEPS: Final = 50
SETTLED: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Log-odds that passing adds, score and bucket held fast, with a 95 % interval; unknown where there is none."""

    log_odds: float
    interval: Interval


def design_of(score: FloatArray, bucket: IntArray) -> FloatArray:
    """What is held fast: a bent line of the score and one column for each bucket but the first.

    Parameters
    ----------
    score : ndarray of shape (n,), in [0, 100]; NaN is read as the mean of the others
    bucket : ndarray of int64, shape (n,), any codes

    Returns
    -------
    ndarray of shape (n, n_columns), with a column of ones
    """
    if len(score) == 0:
        return np.empty((0, 1))
    known = np.isfinite(score)
    filled = np.where(known, score, float(score[known].mean()) if known.any() else 0.0)
    spread = float(filled.std())
    line = (filled - filled.mean()) / spread if spread > 0.0 else np.zeros_like(filled)
    # Bent at its terciles: linear between, so that a score with a plateau is still held fast.
    bends = [np.maximum(line - bend, 0.0) for bend in np.unique(np.quantile(line, (1 / 3, 2 / 3)))]
    levels = np.unique(bucket)[1:]
    columns = [np.ones_like(line), line, *bends, *((bucket == level).astype(np.float64) for level in levels)]
    return np.column_stack(columns)


def adjusted_effect(passed: BoolArray, won: BoolArray, held: FloatArray) -> Effect:
    """The variable's own log-odds in a logistic regression beside what is held fast.

    Parameters
    ----------
    passed, won : ndarrays of bool, shape (n,)
    held : ndarray of shape (n, n_columns), as ``design_of`` gives it

    Returns
    -------
    Effect; unknown when one side or one class is empty

    Source: STATISTICS 3, point 5: logit P(win) = s(score) + bucket + A.
    """
    if len(won) == 0 or bool(passed.all()) or not passed.any() or bool(won.all()) or not won.any():
        return Effect(log_odds=math.nan, interval=UNKNOWN)
    design = np.column_stack((passed.astype(np.float64), held))
    weight, curve = _newton(design, won)
    try:
        variance = float(np.linalg.inv(curve)[0, 0])
    except np.linalg.LinAlgError:
        return Effect(log_odds=math.nan, interval=UNKNOWN)
    reach = z_of(0.95) * math.sqrt(variance)
    return Effect(log_odds=float(weight[0]), interval=Interval(float(weight[0]) - reach, float(weight[0]) + reach))


def _newton(design: FloatArray, won: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Coefficients, and the curvature of the penalised likelihood there."""
    weight = np.zeros(design.shape[1])
    ridge = np.full(design.shape[1], RIDGE)

    def cost(at: FloatArray) -> float:
        flow = design @ at
        return float(np.sum(np.logaddexp(0.0, flow) - won * flow) + 0.5 * np.sum(ridge * at**2))

    curve, reached = np.diag(ridge), cost(weight)
    for _ in range(STEPS):
        said = 0.5 * (1.0 + np.tanh(0.5 * (design @ weight)))
        curve = (design * (said * (1.0 - said))[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(curve, design.T @ (won - said) - ridge * weight)
        # Convex, but a full step can overshoot into the flat ends of the sigmoid.
        while cost(weight + step) > reached and float(np.abs(step).max()) > SETTLED:
            step = step / 2.0
        if float(np.abs(step).max()) <= SETTLED:
            break
        weight = weight + step
        reached = cost(weight)
    return weight, curve
