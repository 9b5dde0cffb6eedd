"""Do learned thresholds cost less than the seed rule's, are their intervals honest, and are badges deserved?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from lab.coverage.check import REJECTED_AT, Check, Size, inside, rate
from lab.coverage.worlds import CLAMP, Truth, World
from qscore.estimate import estimate
from qscore.evidence import Drawn, learn_pooled
from qscore.outcomes import BUCKETS, Outcomes
from qscore.pooled import PooledEstimate
from qscore.table import learn_table
from qscore.threshold import OPEN, ThresholdSource
from signals.method import Method
from signals.profile import ThresholdMode, ThresholdPolicy

FloatArray = npt.NDArray[np.float64]

ITEM: Final = 2
STATIC: Final = 65
SIZES: Final = (20, 50, 200, 1000)
BANDS: Final = (
    (World.MOD, 50, 0.65),
    (World.MOD, 200, 0.60),
    (World.WEAK, 50, 0.85),
    *((World.STEP, n, 1.25) for n in SIZES),
)
"""World, records per situation, and how much of the seed rule's regret there may be at most."""
INTERVALS: Final = ((World.MOD, 50), (World.MOD, 200), (World.STEP, 50), (World.STEP, 200))
LEAST_COVERAGE: Final = 0.77
"""Of intervals that are nominally 90 %: a curve that borrows is wrong in one direction where a situation is unlike the
others, and no redrawing of records shows that."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Regrets:
    """What each rule loses against the best clamped threshold, mean R per signal; one value for each replication."""

    world: World
    n: int
    oracle: FloatArray
    static: FloatArray
    seed: FloatArray
    evidence: FloatArray

    def percent(self, lost: FloatArray) -> float:
        """A rule's regret in percent of what the best thresholds earn."""
        return 100.0 * float(lost.sum() / self.oracle.sum())

    @property
    def ratio(self) -> float:
        """The evidence method's regret as a share of the seed rule's."""
        return float(self.evidence.sum() / self.seed.sum())

    @property
    def ratio_error(self) -> float:
        """Standard error of that share, over replications."""
        n = len(self.seed)
        left = (self.evidence - self.ratio * self.seed) / self.seed.mean()
        return float(np.sqrt(np.sum(left**2) / (n * max(n - 1, 1))))


def regrets(world: World, n: int, replications: int, seed: int) -> Regrets:
    """Draw worlds and let every rule choose its thresholds in each."""
    rows = []
    for replication in range(replications):
        rng = np.random.default_rng([seed, list(World).index(world), n, replication])
        truth = Truth.drawn(world, rng)
        outcomes = truth.records(n, rng)
        pooled = learn_pooled(outcomes).buckets
        value = truth.value_r
        first, last = int(CLAMP.floor), int(CLAMP.ceiling)
        best = value[:, first : last + 1].max(axis=1)
        chosen = [[STATIC] * len(BUCKETS), [_seed_choice(outcomes, place) for place in range(len(BUCKETS))]]
        chosen.append([_clamped(pooled[bucket].threshold) for bucket in BUCKETS])
        lost = [best - value[np.arange(len(BUCKETS)), thresholds] for thresholds in chosen]
        rows.append([best.mean(), *(column.mean() for column in lost)])
    oracle, static, seeds, evidence = np.array(rows).T
    return Regrets(world=world, n=n, oracle=oracle, static=static, seed=seeds, evidence=evidence)


def _seed_choice(outcomes: Outcomes, place: int) -> int:
    inside_ = outcomes.inside(place)
    return _clamped(estimate(inside_.cell.astype(np.float64), inside_.won, inside_.net_r).threshold)


def _clamped(threshold: int) -> int:
    return int(CLAMP.apply(float(threshold), ThresholdSource.QSCORE).value)


def study(size: Size, seed: int) -> Iterable[Check]:
    """Regret against the seed rule, m = 0 against the seed rule, intervals and badges."""
    full = size is Size.FULL
    yield differs(1000 if full else 100, seed)
    for world, n, most in BANDS:
        yield _regret_check(regrets(world, n, 150 if full else _few(n), seed), most)
    broken = laws_broken(100 if full else 5, seed)
    yield inside(ITEM, "curves that fall or thresholds outside the clamp", float(broken), low=0.0, high=0.0)
    for world, n in INTERVALS if full else INTERVALS[:1]:
        yield from covered(world, n, 125 if full else 6, seed)


def _few(n: int) -> int:
    return 3 if n >= 1000 else 12


