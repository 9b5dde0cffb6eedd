"""One curve of win probability for every market situation, each leaning on the others as far as they are alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qscore.outcomes import BUCKETS, PLACES, SCORES
from signals.bucket import Session, VolatilityRegime

FloatArray = npt.NDArray[np.float64]

CENTRE: Final = 60.0
SCALE: Final = 15.0
"""Scores enter as (g - 60) / 15, so that a slope of 1 is one logit in fifteen points."""
STEP: Final[FloatArray] = np.array((np.arange(SCORES) - CENTRE) / SCALE, dtype=np.float64)
FIXED_PRECISION: Final = 1e-2
"""Of the two common terms, a normal prior of 10 logits: no say against data, but a finite fit when every label is 1."""
PRIOR_MASS: Final = 0.02
"""Twice this is what a variance is supposed to have shown before any data; it keeps one from collapsing to 0."""
START: Final = 0.1
"""Variance of every group before the first round, in squared logits."""
WIDEST: Final = 4.0
"""No variance grows beyond this, in squared logits: labels below 0 or above 1 throughout would let it grow for ever."""
ROUNDS: Final = 60
SETTLED: Final = 0.01
"""Rounds end when no variance moves by more than this share of itself."""
STEPS: Final = 40
PRECISE: Final = 1e-9
"""Newton's steps end when no parameter moves by more than this."""
DRAWN_PRECISE: Final = 0.01
HALVINGS: Final = 12


def _design() -> tuple[FloatArray, FloatArray, tuple[slice, ...]]:
    sessions, regimes, n = list(Session), list(VolatilityRegime), len(BUCKETS)
    groups, start = [], 2
    for size in (len(sessions), len(regimes), n, n):
        groups.append(slice(start, start + size))
        start += size
    level, slope = np.zeros((PLACES, start)), np.zeros((PLACES, start))
    level[:, 0] = slope[:, 1] = 1.0
    for place, bucket in enumerate(BUCKETS):
        level[place, groups[0].start + sessions.index(bucket.session)] = 1.0
        level[place, groups[1].start + regimes.index(bucket.volatility)] = 1.0
        level[place, groups[2].start + place] = 1.0
        slope[place, groups[3].start + place] = 1.0
    return level, slope, tuple(groups)


LEVEL, SLOPE, GROUPS = _design()
PARAMETERS: Final = LEVEL.shape[1]
"""mu, beta, then sessions, regimes, situations, and the situations' slopes: 42."""


def _products(left: FloatArray, right: FloatArray) -> FloatArray:
    both = left[:, :, None] * right[:, None, :]
    return (0.5 * (both + both.swapaxes(1, 2))).reshape(PLACES, PARAMETERS**2)


