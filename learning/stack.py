"""How much each head counts and how far all of them are trusted, learned from rows they had not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from learning.split import Fold
from scorer.ensemble import Stack

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

PRIOR_RECORDS = 4.0
"""Of the Dirichlet prior, for each head: as if so many records had been told apart by that head alone."""
INSIDE = 1e-6
_NEWTON_STEPS = 100
_SMALLEST_STEP = 1e-10


class Stacking:
    """Weights that are not negative and sum to 1, by log-loss out of fold, then trust by the Brier score.

    The weights maximise the likelihood of the outcomes under the heads' mixture, times a Dirichlet density that
    favours equal ones. The trust is the slope of outcomes on forecasts, both less the base rate, drawn towards 0
    by its own error: ``slope − variance / slope``, inside [0, 1]. With few rows, or rows that share their time, the
    error is large and the forecast is the base rate.

    Parameters
    ----------
    prior_records : float, > 0

    Attributes
    ----------
    stack_ : Stack

    Source: Breiman (1996), Machine Learning 24, 49-64 (stacking); James and Stein (1961), fourth Berkeley Symposium,
    361-379 (the positive part of the shrinkage); STATISTICS 9 (3) and (4).
    """

    def __init__(self, prior_records: float = PRIOR_RECORDS) -> None:
        self.prior_records = prior_records

    def fit(self, said: FloatArray, won: BoolArray, *, independent: float = 1.0) -> Stacking:
        """Learn weights, base rate and trust; returns itself.

        Parameters
        ----------
        said : ndarray of shape (n, n_members), out-of-fold win probabilities
        won : ndarray of bool, shape (n,), both classes
        independent : share of the rows, in (0, 1], that counts as independent of the others

        Raises
        ------
        ValueError : if the shapes differ, a class is absent, or a number is out of range
        """
        if said.ndim != 2 or won.shape != said.shape[:1]:
            raise ValueError("one row of forecasts for each outcome")
        if not won.any() or won.all():
            raise ValueError("weights need both classes")
        if not (np.all((said >= 0.0) & (said <= 1.0)) and 0.0 < independent <= 1.0):
            raise ValueError("forecasts must lie in [0, 1], the independent share in (0, 1]")
        likelihood = np.where(won[:, None], said, 1.0 - said)
        weights = _mixture(np.clip(likelihood, INSIDE, 1.0), independent, self.prior_records)
        base = float(won.mean())
        moved, left = said @ weights - base, won.astype(np.float64) - base
        self.stack_ = Stack(weights, base, _trust(moved, left, independent))
        return self


def equal(n_members: int, base: float) -> Stack:
    """All heads alike and none of them trusted yet: the base rate.

    Parameters
    ----------
    n_members : count, >= 1
    base : win rate, in [0, 1]
    """
    return Stack(np.full(n_members, 1.0 / n_members), base, 0.0)


def cross_stacked(
    said: FloatArray,
    won: BoolArray,
    folds: Sequence[Fold],
    *,
    independent: float,
    min_class: int,
    decisive: BoolArray | None = None,
) -> FloatArray:
    """Pool each block's forecasts by weights and trust of the fold's other rows, purged as the heads were.

    With folds of an expanding walk the others are the earlier ones only, and nothing of the block is known. With
    blocked folds the heads of those others were trained on the block, so that a trace of it reaches the weights: what
    is judged walks forward. A block whose others hold too few of a class
    has no answer.

    Parameters
    ----------
    said : ndarray of shape (n, n_members), NaN where a fold gave no row
    won : ndarray of bool, shape (n,)
    folds : the folds the heads were trained on
    independent : share of the rows that counts as independent, in (0, 1]
    min_class : fewest wins, and fewest losses, each fit needs
    decisive : ndarray of bool, shape (n,); rows that are not get an answer and teach no weights

    Returns
    -------
    ndarray of shape (n,), NaN where there is no answer

    Source: STATISTICS 9 (3) and 8.9.
    """
    out = np.full(len(said), np.nan)
    answered = np.asarray(np.isfinite(said).all(axis=1), dtype=np.bool_)
    taught = answered if decisive is None else answered & decisive
    for fold in folds:
        test, train = fold.test[answered[fold.test]], fold.train[taught[fold.train]]
        wins = int(won[train].sum())
        if len(test) == 0 or min(wins, len(train) - wins) < min_class:
            continue
        out[test] = Stacking().fit(said[train], won[train], independent=independent).stack_.pooled(said[test].T)
    return out


def _mixture(likelihood: FloatArray, independent: float, prior_records: float) -> FloatArray:
    """Weights by Newton's method on the simplex; the prior is a barrier that keeps each above 0."""
    n_members = likelihood.shape[1]
    weights = np.full(n_members, 1.0 / n_members)

    def cost(at: FloatArray) -> float:
        return float(-independent * np.log(likelihood @ at).sum() - prior_records * np.log(at).sum())

    reached = cost(weights)
    # The sum of the weights is held at 1 by a multiplier, the last row of the system.
    system = np.zeros((n_members + 1, n_members + 1))
    system[:n_members, n_members] = system[n_members, :n_members] = 1.0
    for _ in range(_NEWTON_STEPS):
        share = likelihood / (likelihood @ weights)[:, None]
        slope = -independent * share.sum(axis=0) - prior_records / weights
        system[:n_members, :n_members] = independent * share.T @ share + np.diag(prior_records / weights**2)
        step = np.linalg.solve(system, np.append(-slope, 0.0))[:n_members]
        while np.any(weights + step <= 0.0) or (
            cost(weights + step) > reached and float(np.abs(step).max()) > _SMALLEST_STEP
        ):
            step = step / 2.0
        if float(np.abs(step).max()) <= _SMALLEST_STEP:
            break
        weights = weights + step
        reached = cost(weights)
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _trust(moved: FloatArray, left: FloatArray, independent: float) -> float:
    squares = float(moved @ moved)
    if squares <= 0.0:
        return 0.0
    slope = float(moved @ left) / squares
    if slope <= 0.0:
        return 0.0
    variance = float(moved**2 @ (left - slope * moved) ** 2) / squares**2 / independent
    return min(1.0, max(0.0, slope - variance / slope))
