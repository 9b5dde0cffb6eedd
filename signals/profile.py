"""Settings of one strategy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from signals.errors import Invalid
from signals.labelling import SEED_LABELLING, Labelling
from signals.method import EVIDENT, Method, Methods
from signals.reasons import Reason
from signals.timeframe import timeframe_ms

HOUR_MS = 3_600_000
MOST_EXPLORED = 0.05
"""Of the signals a score refuses no more than this share may ever go to the market."""


class RunMode(StrEnum):
    """How far the gate acts: ``observe`` and ``shadow`` skip only the comparison with the threshold."""

    ENFORCE = "enforce"
    OBSERVE = "observe"
    SHADOW = "shadow"


class FillRule(StrEnum):
    """At which price a simulated position is filled."""

    ENTRY = "entry"
    NEXT_OPEN = "next_open"


class Clamping(StrEnum):
    """Which bounds a learned threshold of model scores is held to: the founding 60 to 95, or none."""

    OPEN = "open"
    SEED = "seed"


class ThresholdMode(StrEnum):
    """How the evidence method turns its curve into a threshold; the seed rule does not look at it.

    ``balanced`` takes the curve as it is; ``spec`` lets no situation borrow from another; ``cautious`` asks that even
    the curve's lower quantile breaks even, and can only raise a threshold.
    """

    BALANCED = "balanced"
    SPEC = "spec"
    CAUTIOUS = "cautious"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdPolicy:
    """Which thresholds are in force: by which method, on which labels, in which mode, and whether they must be shown.

    ``require_badge`` closes every situation whose threshold is only estimated.
    """

    method: Method = Method.SPEC
    labels: Method = Method.SPEC
    mode: ThresholdMode = ThresholdMode.BALANCED
    require_badge: bool = False

    @property
    def reads_evidence(self) -> bool:
        """Whether what the evidence method learned decides anything."""
        return self.method is Method.EVIDENCE or self.require_badge


class Kind(StrEnum):
    """What became of a signal: sent to the market, or only watched."""

    EXECUTED = "executed"
    PHANTOM = "phantom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Hard limits on executed positions, checked inside the commit of a decision; 0 switches one off.

    ``tracked_positions`` cannot be switched off; ``outbox_entries`` are facts that have not reached every sink yet.
    """

    open_positions: int = 50
    per_symbol: int = 3
    executes_per_minute: int = 10
    daily_loss_r: float = 10.0
    daily_loss_money: float = 5_000.0
    tracked_positions: int = 10_000
    outbox_entries: int = 50_000

    def __post_init__(self) -> None:
        for name in (
            "open_positions",
            "per_symbol",
            "executes_per_minute",
            "daily_loss_r",
            "daily_loss_money",
            "outbox_entries",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= 1e9):
                raise Invalid(Reason.FIELD_RANGE, name, "0 (off) to 1e9")
        if not 1 <= self.tracked_positions <= 1_000_000:
            raise Invalid(Reason.FIELD_RANGE, "tracked_positions", "1 to 1,000,000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one strategy is judged and followed. Times in milliseconds, costs in basis points round trip.

    ``heuristic`` names the rule table of ``scorer.heuristic`` and ``features`` the schema of
    ``scorer.schema``; both default to the strategy's own name, so a user's profile may borrow either.
    ``tp1_r`` is the first target in R (``None``: no first target); ``tp1_from_signal`` prefers the signal's own.
    ``blend`` is the model's weight beside the heuristic; training comes again after ``retrain_every`` outcomes or the
    fraction ``retrain_growth`` of them, whichever is more; ``max_training_rows`` 0 keeps all. ``neighbours`` is how
    many past signals each one is compared with (shown, never decisive). ``heads`` also trains, with every attempt, how
    far the price will go (shown, never decisive). ``method`` says which definition of each step of learning is in
    force, ``labelling`` what the learner takes as an outcome; ``threshold_mode`` is the evidence method's, and
    ``require_badge`` lets nothing pass where its threshold is not certified. ``bands`` lets the win probability shape
    the size of an execute; ``explore_rate`` is the share of signals refused by their score alone that go to the market
    all the same, at the multiplier ``explore_size``.
    """

    name: str
    timeout_ms: int
    tp1_r: float | None
    tp1_from_signal: bool = False
    state_prefix: str = "phantom"
    first_training_at: int = 30
    retrain_every: int = 50
    heuristic: str = ""
    features: str = ""
    tracking_timeframe: str = "5m"
    max_age_ms: int | None = None
    static_threshold: float = 70.0
    run_mode: RunMode = RunMode.ENFORCE
    heuristic_may_execute: bool = True
    fill: FillRule = FillRule.ENTRY
    costs_bps: float = 0.0
    blend: float = 1.0
    clamp: Clamping = Clamping.OPEN
    threshold_mode: ThresholdMode = ThresholdMode.BALANCED
    require_badge: bool = False
    retrain_growth: float = 0.0
    max_training_rows: int = 0
    score_budget_ms: float = 50.0
    decision_ttl_ms: int = 10_000
    bands: bool = False
    explore_rate: float = 0.0
    explore_size: float = 0.1
    neighbours: int = 50
    heads: bool = False
    method: Methods = EVIDENT
    labelling: Labelling = SEED_LABELLING
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        timeframe_ms(self.tracking_timeframe, "tracking_timeframe")
        for rule, name in (
            (self.timeout_ms > 0, "timeout_ms"),
            (self.tp1_r is None or 0.0 < self.tp1_r < 50.0, "tp1_r"),
            (0.0 <= self.static_threshold <= 100.0, "static_threshold"),
            (0.0 <= self.costs_bps < 10_000.0, "costs_bps"),
            (0.0 <= self.blend <= 1.0, "blend"),
            (0.0 <= self.retrain_growth <= 10.0, "retrain_growth"),
            (self.max_training_rows == 0 or self.max_training_rows >= 100, "max_training_rows"),
            (0.0 <= self.explore_rate <= MOST_EXPLORED, "explore_rate"),
            (0.0 < self.explore_size <= 1.0, "explore_size"),
            (0.0 < self.score_budget_ms <= 60_000.0, "score_budget_ms"),
            (0 <= self.neighbours <= 500, "neighbours"),
            (self.decision_ttl_ms > 0, "decision_ttl_ms"),
            (self.max_age_ms is None or self.max_age_ms > 0, "max_age_ms"),
            (self.state_prefix in ("phantom", "scalp_phantom"), "state_prefix"),
            (self.first_training_at > 0 and self.retrain_every > 0, "retrain_every"),
        ):
            if not rule:
                raise Invalid(Reason.FIELD_RANGE, name)
        object.__setattr__(self, "heuristic", self.heuristic or self.name)
        object.__setattr__(self, "features", self.features or self.name)

    @property
    def tracking_ms(self) -> int:
        """Length of the candles that move this profile's positions."""
        return timeframe_ms(self.tracking_timeframe)

    @property
    def threshold_policy(self) -> ThresholdPolicy:
        """Which thresholds its scores meet."""
        return ThresholdPolicy(
            method=self.method.thresholds,
            labels=self.method.labels,
            mode=self.threshold_mode,
            require_badge=self.require_badge,
        )

    def max_signal_age_ms(self, timeframe: str | None) -> int:
        """How old a signal may be: a quarter of its candle but 30 s at most, or 120 s when it names none."""
        if self.max_age_ms is not None:
            return self.max_age_ms
        return 120_000 if timeframe is None else min(timeframe_ms(timeframe) // 4, 30_000)

    @property
    def takes_timeouts(self) -> bool:
        """Whether its learner takes positions that their deadline ended, at their mark price."""
        told = self.labelling.learn_from_timeouts
        return self.method.labels is Method.EVIDENCE if told is None else told

    def next_training_at(self, attempted_at: int) -> int:
        """How many decisive outcomes ask for the next attempt after one at so many."""
        return attempted_at + max(self.retrain_every, round(self.retrain_growth * attempted_at))

    def first_target(self, *, entry: float, risk: float, sign: int, tp: float, sent: float | None) -> float | None:
        """Price of TP1, or none when the profile has none or the target itself comes first."""
        if self.tp1_r is None:
            return None
        if self.tp1_from_signal and sent is not None:
            return sent
        price = entry + sign * self.tp1_r * risk
        return price if sign * price < sign * tp else None


TREND = Profile(name="trend", timeout_ms=36 * HOUR_MS, tp1_r=1.6)
RANGE = Profile(name="range", timeout_ms=36 * HOUR_MS, tp1_r=1.6, tp1_from_signal=True)
SCALP = Profile(name="scalp", timeout_ms=24 * HOUR_MS, tp1_r=None, state_prefix="scalp_phantom", first_training_at=50)
DEFAULT_PROFILES = {profile.name: profile for profile in (TREND, RANGE, SCALP)}
