"""What surrounds a signal: trading session by exchange-local clocks and volatility regime by rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import cache
from zoneinfo import ZoneInfo

from signals.bucket import Bucket, Session, VolatilityRegime

VOLATILITY_HISTORY = 500
"""How many past atr_pct values a regime is ranked among."""
VOLATILITY_MINIMUM = 100
"""With fewer the regime is ``normal`` and flagged: a rank among a handful means nothing."""


@dataclass(frozen=True, slots=True)
class SessionWindow:
    """A half-open interval [start, end) on an exchange's own wall clock."""

    session: Session
    zone: str
    start: time
    end: time
    weekdays_only: bool = False

    def holds(self, moment: datetime) -> bool:
        """Whether an aware moment lies inside the window."""
        local = moment.astimezone(_zone(self.zone))
        if self.weekdays_only and local.weekday() >= 5:
            return False
        return self.start <= local.time() < self.end


DEFAULT_SESSIONS = (
    SessionWindow(Session.US, "America/New_York", time(9, 30), time(16, 0)),
    SessionWindow(Session.EUROPEAN, "Europe/London", time(8, 0), time(16, 30)),
    SessionWindow(Session.ASIAN, "Asia/Tokyo", time(9, 0), time(18, 0)),
)
"""In order of precedence; the first window that holds the moment names the session. Crypto: every day."""


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def session_at(ts_ms: int, windows: Sequence[SessionWindow] = DEFAULT_SESSIONS) -> Session:
    """Session of a UTC moment. Zone rules, not offsets: New York and London change clocks weeks apart."""
    moment = datetime.fromtimestamp(ts_ms / 1000, tz=UTC)
    return next((window.session for window in windows if window.holds(moment)), Session.OFF)


def regime_by_rank(atr_pct: float, history: Sequence[float]) -> tuple[VolatilityRegime, bool]:
    """Regime from the share of the last 500 values strictly lower, and whether the history suffices.

    ``history`` is oldest first and holds percent values; only its last 500 count. A non-finite
    ``atr_pct`` or fewer than 100 values give ``normal`` and false.
    """
    recent = [value for value in history[-VOLATILITY_HISTORY:] if math.isfinite(value)]
    if len(recent) < VOLATILITY_MINIMUM or not math.isfinite(atr_pct):
        return VolatilityRegime.NORMAL, False
    share = sum(value < atr_pct for value in recent) / len(recent)
    if share < 0.25:
        return VolatilityRegime.LOW, True
    if share < 0.75:
        return VolatilityRegime.NORMAL, True
    if share < 0.95:
        return VolatilityRegime.HIGH, True
    return VolatilityRegime.EXTREME, True


@dataclass(frozen=True, slots=True)
class Context:
    """The bucket of a signal and whether its volatility regime was really known."""

    bucket: Bucket
    volatility_known: bool