def _regret_check(found: Regrets, most: float) -> Check:
    """It fails when a share this large would hardly come about by luck where the band holds."""
    name = f"regret of the evidence method over the seed rule's, {found.world} world, n = {found.n}"
    n = len(found.seed)
    bound = found.ratio + float(student.ppf(REJECTED_AT, n - 1)) * found.ratio_error
    return Check(item=ITEM, name=name, measured=found.ratio, low=-math.inf, high=most, n=n, holds=bound <= most)


def differs(sets: int, seed: int) -> Check:
    """How many random sets of records give another threshold with m = 0 than by the seed rule."""
    rng = np.random.default_rng([seed, 1])
    other = 0
    policy = ThresholdPolicy(method=Method.EVIDENCE, mode=ThresholdMode.SPEC)
    for _ in range(sets):
        n = int(rng.integers(50, 200))
        scores = rng.choice(np.round(rng.uniform(0.0, 100.0, int(rng.integers(2, 120))), 4), n)
        won = rng.random(n) < np.clip(scores / 100.0 * rng.uniform(0.2, 1.6), 0.0, 1.0)
        net_r = np.where(won, rng.gamma(4.0, 0.4, n), -rng.gamma(6.0, 0.15, n))
        names = [str(BUCKETS[place]) for place in rng.integers(0, int(rng.integers(1, 17)), n)]
        table = learn_table(scores, won, net_r, names, score_source="ensemble", w=1.0, policy=policy)
        spec = table.under(ThresholdPolicy())
        other += any(table.lookup(bucket, OPEN, 70.0) != spec.lookup(bucket, OPEN, 70.0) for bucket in BUCKETS)
    return inside(
        ITEM, "sets whose thresholds with m = 0 are not the seed rule's", float(other), low=0.0, high=0.0, n=sets
    )


def laws_broken(replications: int, seed: int) -> int:
    """How many curves fall somewhere, or lead to a threshold outside its clamp, in all worlds."""
    broken = 0
    for number, world in enumerate(World):
        rng = np.random.default_rng([seed, 2, number])
        for _ in range(max(1, replications // len(World))):
            table = learn_pooled(Truth.drawn(world, rng).records(50, rng))
            for found in (*table.buckets.values(), table.overall):
                inside_ = CLAMP.floor <= _clamped(found.threshold) <= CLAMP.ceiling
                broken += not (inside_ and bool(np.all(np.diff(found.curve) >= -1e-12)))
    return broken


def covered(world: World, n: int, replications: int, seed: int) -> Iterator[Check]:
    """How often the 90 % interval of a threshold holds the true one, and how often a badge is wrong."""
    hits = {Method.EVIDENCE: 0, Method.SPEC: 0}
    wrong = total = 0
    for found, best, value in _learned(world, n, replications, seed):
        total += 1
        for method, interval in ((Method.EVIDENCE, found.interval), (Method.SPEC, found.seed_interval)):
            hits[method] += interval is not None and interval[0] <= best <= interval[1]
        wrong += found.certified_from is not None and bool(value[found.certified_from] <= 0.0)
    where = f"{world} world, n = {n}"
    for method, low in ((Method.EVIDENCE, LEAST_COVERAGE), (Method.SPEC, 0.0)):
        name = f"90 % bootstrap interval of a threshold holds the true one, {method}, {where}"
        yield rate(ITEM, name, hits[method], total, low=low)
    yield rate(ITEM, f"situations with a badge that is wrong, {where}", wrong, total, high=0.10)


def _learned(world: World, n: int, replications: int, seed: int) -> Iterator[tuple[PooledEstimate, int, FloatArray]]:
    for replication in range(replications):
        rng = np.random.default_rng([seed, 3, list(World).index(world), n, replication])
        truth = Truth.drawn(world, rng)
        table = learn_pooled(truth.records(n, rng), drawn=Drawn(resamples=200, seed=replication))
        for place, bucket in enumerate(BUCKETS):
            yield table.buckets[bucket], int(truth.best[place]), truth.value_r[place]


def regret_table(found: Sequence[Regrets]) -> list[tuple[str, ...]]:
    """Regret in percent of the best value: world, n, static, seed, evidence, share of the seed's, its error."""
    return [
        (
            str(cell.world),
            f"{cell.n:,}",
            f"{cell.oracle.mean():.3f}",
            *(f"{cell.percent(lost):.1f}" for lost in (cell.static, cell.seed, cell.evidence)),
            f"{cell.ratio:.2f}",
            f"{cell.ratio_error:.2f}",
        )
        for cell in found
    ]
