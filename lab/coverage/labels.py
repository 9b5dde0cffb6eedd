"""Honest labels where the truth is known: intervals, ambiguity, regret of dropping timeouts, incidence, maturity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from lab.coverage.check import Check, Size, inside, rate
from lab.honest import honest_threshold, lowest_paying, specified_threshold
from lab.statistics import Interval, percentile_interval, resample_days
from lab.trade import BoolArray, FloatArray, IntArray
from learning.incidence import OPEN, incidence
from learning.labels import ambiguity_bounds, censoring_weights, honest_labels, mature
from qscore.estimate import estimate
from qscore.outcomes import TOP

ITEM = 3
STEPS = 60
"""Moves until the deadline."""
TARGET_R = 2.0
DEADLINE_MS = STEPS * 600_000
CAUSES = ("tp", "sl", "timeout")


@dataclass(frozen=True, slots=True)
class Market:
    """A walk between a stop at −1 R and a target at +2 R whose drift rises with the score.

    One signal in three meets a quiet market that seldom reaches a barrier; ``tilt`` is how its drift differs from that
    of the others: timeouts lose where it is negative and gain where it is positive.
    """

    tilt: float

    def moves(self, score: FloatArray, quiet: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Chances that a step goes up, and that there is a step at all, shape (n,)."""
        pull = 0.022 * (score - 60.0) / 15.0
        return 0.5 + np.where(quiet, pull + self.tilt, pull), np.where(quiet, 0.10, 0.75)


QUIET = 1 / 3
STEP_R = 0.25
LOW, HIGH = -4, 8
"""Barriers in steps."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Outcomes of a market: scores, results in R at the mark, codes of ``CAUSES``, lives in ms."""

    score: FloatArray
    net_r: FloatArray
    cause: IntArray
    life_ms: IntArray

    @property
    def won(self) -> BoolArray:
        """Where the target was reached."""
        return np.equal(self.cause, 1)

    @property
    def decisive(self) -> BoolArray:
        """Where a barrier was."""
        return self.cause < 3


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What a market does at each whole score, from its transition matrix: no draw is involved.

    ``mean_r``: shape (101,); ``ended``: shape (101, 3, STEPS + 1), chance to have ended in each way by each step.
    """

    mean_r: FloatArray
    ended: FloatArray

    @classmethod
    def of(cls, market: Market) -> Truth:
        """Carry the distribution of every score through the deadline, in both kinds of market."""
        (loud_r, loud), (quiet_r, quiet) = (cls._kind(market, np.full(TOP + 1, quiet)) for quiet in (False, True))
        return cls((1.0 - QUIET) * loud_r + QUIET * quiet_r, (1.0 - QUIET) * loud + QUIET * quiet)

    @staticmethod
    def _kind(market: Market, quiet: BoolArray) -> tuple[FloatArray, FloatArray]:
        up, stir = market.moves(np.arange(TOP + 1, dtype=np.float64), quiet)
        inner = HIGH - LOW - 1
        at = np.zeros((TOP + 1, inner))
        at[:, -LOW - 1] = 1.0
        ended = np.zeros((TOP + 1, 3, STEPS + 1))
        for step in range(1, STEPS + 1):
            rise, fall = at * (stir * up)[:, None], at * (stir * (1.0 - up))[:, None]
            ended[:, 0, step] = ended[:, 0, step - 1] + rise[:, -1]
            ended[:, 1, step] = ended[:, 1, step - 1] + fall[:, 0]
            at = at * (1.0 - stir)[:, None]
            at[:, 1:] += rise[:, :-1]
            at[:, :-1] += fall[:, 1:]
        ended[:, 2, STEPS] = at.sum(axis=1)
        marks = STEP_R * np.arange(LOW + 1, HIGH)
        mean = TARGET_R * ended[:, 0, STEPS] - ended[:, 1, STEPS] + at @ marks
        return mean, ended


def drawn(market: Market, n: int, rng: np.random.Generator) -> Drawn:
    """Walk ``n`` signals to their end, scores around 60."""
    score = np.clip(np.round(rng.normal(60.0, 14.0, size=n)), 0.0, float(TOP))
    up, stir = market.moves(score, rng.random(n) < QUIET)
    at, cause = np.zeros(n, dtype=np.int64), np.full(n, 3, dtype=np.int64)
    life = np.full(n, STEPS, dtype=np.int64)
    going = np.arange(n)
    for step in range(1, STEPS + 1):
        chance = rng.random(len(going))
        rising = chance < (stir * up)[going]
        at[going] += np.where(rising, 1, np.where(chance < stir[going], -1, 0))
        over = (at[going] >= HIGH) | (at[going] <= LOW)
        done = going[over]
        cause[done], life[done] = np.where(at[done] >= HIGH, 1, 2), step
        going = going[~over]
    return Drawn(score, np.asarray(STEP_R * at, dtype=np.float64), cause, life * (DEADLINE_MS // STEPS))


GAINING, LOSING = Market(0.06), Market(-0.06)


def study(size: Size, seed: int) -> Iterable[Check]:
    """Every promise about labels."""
    full = size is Size.FULL
    yield from expectation(1_000 if full else 120, seed)
    yield from ambiguity(1_000 if full else 120, seed)
    yield from regret(1_000 if full else 80, seed)
    yield from binary(1_000 if full else 100, seed)
    yield from shares(1_000 if full else 120, seed)
    yield from maturity(1_000 if full else 25, seed)


def expectation(worlds: int, seed: int) -> Iterable[Check]:
    """The published interval of mean R with marks, days resampled, against the market's own expectation."""
    rng, hits, spec_hits = np.random.default_rng([seed, 1]), 0, 0
    expected = float(_score_weights() @ Truth.of(LOSING).mean_r)
    for _ in range(worlds):
        world = drawn(LOSING, 600, rng)
        day = rng.integers(0, 60, size=600)
        everything = np.ones(len(day), dtype=np.bool_)
        hits += _mean_bounds(day, world.net_r, everything, rng).holds(expected)
        spec_hits += _mean_bounds(day, world.net_r, world.decisive, rng).holds(expected)
    yield rate(ITEM, "90 % interval of mean R with marks holds the truth", hits, worlds, low=0.87, high=0.93)
    # Shown beside it: how often the interval of decisive outcomes alone would have held it.
    yield inside(ITEM, "the same without timeouts (for comparison)", spec_hits / worlds, high=0.5, n=worlds)


