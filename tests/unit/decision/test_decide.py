"""What the gate wants before the state is asked: run modes, permissions, flags, and the shape of the answer."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from decision.answer import Answer
from decision.decide import Action, ScoreSource, Scoring, Verdict, decide, score_without_model
from qscore.threshold import static_threshold
from scorer.heuristic import HeuristicScore
from signals.bucket import Bucket, Session, VolatilityRegime
from signals.context import Context
from signals.profile import TREND, RunMode
from signals.reasons import Reason

EXECUTE, PHANTOM = Action.EXECUTE, Action.PHANTOM
PASSED, BELOW = Reason.SCORE_PASSED, Reason.SCORE_BELOW_THRESHOLD
CONTEXT = Context(Bucket(Session.US, VolatilityRegime.NORMAL), volatility_known=True)


def verdict(
    score: float,
    mode: RunMode = RunMode.ENFORCE,
    *,
    source: ScoreSource = ScoreSource.ENSEMBLE,
    may: bool = True,
    known: bool = True,
    missing: tuple[str, ...] = (),
    threshold: float = 70.0,
) -> Verdict:
    profile = replace(TREND, run_mode=mode, heuristic_may_execute=may)
    scoring = Scoring(score=score, source=source, heuristic_score=50.0, missing=missing)
    return decide(scoring, static_threshold(threshold), replace(CONTEXT, volatility_known=known), profile)


@pytest.mark.parametrize(
    ("score", "mode", "want", "enforced", "reasons"),
    [
        (70.0, RunMode.ENFORCE, EXECUTE, EXECUTE, (PASSED,)),
        (69.9999, RunMode.ENFORCE, PHANTOM, PHANTOM, (BELOW,)),
        (70.0, RunMode.OBSERVE, EXECUTE, EXECUTE, (PASSED, Reason.RUN_OBSERVE)),
        (0.0, RunMode.OBSERVE, EXECUTE, PHANTOM, (BELOW, Reason.RUN_OBSERVE)),
        (70.0, RunMode.SHADOW, EXECUTE, EXECUTE, (PASSED, Reason.RUN_SHADOW)),
        (0.0, RunMode.SHADOW, EXECUTE, PHANTOM, (BELOW, Reason.RUN_SHADOW)),
    ],
)
def test_run_modes(score: float, mode: RunMode, want: Action, enforced: Action, reasons: tuple[Reason, ...]) -> None:
    found = verdict(score, mode)
    assert (found.want, found.enforced, found.reasons) == (want, enforced, reasons)


@pytest.mark.parametrize("mode", list(RunMode))
@pytest.mark.parametrize("score", [0.0, 100.0])
def test_a_heuristic_that_may_not_execute_never_does(score: float, mode: RunMode) -> None:
    found = verdict(score, mode, source=ScoreSource.HEURISTIC, may=False)
    assert (found.want, found.enforced, found.alternative) == (PHANTOM, PHANTOM, PHANTOM)
    assert {Reason.MODEL_ABSENT, Reason.HEURISTIC_FORBIDDEN} <= set(found.reasons)


@pytest.mark.parametrize("source", [ScoreSource.ENSEMBLE, ScoreSource.ENSEMBLE_RAW])
def test_the_permission_is_the_heuristics_alone(source: ScoreSource) -> None:
    assert verdict(80.0, source=source, may=False).reasons == (PASSED,)
    assert verdict(80.0, source=source, may=False).want is EXECUTE


def test_a_heuristic_that_may_execute_does_and_says_so() -> None:
    found = verdict(80.0, source=ScoreSource.HEURISTIC)
    assert (found.want, found.reasons) == (EXECUTE, (PASSED, Reason.MODEL_ABSENT))
    # Without a model ML_OFF changes nothing.
    assert (found.alternative, found.alternative_reasons) == (found.want, found.reasons)


@pytest.mark.parametrize(
    ("known", "missing", "flags"),
    [
        (True, (), ()),
        (False, (), (Reason.CONTEXT_VOLATILITY_UNKNOWN,)),
        (True, ("a",), (Reason.FEATURES_MISSING,)),
        (False, ("a",), (Reason.CONTEXT_VOLATILITY_UNKNOWN, Reason.FEATURES_MISSING)),
    ],
)
def test_doubts_are_recorded(known: bool, missing: tuple[str, ...], flags: tuple[Reason, ...]) -> None:
    found = verdict(80.0, known=known, missing=missing)
    assert (found.want, found.reasons) == (EXECUTE, (PASSED, *flags))


@pytest.mark.parametrize("mode", list(RunMode))
@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_never_executes(score: float, mode: RunMode) -> None:
    # SPEC 8: a doubtful path can give phantom, never execute, whatever the run mode skips.
    assert verdict(score, mode, threshold=0.0).want is PHANTOM


def test_no_model_means_the_heuristics_score() -> None:
    found = score_without_model(HeuristicScore(60.0, ("adx",)))
    assert found == Scoring(
        score=60.0,
        source=ScoreSource.HEURISTIC,
        heuristic_score=60.0,
        win_probability=None,
        bundle=None,
        missing=("adx",),
    )


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_broken_heuristic_is_neutral(broken: float) -> None:
    assert score_without_model(HeuristicScore(broken, ())).score == 50.0


def test_an_answer_is_plain_data() -> None:
    answer = Answer(signal_id="s", action=EXECUTE, reasons=(PASSED, Reason.MODEL_ABSENT), decided_at=1, score=80.0)
    plain = answer.as_dict()
    assert answer.executes
    assert (plain["action"], plain["reasons"]) == ("execute", ["SCORE_PASSED", "MODEL_ABSENT"])
    # SPEC 3, in its words.
    promised = (
        "signal_id action score win_probability threshold threshold_source score_source bucket size_multiplier "
        "expected_return_r p_stop reasons bundle position_id decided_at expires_at latency_ms"
    )
    assert set(promised.split()) <= set(plain)
    assert not Answer(signal_id="s", action=PHANTOM, reasons=(BELOW,), decided_at=1).executes