_SQUARES: Final = np.concatenate([_products(LEVEL, LEVEL), 2.0 * _products(LEVEL, SLOPE), _products(SLOPE, SLOPE)])


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Crossed logistic curves of several sets of records; parameters in logits, leading axis n_sets.

    ``theta`` has shape (n_sets, 42), ``covariance`` (n_sets, 42, 42) is its posterior one (Laplace), ``variance``
    (n_sets, 4) that of sessions, regimes, situations and slopes, in squared logits.
    """

    theta: FloatArray
    covariance: FloatArray
    variance: FloatArray

    @property
    def logit(self) -> FloatArray:
        """Log odds of a win by place and whole score, shape (n_sets, 17, 101)."""
        return _logit(self.theta, STEP)

    @property
    def probability(self) -> FloatArray:
        """Probability of a win, shape (n_sets, 17, 101), in (0, 1)."""
        return expit(self.logit)

    def spread(self, place_share: FloatArray) -> FloatArray:
        """Standard error of mixtures of the first set's curves, by whole score.

        Parameters
        ----------
        place_share : ndarray of shape (n_mixtures, 17), the share of each place in a mixture

        Returns
        -------
        ndarray of shape (n_mixtures, 101), unit of a probability
        """
        p = self.probability[0]
        steep = place_share[:, :, None] * (p * (1.0 - p))[None]
        gradient = np.einsum("mpg,pk->mgk", steep, LEVEL) + np.einsum("mpg,pk->mgk", steep * STEP, SLOPE)
        squared = np.sum((gradient @ self.covariance[0]) * gradient, axis=-1)
        found: FloatArray = np.sqrt(np.maximum(squared, 0.0))
        return found


def expit(value: FloatArray) -> FloatArray:
    """Probability of log odds, without overflow.

    Parameters
    ----------
    value : ndarray of any shape, logits
    """
    return 0.5 * (1.0 + np.tanh(0.5 * value))


def fit_curves(count: FloatArray, total: FloatArray) -> Curves:
    """Fit the crossed logistic curve to several sets of records at once, variances and all.

    logit pi_b(g) = mu + a_s + c_v + d_b + (beta + e_b) x_g with x_g = (g - 60)/15 and a, c, d, e normal around 0. The
    parameters are the mode of the penalised likelihood for given variances, by Newton's method; the variances the
    fixed point t_j^2 = (|theta_j|^2 + tr V_jj + 2 * 0.02) / (J_j + 2). Only sums of labels enter, so they may be
    fractions and leave [0, 1]: the log-likelihood stays concave, and the prior bounds it.

    Parameters
    ----------
    count : ndarray of shape (n_sets, 17, 101), >= 0, weight of the records in each cell
    total : ndarray of shape (n_sets, 17, 101), weighted sum of their labels

    Raises
    ------
    ValueError : if the shapes differ or a value is not finite

    Source: STATISTICS 1.2; Stiratelli, Laird, Ware (1984), Biometrics 40(4), 961-971.
    """
    if count.ndim != 3 or count.shape != total.shape or count.shape[1:] != (PLACES, SCORES):
        raise ValueError("expected a weight and a sum of labels for every place and score")
    if not (np.all(count >= 0.0) and np.all(np.isfinite(count)) and np.all(np.isfinite(total))):
        raise ValueError("weights and sums must be finite, weights not negative")
    data = _Data.of(count, total)
    theta = np.zeros((len(count), PARAMETERS))
    variance: FloatArray = np.full((len(count), len(GROUPS)), START)
    theta = data.mode(theta, variance)
    for _ in range(ROUNDS):
        covariance = _inverse(data.curvature(theta, variance))
        before, variance = variance, _variances(theta, covariance)
        theta = data.mode(theta, variance, steps=1)
        if np.all(np.abs(variance - before) <= SETTLED * before):
            break
    theta = data.mode(theta, variance)
    return Curves(theta, _inverse(data.curvature(theta, variance)), variance)


def redrawn(curves: Curves, count: FloatArray, total: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Win probability by curves drawn around the first set's: records redrawn by the caller, and the prior by this.

    The mode of redrawn records under a fixed prior varies by V - V P V only (V the posterior covariance, P the prior
    precision): curves that are shrunk move less than they may be wrong. Drawing the centre of the prior as well adds
    the V P V that is missing.

    Parameters
    ----------
    curves : Curves, whose first set is the centre; its variances are kept
    count, total : ndarray of shape (n_sets, 17, 101), as for ``fit_curves``, of the redrawn records
    rng : Generator

    Returns
    -------
    ndarray of shape (n_sets, 17, 101), in (0, 1)

    Source: Bardsley, Solonen, Haario, Laine (2014), SIAM Journal on Scientific Computing 36(4), A1895-A1910.
    """
    sets = len(count)
    start = np.repeat(curves.theta[:1], sets, axis=0)
    # A drawn threshold is needed to the point, not its curve's parameters to the ninth digit.
    theta = _Data.of(count, total).mode(start, np.repeat(curves.variance[:1], sets, axis=0), precise=DRAWN_PRECISE)
    centre = rng.standard_normal(theta.shape) * np.sqrt(penalty(curves.variance[:1]))
    return expit(_logit(theta + centre @ curves.covariance[0], STEP))


def _logit(theta: FloatArray, step: FloatArray) -> FloatArray:
    return (theta @ LEVEL.T)[:, :, None] + (theta @ SLOPE.T)[:, :, None] * step


