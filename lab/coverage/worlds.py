"""Five worlds whose win probabilities are known, for learners of thresholds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from qscore.outcomes import BUCKETS, SCORES, TOP, Outcomes
from qscore.threshold import Clamp
from signals.bucket import Session

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

WIN_R: Final = 1.5
LOSS_R: Final = 1.0
BREAK_EVEN: Final = LOSS_R / (WIN_R + LOSS_R)
CENTRE: Final = 60.0
SPREAD: Final = 15.0
"""Scores are normal around 60 with this deviation, clipped to 0..100."""
CLAMP: Final = Clamp(40.0, 90.0)
WIN_SHAPE: Final = 9.0
LOSS_SHAPE: Final = 25.0
"""Of gamma payoffs: wins vary by a third of their mean, losses by a fifth."""
N_BUCKETS: Final = len(BUCKETS)


class World(StrEnum):
    """How much market situations differ."""

    HOMOG = "homog"
    MOD = "mod"
    STRONG = "strong"
    WEAK = "weak"
    STEP = "step"


@dataclass(frozen=True, slots=True)
class Logistic:
    """Deviations between sessions, regimes, situations and slopes, in logits, and the common slope per 15 points."""

    session: float
    regime: float
    situation: float
    slope_spread: float
    slope: float


LOGISTIC: Final = {
    World.HOMOG: Logistic(0.0, 0.0, 0.0, 0.0, 0.6),
    World.MOD: Logistic(0.25, 0.25, 0.15, 0.25, 0.6),
    World.STRONG: Logistic(0.6, 0.6, 0.4, 0.5, 0.6),
    World.WEAK: Logistic(0.12, 0.12, 0.10, 0.05, 0.18),
}
STEP_LOW: Final = 0.30
STEP_HIGH: Final = 0.55
STEP_SPREAD: Final = 7.0
"""In the step world the win rate jumps between two plateaus, at a score of each situation's own."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """One drawn world: the win probability of every situation at every whole score, shape (16, 101)."""

    probability: FloatArray

    @classmethod
    def drawn(cls, world: World, rng: np.random.Generator) -> Truth:
        """Draw the situations of a world."""
        if world is World.STEP:
            jump = rng.normal(CENTRE, STEP_SPREAD, N_BUCKETS)
            return cls(np.where(np.arange(SCORES) >= jump[:, None], STEP_HIGH, STEP_LOW))
        spread = LOGISTIC[world]
        n = len(Session)
        level = math.log(BREAK_EVEN / (1.0 - BREAK_EVEN)) + rng.normal(0.0, spread.situation, N_BUCKETS)
        level = level + np.repeat(rng.normal(0.0, spread.session, n), N_BUCKETS // n)
        level = level + np.tile(rng.normal(0.0, spread.regime, N_BUCKETS // n), n)
        slope = spread.slope + rng.normal(0.0, spread.slope_spread, N_BUCKETS)
        logit = level[:, None] + slope[:, None] * (np.arange(SCORES) - CENTRE) / SPREAD
        return cls(1.0 / (1.0 + np.exp(-logit)))

    @property
    def density(self) -> FloatArray:
        """Share of signals at each whole score, shape (101,)."""
        edges = norm.cdf((np.arange(SCORES + 1) - CENTRE) / SPREAD)
        # What is clipped lies on the ends.
        edges[0], edges[-1] = 0.0, 1.0
        found: FloatArray = np.diff(edges)
        return found

    @property
    def value_r(self) -> FloatArray:
        """Mean R per signal of accepting from each whole score on, shape (16, 101)."""
        gain = self.density * ((WIN_R + LOSS_R) * self.probability - LOSS_R)
        found: FloatArray = np.cumsum(gain[:, ::-1], axis=1)[:, ::-1]
        return found

    @property
    def best(self) -> IntArray:
        """The lowest score that breaks even in each situation, 100 if none does, shape (16,)."""
        pays = self.probability >= BREAK_EVEN - 1e-12
        return np.where(pays.any(axis=1), np.argmax(pays, axis=1), TOP).astype(np.int64)

    def records(self, n: int, rng: np.random.Generator) -> Outcomes:
        """Draw n outcomes of every situation."""
        scores = np.clip(rng.normal(CENTRE, SPREAD, (N_BUCKETS, n)), 0.0, float(TOP))
        chance = np.take_along_axis(self.probability, np.floor(scores).astype(np.int64), axis=1)
        won = rng.random((N_BUCKETS, n)) < chance
        win = rng.gamma(WIN_SHAPE, WIN_R / WIN_SHAPE, (N_BUCKETS, n))
        loss = rng.gamma(LOSS_SHAPE, LOSS_R / LOSS_SHAPE, (N_BUCKETS, n))
        names = [str(bucket) for bucket in BUCKETS for _ in range(n)]
        return Outcomes.of(scores.ravel(), won.ravel(), np.where(won, win, -loss).ravel(), names)
