"""The rungs of the calibration ladder: each a monotone map from forecasts to probabilities, fitted to few numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

from scorer.calibration import INSIDE, Beta, Isotonic, logistic

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_NEWTON_STEPS = 50
_SMALLEST_STEP = 1e-10
_RIDGE = 1.0
"""Prior weight, in records, that keeps a coefficient finite when the forecasts separate the classes."""
SPLINE_PIECES = 6
KNOTS = 201
"""How finely a curved map is carried: between knots it is linear, and the error far below that of any fit."""
UNCHANGED = Beta(1.0, 1.0, 0.0)
"""The map that leaves forecasts as they are."""


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
    check_rows(raw, won)
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(raw, won.astype(np.float64))
    knots = np.asarray(fitted.X_thresholds_, dtype=np.float64)
    levels, step, size = np.unique(fitted.predict(raw), return_inverse=True, return_counts=True)
    drawn = (levels * size + won.mean()) / (size + 1)
    # A large step keeps its level and a small one does not, so that neighbours can change places: fit them once more.
    rising = IsotonicRegression().fit(np.arange(len(levels)), drawn, sample_weight=size).predict(np.arange(len(levels)))
    # Every knot is one of the rows, and takes the level of its row.
    row = np.searchsorted(np.sort(raw), knots)
    return Isotonic(knots, np.asarray(rising, dtype=np.float64)[step[np.argsort(raw, kind="stable")[row]]])


def fit_platt(raw: FloatArray, won: BoolArray) -> Beta:
    """Platt's map: a line in log-odds, drawn weakly towards leaving forecasts as they are.

    Parameters
    ----------
    raw : ndarray of shape (n,), out-of-fold probabilities in [0, 1]
    won : ndarray of bool, shape (n,), both classes

    Raises
    ------
    ValueError : if the shapes differ or a class is absent

    Source: Platt (1999), Advances in Large Margin Classifiers, 61-74.
    """
    check_rows(raw, won)
    win, lose = _both_logs(raw)
    (slope,), shift = _log_odds_fit((win + lose)[:, None], won)
    # Worse than no ranking at all: a flat map at the base rate is the best monotone one.
    return Beta(slope, slope, shift) if slope >= 0.0 else _flat(won)


def fit_beta(raw: FloatArray, won: BoolArray) -> Beta:
    """The beta map: log p and log(1 − p) each with a weight of its own.

    Parameters
    ----------
    raw : ndarray of shape (n,), out-of-fold probabilities in [0, 1]
    won : ndarray of bool, shape (n,), both classes

    Raises
    ------
    ValueError : if the shapes differ or a class is absent

    Source: Kull, Silva Filho, Flach (2017), Electronic Journal of Statistics 11(2), 5052-5080.
    """
    check_rows(raw, won)
    win, lose = _both_logs(raw)
    (rise, fall), shift = _log_odds_fit(np.stack((win, lose), axis=1), won)
    if rise >= 0.0 and fall >= 0.0:
        return Beta(rise, fall, shift)
    # One side bends the wrong way: the map must not fall, so that side is left out.
    (slope,), shift = _log_odds_fit((win if fall < 0.0 else lose)[:, None], won)
    return Beta(max(slope, 0.0), 0.0, shift) if fall < 0.0 else Beta(0.0, max(slope, 0.0), shift)


def fit_quadratic(raw: FloatArray, won: BoolArray) -> Isotonic | Beta:
    """A parabola in log-odds where it rises over all that was seen, else Platt's line; flat beyond what was seen.

    Parameters
    ----------
    raw : ndarray of shape (n,), out-of-fold probabilities in [0, 1]
    won : ndarray of bool, shape (n,), both classes

    Raises
    ------
    ValueError : if the shapes differ or a class is absent

    Source: STATISTICS 6 (re-analysis of CalArena, arXiv:2605.30188).
    """
    check_rows(raw, won)
    x = _log_odds(raw)
    low, high = float(x.min()), float(x.max())
    # Around the middle, or the slope and the bend are nearly one column.
    middle = 0.5 * (low + high)
    (slope, bend), shift = _log_odds_fit(np.stack((x, (x - middle) ** 2), axis=1), won, np.array([1.0, 0.0]))
    if high <= low or min(slope + 2.0 * bend * (end - middle) for end in (low, high)) < 0.0:
        return fit_platt(raw, won)
    place = np.linspace(low, high, KNOTS)
    return _carried(place, shift + slope * place + bend * (place - middle) ** 2)


def fit_spline(raw: FloatArray, won: BoolArray) -> Isotonic | Beta:
    """A broken line in log-odds that never falls, its slopes drawn towards 1; flat beyond what was seen.

    Parameters
    ----------
    raw : ndarray of shape (n,), out-of-fold probabilities in [0, 1]
    won : ndarray of bool, shape (n,), both classes

    Raises
    ------
    ValueError : if the shapes differ or a class is absent

    Source: STATISTICS 6; monotone logistic regression on ramps between quantiles, slopes bounded below by 0.
    """
    check_rows(raw, won)
    x = _log_odds(raw)
    ends = np.unique(np.quantile(x, np.linspace(0.0, 1.0, SPLINE_PIECES + 1)))
    if len(ends) < 2:
        return fit_platt(raw, won)
    design = _ramps(x, ends)
    start = np.append(np.ones(design.shape[1]), float(ends[0]))
    columns = np.column_stack((design, np.ones(len(x))))

    def cost(weight: FloatArray) -> tuple[float, FloatArray]:
        flow = columns @ weight
        prior = weight[:-1] - 1.0
        lost = float(np.sum(np.logaddexp(0.0, flow) - won * flow) + 0.5 * _RIDGE * prior @ prior)
        slope = columns.T @ (logistic(flow) - won)
        slope[:-1] += _RIDGE * prior
        return lost, slope

    bounds = [(0.0, None)] * design.shape[1] + [(None, None)]
    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds)
    weight = np.asarray(found.x, dtype=np.float64)
    place = np.union1d(np.linspace(ends[0], ends[-1], KNOTS), ends)
    return _carried(place, np.column_stack((_ramps(place, ends), np.ones(len(place)))) @ weight)


def fit_centred_isotonic(raw: FloatArray, won: BoolArray) -> Isotonic:
    """Isotonic regression whose steps stand at their centres, linear between: no plateaus, no jumps.

    Parameters
    ----------
    raw : ndarray of shape (n,), out-of-fold probabilities in [0, 1]
    won : ndarray of bool, shape (n,), both classes

    Raises
    ------
    ValueError : if the shapes differ or a class is absent

    Source: Oron and Flournoy (2017), arXiv:1701.05964.
    """
    plain = fit_isotonic(raw, won)
    levels, step = np.unique(plain.apply(raw), return_inverse=True)
    size = np.bincount(step)
    centre = np.bincount(step, raw) / size
    # Equal levels are one step by now, so centres ascend with them; rounding may still make two of them one.
    kept = np.concatenate(([True], np.diff(centre) > 0.0))
    return Isotonic(centre[kept], levels[kept])


def check_rows(raw: FloatArray, won: BoolArray) -> None:
    """Refuse rows that no calibrator can be fitted to.

    Parameters
    ----------
    raw : ndarray of shape (n,)
    won : ndarray of bool, shape (n,)

    Raises
    ------
    ValueError : if the shapes differ, a class is absent or a forecast leaves [0, 1]
    """
    if raw.shape != won.shape or raw.ndim != 1:
        raise ValueError("one forecast for each outcome")
    if not won.any() or won.all():
        raise ValueError("a calibrator needs both classes")
    if not np.all((raw >= 0.0) & (raw <= 1.0)):
        raise ValueError("forecasts must lie in [0, 1]")


def _flat(won: BoolArray) -> Beta:
    share = float(won.mean())
    return Beta(0.0, 0.0, float(np.log(share) - np.log1p(-share)))


def _both_logs(raw: FloatArray) -> tuple[FloatArray, FloatArray]:
    inside = np.clip(raw, INSIDE, 1.0 - INSIDE)
    return np.log(inside), -np.log1p(-inside)


def _log_odds(raw: FloatArray) -> FloatArray:
    win, lose = _both_logs(raw)
    return win + lose


def _ramps(x: FloatArray, ends: FloatArray) -> FloatArray:
    """How far into each piece a place lies, shape (n, n_pieces): their slopes are the coefficients."""
    return np.clip(x[:, None], ends[None, :-1], ends[None, 1:]) - ends[None, :-1]


def _carried(log_odds: FloatArray, calibrated_log_odds: FloatArray) -> Isotonic:
    """A curve in log-odds as knots in probabilities, never certain."""
    raw, said = logistic(log_odds), np.clip(logistic(calibrated_log_odds), INSIDE, 1.0 - INSIDE)
    kept = np.concatenate(([True], np.diff(raw) > 0.0))
    return Isotonic(raw[kept], np.maximum.accumulate(said[kept]))


def _log_odds_fit(columns: FloatArray, won: BoolArray, towards: FloatArray | None = None) -> tuple[list[float], float]:
    """Logistic regression by Newton's method, drawn weakly towards the identity map: slopes and shift."""
    design = np.column_stack((columns, np.ones(len(won))))
    # The heads speak in probabilities already, so the prior is "leave them as they are", not "know nothing".
    prior = np.append(np.ones(columns.shape[1]) if towards is None else towards, 0.0)
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