def _inverse(curvature: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.inv(curvature), dtype=np.float64)


def _variances(theta: FloatArray, covariance: FloatArray) -> FloatArray:
    told = [
        (
            np.sum(theta[:, group] ** 2, axis=1)
            + np.trace(covariance[:, group, group], axis1=1, axis2=2)
            + 2.0 * PRIOR_MASS
        )
        / (group.stop - group.start + 2)
        for group in GROUPS
    ]
    found: FloatArray = np.minimum(np.stack(told, axis=1), WIDEST)
    return found


def penalty(variance: FloatArray) -> FloatArray:
    """Precision of each parameter, shape (n_sets, 42), in 1/logits².

    Parameters
    ----------
    variance : ndarray of shape (n_sets, 4), > 0
    """
    sizes = [group.stop - group.start for group in GROUPS]
    fixed = np.full((len(variance), 2), FIXED_PRECISION)
    return np.concatenate([fixed, np.repeat(1.0 / variance, sizes, axis=1)], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class _Data:
    """Sums of labels on the scores that occur; the others would only cost time."""

    count: FloatArray
    total: FloatArray
    step: FloatArray

    @classmethod
    def of(cls, count: FloatArray, total: FloatArray) -> _Data:
        used = np.flatnonzero(count.sum(axis=(0, 1)) > 0.0)
        return cls(count[:, :, used], total[:, :, used], STEP[used])

    def value(self, theta: FloatArray, variance: FloatArray) -> FloatArray:
        """Penalised log-likelihood, shape (n_sets,)."""
        eta = _logit(theta, self.step)
        likelihood = self.total * eta - self.count * np.logaddexp(0.0, eta)
        found: FloatArray = np.sum(likelihood, axis=(1, 2)) - 0.5 * np.sum(penalty(variance) * theta**2, axis=1)
        return found

    def slope(self, theta: FloatArray, variance: FloatArray) -> FloatArray:
        """Its gradient, shape (n_sets, 42)."""
        return self._slope(theta, variance, expit(_logit(theta, self.step)))

    def _slope(self, theta: FloatArray, variance: FloatArray, p: FloatArray) -> FloatArray:
        left = self.total - self.count * p
        found: FloatArray = np.sum(left, axis=-1) @ LEVEL + (left @ self.step) @ SLOPE - penalty(variance) * theta
        return found

    def curvature(self, theta: FloatArray, variance: FloatArray) -> FloatArray:
        """Minus its second derivative, shape (n_sets, 42, 42), positive definite."""
        return self._curvature(variance, expit(_logit(theta, self.step)))

    def _curvature(self, variance: FloatArray, p: FloatArray) -> FloatArray:
        information = self.count * p * (1.0 - p)
        powers = np.stack([np.ones_like(self.step), self.step, self.step**2], axis=1)
        moments = np.swapaxes(information @ powers, 1, 2).reshape(len(p), -1)
        found: FloatArray = (moments @ _SQUARES).reshape(-1, PARAMETERS, PARAMETERS)
        diagonal = np.arange(PARAMETERS)
        found[:, diagonal, diagonal] += penalty(variance)
        return found

    def mode(
        self, theta: FloatArray, variance: FloatArray, *, steps: int = STEPS, precise: float = PRECISE
    ) -> FloatArray:
        """Where the penalised log-likelihood is largest; each step is halved until it does not lose."""
        value = self.value(theta, variance)
        for _ in range(steps):
            p = expit(_logit(theta, self.step))
            move = np.linalg.solve(self._curvature(variance, p), self._slope(theta, variance, p)[:, :, None])[:, :, 0]
            tried = theta + move
            reached = self.value(tried, variance)
            for _ in range(HALVINGS):
                lost = reached < value - 1e-9 * (1.0 + np.abs(value))
                if not np.any(lost):
                    break
                move = np.where(lost[:, None], 0.5 * move, move)
                tried = theta + move
                reached = self.value(tried, variance)
            theta, value = tried, reached
            if np.max(np.abs(move)) <= precise:
                break
        return theta
