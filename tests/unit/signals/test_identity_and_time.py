"""Ids that come from content, moments in every spelling, and the age a signal may have."""

from __future__ import annotations

import hashlib
import json

import pytest

from signals.errors import Refusal
from signals.parse import canonical_json, identify, parse_signal
from signals.profile import DEFAULT_PROFILES, TREND, Profile
from signals.signal import Signal
from signals.timeday import iso_utc, utc_day
from signals.timeframe import floor_ts, timeframe_ms
from tests.support.payloads import TS, payload


def test_an_absent_id_is_the_hash_of_the_canonical_payload() -> None:
    sent = payload(id=..., features={"b": 1.0, "a": 2.5})
    spelled = (
        '{"entry":100,"features":{"a":2.5,"b":1},"side":"long","sl":98,"strategy":"trend","symbol":"BTCUSDT",'
        f'"tp":104,"ts":{TS}}}'
    )
    assert canonical_json(sent) == spelled
    expected = hashlib.sha256(spelled.encode()).hexdigest()
    assert identify(sent) == (expected, expected)
    found = parse_signal(sent, DEFAULT_PROFILES)
    assert isinstance(found, Signal)
    assert found.id == expected


def test_the_same_content_in_other_words_has_the_same_id() -> None:
    sent = payload(id=...)
    backwards = dict(reversed(sent.items()))
    whole = {name: int(value) if isinstance(value, float) else value for name, value in sent.items()}
    again = json.loads(json.dumps(sent, indent=4))
    assert {identify(one) for one in (sent, backwards, whole, again)} == {identify(sent)}


@pytest.mark.parametrize(
    "change",
    [{"entry": 100.0000001}, {"side": "short"}, {"ts": TS + 1}, {"features": {}}, {"tag": "a"}, {"extra": None}],
)
def test_other_content_has_another_id(change: dict[str, object]) -> None:
    assert identify(payload(id=..., **change))[0] != identify(payload(id=...))[0]


def test_a_sent_id_names_the_signal_and_the_fingerprint_its_content() -> None:
    first, other = identify(payload(id="x")), identify(payload(id="x", tp=105.0))
    assert first[0] == other[0] == "x"
    assert first[1] != other[1]


@pytest.mark.parametrize(
    "sent",
    [
        payload(id="a b"),
        payload(id=7),
        [],
        None,
        {"id": "\ud800"},
        {"a": "\ud800"},
        {"a": float("nan")},
        {1: object},
        {"a": {1, 2}},
    ],
    ids=repr,
)
def test_even_a_hopeless_payload_has_one_id(sent: object) -> None:
    identity, fingerprint = identify(sent)
    assert identity == fingerprint
    assert len(identity) == 64
    assert identify(sent) == (identity, fingerprint)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-01-01T00:00:00Z", 1_767_225_600_000),
        ("2026-01-01T00:00:00+00:00", 1_767_225_600_000),
        ("2026-01-01T02:00:00+02:00", 1_767_225_600_000),
        ("2025-12-31T19:00:00-05:00", 1_767_225_600_000),
        ("2026-01-01 05:30:00+05:30", 1_767_225_600_000),
        ("2026-01-01T00:00:00.123Z", 1_767_225_600_123),
        ("2026-01-01T00:00:00.123999Z", 1_767_225_600_123),
        ("2026-03-29T01:30:00+00:00", 1_774_747_800_000),
        ("1970-01-01T00:00:00.001Z", 1),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
    ],
)
def test_moments(text: str, ms: int) -> None:
    found = parse_signal(payload(ts=text), DEFAULT_PROFILES)
    assert isinstance(found, Signal)
    assert found.ts == ms
    as_number = parse_signal(payload(ts=ms), DEFAULT_PROFILES)
    assert as_number == found


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-01-01T25:00:00Z",
        "2026-01-01T00:00:00+25:00",
        "01/02/2026 00:00Z",
        "now",
        "1969-12-31T23:59:59.999Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59.999-23:59",
        "2026-01-01T00:00:00Z\n",
        "٢٠٢٦-01-01T00:00:00Z",
    ],
)
def test_moments_that_are_none(text: str) -> None:
    found = parse_signal(payload(ts=text), DEFAULT_PROFILES)
    assert isinstance(found, Refusal)
    assert found.field == "ts"


@pytest.mark.parametrize(
    ("timeframe", "age_ms"),
    [(None, 120_000), ("10s", 2_500), ("30s", 7_500), ("1m", 15_000), ("2m", 30_000), ("5m", 30_000), ("1d", 30_000)],
)
def test_how_old_a_signal_may_be(timeframe: str | None, age_ms: int) -> None:
    assert TREND.max_signal_age_ms(timeframe) == age_ms
    own = Profile(name="own", timeout_ms=1, tp1_r=None, max_age_ms=1_234)
    assert own.max_signal_age_ms(timeframe) == 1_234


@pytest.mark.parametrize(
    ("text", "ms"),
    [("1s", 1_000), ("30s", 30_000), ("5m", 300_000), ("4h", 14_400_000), ("1d", 86_400_000), ("1w", 604_800_000)],
)
def test_timeframes(text: str, ms: int) -> None:
    assert timeframe_ms(text) == ms
    assert [floor_ts(ts, ms) for ts in (7 * ms - 1, 7 * ms, 8 * ms - 1, 8 * ms)] == [6 * ms, 7 * ms, 7 * ms, 8 * ms]


@pytest.mark.parametrize(
    ("ts", "day"),
    [(0, "19700101"), (86_399_999, "19700101"), (86_400_000, "19700102"), (1_709_164_800_000, "20240229")],
)
def test_utc_days(ts: int, day: str) -> None:
    assert utc_day(ts) == day
    assert iso_utc(ts).startswith(f"{day[:4]}-{day[4:6]}-{day[6:]}T")
    assert iso_utc(ts).endswith("+00:00")
