"""Promise 4: intervals of paired differences, bands over thresholds, the honest best, and the ledger played again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from lab.coverage.check import Check, Size, inside, rate
from lab.day_blocks import simultaneous_band
from lab.fixed_b import Days, day_mean
from lab.replay import Replay
from lab.statistics import BoolArray, FloatArray, IntArray
from lab.whatif_nested import nested_best
from lab.whatif_sequence import replay_ledger
from market.generated import generate
from market.reference_strategies import DEFAULT_SETTINGS, proposals
from persistence.memory_store import MemoryStore
from runtime.follow import Ended
from signals.breaker import DEFAULT_THRESHOLDS
from signals.profile import SCALP

ITEM = 4
LEANING = 0.3
"""How much of a day's mood the next day keeps."""
FAR = 3.29
"""Standard errors of Monte Carlo that luck exceeds once in a thousand times."""
GRID = np.arange(5.0, 100.0, 5.0)
WORTH = 0.5
"""R that a score of 80 is worth more than one of 60, where a signal breaks even."""


def study(size: Size, seed: int) -> list[Check]:
    """Measure every part of the promise."""
    full = size is Size.FULL
    rng = np.random.default_rng([seed, ITEM])
    worlds = 2_000 if full else 300
    return [
        *(_coverage(days, worlds, rng) for days in (120, 250)),
        _coverage_of_signals(120, worlds, rng),
        *_power(worlds, rng),
        _band(1_000 if full else 60, 400 if full else 200, rng),
        *_honest_best(2_000 if full else 250, rng),
        *_ledger(12_000 if full else 3_000, seed, markets=8 if full else 2),
    ]


def _moods(days: int, deviation: float, rng: np.random.Generator) -> FloatArray:
    """Moods of days in a row, each leaning on the one before, started in their stationary state."""
    shocks = rng.normal(0.0, deviation, days)
    shocks[1:] *= math.sqrt(1.0 - LEANING**2)
    for place in range(1, days):
        shocks[place] += LEANING * shocks[place - 1]
    return shocks


def _coverage(days: int, worlds: int, rng: np.random.Generator) -> Check:
    """The plainest and hardest case: a difference that is nothing but its day's mood."""
    day = np.arange(days)
    hits = sum(day_mean(day, 0.05 + _moods(days, 1.0, rng)).interval_90.holds(0.05) for _ in range(worlds))
    return rate(ITEM, f"90 % interval of a daily paired difference, AR {LEANING}, {days} days", hits, worlds,
                low=0.87, high=0.93)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _World:
    """Signals of one history: their days, scores in [0, 100] and results in R."""

    day: IntArray
    score: FloatArray
    result: FloatArray

    @classmethod
    def draw(cls, days: int, rng: np.random.Generator, *, a_day: float = 6.0, mood: float = 0.3) -> _World:
        """Scores spread evenly; a signal is worth more the higher its score, and all of a day share its mood."""
        counts = rng.poisson(a_day, days)
        # A history has a first and a last day.
        counts[[0, -1]] = np.maximum(counts[[0, -1]], 1)
        day = np.repeat(np.arange(days), counts)
        score = rng.uniform(0.0, 100.0, len(day))
        noise = np.where(rng.random(len(day)) < 0.4, 1.5, -1.0)
        worth = WORTH * (score - 60.0) / 20.0
        return cls(day, score, worth + noise + _moods(days, mood, rng)[day])

    def accepted(self, thresholds: FloatArray) -> BoolArray:
        """What each threshold takes, shape (n, n_thresholds)."""
        return np.asarray(self.score[:, None] >= thresholds)


def _true_value(threshold: FloatArray) -> FloatArray:
    """R a signal of taking every score from a threshold on, in the mean over all worlds."""
    return np.asarray(WORTH / 20.0 * ((100.0 - 60.0) ** 2 - (threshold - 60.0) ** 2) / 200.0)


def _coverage_of_signals(days: int, worlds: int, rng: np.random.Generator) -> Check:
    """The same for signals in busy and idle days, between two thresholds."""
    pair = np.array([70.0, 50.0])
    truth = float(np.subtract(*_true_value(pair)))
    hits = 0
    for _ in range(worlds):
        world = _World.draw(days, rng)
        taken = world.accepted(pair).astype(np.float64)
        hits += day_mean(world.day, (taken[:, 0] - taken[:, 1]) * world.result).interval_90.holds(truth)
    return rate(ITEM, f"90 % interval of threshold 70 against 50, {days} days", hits, worlds, low=0.87, high=0.93)


