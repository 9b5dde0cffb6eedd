"""Every rule of SPEC 3 with its reason code and the field that broke it, both directions where direction matters."""

from __future__ import annotations

import math
from typing import Any

import pytest

from signals.bucket import Session, VolatilityRegime
from signals.errors import Refusal
from signals.parse import parse_signal
from signals.profile import DEFAULT_PROFILES
from signals.reasons import Reason
from signals.signal import Side, Signal
from tests.support.payloads import TS, payload

NAN, INF = math.nan, math.inf
LAST_MS = 253_402_300_799_999


def parsed(sent: object) -> Signal:
    found = parse_signal(sent, DEFAULT_PROFILES)
    assert isinstance(found, Signal), found
    return found


def refused(sent: object) -> tuple[Reason, str]:
    found = parse_signal(sent, DEFAULT_PROFILES)
    assert isinstance(found, Refusal), found
    return found.reason, found.field


ANY_SIDE: list[tuple[str, Any, Reason]] = [
    *[("id", bad, Reason.FIELD_FORMAT) for bad in ("", "a" * 65, "a b", "é", "a\n", "a/b", "a\x00")],
    *[("id", bad, Reason.FIELD_TYPE) for bad in (5, True, ["a"], {"a": 1})],
    ("strategy", ..., Reason.FIELD_MISSING),
    ("strategy", None, Reason.FIELD_MISSING),
    *[("strategy", bad, Reason.STRATEGY_UNKNOWN) for bad in ("", "momentum", "Trend", "trend ")],
    ("strategy", 1, Reason.FIELD_TYPE),
    ("symbol", ..., Reason.FIELD_MISSING),
    *[("symbol", bad, Reason.FIELD_FORMAT) for bad in ("", "btcusdt", "BTC USDT", "B" * 33, "BTC\n", "ВТС", "B,U")],
    ("symbol", 1, Reason.FIELD_TYPE),
    ("side", ..., Reason.FIELD_MISSING),
    *[("side", bad, Reason.FIELD_FORMAT) for bad in ("buy", "LONG", "", "long ")],
    *[("side", bad, Reason.FIELD_TYPE) for bad in (1, -1, True)],
    ("ts", ..., Reason.FIELD_MISSING),
    *[("ts", bad, Reason.FIELD_RANGE) for bad in (0, -1, LAST_MS + 1, 1e300)],
    *[("ts", bad, Reason.FIELD_FORMAT) for bad in (1.5, "yesterday", "", "1704067200000", "2024-01-01T00:00:00")],
    *[("ts", bad, Reason.FIELD_TYPE) for bad in (True, [TS], {"ms": TS})],
    *[("ts", bad, Reason.FIELD_NOT_FINITE) for bad in (NAN, INF, 10**400)],
    *[
        (name, bad, reason)
        for name in ("entry", "tp", "sl")
        for bad, reason in (
            (..., Reason.FIELD_MISSING),
            (None, Reason.FIELD_MISSING),
            ("100", Reason.FIELD_TYPE),
            (True, Reason.FIELD_TYPE),
            ([100.0], Reason.FIELD_TYPE),
            (NAN, Reason.FIELD_NOT_FINITE),
            (INF, Reason.FIELD_NOT_FINITE),
            (-INF, Reason.FIELD_NOT_FINITE),
            (10**400, Reason.FIELD_NOT_FINITE),
            (0, Reason.FIELD_RANGE),
            (-0.0, Reason.FIELD_RANGE),
            (-100.0, Reason.FIELD_RANGE),
        )
    ],
    *[("tp1", bad, Reason.FIELD_NOT_FINITE) for bad in (NAN, INF, -INF)],
    *[("tp1", bad, Reason.FIELD_TYPE) for bad in ("102", True)],
    *[("features", bad, Reason.FIELD_TYPE) for bad in ([1.0], "x", 1, True)],
    ("features", {f"f{i}": 1 for i in range(257)}, Reason.FEATURES_TOO_MANY),
    *[("session", bad, Reason.FIELD_FORMAT) for bad in ("US", "", "london")],
    ("session", 1, Reason.FIELD_TYPE),
    *[("volatility_regime", bad, Reason.FIELD_FORMAT) for bad in ("calm", "", "LOW")],
    ("volatility_regime", 1, Reason.FIELD_TYPE),
    *[("timeframe", bad, Reason.FIELD_FORMAT) for bad in ("", "5", "m", "0m", "05m", "5M", "5 m", "-5m", "10000m")],
    ("timeframe", 5, Reason.FIELD_TYPE),
    *[("tag", bad, Reason.FIELD_FORMAT) for bad in ("", "a b", "t" * 65, "a\u202eb")],
    ("tag", 5, Reason.FIELD_TYPE),
]  # fmt: skip


