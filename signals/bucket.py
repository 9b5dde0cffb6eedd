"""The market situation a threshold is learned for: session × volatility regime, sixteen in all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Session(StrEnum):
    """Which exchanges are open, by their own clocks."""

    US = "us"
    EUROPEAN = "european"
    ASIAN = "asian"
    OFF = "off"


class VolatilityRegime(StrEnum):
    """Where the symbol's atr_pct stands among its last 500 values. Ordered: low to extreme."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    EXTREME = "extreme"


VIX_ALIASES = {
    "zombieland": VolatilityRegime.LOW,
    "goldilocks_1": VolatilityRegime.NORMAL,
    "goldilocks_2": VolatilityRegime.HIGH,
    "chaos": VolatilityRegime.EXTREME,
}
"""The volatility labels of the Lab's founding document (seed 000) name the same four regimes."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """One of the sixteen market situations."""

    session: Session
    volatility: VolatilityRegime

    def __str__(self) -> str:
        return f"{self.session.value}|{self.volatility.value}"

    @classmethod
    def parse(cls, text: str) -> Bucket:
        """Read ``session|volatility`` back."""
        session, _, volatility = text.partition("|")
        return cls(Session(session), VolatilityRegime(volatility))
