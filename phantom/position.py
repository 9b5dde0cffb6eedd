"""A followed position: its fixed terms, what the simulation knows so far, and how it ended."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from signals.errors import Invalid
from signals.profile import FillRule, Profile
from signals.reasons import Reason
from signals.signal import Side, Signal
from signals.timeframe import floor_ts

ENTRY_GRACE_MS = 5_000
"""A signal this soon after a candle opened still enters at that candle (at most a tenth of the timeframe)."""
NO_DATA_AFTER_MS = 24 * 3_600_000
"""How long after its deadline a position without candles is given up, never to be learned from."""


class Outcome(StrEnum):
    """What a closed position teaches: the first three are outcomes, the last two teach nothing."""

    WIN = "win"
    LOSS = "loss"
    TIMEOUT = "timeout"
    NO_FILL = "no_fill"
    NO_DATA = "no_data"

    @property
    def decisive(self) -> bool:
        """Whether the win/loss learner takes it."""
        return self is Outcome.WIN or self is Outcome.LOSS


class ExitReason(StrEnum):
    """Which rule ended the position."""

    TP = "tp"
    SL = "sl"
    TIMEOUT = "timeout"
    MANUAL = "manual"
    NO_FILL = "no_fill"
    NO_DATA = "no_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What never changes after the decision. Prices in quote currency, times in UTC epoch milliseconds."""

    side: Side
    entry: float
    stop_loss: float
    take_profit: float
    first_target: float | None
    entry_ms: int
    deadline_ms: int
    step_ms: int
    fill: FillRule = FillRule.ENTRY

    def __post_init__(self) -> None:
        sign = self.side.value
        if not (sign * self.stop_loss < sign * self.entry < sign * self.take_profit):
            raise Invalid(Reason.GEOMETRY_STOP, "terms", "entry must lie between stop and target")
        if self.first_target is not None and not (
            sign * self.entry < sign * self.first_target < sign * self.take_profit
        ):
            raise Invalid(Reason.GEOMETRY_TP1, "first_target")
        if self.deadline_ms <= self.entry_ms or self.step_ms <= 0:
            raise Invalid(Reason.FIELD_RANGE, "deadline_ms")

    @property
    def risk(self) -> float:
        """One R in price."""
        return abs(self.entry - self.stop_loss)

    def in_r(self, price: float) -> float:
        """Signed distance of a price from entry, in R: positive is in the trade's favour."""
        return self.side.value * (price - self.entry) / self.risk

    def in_percent(self, price: float) -> float:
        """Signed distance of a price from entry, in percent of entry."""
        return self.side.value * (price - self.entry) / self.entry * 100.0

    def cost_r(self, bps: float) -> float:
        """Round-trip costs of so many basis points of entry, in R."""
        return bps / 10_000.0 * self.entry / self.risk


@dataclass(frozen=True, slots=True)
class Track:
    """What the simulation knows after its last candle. ``best`` and ``worst`` are prices, from entry outwards."""

    last_ts: int
    stop: float
    best: float
    worst: float
    filled: bool = False
    entry_open: float = math.nan
    tp1_ms: int | None = None
    be_moved: bool = False
    candles: int = 0


@dataclass(frozen=True, slots=True)
class Position:
    """An open position: advanced candle by candle until it becomes ``Closed``."""

    terms: Terms
    track: Track

    @classmethod
    def open(cls, terms: Terms) -> Position:
        """A position that waits for the candle of its entry time."""
        return cls(terms, Track(terms.entry_ms - 1, terms.stop_loss, terms.entry, terms.entry))


@dataclass(frozen=True, slots=True)
class Closed:
    """How a position ended. ``exit_ms`` is the close time of the candle that ended it."""

    terms: Terms
    track: Track
    outcome: Outcome
    reason: ExitReason
    exit_price: float
    exit_ms: int
    gap: bool = False
    ambiguous: bool = False
    resolved: bool = False
    late_mark: bool = False
    mark_price: float | None = None

    @property
    def entered(self) -> bool:
        """Whether the position was ever in the market."""
        return self.outcome not in (Outcome.NO_FILL, Outcome.NO_DATA)

    @property
    def tp1_hit(self) -> bool:
        """Whether the first target was reached; a target reached counts."""
        return self.track.tp1_ms is not None or self.reason is ExitReason.TP

    @property
    def entry_slip_r(self) -> float:
        """How far the entry candle opened from the signal's entry, in R; positive is an adverse fill."""
        return self.terms.in_r(self.track.entry_open) if self.track.filled else 0.0

    @property
    def gross_r(self) -> float:
        """Realised R before costs, under the position's fill rule."""
        if not self.entered:
            return 0.0
        slip = self.entry_slip_r if self.terms.fill is FillRule.NEXT_OPEN else 0.0
        # A timeout is closed at the price it was entered at (the founding rule), so slippage cancels out.
        return self.terms.in_r(self.exit_price) - (0.0 if self.outcome is Outcome.TIMEOUT else slip)

    def net_r(self, costs_bps: float) -> float:
        """Realised R after round-trip costs; a position that never entered costs nothing."""
        return self.gross_r - self.terms.cost_r(costs_bps) if self.entered else 0.0

    @property
    def gross_percent(self) -> float:
        """Gross profit or loss in percent of entry, under the position's fill rule."""
        return self.gross_r * self.terms.risk / self.terms.entry * 100.0

    @property
    def mfe_r(self) -> float:
        """Maximum favourable excursion in R, at least 0."""
        return self.terms.in_r(self.track.best)

    @property
    def mae_r(self) -> float:
        """Maximum adverse excursion in R, at least 0."""
        return 0.0 - self.terms.in_r(self.track.worst)

    @property
    def one_r_hit(self) -> bool:
        """Whether price went at least one R the trade's way."""
        return self.mfe_r >= 1.0

    @property
    def two_r_hit(self) -> bool:
        """Whether price went at least two R the trade's way."""
        return self.mfe_r >= 2.0

    @property
    def mark_percent(self) -> float | None:
        """What a timeout would have made at the market, in percent of entry."""
        return None if self.mark_price is None else self.terms.in_percent(self.mark_price)

    @property
    def mark_r(self) -> float | None:
        """What a timeout would have made at the market, in R."""
        return None if self.mark_price is None else self.terms.in_r(self.mark_price)


def entry_time(ts: int, step_ms: int) -> int:
    """Open time of the candle a signal enters at.

    Parameters
    ----------
    ts : int, signal time in UTC epoch ms
    step_ms : int, tracking timeframe in ms

    Returns
    -------
    int : the open of the candle that holds ``ts`` when at most min(5 s, step/10) of it has passed, else the next open

    Source: SPEC 9. The time of the decision never matters, so that a replay enters where live entered.
    """
    opened = floor_ts(ts, step_ms)
    return opened if ts - opened <= min(ENTRY_GRACE_MS, step_ms // 10) else opened + step_ms


def terms_for(signal: Signal, profile: Profile) -> Terms:
    """The terms a signal is followed on under its profile."""
    start = entry_time(signal.ts, profile.tracking_ms)
    return Terms(
        side=signal.side,
        entry=signal.entry,
        stop_loss=signal.sl,
        take_profit=signal.tp,
        first_target=profile.first_target(
            entry=signal.entry, risk=signal.risk, sign=signal.side.value, tp=signal.tp, sent=signal.tp1
        ),
        entry_ms=start,
        deadline_ms=start + profile.timeout_ms,
        step_ms=profile.tracking_ms,
        fill=profile.fill,
    )
