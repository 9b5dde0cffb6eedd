"""The feature schemas: order, hash, what can be in one, and how strictly a signal is read."""

from __future__ import annotations

import dataclasses
import math
from typing import cast

import numpy as np
import pytest

from scorer.schema import (
    EXIT_ONLY,
    RANGE,
    SCALP,
    SCHEMAS,
    STORED_ONLY,
    TREND,
    Ablation,
    Direction,
    Family,
    Feature,
    Kind,
    Known,
    Schema,
)
from signals.errors import Invalid
from signals.profile import DEFAULT_PROFILES
from signals.signal import Side

# The specification's own lists.
TREND_NAMES = """atr_pct, break_dist_atr, retrace_depth_atr, confirm_candles, ema_stack_score, range_expansion,
trend_slope_pct, div_ok, div_score, div_rsi_delta, div_tsi_delta, protective_pivot_present, ts15, ts60, rc15, rc60,
qscore, rsi, macd_hist, adx, volume_ratio, volume_trend, vwap_dist_atr, bb_width_pct, body_ratio, upper_wick_ratio,
lower_wick_ratio, ema_slope_fast, ema_slope_slow, reward_to_risk, hour_of_day, day_of_week, session,
volatility_regime"""
SCALP_NAMES = """atr_pct, bb_width_pct, impulse_ratio, ema_slope_fast, ema_slope_slow, volume_ratio, upper_wick_ratio,
lower_wick_ratio, vwap_dist_atr, session, symbol_cluster, volatility_regime"""
RANGE_NAMES = """range_width_atr, range_pos, touches_high, touches_low, mid_dist_atr, rejection_wick, bb_width_pct, rsi,
adx, atr_pct, volume_ratio, volume_trend, vwap_dist_atr, body_ratio, reward_to_risk, range_age_bars, ts60, rc60,
session, volatility_regime"""


@pytest.mark.parametrize(
    ("schema", "names", "count", "may_miss"),
    [(TREND, TREND_NAMES, 34, 3), (RANGE, RANGE_NAMES, 20, 2), (SCALP, SCALP_NAMES, 12, 1)],
)
def test_names_and_order(schema: Schema, names: str, count: int, may_miss: int) -> None:
    assert schema.names == tuple(name.strip() for name in names.split(","))
    assert len(schema.features) == count
    assert schema.allowed_missing == may_miss
    assert SCHEMAS[schema.name] is schema


def test_every_default_profile_has_a_schema() -> None:
    assert {profile.features for profile in DEFAULT_PROFILES.values()} == set(SCHEMAS)
    assert set(STORED_ONLY) == set(SCHEMAS)


def test_what_is_stored_only_is_not_fed() -> None:
    stored = {feature.name for feature in STORED_ONLY["scalp"]}
    assert stored >= {"body_ratio", "body_sign", "ts15", "ema_dir_15m", "qscore", "micro_seq_aligned", "bb_width_rank"}
    assert stored.isdisjoint(SCALP.names)


@pytest.mark.parametrize("feature", EXIT_ONLY, ids=lambda feature: feature.name)
def test_nothing_known_at_exit_can_be_in_a_schema(feature: Feature) -> None:
    with pytest.raises(Invalid, match="exit"):
        Schema("own", 1, (*SCALP.features, feature))
    assert all(feature.name not in schema.names for schema in SCHEMAS.values())


def test_a_schema_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(Invalid, match="twice"):
        Schema("own", 1, (*SCALP.features, Feature(name="atr_pct")))
    with pytest.raises(Invalid, match="partner"):
        Schema("own", 1, tuple(f for f in SCALP.features if f.name != "upper_wick_ratio"))
    with pytest.raises(Invalid, match="version"):
        Schema("own", 0, SCALP.features)
    with pytest.raises(Invalid):
        Feature(name="x", low=1.0, high=1.0)
    with pytest.raises(Invalid):
        Feature(name="x", direction=Direction.SWAP)


def test_hashes_are_pinned() -> None:
    # A model is refused under another hash: a change here retires every trained model and needs a new version.
    assert {name: schema.hash[:16] for name, schema in SCHEMAS.items()} == {
        "trend": "01760b24cd6a90b8",
        "range": "71b1957bad5f13b6",
        "scalp": "3b503023fe6c16b3",
    }


def test_the_hash_tells_order_type_and_version_apart() -> None:
    first, second, *rest = SCALP.features
    variants = [
        SCALP,
        Schema("scalp", 2, SCALP.features),
        Schema("other", 1, SCALP.features),
        Schema("scalp", 1, (second, first, *rest)),
        Schema("scalp", 1, (dataclasses.replace(first, kind=Kind.CATEGORY), second, *rest)),
        Schema("scalp", 1, (dataclasses.replace(first, direction=Direction.SIGN), second, *rest)),
        Schema("scalp", 1, (first, second, *rest[:-1])),
    ]
    assert len({schema.hash for schema in variants}) == len(variants)
    assert Schema("scalp", 1, SCALP.features).hash == SCALP.hash