def _power(worlds: int, rng: np.random.Generator) -> Iterator[Check]:
    """How many signals a paired comparison needs, and a split one that tries each signal under one policy only."""
    days, pair = 100, np.array([80.0, 60.0])
    found = {"paired": 0, "split": 0}
    spread = np.zeros(2)
    for _ in range(worlds):
        world = _World.draw(days, rng)
        results = world.accepted(pair) * world.result[:, None]
        gained = results[:, 0] - results[:, 1]
        found["paired"] += not day_mean(world.day, gained).interval_90.holds(0.0)
        twice = _World.draw(2 * days, rng)
        apart = twice.accepted(pair) * twice.result[:, None]
        first = rng.random(len(apart)) < 0.5
        # Twice the result under the policy that was drawn: its mean is the difference.
        drawn = 2.0 * np.where(first, apart[:, 0], -apart[:, 1])
        found["split"] += not day_mean(twice.day, drawn).interval_90.holds(0.0)
        spread += np.mean((gained - gained.mean()) ** 2), np.mean((drawn - drawn.mean()) ** 2)
    yield inside(
        ITEM, "signals a paired comparison needs, as a share of a split one's", float(spread[0] / spread[1]),
        high=0.5, n=worlds,
    )  # fmt: skip
    yield inside(
        ITEM, "power of paired with n signals minus power of split with 2 n",
        (found["paired"] - found["split"]) / worlds, low=0.0, n=worlds,
    )  # fmt: skip


def _band(worlds: int, resamples: int, rng: np.random.Generator) -> Check:
    """Whether the band holds all thresholds at once."""
    truth = _true_value(GRID)
    hits = 0
    for _ in range(worlds):
        world = _World.draw(120, rng)
        days = Days.of(world.day, world.accepted(GRID) * world.result[:, None])
        hits += simultaneous_band(days, rng=rng, resamples=resamples).holds(truth)
    return rate(ITEM, f"95 % band over {len(GRID)} thresholds, all at once, 120 days", hits, worlds,
                low=0.92, high=0.98)  # fmt: skip


def _honest_best(worlds: int, rng: np.random.Generator) -> Iterator[Check]:
    """The best threshold's stated value against its true one, chosen before and after looking."""
    truth = dict(zip(GRID.tolist(), _true_value(GRID).tolist(), strict=True))
    before, after = [], []
    for _ in range(worlds):
        world = _World.draw(60, rng, a_day=3.0)
        accepted = world.accepted(GRID)
        found = nested_best(
            thresholds=GRID,
            results=world.result,
            accepted=accepted,
            current=accepted[:, 0],
            day=world.day,
            known_day=world.day,
        )
        if found is None:
            continue
        n = sum(block.n for block in found.blocks)
        before.append(found.value.value - sum(block.n * truth[block.chosen] for block in found.blocks) / n)
        after.append(found.best_value - truth[found.best])
    for name, errors, low, high in (
        ("chosen before looking: bias in standard errors", before, -FAR, FAR),
        ("chosen after looking: bias in standard errors", after, FAR, math.inf),
    ):
        values = np.array(errors)
        distance = float(values.mean() / (values.std(ddof=1) / math.sqrt(len(values))))
        yield inside(ITEM, name, distance, low=low, high=high, n=len(values))
    yield inside(ITEM, "chosen after looking: bias, R a signal", float(np.mean(after)), low=0.0, n=len(after))


class _Desk(Replay):
    """A replay whose engine has a life of its own: partial fills that slip, fees, rebates, corrections."""

    rng: np.random.Generator

    def _ended(self, ended: Ended) -> None:
        closed, name = ended.closed, ended.position.signal_id
        if not (ended.twin and closed.entered):
            super()._ended(ended)
            return
        said = {"signal_id": name, "ts": closed.exit_ms, "currency": "USD"}
        entry = closed.terms.entry
        for part in range(int(self.rng.integers(0, 4))):
            price, quantity = entry * (1.0 + self.rng.normal(0.0, 2e-4)), self.rng.uniform(0.1, 3.0)
            fill = {
                "price": price,
                "quantity": quantity,
                "fee": self.rng.normal(0.01, 0.02),
                "venue_id": f"{name}-{part}",
            }
            self._reports.fill(said | fill)
        close = {"price": closed.exit_price * (1.0 + self.rng.normal(0.0, 2e-4)), "reason": "manual", "fee": 0.013}
        self._reports.close(said | close)
        if self.rng.random() < 0.2:
            self._reports.close(said | close | {"price": closed.exit_price})
        self._on_end(name)


def _ledger(candles: int, seed: int, *, markets: int) -> Iterator[Check]:
    """Whether the current policy with recorded fills plays again to the ledger, decision by decision."""
    signals = endings = differences = 0
    for number in range(markets):
        series = generate(seed * 100 + number, symbol=f"GEN{number}USDT", candles=candles, gaps=True)
        settings = replace(DEFAULT_SETTINGS["scalp"], cooldown_candles=0)
        profile = replace(SCALP, limits=replace(SCALP.limits, open_positions=2, daily_loss_r=3.0), costs_bps=4.0)
        store = MemoryStore("replay")
        breakers = replace(DEFAULT_THRESHOLDS, losing_streak=4, drawdown_r=6.0)
        desk = _Desk(profile, limits=True, breakers=breakers, store=store)
        desk.rng = np.random.default_rng([seed, number])
        desk.run([series], proposals("scalp", series, None, settings))
        found = replay_ledger(store.facts, {"scalp": profile})
        signals, endings = signals + found.signals, endings + found.endings
        differences += len(found.differences)
    yield inside(ITEM, "differences between the ledger and the record played again", differences, high=0.0, n=endings)
    yield inside(ITEM, "signals whose ledger was played again", signals, low=10.0, n=markets)
