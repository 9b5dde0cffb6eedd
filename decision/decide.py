"""Signal, context and score become what the gate wants; the state has the last word in the commit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from qscore.threshold import Threshold
from scorer.heads import Told
from scorer.heuristic import NEUTRAL_SCORE, HeuristicScore
from scorer.neighbours import Neighbours
from signals.context import Context
from signals.profile import Profile, RunMode
from signals.reasons import Reason


class Action(StrEnum):
    """The answer to a signal."""

    EXECUTE = "execute"
    PHANTOM = "phantom"
    REJECTED = "rejected"


class ScoreSource(StrEnum):
    """Which scorer produced the number that was compared."""

    ENSEMBLE = "ensemble"
    ENSEMBLE_RAW = "ensemble_raw"
    HEURISTIC = "heuristic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """A score in [0, 100] with its source and parts; ``win_probability`` only when a calibrated model spoke.

    ``fault`` says why a model that was ready did not answer: whatever is scored instead may not execute.
    ``break_even`` is the win probability that pays for the losses in the table the score meets, where it is known.
    ``neighbours``, ``win_bounds`` (the win probabilities left open) and what the heads beside the score ``told`` are
    shown; no decision looks at them.
    """

    score: float
    source: ScoreSource
    heuristic_score: float
    win_probability: float | None = None
    bundle: str | None = None
    missing: tuple[str, ...] = ()
    model_score: float | None = None
    fault: str | None = None
    break_even: float | None = None
    neighbours: Neighbours | None = None
    told: Told | None = None
    win_bounds: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate wants before the state is asked.

    ``want`` and ``reasons`` hold while the mode is ON; ``alternative`` and its reasons are what ML_OFF would
    answer; ``enforced`` is what run mode ``enforce`` would have said, recorded under ``shadow``.
    ``size_multiplier``, ``explored`` and ``propensity`` are those of ``want``: ``decision.shape`` sets them.
    """

    scoring: Scoring
    threshold: Threshold
    context: Context
    want: Action
    reasons: tuple[Reason, ...]
    alternative: Action
    alternative_reasons: tuple[Reason, ...]
    enforced: Action
    size_multiplier: float = 1.0
    explored: bool = False
    propensity: float | None = None


def score_without_model(heuristic: HeuristicScore) -> Scoring:
    """The scoring of a strategy that has no model yet."""
    score = heuristic.score if math.isfinite(heuristic.score) else NEUTRAL_SCORE
    return Scoring(
        score=score, source=ScoreSource.HEURISTIC, heuristic_score=heuristic.score, missing=heuristic.missing
    )


def decide(
    scoring: Scoring,
    threshold: Threshold,
    context: Context,
    profile: Profile,
    *,
    without_model: tuple[Scoring, Threshold] | None = None,
) -> Verdict:
    """Compare the score with its threshold under the profile's run mode.

    ``without_model`` is what the heuristic would be compared with: the answer while the operator has switched the
    model off. Without one there is no model, and both answers are the same.
    """
    want, enforced, reasons = _compared(scoring, threshold, context, profile)
    alternative, alternative_reasons = want, reasons
    if without_model is not None:
        alternative, _, alternative_reasons = _compared(*without_model, context, profile)
    return Verdict(
        scoring=scoring,
        threshold=threshold,
        context=context,
        want=want,
        reasons=reasons,
        alternative=alternative,
        alternative_reasons=alternative_reasons,
        enforced=enforced,
    )


def _compared(
    scoring: Scoring, threshold: Threshold, context: Context, profile: Profile
) -> tuple[Action, Action, tuple[Reason, ...]]:
    """What is wanted, what ``enforce`` would want, and why."""
    # A score that is no number passes nothing, and no run mode may skip that; nor may a stand-in for a failed model.
    known = math.isfinite(scoring.score)
    sound = known and scoring.fault is None
    passed = known and threshold.passes(scoring.score)
    reasons = [Reason.SCORE_PASSED if passed else Reason.SCORE_BELOW_THRESHOLD]
    may_execute = sound
    if not sound:
        reasons.append(Reason.MODEL_DEGRADED)
    elif scoring.source is ScoreSource.HEURISTIC:
        reasons.append(Reason.MODEL_ABSENT)
        if not profile.heuristic_may_execute:
            reasons.append(Reason.HEURISTIC_FORBIDDEN)
            may_execute = False
    enforced = Action.EXECUTE if passed and may_execute else Action.PHANTOM
    want = enforced
    if profile.run_mode is not RunMode.ENFORCE:
        # Observe and shadow skip the comparison with the threshold and nothing else.
        reasons.append(Reason.RUN_OBSERVE if profile.run_mode is RunMode.OBSERVE else Reason.RUN_SHADOW)
        want = Action.EXECUTE if may_execute else Action.PHANTOM
    if not context.volatility_known:
        reasons.append(Reason.CONTEXT_VOLATILITY_UNKNOWN)
    if scoring.missing:
        reasons.append(Reason.FEATURES_MISSING)
    return want, enforced, tuple(reasons)