@pytest.mark.parametrize("side", ["long", "short"])
@pytest.mark.parametrize(("field", "bad", "reason"), ANY_SIDE)
def test_a_broken_rule_is_named(side: str, field: str, bad: object, reason: Reason) -> None:
    assert refused(payload(side, **{field: bad})) == (reason, field)


# Long from 100; the mirror image is checked too.
GEOMETRY = [
    ({"sl": 100.0}, Reason.GEOMETRY_STOP, "sl"),
    ({"sl": 101.0}, Reason.GEOMETRY_STOP, "sl"),
    ({"tp": 100.0}, Reason.GEOMETRY_TARGET, "tp"),
    ({"tp": 99.0}, Reason.GEOMETRY_TARGET, "tp"),
    ({"sl": 98.0, "tp": 100.125}, Reason.GEOMETRY_REWARD_RISK, "tp"),
    ({"sl": 99.0, "tp": 150.125}, Reason.GEOMETRY_REWARD_RISK, "tp"),
    ({"tp1": 100.0}, Reason.GEOMETRY_TP1, "tp1"),
    ({"tp1": 104.0}, Reason.GEOMETRY_TP1, "tp1"),
    ({"tp1": 99.0}, Reason.GEOMETRY_TP1, "tp1"),
    ({"tp1": 105.0}, Reason.GEOMETRY_TP1, "tp1"),
    ({"sl": 99.0, "tp": 150.0}, None, ""),
    ({"sl": 90.0, "tp": 101.0}, None, ""),
    ({"tp1": 100.0625}, None, ""),
    ({"tp1": 103.9375}, None, ""),
    ({"tp1": None}, None, ""),
]


@pytest.mark.parametrize("side", ["long", "short"])
@pytest.mark.parametrize(("levels", "reason", "field"), GEOMETRY)
def test_geometry(side: str, levels: dict[str, float | None], reason: Reason | None, field: str) -> None:
    seen = {name: 200.0 - value if side == "short" and value is not None else value for name, value in levels.items()}
    found = parse_signal(payload(side, **seen), DEFAULT_PROFILES)
    if reason is None:
        assert isinstance(found, Signal)
        assert found.side is Side.parse(side)
    else:
        assert isinstance(found, Refusal)
        assert (found.reason, found.field) == (reason, field)


@pytest.mark.parametrize(
    ("features", "reason", "field"),
    [
        ({"a": NAN}, Reason.FIELD_NOT_FINITE, "features.a"),
        ({"a": INF}, Reason.FIELD_NOT_FINITE, "features.a"),
        ({"a": 10**400}, Reason.FIELD_NOT_FINITE, "features.a"),
        ({"a": True}, Reason.FIELD_TYPE, "features.a"),
        ({"a": {}}, Reason.FIELD_TYPE, "features.a"),
        ({"a": [1.0]}, Reason.FIELD_TYPE, "features.a"),
        ({"a b": 1.0}, Reason.FIELD_FORMAT, "features.a b"),
        ({"": 1.0}, Reason.FIELD_FORMAT, "features."),
        ({"a" * 65: 1.0}, Reason.FIELD_FORMAT, "features." + "a" * 64),
        ({"a": "x" * 65}, Reason.FIELD_FORMAT, "features.a"),
        ({"a": "\n"}, Reason.FIELD_FORMAT, "features.a"),
        ({"a": "\u202e"}, Reason.FIELD_FORMAT, "features.a"),
        ({"a": "\ud800"}, Reason.FIELD_FORMAT, "features.a"),
    ],
)
def test_a_broken_feature_is_named(features: object, reason: Reason, field: str) -> None:
    assert refused(payload(features=features)) == (reason, field)


