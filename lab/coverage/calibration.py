"""Item 7: calibration by evidence harms nobody who is right, mends who exaggerates, and never says never."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lab.coverage.check import Check, Size, inside, rate
from learning.calibrate import fit_as_specified, fit_by_evidence
from learning.reliability import reliability
from learning.venn_abers import fit_venn_abers
from scorer.calibration import Calibrator, logistic

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

ITEM = 7
FEW_ROWS, MANY_ROWS = 150, 1_000
FRESH = 4_000
"""Forecasts on which a calibrator is judged; their true probability is known, so no outcome is drawn for them."""


def study(size: Size, seed: int) -> list[Check]:
    """Run it."""
    full = size is Size.FULL
    few, many, perfect, bounds = (50, 40, 1_000, 400) if full else (50, 10, 120, 40)
    rng = np.random.default_rng([seed, ITEM])
    small, least, most = _few_rows(rng, few)
    return [
        inside(ITEM, "150 rows: Brier calibrated minus raw, mean of worlds", small, high=0.001, n=few),
        inside(ITEM, "150 rows, isotonic as specified: the same, for comparison", _specified(rng, few), n=few),
        inside(ITEM, "slope 2, 1,000 rows: Brier saved", _exaggerating(rng, many), low=0.005, n=many),
        inside(ITEM, "lowest probability said", least, low=1e-9, n=few),
        inside(ITEM, "highest probability said", most, high=1.0 - 1e-9, n=few),
        rate(ITEM, "perfect forecaster: debiased error holds 0", _blameless(rng, perfect), perfect, low=0.93),
        _venn_abers(rng, bounds),
    ]


def _world(rng: np.random.Generator, n: int, slope: float, shift: float) -> tuple[FloatArray, BoolArray]:
    """Forecasts whose true log-odds are slope·(log-odds said) + shift."""
    logit = rng.normal(size=n) * rng.uniform(0.3, 0.8)
    return logistic(logit), rng.random(n) < logistic(slope * logit + shift)


def _excess(calibrator: Calibrator, raw: FloatArray, truth: FloatArray) -> float:
    """Brier score of calibrated minus raw forecasts: outcomes' own noise is the same in both and falls out."""
    return float(np.mean((calibrator.apply(raw) - truth) ** 2) - np.mean((raw - truth) ** 2))


def _few_rows(rng: np.random.Generator, worlds: int) -> tuple[float, float, float]:
    made, least, most = [], 1.0, 0.0
    for _ in range(worlds):
        slope, shift = rng.uniform(0.6, 1.4), 0.2 * rng.normal()
        raw, won = _world(rng, FEW_ROWS, slope, shift)
        fresh = logistic(rng.normal(size=FRESH) * 0.6)
        truth = logistic(slope * np.log(fresh / (1.0 - fresh)) + shift)
        calibrator = fit_by_evidence(raw, won)
        made.append(_excess(calibrator, fresh, truth))
        said = calibrator.apply(np.array([0.0, *fresh.tolist(), 1.0]))
        least, most = min(least, float(said.min())), max(most, float(said.max()))
    return float(np.mean(made)), least, most


def _specified(rng: np.random.Generator, worlds: int) -> float:
    made = []
    for _ in range(worlds):
        raw, won = _world(rng, FEW_ROWS, 1.0, 0.0)
        fresh = logistic(rng.normal(size=FRESH) * 0.6)
        made.append(_excess(fit_as_specified(raw, won), fresh, fresh))
    return float(np.mean(made))


def _exaggerating(rng: np.random.Generator, worlds: int) -> float:
    made = []
    for _ in range(worlds):
        logit = rng.normal(size=MANY_ROWS)
        won = rng.random(MANY_ROWS) < logistic(logit)
        fresh = rng.normal(size=FRESH)
        made.append(-_excess(fit_by_evidence(logistic(2.0 * logit), won), logistic(2.0 * fresh), logistic(fresh)))
    return float(np.mean(made))


def _blameless(rng: np.random.Generator, worlds: int) -> int:
    held = 0
    for _ in range(worlds):
        truth = logistic(rng.normal(size=400) * 0.7 - 0.3)
        found = reliability(truth, rng.random(400) < truth)
        held += found.squared_error_low <= 0.0 <= found.squared_error_high
    return held


def _venn_abers(rng: np.random.Generator, worlds: int) -> Check:
    """Averaged over fresh signals the two probabilities enclose how often such signals win."""
    bend: Callable[[FloatArray], FloatArray] = lambda logit: 0.6 * logit - 0.2  # noqa: E731 - one line of a world
    low, high, truth = [], [], []
    for _ in range(worlds):
        logit = rng.normal(size=MANY_ROWS) * 0.7
        found = fit_venn_abers(logistic(logit), rng.random(MANY_ROWS) < logistic(bend(logit)))
        fresh = rng.normal(size=200) * 0.7
        bounds = [found.bounds(p) for p in logistic(fresh).tolist()]
        low.append(float(np.mean([bound[0] for bound in bounds])))
        high.append(float(np.mean([bound[1] for bound in bounds])))
        truth.append(float(np.mean(logistic(bend(fresh)))))
    # Each world's rows win a little more or less than they should; over worlds that evens out to this much.
    slack = 3.0 * float(np.std(np.array(truth) - np.array(low))) / np.sqrt(worlds)
    inner = float(np.mean(truth))
    return inside(
        ITEM,
        "Venn-Abers: mean win rate between its mean bounds",
        inner,
        low=float(np.mean(low)) - slack,
        high=float(np.mean(high)) + slack,
        n=worlds,
    )
