"""From out-of-fold forecasts to a calibrator, and to figures it cannot have bought by seeing the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression

from learning.split import Fold
from scorer.calibration import INSIDE, Beta, Calibrator, Isotonic, logistic
from signals.method import Method

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
CalibratorFit = Callable[[FloatArray, BoolArray], Calibrator]

FEW_FOR_BETA = 300
FEW_FOR_ISOTONIC = 2_000
_NEWTON_STEPS = 50
_SMALLEST_STEP = 1e-10
_RIDGE = 1.0
"""Prior weight, in records, that keeps a coefficient finite when the forecasts separate the classes."""


def fit_isotonic(raw: FloatArray, won: BoolArray) -> Isotonic:
    """Least-squares non-decreasing fit, each step drawn towards the base rate by one record.

    So a step of three losses says 0.1 and not 0: neither 0 nor 1 ever appears.

    Parameters
    ----------
    raw : ndarray of shape (n,), out-of-fold probabilities in [0, 1]
    won : ndarray of bool, shape (n,), both classes

    Raises
    ------
    ValueError : if the shapes differ or a class is absent

    Source: Zadrozny and Elkan (2002), KDD, 694-699; the pseudo-record is STATISTICS 6.
    """
    _check(raw, won)
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(raw, won.astype(np.float64))
    knots = np.asarray(fitted.X_thresholds_, dtype=np.float64)
    levels, step, size = np.unique(fitted.predict(raw), return_inverse=True, return_counts=True)
    drawn = (levels * size + won.mean()) / (size + 1)
    # A large step keeps its level and a small one does not, so that neighbours can change places: fit them once more.
    rising = IsotonicRegression().fit(np.arange(len(levels)), drawn, sample_weight=size).predict(np.arange(len(levels)))
    # Every knot is one of the rows, and takes the level of its row.
    row = np.searchsorted(np.sort(raw), knots)
    return Isotonic(knots, np.asarray(rising, dtype=np.float64)[step[np.argsort(raw, kind="stable")[row]]])


def fit_by_evidence(raw: FloatArray, won: BoolArray) -> Calibrator:
    """The method that wins at this number of records: Platt's map, from 300 the beta map, from 2,000 isotonic.

    Parameters
    ----------
    raw : ndarray of shape (n,), out-of-fold probabilities in [0, 1]
    won : ndarray of bool, shape (n,), both classes

    Raises
    ------
    ValueError : if the shapes differ or a class is absent

    Source: STATISTICS 6 (re-analysis of CalArena, arXiv:2605.30188); Platt (1999); Kull et al. (2017).
    """
    _check(raw, won)
    if len(won) >= FEW_FOR_ISOTONIC:
        return fit_isotonic(raw, won)
    inside = np.clip(raw, INSIDE, 1.0 - INSIDE)
    win, lose = np.log(inside), -np.log1p(-inside)
    if len(won) >= FEW_FOR_BETA:
        (rise, fall), shift = _log_odds_fit(np.stack((win, lose), axis=1), won)
        if rise >= 0.0 and fall >= 0.0:
            return Beta(rise, fall, shift)
        # One side bends the wrong way: the map must not fall, so that side is left out.
        (slope,), shift = _log_odds_fit((win if fall < 0.0 else lose)[:, None], won)
        return Beta(max(slope, 0.0), 0.0, shift) if fall < 0.0 else Beta(0.0, max(slope, 0.0), shift)
    (slope,), shift = _log_odds_fit((win + lose)[:, None], won)
    # Worse than no ranking at all: a flat map at the base rate is the best monotone one.
    return Beta(slope, slope, shift) if slope >= 0.0 else _flat(won)


def fit_for(method: Method) -> CalibratorFit:
    """The fit of a method.

    Parameters
    ----------
    method : ``spec`` (isotonic) or ``evidence``
    """
    return fit_isotonic if method is Method.SPEC else fit_by_evidence


def cross_calibrated(
    raw: FloatArray, won: BoolArray, folds: Sequence[Fold], fit: CalibratorFit, *, min_class: int
) -> FloatArray | None:
    """Calibrate each block by a calibrator fitted on the other blocks' rows, purged as the heads were.

    Parameters
    ----------
    raw : ndarray of shape (n,), out-of-fold probabilities, NaN where a fold gave no row
    won : ndarray of bool, shape (n,)
    folds : the folds the heads were trained on
    fit : how a calibrator is made from out-of-fold rows
    min_class : fewest wins, and fewest losses, each calibrator needs

    Returns
    -------
    ndarray of shape (n,), NaN where ``raw`` is; none if a block's calibrator would have too few rows

    Source: STATISTICS 6 and 8.2.
    """
    out = np.full(len(raw), np.nan)
    answered = np.isfinite(raw)
    for fold in folds:
        test, train = fold.test[answered[fold.test]], fold.train[answered[fold.train]]
        if len(test) == 0:
            continue
        wins = int(won[train].sum())
        if min(wins, len(train) - wins) < min_class:
            return None
        out[test] = fit(raw[train], won[train]).apply(raw[test])
    return out


def _check(raw: FloatArray, won: BoolArray) -> None:
    if raw.shape != won.shape or raw.ndim != 1:
        raise ValueError("one forecast for each outcome")
    if not won.any() or won.all():
        raise ValueError("a calibrator needs both classes")
    if not np.all((raw >= 0.0) & (raw <= 1.0)):
        raise ValueError("forecasts must lie in [0, 1]")


def _flat(won: BoolArray) -> Beta:
    share = float(won.mean())
    return Beta(0.0, 0.0, float(np.log(share) - np.log1p(-share)))


def _log_odds_fit(columns: FloatArray, won: BoolArray) -> tuple[list[float], float]:
    """Logistic regression by Newton's method, drawn weakly towards the identity map: slopes and shift."""
    design = np.column_stack((columns, np.ones(len(won))))
    # The heads speak in probabilities already, so the prior is "leave them as they are", not "know nothing".
    prior = np.append(np.ones(columns.shape[1]), 0.0)
    ridge = np.append(np.full(columns.shape[1], _RIDGE), 1e-6)

    def cost(weight: FloatArray) -> float:
        # ln(1 + exp(x)) − won·x without overflow.
        flow = design @ weight
        return float(np.sum(np.logaddexp(0.0, flow) - won * flow) + 0.5 * np.sum(ridge * (weight - prior) ** 2))

    weight = np.zeros(len(prior))
    reached = cost(weight)
    for _ in range(_NEWTON_STEPS):
        said = logistic(design @ weight)
        slope = design.T @ (won - said) - ridge * (weight - prior)
        curve = (design * (said * (1.0 - said))[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(curve, slope)
        # The cost is convex, but a full step can overshoot into the flat ends of the sigmoid.
        while cost(weight + step) > reached and float(np.abs(step).max()) > _SMALLEST_STEP:
            step = step / 2.0
        if float(np.abs(step).max()) <= _SMALLEST_STEP:
            break
        weight = weight + step
        reached = cost(weight)
    return [float(value) for value in weight[:-1]], float(weight[-1])