@pytest.mark.parametrize("sent", [[], "x", None, 1, 1.5, True, [payload()]])
def test_a_payload_is_an_object(sent: object) -> None:
    assert refused(sent) == (Reason.PAYLOAD_NOT_OBJECT, "payload")


@pytest.mark.parametrize("name", ["foo", "Entry", "entry ", "", "risk", "__class__", "size"])
def test_unknown_fields_are_refused(name: str) -> None:
    assert refused(payload(**{name: 1})) == (Reason.FIELD_UNKNOWN, name)


@pytest.mark.parametrize(
    ("name", "shown"), [("a\x00b", "a\\x00b"), ("\u202e", "\\u202e"), ("\ud800", "\\ud800"), ("x" * 100, "x" * 64)]
)
def test_an_unknown_field_is_shown_harmlessly(name: str, shown: str) -> None:
    assert refused(payload(**{name: 1})) == (Reason.FIELD_UNKNOWN, shown)


def test_everything_at_its_bound_is_accepted() -> None:
    features: dict[str, object] = {f"f{i}": float(i) for i in range(253)}
    features |= {"word": "x" * 64, "none": None, "A.b:c-d_9": -1e300}
    found = parsed(
        payload(
            id="A" * 60 + "_.:-",
            symbol="BTC-PERP.2024:USDT/X_9" + "0" * 10,
            ts=LAST_MS,
            features=features,
            session="off",
            volatility_regime="extreme",
            timeframe="9999w",
            tag="t" * 64,
        )
    )
    assert len(found.id) == 64
    assert len(found.symbol) == 32
    assert dict(found.features) == features
    assert (found.session, found.volatility_regime) == (Session.OFF, VolatilityRegime.EXTREME)


def test_optional_fields_may_be_left_out_or_empty() -> None:
    absent = parsed(payload())
    empty = dict.fromkeys(("tp1", "features", "session", "volatility_regime", "timeframe", "tag"))
    assert parsed(payload(**empty)) == absent
    assert (absent.tp1, absent.session, absent.volatility_regime, absent.timeframe, absent.tag) == (None,) * 5
    assert dict(absent.features) == {}


@pytest.mark.parametrize(
    ("alias", "regime"),
    [
        ("zombieland", VolatilityRegime.LOW),
        ("goldilocks_1", VolatilityRegime.NORMAL),
        ("goldilocks_2", VolatilityRegime.HIGH),
        ("chaos", VolatilityRegime.EXTREME),
        *[(regime.value, regime) for regime in VolatilityRegime],
    ],
)
def test_regimes_have_aliases(alias: str, regime: VolatilityRegime) -> None:
    assert parsed(payload(volatility_regime=alias)).volatility_regime is regime


def test_a_signal_cannot_be_changed_afterwards() -> None:
    features: dict[str, object] = {"a": 1.0}
    found = parsed(payload(features=features))
    features["a"] = 2.0
    assert found.features["a"] == 1.0
    with pytest.raises(TypeError):
        found.features["a"] = 3.0  # type: ignore[index]
    with pytest.raises(AttributeError):
        found.entry = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("features", "number"), [({"a": 1}, 1.0), ({"a": -0.5}, -0.5), ({"a": "1"}, NAN), ({"a": None}, NAN), ({}, NAN)]
)
def test_a_feature_as_a_number(features: dict[str, object], number: float) -> None:
    found = parsed(payload(features=features)).number("a")
    assert found == number or (math.isnan(found) and math.isnan(number))
