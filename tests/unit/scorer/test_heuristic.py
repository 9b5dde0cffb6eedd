"""The rule score of SPEC 6: every rule at its bound, and nothing for a value that is missing or no number."""

from __future__ import annotations

import math

import pytest

from scorer.heuristic import RULES, HeuristicScore, Rule, heuristic_score
from signals.errors import Invalid
from signals.profile import DEFAULT_PROFILES
from signals.signal import FeatureValue, Side, Signal

BELOW, ABOVE = -math.inf, math.inf
NOT_NUMBERS = (None, "1.0", "", "inf")


def score(table: str, features: dict[str, FeatureValue], side: Side = Side.LONG) -> HeuristicScore:
    sign = side.value
    signal = Signal(
        id="s",
        strategy="trend",
        symbol="BTCUSDT",
        side=side,
        entry=100.0,
        sl=100.0 - 2 * sign,
        tp=100.0 + 4 * sign,
        ts=1,
        features=features,
    )
    return heuristic_score(signal, table)


def just(value: float, towards: float) -> float:
    return math.nextafter(value, towards)


AT_THE_BOUND = [
    ("trend", "trend_slope_pct", 5.0, 60.0),
    ("trend", "trend_slope_pct", just(5.0, BELOW), 50.0),
    ("trend", "ema_stack_score", 50.0, 60.0),
    ("trend", "ema_stack_score", just(50.0, BELOW), 50.0),
    ("trend", "break_dist_atr", 0.2, 60.0),
    ("trend", "break_dist_atr", just(0.2, BELOW), 50.0),
    ("trend", "range_expansion", 1.2, 60.0),
    ("trend", "range_expansion", just(1.2, BELOW), 50.0),
    ("trend", "atr_pct", 0.5, 45.0),
    ("trend", "atr_pct", just(0.5, BELOW), 50.0),
    ("scalp", "impulse_ratio", 1.0, 50.0),
    ("scalp", "impulse_ratio", just(1.0, ABOVE), 60.0),
    ("scalp", "vwap_dist_atr", 0.6, 50.0),
    ("scalp", "vwap_dist_atr", just(0.6, BELOW), 60.0),
    ("scalp", "bb_width_rank", 0.7, 50.0),
    ("scalp", "bb_width_rank", just(0.7, ABOVE), 55.0),
    ("scalp", "volume_ratio", 1.3, 50.0),
    ("scalp", "volume_ratio", just(1.3, ABOVE), 60.0),
    ("range", "range_pos", 0.2, 60.0),
    ("range", "range_pos", just(0.2, ABOVE), 50.0),
    ("range", "rejection_wick", 1.0, 60.0),
    ("range", "rejection_wick", 0.0, 50.0),
    ("range", "range_width_atr", 2.0, 60.0),
    ("range", "range_width_atr", just(2.0, BELOW), 50.0),
    ("range", "adx", 30.0, 40.0),
    ("range", "adx", just(30.0, BELOW), 50.0),
]


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize(("table", "feature", "value", "expected"), AT_THE_BOUND)
def test_each_rule_at_its_bound(table: str, feature: str, value: float, expected: float, side: Side) -> None:
    assert score(table, {feature: value}, side).score == expected


@pytest.mark.parametrize("table", RULES)
@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_what_is_no_number_awards_nothing(table: str, value: FeatureValue) -> None:
    rules = RULES[table]
    found = score(table, {rule.feature: value for rule in rules})
    assert found == HeuristicScore(50.0, tuple(rule.feature for rule in rules))
    assert found == score(table, {})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rule", [rule for rules in RULES.values() for rule in rules], ids=lambda rule: rule.feature)
def test_no_rule_compares_what_is_not_finite(rule: Rule, value: float) -> None:
    assert rule.award(value) == 0.0


@pytest.mark.parametrize(
    ("table", "features", "expected"),
    [
        ("trend", {"trend_slope_pct": 9, "ema_stack_score": 99, "break_dist_atr": 1, "range_expansion": 2}, 90.0),
        (
            "trend",
            {"trend_slope_pct": 9, "ema_stack_score": 99, "break_dist_atr": 1, "range_expansion": 2, "atr_pct": 1},
            85.0,
        ),
        ("trend", {"atr_pct": 9.0}, 45.0),
        ("scalp", {"impulse_ratio": 2, "vwap_dist_atr": 0, "bb_width_rank": 1, "volume_ratio": 2}, 85.0),
        ("scalp", {"vwap_dist_atr": 5.0, "impulse_ratio": 0.0, "bb_width_rank": 0.0, "volume_ratio": 0.0}, 50.0),
        ("range", {"range_pos": 0, "rejection_wick": 1, "range_width_atr": 3}, 80.0),
        ("range", {"range_pos": 0, "rejection_wick": 1, "range_width_atr": 3, "adx": 50}, 70.0),
        ("range", {"adx": 50.0}, 40.0),
    ],
)
def test_rules_add_up(table: str, features: dict[str, FeatureValue], expected: float) -> None:
    assert score(table, features).score == expected


def test_missing_features_are_named_in_the_order_of_the_rules() -> None:
    found = score("trend", {"ema_stack_score": 60.0, "range_expansion": 1.0})
    assert found == HeuristicScore(60.0, ("trend_slope_pct", "break_dist_atr", "atr_pct"))


def test_scores_stay_within_0_and_100(monkeypatch: pytest.MonkeyPatch) -> None:
    up, down = (
        tuple(Rule("a", lambda value, bound: value > bound, 0.0, points) for _ in range(9)) for points in (10, -10)
    )
    monkeypatch.setattr("scorer.heuristic.RULES", {"up": up, "down": down})
    assert score("up", {"a": 1.0}).score == 100.0
    assert score("down", {"a": 1.0}).score == 0.0


def test_every_profile_has_a_table() -> None:
    assert {profile.heuristic for profile in DEFAULT_PROFILES.values()} == set(RULES)


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(Invalid, match="momentum"):
        score("momentum", {})
