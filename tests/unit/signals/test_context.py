"""Sessions by exchange-local clocks and regimes by rank: every boundary of SPEC 5."""

from __future__ import annotations

import math
from datetime import UTC, datetime, time

import pytest

from signals.bucket import Bucket, Session, VolatilityRegime
from signals.context import DEFAULT_SESSIONS, SessionWindow, regime_by_rank, session_at

LOW, NORMAL, HIGH, EXTREME = VolatilityRegime
US, EUROPEAN, ASIAN, OFF = Session


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("opens", "before", "after"),
    [
        # New York: winter time opens 14:30 UTC, summer time 13:30; clocks change 2026-03-08 and 2026-11-01.
        ("2026-03-07T14:30", EUROPEAN, US),
        ("2026-03-08T13:30", EUROPEAN, US),
        ("2026-10-31T13:30", EUROPEAN, US),
        ("2026-11-01T14:30", EUROPEAN, US),
        # London: 08:00 UTC in winter, 07:00 in summer; clocks change 2026-03-29 and 2026-10-25. Tokyo never does.
        ("2026-03-28T08:00", ASIAN, EUROPEAN),
        ("2026-03-29T07:00", ASIAN, EUROPEAN),
        ("2026-10-24T07:00", ASIAN, EUROPEAN),
        ("2026-10-25T08:00", ASIAN, EUROPEAN),
        # The closes. Between the two changes New York alone is on summer time.
        ("2026-03-07T21:00", US, OFF),
        ("2026-03-08T20:00", US, OFF),
        ("2026-10-31T20:00", US, OFF),
        ("2026-11-01T21:00", US, OFF),
        ("2026-03-08T00:00", OFF, ASIAN),
        ("2026-11-01T00:00", OFF, ASIAN),
    ],
)
def test_sessions_around_the_changes_of_the_clocks(opens: str, before: Session, after: Session) -> None:
    moment = ms(opens)
    assert (session_at(moment - 1), session_at(moment)) == (before, after)


@pytest.mark.parametrize(
    "change",
    ["2026-03-08T07:00", "2026-11-01T06:00", "2026-03-29T01:00", "2026-10-25T01:00"],
    ids=["New York forward", "New York back", "London forward", "London back"],
)
def test_nothing_happens_at_the_change_itself(change: str) -> None:
    moment = ms(change)
    assert {session_at(moment + minutes * 60_000) for minutes in (-60, -1, 0, 1, 59)} == {ASIAN}
    assert session_at(moment - 1) is ASIAN


@pytest.mark.parametrize("day", ["2026-07-04", "2026-12-25", "2026-07-05"])
def test_crypto_trades_every_day(day: str) -> None:
    assert session_at(ms(f"{day}T15:00")) is US


def test_a_summer_day_hour_by_hour() -> None:
    hours = [session_at(ms(f"2026-07-01T{hour:02d}:00")) for hour in range(24)]
    assert hours == [ASIAN] * 7 + [EUROPEAN] * 7 + [US] * 6 + [OFF] * 4


def test_windows_can_be_replaced() -> None:
    weekdays = [
        SessionWindow(window.session, window.zone, window.start, window.end, weekdays_only=True)
        for window in DEFAULT_SESSIONS
    ]
    friday, saturday = ms("2026-07-03T15:00"), ms("2026-07-04T15:00")
    assert (session_at(friday, weekdays), session_at(saturday, weekdays)) == (US, OFF)
    # A weekend ends by the exchange's own calendar: Monday morning in Tokyo is Sunday evening in UTC before 00:00.
    early = [SessionWindow(ASIAN, "Asia/Tokyo", time(8), time(18), weekdays_only=True)]
    assert session_at(ms("2026-07-05T23:00"), early) is ASIAN
    assert session_at(ms("2026-07-03T23:00"), early) is OFF


# Among 0..99 the value v has exactly v values strictly below it.
HUNDRED = [float(value) for value in range(100)]


@pytest.mark.parametrize(
    ("atr_pct", "regime"),
    [
        (-1.0, LOW),
        (0.0, LOW),
        (24.0, LOW),
        (24.5, NORMAL),
        (25.0, NORMAL),
        (74.0, NORMAL),
        (74.5, HIGH),
        (75.0, HIGH),
        (94.0, HIGH),
        (94.5, EXTREME),
        (95.0, EXTREME),
        (1e9, EXTREME),
    ],
)
def test_regimes_at_the_boundaries(atr_pct: float, regime: VolatilityRegime) -> None:
    assert regime_by_rank(atr_pct, HUNDRED) == (regime, True)
    assert regime_by_rank(atr_pct, HUNDRED[::-1]) == (regime, True)


def test_equal_values_are_not_lower() -> None:
    assert regime_by_rank(1.0, [1.0] * 500) == (LOW, True)
    assert regime_by_rank(1.0, [0.0] * 25 + [1.0] * 75) == (NORMAL, True)
    assert regime_by_rank(1.0, [0.0] * 24 + [1.0] * 76) == (LOW, True)


def test_only_the_last_500_values_count() -> None:
    old = [1e9] * 400
    recent = [float(value) for value in range(500)]
    assert regime_by_rank(475.0, old + recent) == (EXTREME, True)
    assert regime_by_rank(374.0, old + recent) == (NORMAL, True)
    assert regime_by_rank(375.0, old + recent) == (HIGH, True)
    # One value more and the oldest of the 500 leaves: now 474 of 500 are lower.
    assert regime_by_rank(475.0, [*old, *recent, 1e9]) == (HIGH, True)


@pytest.mark.parametrize(
    ("atr_pct", "history"),
    [
        pytest.param(1e9, [], id="no history"),
        pytest.param(1e9, HUNDRED[:99], id="99 values"),
        pytest.param(1e9, [*HUNDRED[:99], math.nan], id="99 and a hole"),
        pytest.param(math.nan, HUNDRED, id="not a number"),
        pytest.param(math.inf, HUNDRED, id="infinite"),
        pytest.param(-math.inf, HUNDRED, id="minus infinite"),
    ],
)
def test_an_unknown_regime_is_normal_and_flagged(atr_pct: float, history: list[float]) -> None:
    assert regime_by_rank(atr_pct, history) == (NORMAL, False)


def test_sixteen_buckets_read_back() -> None:
    buckets = [Bucket(session, regime) for session in Session for regime in VolatilityRegime]
    assert len({str(bucket) for bucket in buckets}) == 16
    assert [Bucket.parse(str(bucket)) for bucket in buckets] == buckets
    assert str(Bucket(US, HIGH)) == "us|high"
    for text in ("us", "us|", "|high", "us|high|x", "US|high"):
        with pytest.raises(ValueError, match="is not a valid"):
            Bucket.parse(text)
