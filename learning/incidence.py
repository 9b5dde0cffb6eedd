"""How positions end, and when: cumulative incidence of competing exits, open positions counted as not ended yet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

OPEN = 0
"""Code of a position that has not ended: it is only known to have lived so long."""
CAUSES = ("tp", "sl", "timeout", "other")
"""Ways a position in the market can end; ``other`` is an engine's own exit."""
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Incidence:
    """Share of positions that ended in each way by each life, Aalen–Johansen.

    ``life_ms``: int64 (k,), the distinct lives at which one ended, ascending; ``at_risk``: int64 (k,), positions that
    were still open and watched just before; ``share``: float64 (n_causes, k), in [0, 1], one row for each of
    ``causes``; ``error``: float64 (n_causes, k), its standard error. ``n`` positions, ``n_open`` of them not ended.
    """

    causes: tuple[str, ...]
    life_ms: IntArray
    at_risk: IntArray
    share: FloatArray
    error: FloatArray
    n: int
    n_open: int

    def at(self, cause: str, life_ms: int) -> float:
        """Share that ended so by a life, in [0, 1]; 0 before the first end.

        Parameters
        ----------
        cause : one of ``causes``
        life_ms : time since entry
        """
        place = int(np.searchsorted(self.life_ms, life_ms, side="right")) - 1
        return float(self.share[self.causes.index(cause), place]) if place >= 0 else 0.0

    def open_at(self, life_ms: int) -> float:
        """Share still open at a life, in [0, 1]; with the shares of all causes it makes 1."""
        return 1.0 - sum(self.at(cause, life_ms) for cause in self.causes)

    def interval(self, cause: str, life_ms: int, confidence: float = 0.95) -> tuple[float, float]:
        """Pointwise bounds of a share as if positions were independent; on log(−log), so that they stay in [0, 1].

        Parameters
        ----------
        cause : one of ``causes``
        life_ms : time since entry
        confidence : in (0, 1)

        Notes
        -----
        A share of 0 or 1 has no standard error. Wilson's bound for the number at risk at the first end stands in.

        Source: Marubini & Valsecchi (1995), Analysing Survival Data from Clinical Trials, 10.2.
        """
        z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
        row, place = self.causes.index(cause), int(np.searchsorted(self.life_ms, life_ms, side="right")) - 1
        share, error = (float(self.share[row, place]), float(self.error[row, place])) if place >= 0 else (0.0, 0.0)
        if share <= 0.0 or share >= 1.0 - 1e-12 or error <= 0.0:
            return _wilson(share, max(1, self.n - self.n_open), z)
        reach = z * error / (share * -math.log(share))
        return share ** math.exp(reach), share ** math.exp(-reach)


def _wilson(share: float, n: int, z: float) -> tuple[float, float]:
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def incidence(life_ms: IntArray, cause: IntArray, causes: Sequence[str]) -> Incidence:
    """Cumulative incidence of competing exits, open positions as censored.

    One minus a Kaplan–Meier curve that takes the other exits as censored would answer what nobody asked: how many
    would reach the target if no stop existed. Those shares add up to more than 1.

    Parameters
    ----------
    life_ms : ndarray of int, shape (n,), from entry to exit, or to now for what is open; >= 0
    cause : ndarray of int, shape (n,), 0 for open, k for ``causes[k − 1]``
    causes : names of the exits

    Returns
    -------
    Incidence; standard errors by the delta method for independent positions

    Raises
    ------
    ValueError : if the shapes differ, a life is negative or a cause has no name

    Source: Aalen & Johansen (1978), Scandinavian Journal of Statistics 5, 141-150; variance: Marubini & Valsecchi
    (1995), 10.2; STATISTICS 8.3.
    """
    if life_ms.shape != cause.shape or life_ms.ndim != 1:
        raise ValueError("one life and one cause for each position")
    if np.any(life_ms < 0) or np.any((cause < 0) | (cause > len(causes))):
        raise ValueError("lives are not negative and causes are known")
    times, place = np.unique(life_ms, return_inverse=True)
    k = len(times)
    ended = np.stack([np.bincount(place[cause == code], minlength=k) for code in range(len(causes) + 1)])
    # Of equal lives the ends come first: what is censored at that moment was still at risk.
    at_risk = len(life_ms) - np.concatenate(([0], np.cumsum(ended.sum(axis=0))[:-1])) if k else np.zeros(0, np.int64)
    deaths = ended[1:].sum(axis=0)
    there = deaths > 0
    times, at_risk, deaths = times[there], at_risk[there].astype(np.float64), deaths[there].astype(np.float64)
    ends = ended[1:, there].astype(np.float64)
    left = np.concatenate(([1.0], np.cumprod(1.0 - deaths / at_risk)))[:-1] if len(times) else np.zeros(0)
    share = np.cumsum(left * ends / at_risk, axis=1)
    return Incidence(
        tuple(causes),
        times.astype(np.int64),
        at_risk.astype(np.int64),
        share,
        _standard_error(share, left, ends, deaths, at_risk),
        len(life_ms),
        int(np.count_nonzero(cause == OPEN)),
    )


