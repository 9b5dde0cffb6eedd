"""Does the ensemble by evidence keep its promises: no harm where little is to be learned, skill where there is some?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lab.coverage.check import Check, Size, inside, rate
from learning.example import Example
from learning.fit import Candidate, FitSettings, fit_candidate
from learning.members import HeadSettings
from learning.metrics import Metrics, measure
from learning.promote import Decline, Declined
from scorer.calibration import logistic
from scorer.schema import TREND
from signals.method import Method
from signals.profile import Kind
from signals.signal import FeatureValue, Side

FloatArray = npt.NDArray[np.float64]

ITEM = 12
DAY_MS = 86_400_000
START_MS = 1_600_000_000_000
PER_DAY = 20
LONGEST_LIFE_MS = 6 * 3_600_000
BASE_LOG_ODDS = -0.3
N_SPEAKING = 12
"""Columns that move the log-odds; the other twenty say nothing."""
SPREAD = 0.55
"""Standard deviation of the true log-odds: a Bayes AUC of about 0.65."""
TURN_ROWS = 15_000
"""Rows over which what is rewarded turns by a radian."""
CURVED = 0.5
"""Share of the variance that no straight line sees: products and kinks."""
NEXT_ROWS = 10_000
SMALL_HEADS = HeadSettings(forest_trees=32, forest_depth=5, boosting_trees=40, network_epochs=40)


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Outcomes in the order of time, and the true win probability of each, shape (n,)."""

    examples: tuple[Example, ...]
    truth: FloatArray


def low_signal_world(n: int, rng: np.random.Generator, *, spread: float = SPREAD) -> World:
    """A market that pays a little for a few things, and not for the same ones for long."""
    columns = rng.normal(size=(n, len(TREND.numbers)))
    angle = np.arange(n) / TURN_ROWS
    now, later = (_strengths(rng) for _ in range(2))
    speaking = columns[:, :N_SPEAKING]
    straight = np.cos(angle) * (speaking @ now) + np.sin(angle) * (speaking @ later)
    curved = (speaking[:, 0] * speaking[:, 1] + (np.abs(speaking[:, 2]) - 0.798) / 0.603) / np.sqrt(2.0)
    log_odds = BASE_LOG_ODDS + spread * (np.sqrt(1.0 - CURVED) * straight + np.sqrt(CURVED) * curved)
    truth = logistic(log_odds)
    won = rng.random(n) < truth
    life_ms = rng.integers(1, LONGEST_LIFE_MS // 60_000, size=n) * 60_000
    entry_ms = START_MS + np.arange(n) * (DAY_MS // PER_DAY)
    names = [feature.name for feature in TREND.numbers]
    sessions, regimes = rng.integers(0, 4, size=n), rng.integers(0, 4, size=n)
    rows = []
    for place in range(n):
        features: dict[str, FeatureValue] = dict(zip(names, columns[place].tolist(), strict=True))
        features["session"] = ("us", "european", "asian", "off")[sessions[place]]
        features["volatility_regime"] = ("low", "normal", "high", "extreme")[regimes[place]]
        began = int(entry_ms[place])
        rows.append(
            Example(
                id=f"w{place:06d}",
                strategy="trend",
                symbol=f"S{place % 8}",
                side=Side.LONG,
                features=features,
                won=bool(won[place]),
                kind=Kind.PHANTOM,
                gross_r=1.5 if won[place] else -1.0,
                net_r=1.5 if won[place] else -1.0,
                ts=began,
                entry_ms=began,
                exit_ms=began + int(life_ms[place]),
            )
        )
    return World(tuple(rows), truth)


def _strengths(rng: np.random.Generator) -> FloatArray:
    drawn = rng.normal(size=N_SPEAKING)
    return np.asarray(drawn / np.sqrt(drawn @ drawn), dtype=np.float64)


def fitted(given: Sequence[Example], method: Method, *, heads: HeadSettings | None = None, seed: int = 1) -> Candidate:
    """What a method would serve whatever the gate says."""
    found = fit_candidate(given, TREND, seed=seed, settings=_settings(method, heads), rule=lambda _: None)
    if isinstance(found, Declined):
        raise ValueError(f"no candidate to measure: {found.detail}")
    return found


def active(given: Sequence[Example], *, heads: HeadSettings | None = None, seed: int = 1) -> bool:
    """Whether the ensemble by evidence would be published at all."""
    found = fit_candidate(given, TREND, seed=seed, settings=_settings(Method.EVIDENCE, heads))
    if isinstance(found, Declined) and found.code not in (Decline.NO_SKILL, Decline.CONSTANT):
        raise ValueError(f"declined for another reason: {found.detail}")
    return isinstance(found, Candidate)


def _settings(method: Method, heads: HeadSettings | None) -> FitSettings:
    plain = FitSettings(ensemble=method, beside=False, neighbours=0)
    return plain if heads is None else replace(plain, heads=heads)


def next_rows(candidate: Candidate, given: Sequence[Example]) -> tuple[Metrics, dict[str, Metrics]]:
    """Figures on rows that came later, before calibration: of the whole and of each head alone."""
    matrix = candidate.encoding.matrix([TREND.vector(example.features) for example in given])
    won = np.array([example.won for example in given])
    alone = candidate.ensemble.member_probabilities(matrix)
    members = {name: measure(alone[:, place], won) for place, name in enumerate(candidate.ensemble.members)}
    return measure(candidate.ensemble.win_probabilities(matrix), won), members