def complete(schema: Schema) -> dict[str, float | str | None]:
    numbers: dict[str, float | str | None] = {feature.name: float(i) for i, feature in enumerate(schema.numbers)}
    return numbers | {feature.name: (feature.levels or ("BTCUSDT",))[0] for feature in schema.categories}


def broken(name: str, value: object) -> dict[str, float | str | None]:
    """A complete scalp signal with one value that the type would not allow."""
    return complete(SCALP) | cast("dict[str, float | str | None]", {name: value})


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)
def test_a_complete_signal(schema: Schema) -> None:
    # Order of the mapping and unknown names do not matter.
    features = {"unknown": 1.0} | dict(reversed(complete(schema).items()))
    vector = schema.vector(features)
    assert vector.values.dtype == np.float64
    assert vector.values.tolist() == [float(i) for i in range(len(schema.numbers))]
    assert vector.categories == tuple((feature.levels or ("BTCUSDT",))[0] for feature in schema.categories)
    assert vector.missing == ()


@pytest.mark.parametrize(
    "value",
    [None, math.nan, math.inf, -math.inf, "1.5", True, 10**400, 1e300, -1e13, [1.0]],
    ids=str,
)
def test_a_number_that_is_none_is_missing(value: object) -> None:
    vector = SCALP.vector(broken("volume_ratio", value))
    assert vector.missing == ("volume_ratio",)
    assert math.isnan(vector.values[5])
    assert np.isfinite(np.delete(vector.values, 5)).all()


@pytest.mark.parametrize("value", [None, "", "moon", 1.0, True])
def test_a_category_that_is_none_is_missing(value: object) -> None:
    vector = SCALP.vector(broken("session", value))
    assert vector.missing == ("session",)
    assert vector.categories == (None, "BTCUSDT", "low")


def test_open_levels_take_any_word_and_whole_numbers_are_numbers() -> None:
    vector = SCALP.vector(complete(SCALP) | {"symbol_cluster": "majors", "atr_pct": 2})
    assert vector.missing == ()
    assert vector.categories[1] == "majors"
    assert vector.values[0] == 2.0


def test_an_empty_signal_misses_everything_in_order() -> None:
    assert TREND.vector({}).missing == TREND.names


# x on the chart, its partner → for a long, for a short.
@pytest.mark.parametrize(
    ("direction", "value", "partner", "long", "short"),
    [
        (Direction.NONE, 3.0, 9.0, 3.0, 3.0),
        (Direction.SIDED, 3.0, 9.0, 3.0, 3.0),
        (Direction.SIGN, 3.0, 9.0, 3.0, -3.0),
        (Direction.AROUND_50, 70.0, 9.0, 70.0, 30.0),
        (Direction.AROUND_HALF, 0.1, 9.0, 0.1, 0.9),
        (Direction.SWAP, 3.0, 9.0, 3.0, 9.0),
    ],
)
def test_turning_into_the_trade(direction: Direction, value: float, partner: float, long: float, short: float) -> None:
    feature = Feature(name="x", direction=direction, partner="y" if direction is Direction.SWAP else "")
    assert feature.turned(value, partner, Side.LONG) == long
    assert feature.turned(value, partner, Side.SHORT) == pytest.approx(short)


def test_no_negative_zero() -> None:
    feature = Feature(name="x", direction=Direction.SIGN)
    assert math.copysign(1.0, feature.turned(0.0, 0.0, Side.SHORT)) == 1.0


def test_directions_of_the_specification() -> None:
    rule = {feature.name: feature.direction for schema in SCHEMAS.values() for feature in schema.features}
    rule |= {feature.name: feature.direction for feature in STORED_ONLY["scalp"]}
    signed = {name for name, direction in rule.items() if direction is Direction.SIGN}
    assert signed == {
        "ema_slope_fast",
        "ema_slope_slow",
        "macd_hist",
        "trend_slope_pct",
        "ema_stack_score",
        "body_sign",
        "ema_dir_15m",
    }
    assert rule["rsi"] is Direction.AROUND_50
    assert rule["range_pos"] is Direction.AROUND_HALF
    assert rule["upper_wick_ratio"] is rule["lower_wick_ratio"] is Direction.SWAP
    assert rule["vwap_dist_atr"] is rule["adx"] is rule["ts15"] is Direction.NONE


def test_all_features_but_those_of_the_exit_are_known_at_entry() -> None:
    everything = [f for s in SCHEMAS.values() for f in s.features] + list(STORED_ONLY["scalp"])
    assert {feature.known for feature in everything} == {Known.ENTRY}
    assert {feature.known for feature in EXIT_ONLY} == {Known.EXIT}


def test_families_share_every_feature_out_and_leave_the_hash_alone() -> None:
    for schema in SCHEMAS.values():
        ta, mechanics, full = (schema.names_of(ablation) for ablation in Ablation)
        assert full == set(schema.names) == ta | mechanics
        context = {feature.name for feature in schema.features if feature.family is Family.CONTEXT}
        assert ta & mechanics == context
        assert {"session", "volatility_regime"} <= context
        assert ta - context
        assert mechanics - context
    moved = tuple(dataclasses.replace(feature, family=Family.MECHANICS) for feature in SCALP.features)
    assert Schema("scalp", 1, moved).hash == SCALP.hash