def _standard_error(
    share: FloatArray, left: FloatArray, ended: FloatArray, deaths: FloatArray, at_risk: FloatArray
) -> FloatArray:
    """Delta method; sums over earlier ends s <= t are opened up so that every t costs one step.

    Var F(t) = Σ (F(t) − F(s))² d/(n(n−d)) + Σ S(s−)² (n−d_k)d_k/n³ − 2 Σ (F(t) − F(s)) S(s−) d_k/n².
    """
    if share.shape[1] == 0:
        return share
    # The last at risk ends all at once: nothing is left to vary after it.
    hazard = np.divide(deaths, at_risk * (at_risk - deaths), out=np.zeros_like(deaths), where=at_risk > deaths)
    own = left**2 * (at_risk - ended) * ended / at_risk**3
    cross = left * ended / at_risk**2
    square = share**2 * np.cumsum(hazard) - 2.0 * share * np.cumsum(share * hazard, axis=1)
    square += np.cumsum(share**2 * hazard, axis=1)
    both = share * np.cumsum(cross, axis=1) - np.cumsum(share * cross, axis=1)
    variance: FloatArray = np.maximum(square + np.cumsum(own, axis=1) - 2.0 * both, 0.0)
    return np.sqrt(variance)


def resampled_shares(
    life_ms: IntArray,
    cause: IntArray,
    n_causes: int,
    group: IntArray,
    at_ms: int,
    *,
    rng: np.random.Generator,
    resamples: int,
) -> FloatArray:
    """Shares ended by one life over resampled groups, such as days: exits of one day share their fate.

    Parameters
    ----------
    life_ms, cause : as ``incidence`` takes them
    n_causes : how many exits there are
    group : ndarray of int, shape (n,), what is drawn whole
    at_ms : the life at which shares are wanted
    rng : seeded generator
    resamples : int >= 1

    Returns
    -------
    ndarray of shape (resamples, n_causes), in [0, 1]; NaN where a resample is empty

    Source: cluster bootstrap, Davison & Hinkley (1997), 3.8, of the Aalen–Johansen estimate.
    """
    groups, member = np.unique(group, return_inverse=True)
    order = np.lexsort((cause == OPEN, life_ms))
    life, kind, member = life_ms[order], cause[order], member[order]
    inside = life <= at_ms
    out = np.empty((resamples, n_causes))
    step = max(1, CHUNK // max(1, len(life)))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, len(groups), size=(rows, len(groups)))
        times = np.zeros((rows, len(groups)))
        np.add.at(times, (np.arange(rows)[:, None], drawn), 1.0)
        weight = times[:, member]
        # Weight still under observation just before each position's own end; ends of one moment one after another
        # give the same product as all at once.
        risk = np.cumsum(weight[:, ::-1], axis=1)[:, ::-1]
        hit = np.where((kind != OPEN) & inside, weight, 0.0)
        hazard = np.divide(hit, risk, out=np.zeros_like(hit), where=risk > 0.0)
        left = np.cumprod(1.0 - hazard, axis=1)
        before = np.concatenate((np.ones((rows, 1)), left[:, :-1]), axis=1)
        for code in range(1, n_causes + 1):
            out[start : start + rows, code - 1] = np.sum(np.where(kind == code, before * hazard, 0.0), axis=1)
        out[start : start + rows][risk[:, 0] <= 0.0] = math.nan
    return out


def code_of(exit_reason: str) -> int:
    """Code of an exit reason among ``CAUSES``, from 1; one without a name of its own is ``other``.

    Parameters
    ----------
    exit_reason : as a close records it
    """
    return CAUSES.index(exit_reason if exit_reason in CAUSES else "other") + 1
