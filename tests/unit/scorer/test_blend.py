"""Two parts, one score: the words of the weights and the arithmetic."""

from __future__ import annotations

import math

import pytest

from scorer.blend import Blend, blend
from signals.errors import Invalid


def test_the_words_and_their_weights() -> None:
    assert {word.value: word.weight for word in Blend} == {
        "rules_only": 0.0,
        "conservative": 0.10,
        "moderate": 0.30,
        "aggressive": 0.50,
        "full": 1.0,
    }
    assert all(Blend.parse(word.value) is word for word in Blend)
    assert Blend.parse("shadow") is Blend.RULES_ONLY


@pytest.mark.parametrize("text", ["", "Full", "0.3", "shadow ", "ensemble"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(Invalid, match="conservative"):
        Blend.parse(text)


@pytest.mark.parametrize(
    ("heuristic", "ensemble", "w", "final"),
    [
        (70.0, 40.0, 0.0, 70.0),
        (70.0, 40.0, 0.1, 67.0),
        (70.0, 40.0, 0.3, 61.0),
        (70.0, 40.0, 0.5, 55.0),
        (70.0, 40.0, 1.0, 40.0),
        (65.0, 33.33335, 0.5, 49.1667),
        (50.0, 33.333349, 1.0, 33.3333),
        (math.nan, 40.0, 1.0, 40.0),
        (70.0, math.nan, 0.0, 70.0),
        (100.0, 100.0, 0.3, 100.0),
    ],
)
def test_the_final_score(heuristic: float, ensemble: float, w: float, final: float) -> None:
    assert blend(heuristic, ensemble, w) == final


def test_a_part_that_counts_is_never_made_up() -> None:
    assert math.isnan(blend(math.nan, 40.0, 0.5))
    assert math.isnan(blend(70.0, math.nan, 1.0))


@pytest.mark.parametrize("w", [-0.1, 1.1, math.nan])
def test_weights_lie_between_nothing_and_all(w: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        blend(70.0, 40.0, w)
