"""A threshold is reached, not surpassed; what is no number never reaches it."""

from __future__ import annotations

import math

import pytest

from qscore.threshold import Threshold, ThresholdSource, static_threshold


@pytest.mark.parametrize(
    ("value", "score", "passes"),
    [
        (70.0, 70.0, True),
        (70.0, 69.9999, False),
        (70.0, 70.0001, True),
        (0.0, 0.0, True),
        (100.0, 100.0, True),
        (100.0, 99.9999, False),
        (0.0, math.nan, False),
        (0.0, -math.inf, False),
        (math.nan, 100.0, False),
    ],
)
@pytest.mark.parametrize("source", list(ThresholdSource))
def test_passing(value: float, score: float, passes: bool, source: ThresholdSource) -> None:
    assert Threshold(value, source).passes(score) is passes


@pytest.mark.parametrize("value", [0.0, 12.5, 59.0, 70.0, 96.0, 100.0])
def test_the_static_threshold_is_never_clamped(value: float) -> None:
    assert static_threshold(value) == Threshold(value, ThresholdSource.STATIC)


def test_sources_in_order_of_priority() -> None:
    assert [source.value for source in ThresholdSource] == ["qscore", "ev", "static"]
