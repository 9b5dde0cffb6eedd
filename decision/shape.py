"""What the gate wants, shaped: bands that make an execute smaller, and the few refusals that are tried out."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from decision.decide import Action, ScoreSource, Verdict
from signals.profile import Profile, RunMode
from signals.reasons import Reason

FULL_FROM = 0.60
HALF_FROM = 0.40
HALF = 0.5
_BY_SCORE_ALONE = frozenset(
    {
        Reason.SCORE_EXPLORED,
        Reason.SCORE_BELOW_THRESHOLD,
        Reason.MODEL_ABSENT,
        Reason.CONTEXT_VOLATILITY_UNKNOWN,
        Reason.FEATURES_MISSING,
    }
)
"""Reasons a signal can carry that its score alone refused; any other one stands for something else against it."""


def shape(verdict: Verdict, profile: Profile, *, draw: float) -> Verdict:
    """Apply the bands, then exploration, each only where the profile asks for it.

    ``draw`` is a number in [0, 1) that belongs to the signal.
    """
    banded = in_bands(verdict) if profile.bands else verdict
    return explore(banded, profile, draw) if profile.explore_rate > 0.0 else banded


def shifted(win_probability: float, p_min: float) -> float:
    """The win probability on the scale where break-even stands at one half: expit(logit p - logit p_min).

    Written as a ratio, so that 0 and 1 need no case of their own; NaN where both contradict each other.
    """
    above = win_probability * (1.0 - p_min)
    whole = above + (1.0 - win_probability) * p_min
    return above / whole if whole > 0.0 else math.nan


def band_multiplier(win_probability: float, p_min: float) -> float:
    """1 from .60 of the shifted probability on, a half from .40, else 0; what is unknown is 0."""
    place = shifted(win_probability, p_min)
    if place >= FULL_FROM:
        return 1.0
    return HALF if place >= HALF_FROM else 0.0


def in_bands(verdict: Verdict) -> Verdict:
    """Let the calibrated win probability make the size smaller, or a phantom of an execute; never the reverse.

    Without a calibrated probability or a break-even there is nothing to read, and nothing changes. A phantom keeps
    its reasons; the size its band would have given it is recorded all the same.
    """
    probability, p_min = verdict.scoring.win_probability, verdict.scoring.break_even
    if probability is None or p_min is None:
        return verdict
    multiplier = band_multiplier(probability, p_min)
    if multiplier >= 1.0:
        return verdict
    sized = replace(verdict, size_multiplier=min(verdict.size_multiplier, multiplier))
    if verdict.want is not Action.EXECUTE:
        return sized
    if multiplier > 0.0:
        return replace(sized, reasons=(*verdict.reasons, Reason.BAND_HALF))
    # What refused comes first: it is the reason the refusal is counted under.
    reasons = (Reason.BAND_BELOW, *verdict.reasons)
    return replace(sized, want=Action.PHANTOM, enforced=Action.PHANTOM, reasons=reasons)


def explore(verdict: Verdict, profile: Profile, draw: float) -> Verdict:
    """Execute a drawn share of the signals that nothing but their score refuses, at the profile's least size.

    The propensity is recorded for every signal that could have been drawn, whether it was or not.
    """
    if not _explorable(verdict, profile):
        return verdict
    known = replace(verdict, propensity=profile.explore_rate)
    if not draw < profile.explore_rate:
        return known
    return replace(
        known,
        want=Action.EXECUTE,
        reasons=(Reason.SCORE_EXPLORED, *verdict.reasons),
        size_multiplier=min(verdict.size_multiplier, profile.explore_size),
        explored=True,
    )


def _explorable(verdict: Verdict, profile: Profile) -> bool:
    scoring = verdict.scoring
    sound = math.isfinite(scoring.score) and scoring.fault is None
    allowed = scoring.source is not ScoreSource.HEURISTIC or profile.heuristic_may_execute
    # A closed threshold says that no score is worth taking, or that its badge is missing: that is not "too low".
    low = not verdict.threshold.closed and scoring.score < verdict.threshold.value
    enforcing = profile.run_mode is RunMode.ENFORCE and verdict.want is Action.PHANTOM
    # A band that would have refused it as well is another reason than its score.
    banded = verdict.size_multiplier > 0.0
    return enforcing and low and sound and allowed and banded and set(verdict.reasons) <= _BY_SCORE_ALONE


def could_be_explored(record: Mapping[str, Any], reasons: Collection[str]) -> bool:
    """Whether a recorded signal had its propensity in the end: nothing of the state stood against it either."""
    return record.get("propensity") is not None and set(reasons) <= _BY_SCORE_ALONE


def was_explored(record: Mapping[str, Any], reasons: Collection[str]) -> bool:
    """Whether a recorded decision went to the market against its score: the state may have had another word."""
    return record.get("explored") is True and could_be_explored(record, reasons)


def size_in_force(record: Mapping[str, Any], reasons: Collection[str]) -> float | None:
    """The size multiplier an answer gives.

    Under ML_OFF, which a person chose, the heuristic answers, whose executes have full size. A breaker that leaves it
    to the rules may only remove risk: what the bands made smaller stays so.
    """
    size = record.get("size_multiplier")
    if size is None:
        return None
    return 1.0 if Reason.MODE_ML_OFF in reasons else float(size)
