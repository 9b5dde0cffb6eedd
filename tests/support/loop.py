"""A world where a feature really tells who wins, with everything that judges, follows and trains in it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np

from learning.fit import FitSettings
from learning.members import HeadSettings
from persistence.store import ClockKind, Store
from runtime.follow import Follower
from runtime.judge import Judge
from runtime.shelf import Shelf
from runtime.train import Trainer
from scorer.schema import SCALP
from signals.candle import Candle
from signals.method import SPECIFIED
from signals.profile import SCALP as SCALP_PROFILE
from signals.profile import Clamping, Limits

STEP_MS = 300_000
START_MS = 1_704_067_200_000
KEY = hashlib.sha256(b"what the tests sign with").hexdigest().encode()
UNLIMITED = Limits(open_positions=0, per_symbol=0, executes_per_minute=0, daily_loss_r=0, daily_loss_money=0)
PROFILE = replace(SCALP_PROFILE, limits=UNLIMITED, clamp=Clamping.OPEN, method=SPECIFIED)
"""By the specified rule: the evidence asks for ten days of outcomes before it believes a model."""
PROFILES = {"scalp": PROFILE}
SMALL = HeadSettings(forest_trees=40, boosting_trees=30)


class World:
    """Scalps from 100 to 102 with a stop at 99; a strong impulse reaches the target four times in five."""

    def __init__(self, store: Store, seed: int = 1) -> None:
        self.store = store
        self.rng = np.random.default_rng(seed)
        self.judge = Judge(store, PROFILES, watch=lambda: 0.0, shelf=Shelf(store, KEY))
        self.follower = Follower(store, PROFILES)
        # The specified sizes are tried by the tests of the fit; here small heads tell the same story sooner.
        self.trainer = Trainer(store, PROFILES, KEY, settings=FitSettings(heads=SMALL))
        self.index = 0
        store.create(ClockKind.DATA, now_ms=START_MS)
        store.register("scalp", "{}", "70", first_training=50, now_ms=START_MS)

    def features(self, impulse: float) -> dict[str, float]:
        numbers = {feature.name: float(self.rng.uniform(0.2, 0.8)) for feature in SCALP.numbers}
        return numbers | {"impulse_ratio": impulse}

    def ask(self, impulse: float, **changes: Any) -> dict[str, object]:
        """A signal at the next candle's open, and its answer."""
        ts = START_MS + self.index * STEP_MS
        self.store.advance_clock(ts)
        payload = {
            "id": f"s{self.index}", "strategy": "scalp", "symbol": "BTCUSDT", "side": "long",
            "entry": 100.0, "tp": 102.0, "sl": 99.0, "ts": ts, "features": self.features(impulse),
        }  # fmt: skip
        return self.judge.judge(payload | changes).as_dict()

    def candle(self, won: bool) -> None:
        ts = START_MS + self.index * STEP_MS
        high, low = (102.5, 99.5) if won else (100.5, 98.5)
        self.follower.candle("BTCUSDT", "5m", Candle(ts, 100.0, high, low, 100.0, 1.0))
        self.index += 1

    def live(self, count: int) -> None:
        for _ in range(count):
            strong = bool(self.rng.random() < 0.5)
            self.ask(0.9 if strong else 0.1)
            self.candle(bool(self.rng.random() < (0.8 if strong else 0.2)))
