"""The hash of a vector, and what differs when it does."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer.encoding import model_features
from scorer.rebuilt import Difference, Rebuilt, compared, differences, stored_vector
from scorer.schema import SCALP, SCHEMAS, TREND, Feature, Schema, Vector
from signals.parse import canonical_json
from signals.signal import FeatureValue
from tests.support.laws import LAW

FULL: dict[str, FeatureValue] = {feature.name: 1.0 + place / 3.0 for place, feature in enumerate(SCALP.numbers)}
FULL |= {"session": "us", "volatility_regime": "low", "symbol_cluster": "BTCUSDT"}


def hashed(features: dict[str, FeatureValue], schema: Schema = SCALP) -> str:
    return schema.vector_hash(schema.vector(features))


def test_hashes_are_pinned_and_say_their_schema() -> None:
    # A change here makes every recorded hash unknown or, worse, different: it needs a new version of the schemas.
    assert hashed({}) == f"{SCALP.hash[:8]}:e59eb603a8894112"
    assert hashed(FULL).partition(":")[0] == SCALP.hash[:8]
    assert len(hashed(FULL)) == 25


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        pytest.param({"atr_pct": math.nextafter(1.0, 2.0)}, False, id="one bit"),
        pytest.param({"atr_pct": 1}, True, id="a whole number as JSON keeps it"),
        pytest.param({"atr_pct": None}, False, id="missing"),
        pytest.param({"session": "off"}, False, id="a word"),
        pytest.param({"unknown": 3.0, "atr_pct_known_ms": 1.0}, True, id="what the schema does not read"),
    ],
)
def test_what_the_hash_tells_apart(changes: dict[str, FeatureValue], same: bool) -> None:
    assert (hashed(FULL | changes) == hashed(FULL)) is same


def test_the_ways_to_be_missing_and_the_zeros_are_one() -> None:
    assert len({hashed(FULL | {"atr_pct": value}) for value in (None, "words", math.nan, math.inf)}) == 1
    assert hashed(FULL | {"atr_pct": 0.0}) == hashed(FULL | {"atr_pct": -0.0})


def test_words_do_not_run_into_one_another() -> None:
    schema = Schema("words", 1, tuple(Feature(name=name, kind=SCALP.categories[0].kind) for name in "ab"))
    said = [
        {"a": "x", "b": "y,z"},
        {"a": "x,y", "b": "z"},
        {"a": 'x","y', "b": "z"},
        {"a": "null", "b": "z"},
        {"b": "z"},
    ]
    assert len({schema.vector_hash(schema.vector(one)) for one in said}) == len(said)


NUMBERS = st.one_of(st.none(), st.floats(width=64), st.integers(-(10**6), 10**6), st.just(-0.0))


@LAW
@given(st.sampled_from(sorted(SCHEMAS)), st.data())
def test_what_json_keeps_rebuilds(name: str, data: st.DataObject) -> None:
    schema = SCHEMAS[name]
    drawn = {feature.name: data.draw(NUMBERS) for feature in schema.numbers}
    features = {key: value for key, value in drawn.items() if value is None or math.isfinite(value)}
    seen = schema.vector(model_features(features, bucket="us|high", symbol="A"))
    body = json.loads(canonical_json({"features": features, "bucket": "us|high", "symbol": "A"}))
    rebuilt = stored_vector(schema, body)
    assert compared(schema, rebuilt, schema.vector_hash(seen)) is Rebuilt.EQUAL
    assert differences(schema, seen, rebuilt) == ()


@LAW
@given(st.lists(NUMBERS, min_size=9, max_size=9), st.lists(NUMBERS, min_size=9, max_size=9))
def test_differences_are_empty_exactly_when_the_hashes_are_equal(
    one: list[float | None], other: list[float | None]
) -> None:
    names = [feature.name for feature in SCALP.numbers]
    first, second = (SCALP.vector(dict(zip(names, values, strict=True))) for values in (one, other))
    assert (differences(SCALP, first, second) == ()) is (SCALP.vector_hash(first) == SCALP.vector_hash(second))


def test_differences_have_a_name_and_both_values() -> None:
    seen = SCALP.vector(FULL)
    now = SCALP.vector(FULL | {"volume_ratio": None, "session": "off", "atr_pct": 7.5})
    assert differences(SCALP, seen, now) == (
        Difference("atr_pct", 1.0, 7.5),
        Difference("volume_ratio", FULL["volume_ratio"], None),
        Difference("session", "us", "off"),
    )
    assert str(differences(SCALP, seen, now)[0]) == "atr_pct 1.0 → 7.5"


@pytest.mark.parametrize(
    ("recorded", "verdict"),
    [
        (hashed(FULL), Rebuilt.EQUAL),
        (hashed({}), Rebuilt.DIFFERENT),
        (None, Rebuilt.UNKNOWN),
        (TREND.vector_hash(TREND.vector({})), Rebuilt.UNKNOWN),
        ("", Rebuilt.UNKNOWN),
    ],
)
def test_a_record_without_a_hash_of_this_schema_proves_nothing(recorded: str | None, verdict: Rebuilt) -> None:
    vector: Vector = SCALP.vector(FULL)
    assert compared(SCALP, vector, recorded) is verdict


@pytest.mark.parametrize("body", [{}, {"features": None}, {"features": [1], "bucket": 3, "symbol": 4}])
def test_a_body_without_features_misses_them_all(body: dict[str, object]) -> None:
    vector = stored_vector(SCALP, body)
    assert {feature.name for feature in SCALP.numbers} <= set(vector.missing)
