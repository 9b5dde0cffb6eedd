"""Blocks and purging, worked by hand."""

from __future__ import annotations

import pytest

from learning.split import Walk, blocks, embargo_for, folds


@pytest.mark.parametrize(
    ("rows", "count", "sizes"),
    [(10, 5, [2, 2, 2, 2, 2]), (12, 5, [3, 3, 2, 2, 2]), (3, 5, [1, 1, 1]), (0, 5, [])],
)
def test_blocks_are_consecutive_and_even(rows: int, count: int, sizes: list[int]) -> None:
    cut = blocks(rows, count)
    assert [len(block) for block in cut] == sizes
    assert [place for block in cut for place in block.tolist()] == list(range(rows))


# Three blocks of two labels. Row 3 lives from 15 on, so its block spans 15..40.
#   row       0   1   2   3   4   5
ENTRY = (0, 12, 30, 15, 41, 50)
EXIT = (10, 20, 35, 40, 45, 60)


def test_labels_that_overlap_are_removed() -> None:
    split = folds(ENTRY, EXIT, n_blocks=3)
    assert [(fold.test.tolist(), fold.train.tolist()) for fold in split] == [
        ([0, 1], [2, 4, 5]),  # row 3 began while row 1 was open
        ([2, 3], [0, 4, 5]),  # row 1 was open when row 3 began
        ([4, 5], [0, 1, 2, 3]),
    ]


def test_labels_that_only_touch_overlap() -> None:
    apart = folds((0, 6), (5, 9), n_blocks=2)
    touching = folds((0, 5), (5, 9), n_blocks=2)
    assert [fold.train.tolist() for fold in apart] == [[1], [0]]
    assert [fold.train.tolist() for fold in touching] == [[], []]


def test_an_expanding_walk_knows_the_past_only() -> None:
    split = folds(ENTRY, EXIT, n_blocks=3, walk=Walk.EXPANDING)
    assert [fold.train.tolist() for fold in split] == [[], [0], [0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("window", "train"),
    [(1, [[], [0], [2, 3]]), (2, [[], [0], [0, 1, 2, 3]]), (9, [[], [0], [0, 1, 2, 3]])],
)
def test_a_rolling_walk_forgets(window: int, train: list[list[int]]) -> None:
    split = folds(ENTRY, EXIT, n_blocks=3, walk=Walk.ROLLING, window_blocks=window)
    assert [fold.train.tolist() for fold in split] == train
    with pytest.raises(ValueError, match="window"):
        folds(ENTRY, EXIT, n_blocks=3, walk=Walk.ROLLING, window_blocks=0)


@pytest.mark.parametrize(
    ("entry", "exit_", "embargo"),
    [
        pytest.param((), (), 0, id="no rows"),
        pytest.param(ENTRY, EXIT, 25, id="the longest label, row 3"),
        pytest.param((0, 5_000), (10, 9_950), 4_950, id="one label nearly the whole span"),
        pytest.param((0, 1_000), (1, 1_001), 11, id="1 % of the span, rounded up"),
    ],
)
def test_the_embargo_of_some_labels(entry: tuple[int, ...], exit_: tuple[int, ...], embargo: int) -> None:
    assert embargo_for(entry, exit_) == embargo
    if entry:
        given = [fold.train.tolist() for fold in folds(entry, exit_, n_blocks=2, embargo_ms=embargo)]
        assert [fold.train.tolist() for fold in folds(entry, exit_, n_blocks=2, embargo_ms=None)] == given


@pytest.mark.parametrize(("embargo", "train"), [(0, [2, 4, 5]), (20, [4, 5]), (21, [5]), (40, [])])
def test_an_embargo_reaches_forward(embargo: int, train: list[int]) -> None:
    # The first block ends at 20: an embargo of 21 removes labels that begin up to 41, the third block's first.
    assert folds(ENTRY, EXIT, n_blocks=3, embargo_ms=embargo)[0].train.tolist() == train
    assert folds(ENTRY, EXIT, n_blocks=3, embargo_ms=embargo)[2].train.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("entry", "exit_"),
    [
        pytest.param((0, 0), (5, 4), id="exits descend"),
        pytest.param((0, 9), (5, 8), id="ends before it begins"),
        pytest.param((0,), (5, 8), id="lengths"),
    ],
)
def test_labels_that_cannot_be(entry: tuple[int, ...], exit_: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"label|entry"):
        folds(entry, exit_, n_blocks=2)


def test_one_block_is_no_split() -> None:
    with pytest.raises(ValueError, match="two"):
        blocks(10, 1)
