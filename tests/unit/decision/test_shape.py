"""Bands and exploration: what they may change about a verdict, by hand, and what they never may, by law."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decision.decide import Action, ScoreSource, Scoring, Verdict, decide
from decision.shape import (
    band_multiplier,
    could_be_explored,
    explore,
    in_bands,
    shape,
    shifted,
    size_in_force,
    was_explored,
)
from qscore.threshold import Threshold, ThresholdSource
from signals.bucket import Bucket, Session, VolatilityRegime
from signals.context import Context
from signals.errors import Invalid
from signals.profile import TREND, Profile, RunMode
from signals.reasons import Reason
from tests.support.laws import LAW

EXECUTE, PHANTOM = Action.EXECUTE, Action.PHANTOM
PASSED, BELOW = Reason.SCORE_PASSED, Reason.SCORE_BELOW_THRESHOLD
CONTEXT = Context(Bucket(Session.US, VolatilityRegime.NORMAL), volatility_known=True)
BANDED = replace(TREND, bands=True)
EXPLORING = replace(TREND, explore_rate=0.05, explore_size=0.1)
DRAWN, NOT_DRAWN = 0.049, 0.05


def verdict(score: float = 80.0, profile: Profile = TREND, *, closed: bool = False, **scoring: Any) -> Verdict:
    """What a model's score meets: a learned threshold of 70."""
    given: dict[str, Any] = {"source": ScoreSource.ENSEMBLE, "heuristic_score": 50.0, "bundle": "b"} | scoring
    plain = Scoring(score=50.0, source=ScoreSource.HEURISTIC, heuristic_score=50.0)
    threshold = Threshold(70.0, ThresholdSource.QSCORE, closed=closed)
    return decide(Scoring(score=score, **given), threshold, CONTEXT, profile, without_model=(plain, threshold))


# --- bands


@pytest.mark.parametrize(
    ("probability", "p_min", "place"),
    [
        (0.5, 0.5, 0.5),
        (1 / 3, 1 / 3, 0.5),
        (0.75, 0.5, 0.75),
        (0.5, 1 / 3, 2 / 3),  # odds 1 over break-even's odds of 1/2 are 2
        (0.4, 0.6, 4 / 13),  # (2/3) / (3/2) = 4/9
        (0.0, 0.4, 0.0),
        (1.0, 0.4, 1.0),
        (0.3, 0.0, 1.0),
        (0.3, 1.0, 0.0),
    ],
)
def test_break_even_is_moved_to_a_half(probability: float, p_min: float, place: float) -> None:
    assert shifted(probability, p_min) == pytest.approx(place, abs=1e-12)
    if 0.0 < probability < 1.0 and 0.0 < p_min < 1.0:
        logit = math.log(probability / (1 - probability)) - math.log(p_min / (1 - p_min))
        assert shifted(probability, p_min) == pytest.approx(1 / (1 + math.exp(-logit)))


@pytest.mark.parametrize(
    ("place", "multiplier"), [(0.9, 1.0), (0.6, 1.0), (0.5999, 0.5), (0.4, 0.5), (0.3999, 0.0), (0.0, 0.0)]
)
def test_the_bands(place: float, multiplier: float) -> None:
    assert band_multiplier(place, 0.5) == multiplier


@pytest.mark.parametrize(("probability", "p_min"), [(0.0, 0.0), (1.0, 1.0), (math.nan, 0.5), (0.5, math.nan)])
def test_what_is_unknown_lies_below_every_band(probability: float, p_min: float) -> None:
    assert band_multiplier(probability, p_min) == 0.0


@pytest.mark.parametrize(
    ("probability", "want", "size", "reasons"),
    [
        (0.60, EXECUTE, 1.0, (PASSED,)),
        (0.50, EXECUTE, 0.5, (PASSED, Reason.BAND_HALF)),
        (0.30, PHANTOM, 0.0, (Reason.BAND_BELOW, PASSED)),
    ],
)
def test_bands_shape_an_execute(probability: float, want: Action, size: float, reasons: tuple[Reason, ...]) -> None:
    found = in_bands(verdict(win_probability=probability, break_even=0.5))
    assert (found.want, found.size_multiplier, found.reasons) == (want, size, reasons)
    assert (found.enforced is PHANTOM) == (want is PHANTOM)
    # What the heuristic alone would say, while the model is off, is none of their business.
    before = verdict(win_probability=probability, break_even=0.5)
    assert (found.alternative, found.alternative_reasons) == (before.alternative, before.alternative_reasons)


