"""How faithful phantoms are: what twins show of the bias, and what refused signals would have earned in the market."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lab.clustered import Clustered, Regression, clustered_mean, regress
from lab.prediction_powered import PredictionPowered, Tried, Untried, prediction_powered
from lab.statistics import (
    CONFIDENCE,
    RESAMPLES,
    UNKNOWN,
    Estimate,
    FloatArray,
    IntArray,
    iid_mean_interval,
    percentile_interval,
    resample_days,
)
from lab.twins import EQUAL_R, Refused, Twin, Twins
from signals.signal import Side

ENOUGH_EXPLORED = 30
"""Explored signals from which on a corrected figure has an interval, and is not called untested."""
ENOUGH_PAIRS = 30
"""Pairs from which on the residual is regressed, and entry slips and spreads are split into thirds."""
SE_FLAG = 2.0
UNTESTED = "untested below the threshold"
TESTED = "tested below the threshold"


@dataclass(frozen=True, slots=True)
class Residual:
    """Mean of live minus simulated R over some pairs, days resampled; ``se`` is that of the resampled means.

    ``flagged``: the bias is more than two standard errors from 0, so that a result of phantoms alone is off by it.
    """

    name: str
    bias_r: Estimate
    se_r: float
    flagged: bool
    live_r: float
    phantom_r: float


@dataclass(frozen=True, slots=True)
class TwinBreakdown:
    """The residual by the values of one property."""

    name: str
    rows: tuple[Residual, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """A coefficient of the residual's regression, in R per unit of its name."""

    name: str
    effect_r: Clustered


@dataclass(frozen=True, slots=True)
class Below:
    """What the signals that score alone refused would have earned, mean R after costs.

    ``phantom_r`` believes the simulation. ``transported_r`` adds the bias the regression expects of them from executed
    twins, which is ``status``: untested below the threshold, until enough were explored. ``powered`` is the estimate
    of the explored, without intervals before that; none when nothing was explored.
    """

    n: int
    phantom_r: Clustered
    transported_r: float | None
    explored: int
    powered: PredictionPowered | None
    status: str


@dataclass(frozen=True, slots=True)
class Fidelity:
    """The fidelity of a record. ``by_construction``: live and twin never differ, so that nothing here tests phantoms.

    ``sent`` counts orders that were not filled as 0 R, ``filled`` leaves them out: the difference is what waiting
    for a fill selects.
    """

    counts: dict[str, int]
    by_construction: bool
    filled: Residual
    sent: Residual
    fill_slip_r: float
    same_exit: float
    breakdowns: tuple[TwinBreakdown, ...]
    terms: tuple[Term, ...]
    below: Below

    @property
    def flagged(self) -> bool:
        """Whether results of phantoms alone are to be read with the bias in mind."""
        return self.filled.flagged or self.sent.flagged


