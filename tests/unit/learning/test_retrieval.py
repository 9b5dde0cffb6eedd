"""Neighbours: worked by hand, purged of what was open together, and no better than chance on chance."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from learning.retrieval import NeighbourSearch, Past, dummies_of, evaluate, walk_forward
from scorer.neighbours import Ending, Pool, distances, endings, kernel, nearest

HOUR_MS = 3_600_000


def pool(**changes: object) -> Pool:
    # Four past signals on a line; the design's second column takes no part.
    base = Pool(
        points=np.array([[0.0], [1.0], [2.0], [3.0]]),
        centre=np.array([10.0, 5.0]),
        scale=np.array([0.5, 0.0]),
        ending=np.array([Ending.WIN, Ending.LOSS, Ending.TIMEOUT, Ending.WIN], dtype=np.int32),
        net_r=np.array([2.0, -1.0, 0.5, 2.0]),
        exit_ms=np.array([100.0, 200.0, 300.0, 400.0]),
        ids=("a", "b", "c", "d"),
        k=2,
        bandwidth=math.inf,
        base_rate=0.5,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def past(n: int, *, edge: float, seed: int, life: int = 1) -> Past:
    """Signals an hour apart whose labels live ``life`` hours; the first column moves the log-odds of a win."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n, 3))
    won = rng.random(n) < 1.0 / (1.0 + np.exp(-edge * matrix[:, 0]))
    entry = np.arange(n, dtype=np.int64) * HOUR_MS
    return Past(
        matrix=matrix,
        ending=endings(won.tolist(), [True] * n),
        net_r=np.where(won, 1.0, -1.0),
        entry_ms=entry,
        exit_ms=entry + life * HOUR_MS - 1,
        ids=tuple(f"s{place}" for place in range(n)),
        dummies=np.zeros(3, dtype=np.bool_),
    )


def test_two_neighbours_by_hand() -> None:
    # The row lies at (10.8 − 10)·0.5 = 0.4: 0.4 from a, 0.6 from b.
    told = pool().ask(np.array([10.8, 99.0]), 1_000)
    assert told is not None
    assert [(one.id, round(one.distance, 9), one.ending.name) for one in told.nearest] == [
        ("a", 0.4, "WIN"),
        ("b", 0.6, "LOSS"),
    ]
    # One win of two, drawn towards 0.5 by one record, is still 0.5.
    assert told.win_probability == pytest.approx(0.5)
    assert told.mean_net_r == pytest.approx(0.5)
    # Deviations ±1.5, weights 1: √(2·2.25)/2 = 1.0607, times √(2/1).
    assert told.mean_net_r_se == pytest.approx(1.5)
    assert (told.k, told.pool) == (2, 4)
    assert told.n_effective == pytest.approx(2.0)
    assert told.similarity == pytest.approx((1 / 1.4 + 1 / 1.6) / 2)
    assert told.entropy == pytest.approx(1.0)


def test_a_kernel_weighs_by_distance() -> None:
    told = pool(bandwidth=1.0, k=3).ask(np.array([10.0, 0.0]), 1_000)
    assert told is not None
    weights = [1.0, math.exp(-0.5), math.exp(-2.0)]
    assert [one.weight for one in told.nearest] == pytest.approx(weights)
    # The timeout has a result and no share in the wins.
    wins, decided = 1.0, 1.0 + math.exp(-0.5)
    size = decided**2 / (1.0 + math.exp(-1.0))
    assert told.win_probability == pytest.approx((wins / decided * size + 0.5) / (size + 1.0))
    assert told.mean_net_r == pytest.approx((2.0 - weights[1] + 0.5 * weights[2]) / sum(weights))


