"""A market of scalps for replays that learn: every candle holds one, and a feature tells who wins, or does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lab.replay import Replayed
from learning.example import Example
from learning.fit import Candidate, FitSettings, fit_candidate
from learning.promote import Declined
from market.candles import Candles
from scorer.schema import SCALP, Schema
from scripts.replay_run import Scene
from scripts.sources import Series, strategy_settings
from signals.candle import Candle
from signals.method import SPECIFIED
from signals.profile import SCALP as SCALP_PROFILE
from signals.profile import Clamping
from signals.signal import Side, Signal
from tests.support.loop import SMALL

STEP_MS = 3_600_000
START_MS = 1_704_067_200_000
PROFILE = replace(SCALP_PROFILE, clamp=Clamping.OPEN, retrain_growth=0.5, tracking_timeframe="1h", method=SPECIFIED)
"""By the specified rule: the evidence asks for ten days of outcomes before it believes a model."""


def small_fit(examples: Sequence[Example], schema: Schema, *, seed: int, settings: FitSettings) -> Candidate | Declined:
    """The live fit with small heads: they tell the same story sooner."""
    return fit_candidate(examples, schema, seed=seed, settings=replace(settings, heads=SMALL))


def scene(seed: int, *, n: int = 420, knows: bool) -> Scene:
    """Scalps of two to one, one an hour. With ``knows`` a strong impulse wins seven times in ten, a weak one never so.

    The rule score sees nothing of it. One candle in eight ends nothing, so that the next signal is held back.
    """
    rng = np.random.default_rng(seed)
    candles, signals = [], []
    for place in range(n):
        ts = START_MS + place * STEP_MS
        strong = bool(rng.random() < 0.5)
        chance = (0.7 if strong else 0.1) if knows else 0.36
        won, idle = bool(rng.random() < chance), bool(rng.random() < 0.125)
        high, low = (100.5, 99.5) if idle else (102.5, 99.5) if won else (100.5, 98.5)
        candles.append(Candle(ts, 100.0, high, low, 100.0, 1.0))
        numbers = {feature.name: float(rng.uniform(0.2, 0.8)) for feature in SCALP.numbers}
        signals.append(
            Signal(
                id=f"s{place}",
                strategy="scalp",
                symbol="BTCUSDT",
                side=Side.LONG,
                entry=100.0,
                tp=102.0,
                sl=99.0,
                ts=ts,
                features=numbers | {"impulse_ratio": 0.9 if strong else 0.1, "volume_ratio": float(rng.choice([1, 2]))},
            )
        )
    series = Series((Candles.of("BTCUSDT", "1h", candles),), (), ())
    return Scene(PROFILE, series, signals, strategy_settings("scalp", "1h"))


def ids(replayed: Replayed) -> list[tuple[str, str, float]]:
    """What was decided and how it ended, whatever the gate said."""
    return [(trade.signal_id, trade.outcome, trade.gross_r) for trade in replayed.trades]
