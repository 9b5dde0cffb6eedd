"""Candles, profiles, limits and reason codes: what cannot be built, and what the defaults are."""

from __future__ import annotations

import math
import re

import pytest

from signals.candle import Candle
from signals.errors import Invalid
from signals.profile import DEFAULT_PROFILES, RANGE, SCALP, TREND, Limits, Profile, RunMode
from signals.reasons import Reason

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    "prices",
    [
        pytest.param((100, 99, 98, 99), id="open above high"),
        pytest.param((97, 99, 98, 99), id="open below low"),
        pytest.param((98.5, 99, 98, 100), id="close above high"),
        pytest.param((98.5, 99, 98, 97), id="close below low"),
        pytest.param((100, 99, 101, 100), id="high below low"),
        pytest.param((1, 1, 0, 1), id="low of 0"),
        pytest.param((-1, 1, -2, 1), id="negative"),
        pytest.param((1, INF, 1, 1), id="infinite high"),
        pytest.param((INF, INF, INF, INF), id="all infinite"),
        *[pytest.param(tuple(NAN if i == j else 100 for j in range(4)), id=f"NaN at {i}") for i in range(4)],
    ],
)
def test_candles_that_cannot_be(prices: tuple[float, float, float, float]) -> None:
    with pytest.raises(Invalid) as caught:
        Candle(0, *prices)
    assert (caught.value.reason, caught.value.field) == (Reason.CANDLE_IMPOSSIBLE, "candle")


@pytest.mark.parametrize("volume", [-1.0, NAN, INF])
def test_volumes_that_cannot_be(volume: float) -> None:
    with pytest.raises(Invalid) as caught:
        Candle(0, 1, 1, 1, 1, volume)
    assert caught.value.field == "volume"


def test_candles_compare_by_price() -> None:
    one = Candle(0, 100, 102, 99, 101, 5.0)
    assert one.prices == (100, 102, 99, 101)
    assert one.same_prices(Candle(0, 100, 102, 99, 101, 6.0))
    assert not one.same_prices(Candle(0, 100, 102, 99, 101.5, 5.0))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"timeout_ms": 0}, "timeout_ms"),
        ({"tp1_r": 0.0}, "tp1_r"),
        ({"tp1_r": 50.0}, "tp1_r"),
        ({"tp1_r": NAN}, "tp1_r"),
        ({"static_threshold": -1.0}, "static_threshold"),
        ({"static_threshold": 100.5}, "static_threshold"),
        ({"static_threshold": NAN}, "static_threshold"),
        ({"costs_bps": -0.1}, "costs_bps"),
        ({"costs_bps": NAN}, "costs_bps"),
        ({"decision_ttl_ms": 0}, "decision_ttl_ms"),
        ({"max_age_ms": 0}, "max_age_ms"),
        ({"state_prefix": "ml"}, "state_prefix"),
        ({"first_training_at": 0}, "retrain_every"),
        ({"retrain_every": 0}, "retrain_every"),
        ({"tracking_timeframe": "5"}, "tracking_timeframe"),
    ],
)
def test_profiles_that_cannot_be(change: dict[str, object], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        Profile(**({"name": "own", "timeout_ms": 1, "tp1_r": None} | change))  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize("name", ["open_positions", "per_symbol", "executes_per_minute"])
@pytest.mark.parametrize("value", [-1, NAN, INF, 2e9])
def test_limits_that_cannot_be(name: str, value: float) -> None:
    with pytest.raises(Invalid) as caught:
        Limits(**{name: value})  # type: ignore[arg-type]
    assert caught.value.field == name


@pytest.mark.parametrize("value", [0, 1_000_001])
def test_tracking_is_never_unlimited(value: int) -> None:
    with pytest.raises(Invalid):
        Limits(tracked_positions=value)


def test_the_three_profiles_of_the_specification() -> None:
    hour = 3_600_000
    table = {
        profile.name: (
            profile.first_training_at,
            profile.retrain_every,
            profile.timeout_ms // hour,
            profile.tp1_r,
            profile.tp1_from_signal,
            profile.state_prefix,
        )
        for profile in DEFAULT_PROFILES.values()
    }
    assert table == {
        "trend": (30, 50, 36, 1.6, False, "phantom"),
        "range": (30, 50, 36, 1.6, True, "phantom"),
        "scalp": (50, 50, 24, None, False, "scalp_phantom"),
    }
    for profile in (TREND, RANGE, SCALP):
        assert profile.limits == Limits(
            open_positions=50,
            per_symbol=3,
            executes_per_minute=10,
            daily_loss_r=10.0,
            daily_loss_money=5_000.0,
            tracked_positions=10_000,
        )
        assert (profile.static_threshold, profile.costs_bps, profile.decision_ttl_ms) == (70.0, 0.0, 10_000)
        assert (profile.run_mode, profile.heuristic_may_execute) == (RunMode.ENFORCE, True)
        assert profile.tracking_ms == 300_000
        assert (profile.heuristic, profile.features) == (profile.name, profile.name)


def test_a_users_profile_may_borrow_a_table() -> None:
    own = Profile(name="mine", timeout_ms=1, tp1_r=None, heuristic="scalp")
    assert (own.heuristic, own.features) == ("scalp", "mine")


def test_reason_codes_are_category_and_condition() -> None:
    for reason in Reason:
        assert reason.value == reason.name
        assert re.fullmatch(r"[A-Z0-9]+(_[A-Z0-9]+)+", reason.value)