@pytest.mark.parametrize(
    ("at_ms", "names"),
    [
        pytest.param(100, None, id="nothing had ended"),
        pytest.param(101, ["a"], id="the first had"),
        pytest.param(301, ["a", "b"], id="the nearest of three"),
    ],
)
def test_what_was_still_open_is_not_in_the_pool(at_ms: int, names: list[str] | None) -> None:
    told = pool().ask(np.array([10.0, 0.0]), at_ms)
    assert (None if told is None else [one.id for one in told.nearest]) == names


def test_timeouts_alone_have_no_win_probability() -> None:
    told = pool(ending=np.full(4, Ending.TIMEOUT, dtype=np.int32)).ask(np.array([10.0, 0.0]), 1_000)
    assert told is not None
    assert (told.win_probability, told.low, told.high, told.entropy) == (None, None, None, 0.0)


def test_one_neighbour_says_that_its_error_is_unknown() -> None:
    told = pool(k=1).ask(np.array([10.0, 0.0]), 1_000)
    assert told is not None
    assert told.mean_net_r_se >= 1e12
    assert math.isfinite(told.mean_net_r_se)


def test_a_signal_far_from_all_still_has_neighbours() -> None:
    told = pool(bandwidth=1e-3).ask(np.array([1e9, 0.0]), 1_000)
    assert told is not None
    assert [one.id for one in told.nearest] == ["d", "c"]
    assert told.nearest[0].weight == 1.0


def test_of_equally_near_ones_the_last_to_end_comes_first() -> None:
    assert nearest(np.array([1.0, 0.5, 0.5, 2.0]), 3).tolist() == [2, 1, 0]


def test_distances_do_not_grow_with_the_number_of_columns() -> None:
    one, many = np.zeros((1, 1)), np.zeros((1, 9))
    assert distances(one, one + 1.0) == pytest.approx(1.0)
    assert distances(many, many + 1.0) == pytest.approx(1.0)


def test_an_infinite_bandwidth_counts_all_alike() -> None:
    assert kernel(np.array([0.1, 5.0]), math.inf).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"points": np.array([[0.0], [1.0], [np.nan], [3.0]])}, id="a point that is no number"),
        pytest.param({"points": np.array([[0.0], [1.0], [2.0], [9.0]])}, id="a point out of bounds"),
        pytest.param({"points": np.zeros((4, 2))}, id="a column that takes no part"),
        pytest.param({"exit_ms": np.array([100.0, 90.0, 300.0, 400.0])}, id="exits that descend"),
        pytest.param({"ending": np.array([0, 1, 2, 3], dtype=np.int32)}, id="an ending of another kind"),
        pytest.param({"net_r": np.array([1.0, 2.0, np.inf, 0.0])}, id="an infinite result"),
        pytest.param({"net_r": np.array([1.0, 2.0])}, id="too few results"),
        pytest.param({"scale": np.array([0.5, np.nan])}, id="a scale that is no number"),
        pytest.param({"bandwidth": math.nan}, id="a bandwidth that is no number"),
        pytest.param({"bandwidth": 0.0}, id="a bandwidth of nothing"),
        pytest.param({"base_rate": 1.0}, id="a certain base rate"),
        pytest.param({"k": 0}, id="no neighbours"),
        pytest.param({"ids": ()}, id="nobody"),
    ],
)
def test_a_hostile_pool_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="pool"):
        pool(**changes)


def test_a_pool_survives_its_bundle() -> None:
    mine = pool(bandwidth=0.3)
    back = Pool.read(mine.record, mine.arrays)
    row = np.array([11.0, 0.0])
    assert back.ask(row, 1_000) == mine.ask(row, 1_000)


