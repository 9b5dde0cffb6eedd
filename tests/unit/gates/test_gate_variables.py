"""The 28 variables, each at its edge, and what users declare beside them."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from gates.evaluate import columns_of, evaluate, evaluate_one, learn_quantiles
from gates.variables import BY_NAME, ORIGINAL, VARIABLES, Comparison, declared, nested
from scorer.schema import SCALP, STORED_ONLY
from signals.errors import Invalid

EDGES = [
    ("htf", {"ts15": 60.0}, {"ts15": 59.9}),
    ("vol", {"volume_ratio": 1.30}, {"volume_ratio": 1.29}),
    ("body", {"body_ratio": 0.35, "body_sign": 1.0}, {"body_ratio": 0.34, "body_sign": 1.0}),
    ("body", {"body_ratio": 0.9, "body_sign": 1.0}, {"body_ratio": 0.9, "body_sign": -1.0}),
    ("body", {"body_ratio": 0.9, "body_sign": 1.0}, {"body_ratio": 0.9, "body_sign": 0.0}),
    ("align_15m", {"ema_dir_15m": 1.0}, {"ema_dir_15m": -1.0}),
    ("align_15m", {"ema_dir_15m": 1.0}, {"ema_dir_15m": 0.0}),
    ("body_040", {"body_ratio": 0.40, "body_sign": 1.0}, {"body_ratio": 0.39, "body_sign": 1.0}),
    ("body_045", {"body_ratio": 0.45, "body_sign": 1.0}, {"body_ratio": 0.44, "body_sign": 1.0}),
    ("body_050", {"body_ratio": 0.50, "body_sign": 1.0}, {"body_ratio": 0.49, "body_sign": 1.0}),
    ("body_060", {"body_ratio": 0.60, "body_sign": 1.0}, {"body_ratio": 0.59, "body_sign": 1.0}),
    (
        "wick_align",
        {"lower_wick_ratio": 0.4, "upper_wick_ratio": 0.3},
        {"lower_wick_ratio": 0.3, "upper_wick_ratio": 0.3},
    ),
    ("vwap_045", {"vwap_dist_atr": 0.44}, {"vwap_dist_atr": 0.45}),
    ("vwap_060", {"vwap_dist_atr": 0.59}, {"vwap_dist_atr": 0.60}),
    ("vwap_080", {"vwap_dist_atr": 0.79}, {"vwap_dist_atr": 0.80}),
    ("vwap_100", {"vwap_dist_atr": 0.99}, {"vwap_dist_atr": 1.00}),
    ("vol_110", {"volume_ratio": 1.10}, {"volume_ratio": 1.09}),
    ("vol_120", {"volume_ratio": 1.20}, {"volume_ratio": 1.19}),
    ("vol_150", {"volume_ratio": 1.50}, {"volume_ratio": 1.49}),
    ("bb_width_60p", {"bb_width_pct": 1.5}, {"bb_width_pct": 1.49}),
    ("bb_width_70p", {"bb_width_pct": 1.8}, {"bb_width_pct": 1.79}),
    ("bb_width_80p", {"bb_width_pct": 2.2}, {"bb_width_pct": 2.19}),
    ("q_040", {"qscore": 40.0}, {"qscore": 39.9}),
    ("q_050", {"qscore": 50.0}, {"qscore": 49.9}),
    ("q_060", {"qscore": 60.0}, {"qscore": 59.9}),
    ("q_070", {"qscore": 70.0}, {"qscore": 69.9}),
    ("impulse_040", {"impulse_ratio": 0.40}, {"impulse_ratio": 0.39}),
    ("impulse_060", {"impulse_ratio": 0.60}, {"impulse_ratio": 0.59}),
    ("micro_seq", {"micro_seq_aligned": 1.0}, {"micro_seq_aligned": 0.0}),
    ("micro_seq", {"micro_seq_aligned": True}, {"micro_seq_aligned": False}),
    ("htf_070", {"ts15": 70.0}, {"ts15": 69.9}),
    ("htf_080", {"ts15": 80.0}, {"ts15": 79.9}),
]


@pytest.mark.parametrize(
    ("name", "passing", "failing"), EDGES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_variable_at_its_edge(name: str, passing: dict[str, float], failing: dict[str, float]) -> None:
    assert evaluate_one([BY_NAME[name]], passing, {}) == {name: True}
    assert evaluate_one([BY_NAME[name]], failing, {}) == {name: False}
    for gone in passing:
        for value in (None, math.nan, math.inf, "0.9", 1e300):
            assert evaluate_one([BY_NAME[name]], passing | {gone: value}, {}) == {name: None}


def test_there_are_28_and_every_edge_is_tried() -> None:
    assert len(VARIABLES) == 28
    assert {name for name, _, _ in EDGES} == set(BY_NAME)
    assert len(list(combinations(VARIABLES, 2))) + len(list(combinations(VARIABLES, 3))) + 28 == 3_682
    assert set(ORIGINAL) <= set(BY_NAME)


def test_stored_features_are_enough_for_every_past_position() -> None:
    stored = {feature.name for feature in (*SCALP.features, *STORED_ONLY["scalp"])}
    assert {name for variable in VARIABLES for name in variable.features} <= stored


@pytest.mark.parametrize(
    ("one", "other", "inside"),
    [
        ("body_060", "body_040", True),
        ("body_040", "body", True),
        ("vwap_045", "vwap_100", True),
        ("vol_150", "vol", True),
        ("vol", "vol_120", True),
        ("htf_080", "htf", True),
        ("q_070", "q_040", True),
        ("bb_width_80p", "bb_width_60p", True),
        ("impulse_060", "impulse_040", True),
        ("htf", "vol", False),
        ("body", "wick_align", False),
        ("micro_seq", "align_15m", False),
    ],
)
def test_what_contains_what_by_definition(one: str, other: str, inside: bool) -> None:
    assert nested(BY_NAME[one], BY_NAME[other]) is inside
    assert nested(BY_NAME[other], BY_NAME[one]) is inside


def test_a_nested_pair_never_disagrees_with_its_definition() -> None:
    rng = np.random.default_rng(2)
    names = {name for variable in VARIABLES for name in variable.features}
    columns = {
        name: rng.choice([-1.0, 0.0, 0.3, 0.41, 0.5, 0.7, 1.0, 1.25, 1.6, 2.5, 65.0, 75.0], size=500) for name in names
    }
    told = evaluate(VARIABLES, columns, {})
    for place, one in enumerate(VARIABLES):
        for at, other in enumerate(VARIABLES):
            if one.implies(other):
                assert not np.any(told.passed[place] & ~told.passed[at])


def test_one_signal_and_many_are_judged_alike() -> None:
    rng = np.random.default_rng(3)
    names = sorted({name for variable in VARIABLES for name in variable.features})
    rows = [{name: None if rng.random() < 0.1 else float(rng.normal(1.0, 1.0)) for name in names} for _ in range(50)]
    quantiles = {("bb_width_pct", 0.60): 0.7, ("bb_width_pct", 0.70): 1.1}
    many = evaluate(VARIABLES, columns_of(rows, VARIABLES), quantiles)
    for place, row in enumerate(rows):
        alone = evaluate_one(VARIABLES, row, quantiles)
        for at, name in enumerate(many.names):
            assert alone[name] == (bool(many.passed[at, place]) if many.known[at, place] else None)


def test_quantiles_are_learned_on_what_is_given_and_are_observed_values() -> None:
    columns = {"bb_width_pct": np.array([1.0, 2.0, 3.0, 4.0, np.nan])}
    found = learn_quantiles(VARIABLES, columns)
    assert found == {("bb_width_pct", 0.60): 3.0, ("bb_width_pct", 0.70): 4.0, ("bb_width_pct", 0.80): 4.0}
    assert evaluate_one([BY_NAME["bb_width_60p"]], {"bb_width_pct": 3.0}, found) == {"bb_width_60p": True}
    assert learn_quantiles(VARIABLES, {"bb_width_pct": np.array([np.nan])}) == {}


def test_users_declare_their_own() -> None:
    rows = [
        {
            "name": "calm",
            "group": "own",
            "when": [
                {"feature": "atr_pct", "below": 0.5},
                {"feature": "volume_ratio", "at_quantile": 0.5, "fallback": 1},
            ],
        },
        {"name": "leaning", "when": [{"feature": "ema_slope_fast", "more_than": "ema_slope_slow"}]},
    ]
    calm, leaning = declared(rows, VARIABLES)
    assert str(calm) == "atr_pct < 0.5 and volume_ratio ≥ its 50% quantile"
    assert calm.conditions[1].test is Comparison.QUANTILE
    features = {"atr_pct": 0.4, "volume_ratio": 1.0, "ema_slope_fast": 0.2, "ema_slope_slow": 0.1}
    assert evaluate_one([calm, leaning], features, {}) == {"calm": True, "leaning": True}


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"name": "vol", "when": [{"feature": "a", "below": 1}]}, id="a name that is taken"),
        pytest.param({"name": "Calm!", "when": [{"feature": "a", "below": 1}]}, id="a name of other letters"),
        pytest.param({"name": "calm", "when": []}, id="nothing compared"),
        pytest.param({"name": "calm"}, id="no comparison"),
        pytest.param({"name": "calm", "when": ["a < 1"]}, id="text"),
        pytest.param({"name": "calm", "when": [{"below": 1}]}, id="no feature"),
        pytest.param({"name": "calm", "when": [{"feature": "a"}]}, id="no test"),
        pytest.param({"name": "calm", "when": [{"feature": "a", "below": 1, "above": 0}]}, id="two tests"),
        pytest.param({"name": "calm", "when": [{"feature": "a", "below": math.nan}]}, id="no number"),
        pytest.param({"name": "calm", "when": [{"feature": "a", "below": True}]}, id="a yes"),
        pytest.param({"name": "calm", "when": [{"feature": "a", "below": 10**400}]}, id="a number no float can hold"),
        pytest.param({"name": "calm", "when": [{"feature": "a", "at_quantile": 0.5}]}, id="no fallback"),
        pytest.param({"name": "calm", "when": [{"feature": "a", "at_quantile": 1, "fallback": 1}]}, id="all of it"),
        pytest.param({"name": "calm", "when": [{"feature": "a", "more_than": ""}]}, id="more than nothing"),
        pytest.param({"name": "calm", "when": [{"feature": "a", "below": 1}], "if": 1}, id="a word too many"),
    ],
)
def test_a_declaration_that_means_nothing_is_refused(row: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        declared([row], VARIABLES)