def _mean_bounds(day: IntArray, net_r: FloatArray, mask: BoolArray, rng: np.random.Generator) -> Interval:
    columns = np.stack([net_r[mask], np.ones(int(mask.sum()))], axis=1)
    totals, n_days = resample_days(day[mask], columns, rng=rng, resamples=400)
    return percentile_interval(totals[:, 0] / totals[:, 1], n_days, confidence=0.90)


def ambiguity(worlds: int, seed: int) -> Iterable[Check]:
    """Candles that hide whether stop or target came first: the mean of what really happened lies in the bounds."""
    rng, hits = np.random.default_rng([seed, 3]), 0
    for _ in range(worlds):
        world = drawn(GAINING, 300, rng)
        hidden = (rng.random(300) < rng.uniform(0.0, 0.6)) & world.decisive
        recorded = np.where(hidden, -1.0, world.net_r)
        bounds = ambiguity_bounds(recorded, np.where(hidden, TARGET_R, recorded), hidden)
        hits += bounds.holds(float(np.mean(world.net_r)))
    yield inside(ITEM, "stop-first and target-first bounds hold the truth", hits / worlds, low=1.0, high=1.0, n=worlds)


def regret(worlds: int, seed: int) -> Iterable[Check]:
    """What each threshold leaves of the best one's expectation at n = 2000, timeouts losing and timeouts gaining."""
    for number, (name, market) in enumerate((("lose", LOSING), ("gain", GAINING))):
        rng, lost = np.random.default_rng([seed, 4, number]), np.zeros((worlds, 2))
        truth = Truth.of(market)
        weight = _score_weights()
        value = np.append(np.cumsum((weight * truth.mean_r)[::-1])[::-1], 0.0)
        for place in range(worlds):
            world = drawn(market, 2_000, rng)
            dropped = specified_threshold(world.score, world.won, world.decisive, world.net_r)
            honest = honest_threshold(world.score, world.won, world.decisive, world.net_r)
            for column, found in enumerate((dropped, honest)):
                lost[place, column] = value.max() - (0.0 if found is None else value[found])
        mean = lost.mean(axis=0)
        share = mean[1] / mean[0]
        yield inside(ITEM, f"regret where timeouts {name}, as a share of dropping them", share, high=0.5, n=worlds)