@pytest.mark.parametrize("row", [np.array([1.0]), np.array([np.nan, 0.0]), np.array([np.inf, 0.0])])
def test_a_row_of_another_kind_is_refused(row: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite"):
        pool().ask(row, 1_000)


def test_neighbours_find_what_is_there() -> None:
    found = evaluate(past(600, edge=2.0, seed=3), NeighbourSearch(k=40), n_blocks=4)
    assert found is not None
    assert found.metrics.auc is not None
    assert found.metrics.auc > 0.7
    assert found.metrics.brier_skill > 0.08
    assert found.r_squared > 0.08


def test_neighbours_find_nothing_in_noise() -> None:
    aucs = []
    for seed in range(6):
        found = evaluate(past(400, edge=0.0, seed=seed), NeighbourSearch(k=40), n_blocks=4)
        assert found is not None
        assert found.metrics.auc is not None
        aucs.append(found.metrics.auc)
    # Six AUCs of 300 signals each: their mean has a standard error of 0.014.
    assert abs(float(np.mean(aucs)) - 0.5) < 0.05


def test_an_unpurged_pool_would_answer_with_the_future() -> None:
    """The control: overlapping labels share their end, and whoever may ask them knows it."""
    rng = np.random.default_rng(5)
    n, life = 600, 30
    drift = np.cumsum(rng.normal(size=n + life))
    entry = np.arange(n, dtype=np.int64) * HOUR_MS
    won = drift[life:] > drift[:-life]
    # A feature that only tells the time: near in it is near in time.
    matrix = np.stack((np.linspace(0.0, 1.0, n), rng.normal(size=n)), axis=1)
    mine = Past(
        matrix=matrix,
        ending=endings(won.tolist(), [True] * n),
        net_r=np.where(won, 1.0, -1.0),
        entry_ms=entry,
        exit_ms=entry + life * HOUR_MS,
        ids=tuple(str(place) for place in range(n)),
        dummies=np.zeros(2, dtype=np.bool_),
    )
    search = NeighbourSearch(k=5, columns=(0,), reaches=(math.inf,))
    whole = search.fit(mine).pool_
    leaky = np.array([whole.ask(row, 2**52).win_probability for row in matrix], dtype=np.float64)  # type: ignore[union-attr]
    honest, _ = walk_forward(mine, search, n_blocks=5)
    told = np.isfinite(honest)

    def accuracy(said: np.ndarray, places: np.ndarray) -> float:
        return float(np.mean((said[places] > 0.5) == won[places]))

    assert accuracy(leaky, np.ones(n, dtype=np.bool_)) > 0.85
    assert accuracy(honest, told) < 0.65


def test_columns_that_take_no_part_do_not_speak() -> None:
    mine = past(200, edge=2.0, seed=1)
    noisy = replace(
        mine,
        matrix=np.column_stack((mine.matrix[:, 0], mine.matrix[:, 1] * 0.0 + mine.matrix[:, 2], mine.matrix[:, 1])),
    )
    one = NeighbourSearch(k=10, columns=(0,)).fit(mine).pool_
    other = NeighbourSearch(k=10, columns=(0,)).fit(noisy).pool_
    row = np.array([0.3, 7.0, -7.0])
    assert one.ask(row, 2**52) == other.ask(np.array([0.3, -1.0, 4.0]), 2**52)


def test_levels_of_a_category_keep_their_nought_and_one() -> None:
    matrix = np.zeros((100, 2))
    matrix[:, 0] = np.random.default_rng(1).normal(size=100)
    matrix[3, 1] = 1.0  # a level that came once in a hundred
    mine = replace(past(100, edge=1.0, seed=2), matrix=matrix, dummies=dummies_of(("rsi", "symbol_cluster=BTC")))
    assert NeighbourSearch(k=5).fit(mine).pool_.scale[1] == 1.0


def test_a_pool_needs_both_classes() -> None:
    mine = past(30, edge=0.0, seed=1)
    with pytest.raises(ValueError, match="both"):
        NeighbourSearch().fit(replace(mine, ending=np.zeros(30, dtype=np.int32)))


def test_rows_in_another_order_of_equal_exits_are_refused_rather_than_guessed() -> None:
    mine = past(30, edge=0.0, seed=1)
    with pytest.raises(ValueError, match="order of their exits"):
        replace(mine, exit_ms=mine.exit_ms[::-1].copy())
