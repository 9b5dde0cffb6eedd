"""The seed rule worked by hand: cells, curve, break-even, and the cases in which there is no curve to cross."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from qscore.estimate import Estimate, Note, break_even, estimate
from qscore.isotonic import rising_means
from qscore.threshold import OPEN, SEED, Clamp, Threshold, ThresholdSource
from signals.errors import Invalid
from signals.reasons import Reason

LADDER = ((50.0, 2, 8), (60.0, 5, 5))
"""Win rate 0.2 at 50 and 0.5 at 60: three points more a step between them."""


def learned(cells: tuple[tuple[float, int, int], ...], *, win: float = 2.0, loss: float = -1.0) -> Estimate:
    """From (score, wins, losses), each win and each loss of one size."""
    scores = np.array([score for score, wins, losses in cells for _ in range(wins + losses)])
    won = np.array([place < wins for _, wins, losses in cells for place in range(wins + losses)])
    return estimate(scores, won, np.where(won, win, loss))


@pytest.mark.parametrize(
    ("sums", "weights", "means"),
    [
        pytest.param([1, 2, 3], [4, 4, 4], [0.25, 0.5, 0.75], id="rises already"),
        pytest.param([3, 1], [4, 4], [0.5, 0.5], id="one pair pooled"),
        pytest.param([0, 3, 1, 1], [1, 4, 4, 2], [0.0, 0.5, 0.5, 0.5], id="a pool that then ties"),
        pytest.param([9, 1, 1], [10, 10, 2], [0.5, 0.5, 0.5], id="weights count"),
        pytest.param([1, 1, 0], [1, 1, 2], [0.5, 0.5, 0.5], id="a late fall pulls all down"),
        pytest.param([1], [3], [1 / 3], id="one cell"),
        pytest.param([], [], [], id="no cell"),
    ],
)
def test_neighbours_that_fall_are_pooled(sums: list[int], weights: list[int], means: list[float]) -> None:
    found = rising_means(np.array(sums, dtype=np.int64), np.array(weights, dtype=np.int64))
    assert found.tolist() == means


@pytest.mark.parametrize(
    ("sums", "weights"),
    [([1.0], [0.0]), ([1.0], [-1.0]), ([1.0], [1.0, 2.0]), ([math.nan], [1.0]), ([1.0], [math.inf])],
)
def test_cells_without_a_mean_are_refused(sums: list[float], weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"weight"):
        rising_means(np.array(sums), np.array(weights))


# P(g) = 0.2 + 0.03·(g − 50) between the cells, 0.2 below, 0.5 above.
@pytest.mark.parametrize(
    ("win", "loss", "p_min", "threshold"),
    [
        pytest.param(2.0, -1.0, 1 / 3, 55, id="a third: between 54 (0.32) and 55 (0.35)"),
        pytest.param(1.5, -1.0, 0.4, 57, id="0.38 at 56, 0.41 at 57"),
        pytest.param(1.3, -0.7, 0.35, 55, id="exactly at 55"),
        pytest.param(1.3 - 1e-6, -0.7, 0.35000017, 56, id="a hair above 55"),
        pytest.param(1.3 + 1e-6, -0.7, 0.34999983, 55, id="a hair below 55"),
        pytest.param(1.0, -1.0, 0.5, 60, id="exactly at the last cell"),
        pytest.param(0.99, -1.0, 1 / 1.99, 100, id="just out of reach"),
        pytest.param(4.0, -1.0, 0.2, 0, id="exactly at the flat left end"),
        pytest.param(3.9, -1.0, 1 / 4.9, 51, id="just above the flat left end"),
        pytest.param(9.0, -1.0, 0.1, 0, id="everything pays"),
    ],
)
def test_the_threshold_is_the_first_score_that_breaks_even(
    win: float, loss: float, p_min: float, threshold: int
) -> None:
    found = learned(LADDER, win=win, loss=loss)
    assert (found.n, found.wins, found.losses, found.cells, found.probability) == (20, 7, 13, (50, 60), (0.2, 0.5))
    assert found.p_min == pytest.approx(p_min, abs=1e-8)
    assert found.threshold == threshold
    assert found.nothing_passes is (threshold == 100)
    assert found.note is (Note.NEVER_REACHED if threshold == 100 else Note.REACHED)


# On paper both sides are equal; in binary the right one is larger in its last digit.
@pytest.mark.parametrize(
    ("wins", "n", "win", "loss"), [(1, 3, 1.9, 0.95), (1, 6, 5.25, 1.05), (1, 7, 6.3, 1.05), (1, 9, 7.6, 0.95)]
)
def test_what_is_equal_on_paper_is_equal_here(wins: int, n: int, win: float, loss: float) -> None:
    assert wins / n < break_even(win, loss), "the case must be one that a plain comparison gets wrong"
    assert learned(((70.0, wins, n - wins),), win=win, loss=-loss).threshold == 0


@pytest.mark.parametrize(
    ("cells", "win", "loss", "threshold", "note", "p_min"),
    [
        pytest.param(((80.0, 0, 20),), 2.0, -1.0, 100, Note.NO_WINS, None, id="no wins"),
        pytest.param(((80.0, 20, 0),), 2.0, -1.0, 0, Note.NO_LOSSES, None, id="no losses"),
        pytest.param(((80.0, 10, 10),), 0.0, -1.0, 100, Note.WINS_DO_NOT_PAY, 1.0, id="costs eat the wins"),
        pytest.param(((80.0, 20, 0),), -0.1, -1.0, 100, Note.WINS_DO_NOT_PAY, None, id="wins that lose, no losses"),
        pytest.param(((80.0, 10, 10),), 2.0, 0.0, 0, Note.LOSSES_COST_NOTHING, 0.0, id="all stops at break-even"),
        pytest.param(((80.0, 10, 10),), 2.0, 0.1, 0, Note.LOSSES_COST_NOTHING, 0.0, id="losses that gain"),
        pytest.param(((80.0, 10, 10),), -0.1, 0.1, 100, Note.WINS_DO_NOT_PAY, 1.0, id="both odd: closed"),
        pytest.param(((40.0, 3, 1), (60.0, 1, 3)), 1.0, -1.5, 100, Note.NEVER_REACHED, 0.6, id="worse when higher"),
        pytest.param(((40.0, 3, 1), (60.0, 1, 3)), 1.5, -1.0, 0, Note.REACHED, 0.4, id="one pool of 0.5"),
        pytest.param(((100.0, 3, 1), (0.0, 0, 4)), 1.0, -1.0, 67, Note.REACHED, 0.5, id="both ends of the scale"),
        pytest.param(((99.0, 0, 4), (100.0, 4, 0)), 1.0, -1.0, 100, Note.REACHED, 0.5, id="100 that is reached"),
    ],
)
def test_odd_records(
    cells: tuple[tuple[float, int, int], ...], win: float, loss: float, threshold: int, note: Note, p_min: float | None
) -> None:
    found = learned(cells, win=win, loss=loss)
    assert (found.threshold, found.note) == (threshold, note)
    assert found.p_min == (None if p_min is None else pytest.approx(p_min))
    assert found.nothing_passes is (note in (Note.NO_WINS, Note.WINS_DO_NOT_PAY, Note.NEVER_REACHED))


def test_stops_at_break_even_are_losses_with_their_zero() -> None:
    won = np.array([True, True, False, False, False, False])
    found = estimate(np.full(6, 70.0), won, np.array([1.0, 2.0, -1.0, -1.0, 0.0, 0.0]))
    assert (found.mean_win_r, found.mean_loss_r, found.p_min) == (1.5, 0.5, 0.25)


def test_a_mean_loss_of_nothing_is_a_plain_zero() -> None:
    found = learned(((70.0, 1, 2),), loss=0.0)
    assert math.copysign(1.0, found.mean_loss_r or 0.0) == 1.0


def test_scores_are_cut_to_whole_points() -> None:
    scores = np.array([0.0, 0.9999, 59.9999, 60.0, 60.5, 99.9999, 100.0])
    found = estimate(scores, np.arange(7) >= 3, np.where(np.arange(7) >= 3, 1.0, -1.0))
    assert found.cells == (0, 59, 60, 99, 100)
    assert found.curve.shape == (101,)
    assert found.curve[[0, 59, 60, 100]].tolist() == [0.0, 0.0, 1.0, 1.0]


def test_percent_instead_of_r() -> None:
    in_r, in_percent = learned(LADDER), learned(LADDER, win=1.0, loss=-0.5)
    assert (in_percent.mean_win_r, in_percent.mean_loss_r) == (1.0, 0.5)
    assert (in_percent.p_min, in_percent.threshold) == (in_r.p_min, in_r.threshold)


@pytest.mark.parametrize(
    ("scores", "won", "net_r", "said"),
    [
        ([], [], [], "at least one"),
        ([1.0], [True, False], [1.0, 1.0], "one score"),
        ([[1.0]], [[True]], [[1.0]], "one score"),
        ([1.0], [True], [1.0, 1.0], "one result"),
        ([-0.1], [True], [1.0], "scores"),
        ([100.1], [True], [1.0], "scores"),
        ([math.nan], [True], [1.0], "scores"),
        ([50.0], [True], [math.nan], "results"),
        ([50.0], [True], [math.inf], "results"),
        ([50.0], [True], [1e13], "results"),
        ([50.0], [1.0], [1.0], "booleans"),
    ],
)
def test_records_that_are_none_are_refused(scores: Any, won: Any, net_r: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        estimate(np.array(scores, dtype=np.float64), np.array(won), np.array(net_r, dtype=np.float64))


@pytest.mark.parametrize("cells", [LADDER, ((80.0, 0, 20),), ((80.0, 20, 0),), ((33.3, 7, 13), (71.9, 11, 6))])
def test_an_estimate_survives_json(cells: tuple[tuple[float, int, int], ...]) -> None:
    found = learned(cells, win=1.4725)
    assert Estimate.from_json(json.loads(json.dumps(found.as_json(), allow_nan=False))) == found


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"threshold": 54}, Reason.FIELD_RANGE),
        ({"threshold": 55.0}, Reason.FIELD_TYPE),
        ({"note": "no_wins"}, Reason.FIELD_RANGE),
        ({"note": None}, Reason.FIELD_TYPE),
        ({"n": 21}, Reason.FIELD_RANGE),
        ({"wins": -7}, Reason.FIELD_RANGE),
        ({"wins": True}, Reason.FIELD_TYPE),
        ({"wins": 0}, Reason.FIELD_RANGE),
        ({"mean_win_r": None}, Reason.FIELD_RANGE),
        ({"mean_win_r": "2"}, Reason.FIELD_TYPE),
        ({"mean_loss_r": math.inf}, Reason.FIELD_NOT_FINITE),
        ({"mean_loss_r": math.nan}, Reason.FIELD_NOT_FINITE),
        ({"p_min": 1.5}, Reason.FIELD_RANGE),
        ({"p_min": None}, Reason.FIELD_RANGE),
        ({"cells": [60, 50]}, Reason.FIELD_RANGE),
        ({"cells": [50, 101]}, Reason.FIELD_RANGE),
        ({"cells": [50]}, Reason.FIELD_RANGE),
        ({"cells": [50.0, 60.0]}, Reason.FIELD_TYPE),
        ({"cells": "50"}, Reason.FIELD_TYPE),
        ({"cells": [], "probability": []}, Reason.FIELD_RANGE),
        ({"cells": [50, 10**400]}, Reason.FIELD_RANGE),
        ({"probability": [0.5, 0.2]}, Reason.FIELD_RANGE),
        ({"probability": [0.2, 1.5]}, Reason.FIELD_RANGE),
        ({"probability": [-0.2, 0.5]}, Reason.FIELD_RANGE),
        ({"probability": [0.2, 10**400]}, Reason.FIELD_NOT_FINITE),
        ({"probability": [False, 0.5]}, Reason.FIELD_TYPE),
    ],
)
def test_what_was_not_written_here_is_not_read(change: dict[str, Any], reason: Reason) -> None:
    with pytest.raises(Invalid) as caught:
        Estimate.from_json({**learned(LADDER).as_json(), **change})
    assert caught.value.reason is reason


@pytest.mark.parametrize("name", list(learned(LADDER).as_json()))
def test_every_field_is_needed(name: str) -> None:
    record = learned(LADDER).as_json()
    del record[name]
    with pytest.raises(Invalid) as caught:
        Estimate.from_json(record)
    assert (caught.value.reason, caught.value.field) == (Reason.FIELD_MISSING, name)


@pytest.mark.parametrize(
    ("clamp", "learned_value", "value", "moved_from"),
    [
        (SEED, 59.0, 60.0, 59.0),
        (SEED, 60.0, 60.0, None),
        (SEED, 77.0, 77.0, None),
        (SEED, 95.0, 95.0, None),
        (SEED, 96.0, 95.0, 96.0),
        (OPEN, 0.0, 0.0, None),
        (OPEN, 100.0, 100.0, None),
        (Clamp(70.0, 70.0), 20.0, 70.0, 20.0),
    ],
)
@pytest.mark.parametrize("source", [ThresholdSource.QSCORE, ThresholdSource.EV])
def test_clamping(
    clamp: Clamp, learned_value: float, value: float, moved_from: float | None, source: ThresholdSource
) -> None:
    found = clamp.apply(learned_value, source)
    assert found == Threshold(value, source, moved_from)
    assert (found.clamped, found.unclamped) == (moved_from is not None, learned_value)


def test_the_clamps_of_the_house() -> None:
    assert (SEED.floor, SEED.ceiling, OPEN.floor, OPEN.ceiling) == (60.0, 95.0, 0.0, 100.0)
    assert str(SEED) == "60–95"


def test_nothing_passes_but_what_a_ceiling_lets_through() -> None:
    closed = OPEN.apply(100.0, ThresholdSource.EV, closed=True)
    assert (closed.value, closed.passes(100.0)) == (100.0, False)
    assert OPEN.apply(100.0, ThresholdSource.EV).passes(100.0)
    under = SEED.apply(100.0, ThresholdSource.EV, closed=True)
    assert (under.value, under.unclamped, under.passes(95.0), under.passes(94.9999)) == (95.0, 100.0, True, False)


def test_the_static_threshold_has_no_clamp() -> None:
    with pytest.raises(ValueError, match="never clamped"):
        SEED.apply(40.0, ThresholdSource.STATIC)


@pytest.mark.parametrize(("floor", "ceiling"), [(-1.0, 50.0), (50.0, 101.0), (60.0, 50.0), (math.nan, 50.0)])
def test_impossible_clamps(floor: float, ceiling: float) -> None:
    with pytest.raises(ValueError, match="clamp"):
        Clamp(floor, ceiling)