def test_a_phantom_keeps_its_reasons_and_its_size_is_noted() -> None:
    found = in_bands(verdict(60.0, win_probability=0.5, break_even=0.5))
    assert (found.want, found.reasons, found.size_multiplier) == (PHANTOM, (BELOW,), 0.5)


@pytest.mark.parametrize("known", [{"win_probability": 0.1}, {"break_even": 0.9}, {}])
def test_without_a_calibrated_probability_or_a_break_even_bands_do_nothing(known: dict[str, Any]) -> None:
    assert in_bands(verdict(**known)) == verdict(**known)


def test_both_are_off_by_default() -> None:
    found = verdict(win_probability=0.1, break_even=0.9)
    assert shape(found, TREND, draw=0.0) == found
    assert shape(verdict(60.0), TREND, draw=0.0) == verdict(60.0)


UNIT = st.floats(0.0, 1.0)
VERDICTS = st.builds(
    lambda score, mode, source, win, even, fault, closed: verdict(
        score,
        replace(TREND, run_mode=mode),
        source=source,
        closed=closed,
        win_probability=win,
        break_even=even,
        fault=fault,
    ),
    st.floats(0.0, 100.0) | st.just(math.nan),
    st.sampled_from(RunMode),
    st.sampled_from(ScoreSource),
    st.none() | UNIT,
    st.none() | UNIT,
    st.none() | st.just("late"),
    st.booleans(),
)


@LAW
@given(VERDICTS)
def test_bands_only_take_away(before: Verdict) -> None:
    after = in_bands(before)
    assert after.size_multiplier in (0.0, 0.5, 1.0)
    assert after.size_multiplier <= before.size_multiplier
    assert after.want is before.want or (before.want, after.want) == (EXECUTE, PHANTOM)
    assert after.enforced is before.enforced or (before.enforced, after.enforced) == (EXECUTE, PHANTOM)
    assert (after.want is EXECUTE) <= (after.size_multiplier > 0.0)
    assert set(after.reasons) - set(before.reasons) <= {Reason.BAND_HALF, Reason.BAND_BELOW}
    assert (after.alternative, after.alternative_reasons) == (before.alternative, before.alternative_reasons)


@LAW
@given(UNIT, UNIT, st.floats(0.01, 0.99))
def test_a_better_probability_never_has_less_size(one: float, other: float, p_min: float) -> None:
    low, high = sorted((one, other))
    assert band_multiplier(low, p_min) <= band_multiplier(high, p_min)


# --- exploration


def test_a_drawn_refusal_executes_at_the_least_size() -> None:
    found = explore(verdict(60.0), EXPLORING, DRAWN)
    assert (found.want, found.size_multiplier, found.explored, found.propensity) == (EXECUTE, 0.1, True, 0.05)
    assert found.reasons == (Reason.SCORE_EXPLORED, BELOW)
    assert (found.enforced, found.alternative) == (PHANTOM, PHANTOM)


def test_a_refusal_that_was_not_drawn_has_its_propensity_as_well() -> None:
    found = explore(verdict(60.0), EXPLORING, NOT_DRAWN)
    assert (found.want, found.size_multiplier, found.explored, found.propensity) == (PHANTOM, 1.0, False, 0.05)
    assert found.reasons == (BELOW,)


HEURISTIC: dict[str, Any] = {"source": ScoreSource.HEURISTIC, "bundle": None}