def residual(
    name: str,
    day: IntArray,
    live_r: FloatArray,
    phantom_r: FloatArray,
    rng: np.random.Generator,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Residual:
    """The bias of phantoms from pairs of results, arrays of shape (n_pairs,)."""
    difference = live_r - phantom_r
    n = len(difference)
    columns = np.stack([difference, np.ones(n)], axis=1)
    totals, n_days = resample_days(day, columns, rng=rng, resamples=resamples)
    draws = totals[:, 0] / totals[:, 1]
    interval = percentile_interval(draws, n_days, confidence) if n > 0 else UNKNOWN
    # The resampled spread has the n-denominator; a few days would seem surer than they are.
    se = math.sqrt(n_days / (n_days - 1)) * float(np.std(draws)) if n_days > 1 else math.nan
    if n == 0:
        empty = Estimate(math.nan, UNKNOWN, UNKNOWN, 0, 0)
        return Residual(name, empty, math.nan, flagged=False, live_r=math.nan, phantom_r=math.nan)
    bias = float(np.mean(difference))
    flagged = se > 0.0 and abs(bias) > max(SE_FLAG * se, EQUAL_R)
    estimate = Estimate(bias, interval, iid_mean_interval(difference, confidence), n, n_days)
    return Residual(name, estimate, se, flagged, float(np.mean(live_r)), float(np.mean(phantom_r)))


def fidelity_of(twins: Twins, *, seed: int) -> Fidelity:
    """Everything the pairs show; ``seed`` fixes every resample."""
    pairs = twins.pairs
    filled = [pair for pair in pairs if pair.filled]
    fit = _regression(filled)
    return Fidelity(
        counts=dict(sorted(twins.counts.items())),
        by_construction=len(pairs) > 0 and all(pair.echoed for pair in pairs),
        filled=_over("filled", filled, seed),
        sent=_over("every order sent, unfilled at 0 R", pairs, seed),
        fill_slip_r=float(np.mean([pair.fill_slip_r for pair in filled])) if len(filled) > 0 else math.nan,
        same_exit=float(np.mean([pair.live_exit == pair.phantom_exit for pair in filled])) if filled else math.nan,
        breakdowns=_breakdowns(filled, seed),
        terms=() if fit is None else tuple(map(Term, fit.names, fit.coefficients)),
        below=_below(twins, filled, fit),
    )


def _over(name: str, pairs: Sequence[Twin], seed: int, label: str = "") -> Residual:
    rng = np.random.default_rng([seed, zlib.crc32(f"{label}|{name}".encode())])
    day = np.array([pair.day for pair in pairs], dtype=np.int64)
    live, phantom = (
        np.array([getattr(pair, field) for pair in pairs], dtype=np.float64) for field in ("live_r", "phantom_r")
    )
    return residual(name, day, live, phantom, rng)


def _breakdowns(pairs: Sequence[Twin], seed: int) -> tuple[TwinBreakdown, ...]:
    def by(name: str, value: Callable[[Twin], str], among: Sequence[Twin] = pairs) -> TwinBreakdown:
        groups: dict[str, list[Twin]] = {}
        for pair in among:
            groups.setdefault(value(pair), []).append(pair)
        return TwinBreakdown(name, tuple(_over(key, groups[key], seed, name) for key in sorted(groups)))

    spreads = [pair for pair in pairs if pair.spread_bps is not None]
    slips = _thirds([pair.entry_slip_r for pair in pairs], "R")
    widths = _thirds([pair.spread_bps or 0.0 for pair in spreads], "bp")
    return (
        by("session", lambda pair: pair.bucket.session.value),
        by("regime", lambda pair: pair.bucket.volatility.value),
        by("symbol", lambda pair: pair.symbol),
        by("side", lambda pair: "long" if pair.side is Side.LONG else "short"),
        by("exit", _exits),
        by("score", lambda pair: "explored" if pair.explored else "passed"),
        *(() if slips is None else (by("entry slip", lambda pair: slips(pair.entry_slip_r)),)),
        *(() if widths is None else (by("spread", lambda pair: widths(pair.spread_bps or 0.0), spreads),)),
    )


def _exits(pair: Twin) -> str:
    same = pair.live_exit == pair.phantom_exit
    return pair.live_exit if same else f"{pair.live_exit}, twin {pair.phantom_exit}"


def _thirds(values: Sequence[float], unit: str) -> Callable[[float], str] | None:
    """Names for the thirds of a property; none where there is too little to split."""
    if len(values) < ENOUGH_PAIRS:
        return None
    low, high = (float(bound) for bound in np.quantile(values, (1 / 3, 2 / 3)))
    if low >= high:
        return None
    names = f"1: to {low:.3g} {unit}", f"2: to {high:.3g} {unit}", f"3: above {high:.3g} {unit}"
    return lambda value: names[0] if value <= low else names[1] if value <= high else names[2]


@dataclass(frozen=True, slots=True)
class _Design:
    """Which columns the regression has: sessions other than the most frequent, slip and score where they differ."""

    sessions: tuple[str, ...]
    score: float

    def rows(self, found: Sequence[Twin] | Sequence[Refused]) -> FloatArray:
        rows = [
            [
                1.0,
                (one.score - self.score) / 10.0,
                one.entry_slip_r,
                *(float(one.bucket.session.value == session) for session in self.sessions),
            ]
            for one in found
        ]
        return np.array(rows, dtype=np.float64).reshape(len(rows), 3 + len(self.sessions))

    @property
    def names(self) -> tuple[str, ...]:
        sessions = (f"session {session}" for session in self.sessions)
        return (f"at score {self.score:.1f}", "per 10 score points", "per R of entry slip", *sessions)


def _design(pairs: Sequence[Twin]) -> _Design:
    sessions = [pair.bucket.session.value for pair in pairs]
    # Sorted before counted: of two equally frequent sessions always the same one is the reference.
    often = sorted(
        {name for name in sessions if sessions.count(name) >= 10}, key=lambda name: (-sessions.count(name), name)
    )
    return _Design(tuple(sorted(often[1:])), float(np.mean([pair.score for pair in pairs])))


def _regression(pairs: Sequence[Twin]) -> Regression | None:
    if len(pairs) < ENOUGH_PAIRS:
        return None
    design = _design(pairs)
    day = np.array([pair.day for pair in pairs], dtype=np.int64)
    values = np.array([pair.residual_r for pair in pairs], dtype=np.float64)
    return regress(day, values, design.rows(pairs), design.names)


def _below(twins: Twins, filled: Sequence[Twin], fit: Regression | None) -> Below:
    refused = twins.refused
    explored = [pair for pair in twins.pairs if pair.explored]
    phantom = np.array([one.phantom_r for one in refused], dtype=np.float64)
    day = np.array([one.day for one in refused], dtype=np.int64)
    transported = None
    if len(refused) > 0 and fit is not None:
        transported = float(np.mean(phantom + fit.predict(_design(filled).rows(refused))))
    enough = len(explored) >= ENOUGH_EXPLORED
    return Below(
        n=len(refused),
        phantom_r=clustered_mean(day, phantom),
        transported_r=transported,
        explored=len(explored),
        powered=_powered(explored, refused, enough=enough),
        status=TESTED if enough else UNTESTED,
    )


def _powered(explored: Sequence[Twin], refused: Sequence[Refused], *, enough: bool) -> PredictionPowered | None:
    # Only what could have been drawn says what the drawn stand for.
    others = [one for one in refused if one.propensity is not None]
    if len(explored) == 0:
        return None
    found = prediction_powered(
        Tried(
            np.array([pair.day for pair in explored], dtype=np.int64),
            np.array([pair.live_r for pair in explored], dtype=np.float64),
            np.array([pair.phantom_r for pair in explored], dtype=np.float64),
            np.array([pair.propensity for pair in explored], dtype=np.float64),
        ),
        Untried(
            np.array([one.day for one in others], dtype=np.int64),
            np.array([one.phantom_r for one in others], dtype=np.float64),
            np.array([one.propensity for one in others], dtype=np.float64),
        ),
    )
    if enough:
        return found
    return PredictionPowered(
        _without_interval(found.corrected),
        _without_interval(found.live_only),
        _without_interval(found.phantom_only),
        found.tuning,
    )


def _without_interval(found: Clustered) -> Clustered:
    return Clustered(found.value, math.nan, UNKNOWN, found.n, found.n_days)
