"""Counts by bits against counts by filters, and the founding report's figures by hand."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gates.bits import Kernel, Packed, cells, count, count_words, every_cell
from gates.combinations import bitmaps_of, combinations_of, counted, ranked, solos_of, trend
from gates.evaluate import Verdicts
from gates.kernels import count_words_compiled
from gates.variables import BY_NAME, VARIABLES, Comparison, Condition, Variable

KERNELS = [pytest.param(count_words, id="numpy"), pytest.param(count_words_compiled, id="compiled")]


def verdicts(rng: np.random.Generator, n_variables: int, n: int, missing: float) -> Verdicts:
    known = rng.random((n_variables, n)) >= missing
    return Verdicts(
        tuple(f"v{place}" for place in range(n_variables)), (rng.random((n_variables, n)) < 0.4) & known, known
    )


def variable(name: str, feature: str = "a") -> Variable:
    return Variable(name=name, group="x", conditions=(Condition(feature=feature, test=Comparison.ABOVE, limit=0.0),))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 1_000])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_bits_count_what_filters_count(kernel: Kernel, n: int, missing: float) -> None:
    rng = np.random.default_rng(n + 1)
    told, won = verdicts(rng, 7, n, missing), rng.random(n) < 0.45
    for found in every_cell(Packed.of(told, won), (1, 2, 3), kernel):
        for place, members in enumerate(found.members.tolist()):
            passing, known = told.passed[members].all(axis=0), told.known[members].all(axis=0)
            assert found.n[place] == int(passing.sum())
            assert found.wins[place] == int((passing & won).sum())
            assert found.known[place] == int(known.sum())
            assert found.known_wins[place] == int((known & won).sum())


@given(data=st.data())
def test_no_outcome_order_and_no_chunk_changes_a_count(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 200))
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    told, won = verdicts(rng, 4, n, 0.1), rng.random(n) < 0.5
    order = rng.permutation(n)
    mixed = Verdicts(told.names, told.passed[:, order], told.known[:, order])
    for one, other in zip(every_cell(Packed.of(told, won)), every_cell(Packed.of(mixed, won[order])), strict=True):
        assert np.array_equal(one.n, other.n)
        assert np.array_equal(one.wins, other.wins)
        assert np.array_equal(one.known_wins, other.known_wins)


def test_the_cells_of_28_and_26_variables() -> None:
    assert sum(len(cells(28, size)) for size in (1, 2, 3)) == 3_682
    assert sum(len(cells(26, size)) for size in (1, 2, 3)) == 2_951


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([[1, 0]], id="descending"),
        pytest.param([[0, 1], [0, 1]], id="twice"),
        pytest.param([[1, 2], [0, 1]], id="out of order"),
        pytest.param([[0, 9]], id="not there"),
        pytest.param([[-1, 0]], id="before the first"),
    ],
)
def test_combinations_that_are_none_are_refused(members: list[list[int]]) -> None:
    told = verdicts(np.random.default_rng(0), 3, 10, 0.0)
    with pytest.raises(ValueError, match=r"combination"):
        count(Packed.of(told, np.ones(10, dtype=np.bool_)), np.array(members, dtype=np.int64))


# Twelve signals: a passes the first six, b passes every other one; wins are the first four and the eleventh.
A = [True] * 6 + [False] * 6
B = [True, False] * 6
WON = [True] * 4 + [False] * 6 + [True, False]


def by_hand() -> Packed:
    passed = np.array([A, B])
    return Packed.of(Verdicts(("a", "b"), passed, np.ones_like(passed)), np.array(WON))


def test_solo_by_hand() -> None:
    first, second = solos_of(by_hand())
    assert (first.n, first.wins, first.failing, first.failing_wins, first.missing) == (6, 4, 6, 1, 0)
    assert first.delta == pytest.approx(4 / 6 - 1 / 6)
    assert not first.sufficient
    assert (second.n, second.wins) == (6, 3)
    assert second.delta == pytest.approx(3 / 6 - 2 / 6)


def test_a_pair_by_hand() -> None:
    packed = by_hand()
    (pair,) = combinations_of(packed, (variable("a", "p"), variable("b", "q")), solos_of(packed), ("a", "b"))
    assert (pair.n, pair.wins) == (3, 2)
    assert pair.expected == pytest.approx((4 / 6 + 3 / 6) / 2)
    assert pair.synergy == pytest.approx(2 / 3 - 7 / 12)
    assert pair.delta == pytest.approx(2 / 3 - 3 / 9)


def test_a_nested_pair_has_no_synergy() -> None:
    packed = by_hand()
    loose = Variable(name="b", group="x", conditions=(Condition(feature="p", test=Comparison.ABOVE, limit=-1.0),))
    (pair,) = combinations_of(packed, (variable("a", "p"), loose), solos_of(packed), ("a", "b"))
    assert pair.nested
    assert pair.synergy is None


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_bitmaps_are_every_state_once(missing: float) -> None:
    rng = np.random.default_rng(4)
    told, won = verdicts(rng, 4, 300, missing), rng.random(300) < 0.5
    found = bitmaps_of(Packed.of(told, won), told.names)
    assert {item.state for item in found} == set(product((False, True), repeat=4))
    known = told.known.all(axis=0)
    for item in found:
        there = known & (told.passed == np.array(item.state)[:, None]).all(axis=0)
        assert (item.n, item.wins) == (int(there.sum()), int((there & won).sum()))


def test_the_founding_list_by_hand() -> None:
    """120 signals: good wins 30 of 40 passing and 32 of 80 failing; bad the other way round; thin has 19 passing."""
    rng = np.random.default_rng(1)
    won = np.array([True] * 30 + [False] * 10 + [True] * 32 + [False] * 48)
    good = np.array([True] * 40 + [False] * 80)
    thin = np.array([True] * 19 + [False] * 101)
    passed = np.array([good, ~good, thin])
    order = rng.permutation(120)
    packed = Packed.of(Verdicts(("good", "bad", "thin"), passed[:, order], np.ones_like(passed)), won[order])
    found = counted(packed, tuple(variable(name, name) for name in ("good", "bad", "thin")), original=("good", "bad"))
    assert found.hunches.enable == ("good",)
    assert found.hunches.disable == ("bad",)
    assert found.ranking == ("good", "bad")
    # Nobody passes both good and bad; pairs need two ranked variables.
    (pair,) = found.combinations
    assert (pair.n, math.isnan(pair.win_rate)) == (0, True)
    assert found.hunches.best == ()


def test_the_ten_best_make_45_pairs_and_120_triplets() -> None:
    rng = np.random.default_rng(7)
    passed = rng.random((28, 400)) < 0.5
    names = tuple(BY_NAME)
    packed = Packed.of(Verdicts(names, passed, np.ones_like(passed)), rng.random(400) < 0.5)
    found = counted(packed, VARIABLES, original=("htf", "vol", "body", "align_15m"))
    assert [len(item.members) for item in found.combinations].count(2) == 45
    assert [len(item.members) for item in found.combinations].count(3) == 120
    assert len(found.bitmaps) == 16
    assert set(found.ranking[:10]) == {name for item in found.combinations for name in item.members}
    every = counted(packed, VARIABLES, original=(), top=None)
    assert len(every.combinations) == 378 + 3_276
    assert {item.members: item.wins for item in found.combinations}.items() <= {
        item.members: item.wins for item in every.combinations
    }.items()


@pytest.mark.parametrize("n", [0, 1, 10])
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_hostile_input_is_counted_and_recommends_nothing(n: int, rate: float) -> None:
    passed = np.ones((28, n), dtype=np.bool_)
    packed = Packed.of(Verdicts(tuple(BY_NAME), passed, passed), np.full(n, rate == 1.0))
    found = counted(packed, VARIABLES, original=("htf",))
    assert (found.ranking, found.combinations) == ((), ())
    assert found.hunches.enable == found.hunches.disable == found.hunches.best == ()


@pytest.mark.parametrize(
    ("deltas", "word"),
    [
        ([0.01, 0.05], "improving"),
        ([0.05, 0.01], "degrading"),
        ([0.05, 0.06], "stable"),
        ([0.05, 0.07], "stable"),
        ([0.05, math.nan, 0.10], "improving"),
        ([0.05], "unknown"),
        ([], "unknown"),
    ],
)
def test_the_trend_of_a_delta(deltas: list[float], word: str) -> None:
    assert trend(deltas) == word


def test_equal_deltas_keep_the_order_of_the_variables() -> None:
    passed = np.array([[True] * 20 + [False] * 20] * 2)
    won = np.array(([True] * 12 + [False] * 8) * 2)
    packed = Packed.of(Verdicts(("b", "a"), passed, np.ones_like(passed)), won)
    assert ranked(solos_of(packed)) == ("b", "a")


def test_cells_are_lexicographic() -> None:
    assert [tuple(row) for row in cells(4, 2).tolist()] == list(combinations(range(4), 2))
