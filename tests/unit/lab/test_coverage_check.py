from __future__ import annotations

import math

import pytest

from lab.coverage.check import inside, rate


@pytest.mark.parametrize(
    ("hits", "n", "low", "high", "holds"),
    [
        pytest.param(900, 1_000, 0.87, 0.93, True, id="inside"),
        pytest.param(843, 1_000, 0.87, 0.93, True, id="below, as luck does once in a hundred"),
        pytest.param(830, 1_000, 0.87, 0.93, False, id="below, as luck hardly ever does"),
        pytest.param(965, 1_000, 0.87, 0.93, False, id="above, as luck hardly ever does"),
        pytest.param(0, 2, 0.9, 1.0, True, id="two worlds cannot tell 0 from 0.9"),
        pytest.param(0, 4, 0.9, 1.0, False, id="four do"),
    ],
)
def test_a_rate_fails_only_beyond_luck(hits: int, n: int, low: float, high: float, holds: bool) -> None:
    found = rate(4, "coverage", hits, n, low=low, high=high)
    assert found.holds is holds
    assert found.measured == hits / n


@pytest.mark.parametrize(
    ("measured", "low", "high", "band", "holds"),
    [
        (0.5, 0.4, 0.6, "0.4 to 0.6", True),
        (0.6, -math.inf, 0.6, "<= 0.6", True),
        (0.61, -math.inf, 0.6, "<= 0.6", False),
        (1.0, 0.9, math.inf, ">= 0.9", True),
        (0.0, 0.0, 0.0, "= 0", True),
        (math.nan, 0.0, 1.0, "0 to 1", False),
        (7.0, -math.inf, math.inf, "any", True),
    ],
)
def test_a_figure_lies_in_its_band(measured: float, low: float, high: float, band: str, holds: bool) -> None:
    found = inside(2, "regret", measured, low=low, high=high)
    assert (found.band, found.holds) == (band, holds)
