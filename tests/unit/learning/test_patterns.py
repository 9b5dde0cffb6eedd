"""Win rate and mean R by hour, session, volatility, volume and trend: groups, borders, intervals, text."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from learning.patterns import (
    HEADINGS,
    SLOPE,
    TREND,
    VOLUME,
    Bands,
    Dimension,
    Pattern,
    Patterns,
    day_interval,
    find_patterns,
    iid_interval,
)
from signals.errors import Invalid
from signals.reasons import Reason
from tests.support.lessons import closed_rows

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MIDNIGHT = 19_700 * DAY_MS


def row(day: int = 0, hour: int = 0, *, net_r: float = 1.0, **change: Any) -> dict[str, Any]:
    return {
        "ts": MIDNIGHT + day * DAY_MS + hour * HOUR_MS + 1,
        "outcome": "win" if net_r > 0.0 else "loss",
        "net_r": net_r,
        "bucket": "us|high",
        "features": {"volume_ratio": 1.0, "ts60": 40.0, "trend_slope_pct": 1.0},
    } | change


def group(found: Patterns, dimension: Dimension, name: str) -> Pattern:
    return next(one for one in found.groups if (one.dimension, one.group) == (dimension, name))


def names(found: Patterns, dimension: Dimension) -> list[str]:
    return [one.group for one in found.groups if one.dimension is dimension]


@pytest.mark.parametrize(
    ("bands", "value", "name"),
    [
        (VOLUME, 0.0, "< 0.8"),
        (VOLUME, 0.7999, "< 0.8"),
        (VOLUME, 0.8, "0.8–1.2"),
        (VOLUME, 1.2, "0.8–1.2"),
        (VOLUME, 1.2001, "> 1.2"),
        (TREND, 29.9, "< 30"),
        (TREND, 30.0, "30–60"),
        (TREND, 59.9, "30–60"),
        (TREND, 60.0, "≥ 60"),
        (SLOPE, -5.0, "≤ −5 %"),
        (SLOPE, -4.9, "−5–0 %"),
        (SLOPE, -0.1, "−5–0 %"),
        (SLOPE, 0.0, "0–5 %"),
        (SLOPE, 4.9, "0–5 %"),
        (SLOPE, 5.0, "≥ 5 %"),
    ],
)
def test_borders_of_the_groups(bands: Bands, value: float, name: str) -> None:
    assert bands.place(value) == name
    # The rows arrive at the same group as the band says.
    found = find_patterns([row(features={bands.feature: value})])
    assert [
        one.group
        for one in found.groups
        if one.dimension not in (Dimension.HOUR, Dimension.SESSION, Dimension.VOLATILITY)
    ] == [name]


def test_groups_worked_by_hand() -> None:
    found = find_patterns(
        [
            row(0, 3, net_r=2.0),
            row(0, 3, net_r=-1.0, bucket="off|low"),
            row(1, 3, net_r=-1.0),
            row(1, 23, net_r=1.0, features={"volume_ratio": 3.0}),
            row(2, 23, net_r=0.0, outcome="timeout"),
        ]
    )
    assert (found.n, found.indecisive) == (4, 1)
    assert names(found, Dimension.HOUR) == ["03", "23"], "hours without a record are left out"
    assert names(found, Dimension.SESSION) == ["us", "off"]
    assert names(found, Dimension.VOLATILITY) == ["low", "high"]
    assert names(found, Dimension.VOLUME) == ["0.8–1.2", "> 1.2"]
    assert names(found, Dimension.TREND) == ["30–60"]
    three = group(found, Dimension.HOUR, "03")
    assert (three.n, three.n_days, three.wins, three.win_rate.value, three.mean_r.value) == (3, 2, 1, 1 / 3, 0.0)
    assert group(found, Dimension.TREND, "30–60").n == 3, "a record without the feature is missing there only"
    assert group(found, Dimension.SESSION, "us").n == 3


def test_hours_are_utc_hours_of_the_signal() -> None:
    last_ms = MIDNIGHT + 5 * HOUR_MS - 1
    found = find_patterns([row(ts=last_ms), row(ts=last_ms + 1)])
    assert names(found, Dimension.HOUR) == ["04", "05"]


def test_intervals_against_other_hands() -> None:
    rng = np.random.default_rng(4)
    day, net_r = rng.integers(0, 9, 60), rng.normal(0.2, 1.0, 60)
    low, high = iid_interval(net_r) or (math.nan, math.nan)
    peer = stats.ttest_1samp(net_r, 0.0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((peer.low, peer.high), abs=1e-12)
    # Every day its own observation: the formula must then be that of independent values.
    assert day_interval(net_r, np.arange(60)) == pytest.approx((low, high), abs=1e-12)
    # The variance of a ratio estimator by hand, over day sums.
    sums = np.array([(net_r[day == one].sum(), (day == one).sum()) for one in range(9)])
    mean = net_r.mean()
    half = stats.t.ppf(0.975, 8) * math.sqrt(9 / 8 * ((sums[:, 0] - mean * sums[:, 1]) ** 2).sum()) / 60
    assert day_interval(net_r, day) == pytest.approx((mean - half, mean + half), abs=1e-12)


def test_days_that_move_together_widen_the_interval() -> None:
    rng = np.random.default_rng(8)
    day = np.repeat(np.arange(40), 10)
    together = rng.normal(size=40)[day] + 0.1 * rng.normal(size=400)
    by_days, iid = day_interval(together, day), iid_interval(together)
    assert by_days is not None
    assert iid is not None
    assert (by_days[1] - by_days[0]) / (iid[1] - iid[0]) > 2.5


def test_the_day_interval_covers_a_known_mean() -> None:
    rng = np.random.default_rng(12)
    worlds, covered = 400, 0
    for _ in range(worlds):
        day = np.repeat(np.arange(25), rng.integers(1, 12, 25))
        low, high = day_interval(rng.normal(size=25)[day] + rng.normal(0.3, 1.0, len(day)), day) or (0.0, 0.0)
        covered += low <= 0.3 <= high
    # Few days of unequal size are known to cost such an interval a point or two of its 95 %.
    assert stats.binomtest(covered, worlds, 0.93, alternative="less").pvalue > 0.001


@pytest.mark.parametrize(
    ("rows", "rate_by_days", "rate_iid", "mean_by_days", "mean_iid"),
    [
        pytest.param([row(0)], False, True, False, False, id="one trade"),
        pytest.param([row(0), row(0, net_r=-1.0)], False, True, False, True, id="one day"),
        pytest.param([row(0), row(1)], True, True, False, False, id="all alike: Wilson, and no width of zero"),
        pytest.param([row(0), row(1, net_r=-1.0)], True, True, True, True, id="two days"),
        pytest.param(
            [row(0), row(0, net_r=-1.0), row(1), row(1, net_r=-1.0)], False, True, False, True, id="days alike"
        ),
    ],
)
def test_intervals_that_cannot_be_known_are_not_given(
    rows: list[dict[str, Any]], rate_by_days: bool, rate_iid: bool, mean_by_days: bool, mean_iid: bool
) -> None:
    found = group(find_patterns(rows), Dimension.SESSION, "us")
    for figure, by_days, iid in ((found.win_rate, rate_by_days, rate_iid), (found.mean_r, mean_by_days, mean_iid)):
        assert (figure.low_days is not None, figure.high_days is not None) == (by_days, by_days)
        assert (figure.low_iid is not None, figure.high_iid is not None) == (iid, iid)


def test_rates_stay_between_nothing_and_all() -> None:
    found = find_patterns([row(0), row(0), row(1), row(2, net_r=-1.0)])
    rate = group(found, Dimension.SESSION, "us").win_rate
    assert (rate.low_days, rate.high_days) == (0.0, 1.0)
    always = group(find_patterns([row(0), row(1)]), Dimension.SESSION, "us").win_rate
    assert always.high_days == 1.0
    assert always.low_days == pytest.approx(stats.binomtest(2, 2).proportion_ci(method="wilson").low)


def test_any_order_gives_the_same_json() -> None:
    rows = closed_rows(150, seed=9)
    order = np.random.default_rng(1).permutation(len(rows)).tolist()
    found = find_patterns(rows)
    told = json.dumps(found.record, allow_nan=False)
    assert json.dumps(find_patterns([rows[place] for place in order]).record, allow_nan=False) == told
    assert found.n == 150
    for dimension in (Dimension.HOUR, Dimension.SESSION, Dimension.VOLATILITY, Dimension.VOLUME):
        assert sum(one.n for one in found.groups if one.dimension is dimension) == 150
    assert names(found, Dimension.SLOPE) == [], "scalp sends no slope"


def test_text_rows() -> None:
    found = find_patterns([row(0, 3, net_r=2.0), row(1, 3, net_r=-1.0), row(1, 3, net_r=-1.001)])
    first = found.text_rows[0]
    assert len(first) == len(HEADINGS)
    assert first[:5] == ("hour", "03", "3", "2", "33.3 %")
    assert first[6] == "6 % … 79 %"
    assert first[7] == "+0.00", "a mean of −0.0003 has no direction"
    # Day totals of deviations ±2.0003: 12.706 · √(2 · 2 · 2.0003²) / 3.
    assert first[8] == "-16.94 … +16.94"
    assert find_patterns([row()]).text_rows[0][5] == "–"


def test_nothing_gives_nothing() -> None:
    assert find_patterns([]) == Patterns(0, 0, ())
    assert find_patterns([row(outcome="timeout"), row(outcome="no_fill")]) == Patterns(0, 2, ())


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"ts": None}, Reason.FIELD_TYPE, "ts"),
        ({"ts": 1.5}, Reason.FIELD_TYPE, "ts"),
        ({"ts": True}, Reason.FIELD_TYPE, "ts"),
        ({"net_r": None}, Reason.FIELD_NOT_FINITE, "net_r"),
        ({"net_r": math.nan}, Reason.FIELD_NOT_FINITE, "net_r"),
        ({"net_r": True}, Reason.FIELD_NOT_FINITE, "net_r"),
        ({"bucket": "mars|low"}, Reason.FIELD_RANGE, "bucket"),
        ({"bucket": 3}, Reason.FIELD_RANGE, "bucket"),
    ],
)
def test_rows_that_no_close_wrote_are_refused(change: dict[str, Any], reason: Reason, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        find_patterns([row(net_r=1.0) | change])
    assert (caught.value.reason, caught.value.field) == (reason, field)


@pytest.mark.parametrize("value", [None, "high", True, math.nan, math.inf])
def test_features_that_are_no_numbers_are_missing(value: object) -> None:
    found = find_patterns([row(features={"volume_ratio": value}), row(features=None), row(bucket=None)])
    assert (found.n, names(found, Dimension.VOLUME)) == (3, ["0.8–1.2"])
    assert group(found, Dimension.VOLUME, "0.8–1.2").n == 1
    assert group(found, Dimension.SESSION, "us").n == 2
