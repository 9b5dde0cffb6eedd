"""Generated scalps whose outcomes depend on their features: for benchmarks, and nothing about a market."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from learning.example import Example
from scorer.encoding import model_features
from scorer.schema import SCALP
from signals.bucket import Session, VolatilityRegime
from signals.profile import Kind
from signals.signal import Side

STRATEGY = "scalp"
STEP_MS = 300_000
APART_MS = 2 * STEP_MS
ENTRY, TARGET, STOP = 100.0, 102.0, 99.0
REWARD_R = (TARGET - ENTRY) / (ENTRY - STOP)
EDGE = 2.0
"""How strongly the first two features move the log-odds of a win: enough that no attempt is declined."""
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


@dataclass(frozen=True, slots=True)
class Play:
    """One signal and how it will end."""

    id: str
    symbol: str
    session: str
    regime: str
    features: dict[str, float]
    ts: int
    exit_ms: int
    won: bool

    @property
    def payload(self) -> dict[str, object]:
        """The signal as an engine sends it."""
        return {
            "id": self.id,
            "strategy": STRATEGY,
            "symbol": self.symbol,
            "side": "long",
            "entry": ENTRY,
            "tp": TARGET,
            "sl": STOP,
            "ts": self.ts,
            "session": self.session,
            "volatility_regime": self.regime,
            "features": self.features,
        }

    @property
    def close(self) -> dict[str, object]:
        """Its end as an engine reports it."""
        price, reason = (TARGET, "tp") if self.won else (STOP, "sl")
        return {"signal_id": self.id, "price": price, "ts": self.exit_ms, "reason": reason}

    @property
    def example(self) -> Example:
        """Its end as the learner sees it."""
        net_r = REWARD_R if self.won else -1.0
        bucket = f"{self.session}|{self.regime}"
        return Example(
            id=self.id,
            strategy=STRATEGY,
            symbol=self.symbol,
            side=Side.LONG,
            features=model_features(self.features, bucket=bucket, symbol=self.symbol),
            won=self.won,
            kind=Kind.EXECUTED,
            gross_r=net_r,
            net_r=net_r,
            ts=self.ts,
            entry_ms=self.ts,
            exit_ms=self.exit_ms,
            bucket=bucket,
            score=60.0,
            heuristic_score=60.0,
            score_source="heuristic",
        )


def plays(start_ms: int, seed: int) -> Iterator[Play]:
    """Signals without end, one every ten minutes, each over before the next."""
    rng = np.random.default_rng(seed)
    sessions, regimes = [word.value for word in Session], [word.value for word in VolatilityRegime]
    start_ms -= start_ms % STEP_MS
    for number in range(10**9):
        values = rng.normal(size=len(SCALP.numbers))
        ts = start_ms + number * APART_MS
        yield Play(
            id=f"play-{number:06d}",
            symbol=SYMBOLS[int(rng.integers(len(SYMBOLS)))],
            session=sessions[int(rng.integers(len(sessions)))],
            regime=regimes[int(rng.integers(len(regimes)))],
            features={feature.name: float(value) for feature, value in zip(SCALP.numbers, values, strict=True)},
            ts=ts,
            exit_ms=ts + STEP_MS,
            won=bool(rng.random() < 1.0 / (1.0 + np.exp(-EDGE * (values[0] + 0.5 * values[1])))),
        )
