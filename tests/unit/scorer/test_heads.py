"""Forecasts beside the score: logic among them, and arrays that say what they were told to say."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phantom import reach
from scorer import heads
from scorer.calibration import Beta
from scorer.compiled import Trees
from scorer.encoding import Encoding
from scorer.heads import REACH, Head, HeadSet, Line, Told, Way, coherent, reach_name
from scorer.schema import SCALP, Ablation, Vector

FLAT = Beta(1.0, 1.0, 0.0)
LINE = Line(centre=0.5, level=0.1, slope=0.5, level_var=0.04, slope_var=0.25)


def test_levels_and_horizons_are_those_of_the_path() -> None:
    assert heads.HORIZONS == reach.HORIZONS
    assert tuple(float(level) for level in heads.LEVELS_R) == reach.LEVELS_R
    assert len(REACH) == len(set(REACH)) == 12


@given(st.dictionaries(st.sampled_from(REACH), st.floats(0.0, 1.0)))
def test_what_implies_another_is_no_likelier(said: dict[str, float]) -> None:
    found = coherent(said)
    assert found.keys() == said.keys()
    assert all(0.0 <= value <= 1.0 for value in found.values())
    for level, horizon, way in product(heads.LEVELS_R, heads.HORIZONS, Way):
        name = reach_name(level, horizon, way)
        wider = [reach_name(level, 120, way), reach_name(level, horizon, Way.ANY), reach_name(1, horizon, way)]
        for other in wider:
            if name in found and other in found:
                assert found[name] <= found[other] + 1e-12
    for level, horizon in product(heads.LEVELS_R, heads.HORIZONS):
        either, ahead, behind = (found.get(reach_name(level, horizon, way), math.nan) for way in Way)
        assert not either > ahead + behind + 1e-12
    again = coherent(found)
    assert all(again[name] == pytest.approx(found[name], abs=1e-12) for name in found)


def test_what_is_coherent_stays_and_what_is_not_meets_in_the_middle() -> None:
    assert coherent({"reach_1r_60_with": 0.2, "reach_1r_120_with": 0.5, "p_stop": 0.9}) == {
        "reach_1r_60_with": 0.2,
        "reach_1r_120_with": 0.5,
        "p_stop": 0.9,
    }
    assert coherent({"reach_1r_60_with": 0.6, "reach_1r_120_with": 0.4}) == {
        "reach_1r_60_with": 0.5,
        "reach_1r_120_with": 0.5,
    }
    assert coherent({"reach_1r_60_any": 0.9, "reach_1r_60_with": 0.3, "reach_1r_60_against": 0.25})[
        "reach_1r_60_any"
    ] == pytest.approx(0.55)


def vector(first: float) -> Vector:
    numbers = {feature.name: 0.0 for feature in SCALP.numbers} | {SCALP.numbers[0].name: first}
    return SCALP.vector({**numbers, "session": "us", "volatility_regime": "low", "symbol_cluster": "x"})


def made(*told: Head) -> HeadSet:
    """One stump a head: −1 up to 0 of the first number, +2 above."""
    n = len(told)
    trees = Trees(
        feature=np.zeros(3 * n, dtype=np.int32),
        threshold=np.tile([0.0, np.inf, np.inf], n),
        left=np.concatenate([[3 * i + 1, 3 * i + 1, 3 * i + 2] for i in range(n)]).astype(np.int32),
        value=np.tile([0.0, -1.0, 2.0], n),
        roots=(3 * np.arange(n)).astype(np.int32),
    )
    encoding = Encoding.fit(SCALP, [vector(-1.0), vector(1.0)])
    rows = encoding.matrix([vector(-1.0), vector(1.0)])
    flow = np.array([[one.init + one.rate * leaf for one in told] for leaf in (-1.0, 2.0)])
    values = np.array([one.name in heads.VALUES for one in told])
    golden = np.where(values, flow, 1.0 / (1.0 + np.exp(-flow)))
    return HeadSet(encoding, Ablation.FULL, trees, told, rows, golden, {"direction": {"reason": "HEAD_NO_SKILL"}})


def both() -> HeadSet:
    return made(
        Head("expected_return_r", 1, 0.1, 0.5, LINE, {"n": 9}),
        Head("p_stop", 1, -1.0, 1.0, FLAT, {}),
        Head("reach_2r_120_any", 1, 0.0, 1.0, FLAT, {}),
    )


def test_what_it_tells_is_its_trees_calibrated() -> None:
    told = both().tell(vector(1.0))
    assert told is not None
    # 0.1 + 0.5·2 = 1.1 of raw; 0.1 + 0.5·(1.1 − 0.5) = 0.4, error √(0.04 + 0.25·0.36).
    assert told.expected_return_r == pytest.approx(0.4)
    assert told.error["expected_return_r"] == pytest.approx(math.sqrt(0.13))
    assert told.p_stop == pytest.approx(1.0 / (1.0 + math.exp(-1.0)))
    assert told.record["tradeable"] == told.record["reach_2r_120_any"]
    assert told.record["expected_return_r_se"] == told.error["expected_return_r"]
    assert both().verified()


def test_it_is_not_asked_when_too_much_is_missing_and_says_no_number_that_is_none() -> None:
    assert both().tell(SCALP.vector({})) is None
    wild = replace(vector(1.0), values=np.full(len(SCALP.numbers), 1e31))
    assert both().tell(wild) == Told({}, {})


def test_it_comes_back_as_it_was() -> None:
    one = both()
    back = HeadSet.read(one.record, one.arrays, one.encoding)
    assert back.record == one.record
    assert back.tell(vector(0.3)) == one.tell(vector(0.3))
    assert heads.figures_of(back, ["direction", "expected_return_r", "strength_r"]) == {
        "direction": {"reason": "HEAD_NO_SKILL"},
        "expected_return_r": {"n": 9},
    }
    assert heads.figures_of(None, REACH) == {}


def test_a_machine_that_computes_something_else_is_noticed() -> None:
    one = both()
    assert not replace(one, golden=one.golden + 1e-6).verified()
    assert not replace(one, golden=np.full_like(one.golden, math.nan)).verified()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Head("p_stop", 1, 0.0, 1.0, LINE, {}),
        lambda: Head("strength_r", 1, 0.0, 1.0, FLAT, {}),
        lambda: Head("p_win", 1, 0.0, 1.0, FLAT, {}),
        lambda: Head("p_stop", 0, 0.0, 1.0, FLAT, {}),
        lambda: Head("p_stop", 1, math.nan, 1.0, FLAT, {}),
        lambda: made(Head("p_stop", 2, 0.0, 1.0, FLAT, {})),
        lambda: made(Head("p_stop", 1, 0.0, 1.0, FLAT, {}), Head("p_stop", 1, 0.0, 1.0, FLAT, {})),
        lambda: replace(both(), golden=np.zeros((1, 3))),
        lambda: replace(both(), golden_rows=np.zeros((2, 1))),
        lambda: Line(0.0, 0.0, -0.1, 0.0, 0.0),
        lambda: Line(0.0, math.inf, 0.1, 0.0, 0.0),
    ],
)
def test_parts_that_do_not_fit_are_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        wrong()  # type: ignore[operator]


def test_a_matrix_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="matrix"):
        both().raw(np.zeros((1, 2)))
