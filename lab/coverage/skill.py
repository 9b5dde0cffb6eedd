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
from learning.skill import CONFIDENCE
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


def judged(
    given: Sequence[Example],
    later: Sequence[Example],
    method: Method,
    *,
    heads: HeadSettings | None = None,
    seed: int = 1,
) -> tuple[Metrics, dict[str, Metrics]]:
    """Figures on later rows of what a method would serve if no gate held it back: of the whole, of each head alone.

    Forecasts are those before calibration. A stack that trusts no head says the base rate, and has no heads to show.
    """
    found = fit_candidate(given, TREND, seed=seed, settings=_settings(method, heads), rule=lambda _: None)
    won = np.array([example.won for example in later])
    if isinstance(found, Declined):
        if found.code is not Decline.CONSTANT:
            raise ValueError(f"no candidate to measure: {found.detail}")
        base = np.full(len(won), np.mean([example.won for example in given]))
        return measure(base, won), {}
    matrix = found.encoding.matrix([TREND.vector(example.features) for example in later])
    alone = found.ensemble.member_probabilities(matrix)
    members = {name: measure(alone[:, place], won) for place, name in enumerate(found.ensemble.members)}
    return measure(found.ensemble.win_probabilities(matrix), won), members


def active(given: Sequence[Example], *, heads: HeadSettings | None = None, seed: int = 1) -> bool:
    """Whether the ensemble by evidence would be published at all."""
    found = fit_candidate(given, TREND, seed=seed, settings=_settings(Method.EVIDENCE, heads))
    if isinstance(found, Declined) and found.code not in (Decline.NO_SKILL, Decline.CONSTANT):
        raise ValueError(f"declined for another reason: {found.detail}")
    return isinstance(found, Candidate)


def _settings(method: Method, heads: HeadSettings | None) -> FitSettings:
    plain = FitSettings(ensemble=method, beside=False, neighbours=0)
    return plain if heads is None else replace(plain, heads=heads)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How much of each promise is put to the test: worlds, their outcomes, and the rows they are judged on."""

    harmless: tuple[int, int]
    null: tuple[int, int]
    large: tuple[int, int]
    telling: tuple[int, int]
    telling_spread: float
    streams: int
    judged: int
    heads: HeadSettings | None


_PLANS = {
    # A smoke test: fewer worlds, smaller heads, and a market that pays more, so that its bands hold for any seed.
    Size.SMALL: _Plan(
        harmless=(2, 500), null=(5, 400), large=(0, 0), telling=(1, 1_200), telling_spread=1.5,
        streams=0, judged=2_000, heads=SMALL_HEADS,
    ),
    Size.FULL: _Plan(
        harmless=(50, 500), null=(60, 500), large=(3, 10_000), telling=(10, 5_000), telling_spread=SPREAD,
        streams=12, judged=NEXT_ROWS, heads=None,
    ),
}  # fmt: skip


def study(size: Size, seed: int) -> list[Check]:
    """The skill-gated ensemble where there is little to learn, and nothing."""
    plan = _PLANS[size]
    return [_harmless(plan, seed), _null(plan, seed)]


def study_of_many_outcomes(size: Size, seed: int) -> list[Check]:
    """The same where there is enough to learn, and where it tries again and again."""
    plan = _PLANS[size]
    found = [_telling(plan, seed)]
    if plan.large[0] > 0:
        found.append(_large(plan, seed))
    if plan.streams > 0:
        found.append(_streams(plan, seed))
    return found


def _worlds(kind: int, seed: int, worlds: int, n: int, *, spread: float = SPREAD) -> list[World]:
    return [low_signal_world(n, np.random.default_rng((seed, kind, world)), spread=spread) for world in range(worlds)]


def _harmless(plan: _Plan, seed: int) -> Check:
    worlds, n = plan.harmless
    skills = []
    for world in _worlds(1, seed, worlds, n + plan.judged):
        whole, _ = judged(world.examples[:n], world.examples[n:], Method.EVIDENCE, heads=plan.heads)
        skills.append(whole.brier_skill)
    name = f"mean skill, ungated, {n} outcomes of a low-signal world"
    # Two worlds say little about a mean: in the smoke test each may err by three times as much.
    return inside(ITEM, name, float(np.mean(skills)), low=-0.01 if plan.heads is None else -0.03, n=worlds)


def _null(plan: _Plan, seed: int) -> Check:
    worlds, n = plan.null
    silent = sum(not active(world.examples, heads=plan.heads) for world in _worlds(2, seed, worlds, n, spread=0.0))
    return rate(ITEM, f"heuristic answers where there is no skill, {n} outcomes", silent, worlds, low=0.9)


def _streams(plan: _Plan, seed: int) -> Check:
    """Attempt after attempt on noise, each on all outcomes so far; small heads, because there are many attempts."""
    attempts = range(250, 1_001, 75)
    ever = sum(
        any(active(world.examples[:n], heads=SMALL_HEADS) for n in attempts)
        for world in _worlds(5, seed, plan.streams, attempts[-1], spread=0.0)
    )
    name = f"ensemble ever published without skill over {len(attempts)} attempts"
    return rate(ITEM, name, ever, plan.streams, high=1.0 - CONFIDENCE)


def _telling(plan: _Plan, seed: int) -> Check:
    worlds, n = plan.telling
    given = _worlds(3, seed, worlds, n, spread=plan.telling_spread)
    speaks = sum(active(world.examples, heads=plan.heads) for world in given)
    signal = "Bayes AUC .65" if plan.telling_spread == SPREAD else "much signal"
    return rate(ITEM, f"ensemble answers, {signal}, {n} outcomes", speaks, worlds, low=0.7)


def _large(plan: _Plan, seed: int) -> Check:
    worlds, n = plan.large
    behind = []
    for world in _worlds(4, seed, worlds, n + plan.judged):
        whole, alone = judged(world.examples[:n], world.examples[n:], Method.EVIDENCE, heads=plan.heads)
        behind.append(whole.brier_skill - max((one.brier_skill for one in alone.values()), default=0.0))
    name = f"mean skill less that of the best head in hindsight, {n} outcomes"
    return inside(ITEM, name, float(np.mean(behind)), low=-0.003, n=worlds)