@pytest.mark.parametrize(
    ("refused", "profile"),
    [
        pytest.param(verdict(80.0), EXPLORING, id="it passed"),
        pytest.param(verdict(60.0, closed=True), EXPLORING, id="nothing is worth taking"),
        pytest.param(verdict(60.0, fault="late"), EXPLORING, id="degraded"),
        pytest.param(verdict(math.nan), EXPLORING, id="no number"),
        *(
            pytest.param(verdict(60.0, replace(EXPLORING, run_mode=mode)), replace(EXPLORING, run_mode=mode), id=mode)
            for mode in (RunMode.OBSERVE, RunMode.SHADOW)
        ),
        pytest.param(
            verdict(60.0, replace(EXPLORING, heuristic_may_execute=False), **HEURISTIC),
            replace(EXPLORING, heuristic_may_execute=False),
            id="the heuristic may not",
        ),
        pytest.param(in_bands(verdict(60.0, win_probability=0.2, break_even=0.5)), EXPLORING, id="below the bands"),
        pytest.param(
            replace(verdict(60.0), reasons=(Reason.SCORE_TIMEOUT, BELOW)), EXPLORING, id="its score came too late"
        ),
    ],
)
def test_what_is_never_explored(refused: Verdict, profile: Profile) -> None:
    assert explore(refused, profile, 0.0) == refused


def test_a_heuristic_that_may_execute_may_be_explored() -> None:
    found = explore(verdict(60.0, **HEURISTIC), EXPLORING, DRAWN)
    assert found.reasons == (Reason.SCORE_EXPLORED, BELOW, Reason.MODEL_ABSENT)


def test_bands_make_what_is_explored_smaller_still() -> None:
    both = replace(EXPLORING, bands=True, explore_size=0.8)
    found = shape(verdict(60.0, win_probability=0.5, break_even=0.5), both, draw=DRAWN)
    assert (found.want, found.explored, found.size_multiplier) == (EXECUTE, True, 0.5)


@LAW
@given(VERDICTS, st.floats(0.0, 1.0, exclude_max=True), st.sampled_from(RunMode))
def test_exploring_adds_only_small_executes_of_low_scores(before: Verdict, draw: float, mode: RunMode) -> None:
    after = explore(before, replace(EXPLORING, run_mode=mode), draw)
    if after == before:
        return
    assert (before.want, mode, before.threshold.closed) == (PHANTOM, RunMode.ENFORCE, False)
    assert before.scoring.fault is None
    assert before.scoring.score < before.threshold.value
    assert after.explored == (draw < 0.05) == (after.want is EXECUTE)
    assert after.size_multiplier <= (0.1 if after.explored else before.size_multiplier)
    assert (after.alternative, after.alternative_reasons) == (before.alternative, before.alternative_reasons)


@pytest.mark.parametrize("field", [{"explore_rate": 0.051}, {"explore_rate": -0.01}, {"explore_size": 0.0}])
def test_how_much_may_be_explored(field: dict[str, float]) -> None:
    with pytest.raises(Invalid):
        replace(TREND, **field)  # type: ignore[arg-type]  # one number of the two


# --- as recorded

RECORD = {"size_multiplier": 0.1, "explored": True, "propensity": 0.02}


@pytest.mark.parametrize(
    ("reasons", "could", "was", "size"),
    [
        ((Reason.SCORE_EXPLORED, BELOW), True, True, 0.1),
        ((Reason.LIMIT_OPEN_POSITIONS, Reason.SCORE_EXPLORED, BELOW), False, False, 0.1),
        ((Reason.MODE_HALT, Reason.SCORE_EXPLORED, BELOW), False, False, 0.1),
        ((Reason.BREAKER_LATENCY, Reason.SCORE_EXPLORED, BELOW), False, False, 0.1),
        ((Reason.SIGNAL_EXPIRED, Reason.SCORE_EXPLORED, BELOW), False, False, 0.1),
        # The heuristic answered, at full size.
        ((Reason.MODE_ML_OFF, PASSED), False, False, 1.0),
    ],
)
def test_the_state_has_the_last_word(reasons: tuple[Reason, ...], could: bool, was: bool, size: float) -> None:
    assert (could_be_explored(RECORD, reasons), was_explored(RECORD, reasons)) == (could, was)
    assert size_in_force(RECORD, reasons) == size


def test_records_from_before_say_nothing_of_it() -> None:
    assert not could_be_explored({}, (BELOW,))
    assert not was_explored({"explored": False, "propensity": 0.02}, (BELOW,))
    assert size_in_force({}, (BELOW,)) is None