def binary(worlds: int, seed: int) -> Iterable[Check]:
    """Wins and losses of one size and no timeouts: both rules must give the founding threshold, in every world."""
    rng, same = np.random.default_rng([seed, 5]), 0
    for _ in range(worlds):
        n = int(rng.integers(20, 400))
        scores = np.round(rng.uniform(0.0, 100.0, size=n), 2)
        won = rng.random(n) < rng.uniform(0.1, 0.6) + 0.3 * scores / 100.0
        won[:2] = True, False
        # Payoffs a binary fraction can hold: the sums are then exact, and so is the comparison.
        win, loss = rng.integers(1, 40) / 8.0, rng.integers(1, 40) / 8.0
        net = np.where(won, win, -loss)
        decisive, known = np.ones(n, dtype=np.bool_), estimate(scores, won, net)
        label = honest_labels(net, won, decisive, [None] * n)
        found = TOP + 1 if label is None or known.p_min is None else lowest_paying(scores, label, known.p_min)
        same += found == known.threshold == honest_threshold(scores, won, decisive, net)
    yield inside(ITEM, "binary outcomes: the founding threshold", same / worlds, low=1.0, high=1.0, n=worlds)


def shares(worlds: int, seed: int) -> Iterable[Check]:
    """Aalen–Johansen with a third of the positions still open, against the market's own shares at half its deadline."""
    rng, hits = np.random.default_rng([seed, 6]), dict.fromkeys(CAUSES[:2], 0)
    weight, at_ms = _score_weights(), DEADLINE_MS // 2
    truth = np.tensordot(weight, Truth.of(GAINING).ended[:, :, STEPS // 2], axes=1)
    for _ in range(worlds):
        world = drawn(GAINING, 400, rng)
        watched = rng.integers(DEADLINE_MS // 20, 2 * DEADLINE_MS, size=400)
        still = watched < world.life_ms
        found = incidence(np.where(still, watched, world.life_ms), np.where(still, OPEN, world.cause), CAUSES)
        for place, cause in enumerate(hits):
            low, high = found.interval(cause, at_ms, 0.90)
            hits[cause] += low <= truth[place] <= high
    for cause, count in hits.items():
        yield rate(ITEM, f"90 % interval of the incidence of {cause}", count, worlds, low=0.87, high=0.93)


def maturity(worlds: int, seed: int) -> Iterable[Check]:
    """Bias of mean R, in R, when learning as soon as positions close: naive, with the cut-off, with weights."""
    rng, bias = np.random.default_rng([seed, 7]), np.zeros((worlds, 3))
    expected = float(_score_weights() @ Truth.of(GAINING).mean_r)
    # Signals of two deadlines only: as after a start, or in a short window.
    now = 2 * DEADLINE_MS
    for place in range(worlds):
        world = drawn(GAINING, 1_500, rng)
        entry = rng.integers(0, now, size=1_500)
        exit_ = entry + world.life_ms
        closed = exit_ <= now
        seen = censoring_weights(entry[closed], exit_[closed], entry[~closed], now_ms=now)
        grown = mature(entry, horizon_ms=DEADLINE_MS, now_ms=now)
        bias[place] = (
            float(np.mean(world.net_r[closed])) - expected,
            float(np.mean(world.net_r[grown])) - expected,
            float(np.average(world.net_r[closed], weights=seen)) - expected,
        )
    mean, error = bias.mean(axis=0), bias.std(axis=0, ddof=1) / worlds**0.5
    names = ("cut-off", "inverse probability weights")
    yield inside(ITEM, "naive bias against its standard error", abs(mean[0]) / error[0], low=4.0, n=worlds)
    for column, name in enumerate(names, start=1):
        yield inside(
            ITEM, f"bias with {name} against its standard error", abs(mean[column]) / error[column], high=4.0, n=worlds
        )
        yield inside(
            ITEM, f"bias with {name} as a share of the naive one", abs(mean[column] / mean[0]), high=0.5, n=worlds
        )


def _score_weights() -> FloatArray:
    """Chance of each whole score, shape (101,)."""
    edges = np.concatenate(([-np.inf], np.arange(TOP) + 0.5, [np.inf]))
    return np.asarray(np.diff(norm.cdf(edges, 60.0, 14.0)), dtype=np.float64)
