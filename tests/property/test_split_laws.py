"""No label that a fold learns from is alive during its test block or the embargo after it, whatever the labels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from learning.split import Walk, embargo_for, folds
from tests.support.laws import LAW

Labels = tuple[list[int], list[int]]


@st.composite
def labels(draw: st.DrawFn) -> Labels:
    """Labels in the order of their exits; some live for a moment, some through half of the others."""
    exits = sorted(draw(st.lists(st.integers(0, 400), min_size=2, max_size=40)))
    lives = draw(st.lists(st.integers(0, 120), min_size=len(exits), max_size=len(exits)))
    return [end - life for end, life in zip(exits, lives, strict=True)], exits


def naive(entry: list[int], exit_: list[int], n_blocks: int, embargo: int) -> list[tuple[list[int], list[int]]]:
    """The rule by the book: look at every pair, and remove what overlaps any test label or the embargo after them."""
    size, rest = divmod(len(entry), n_blocks)
    found, start = [], 0
    for block in range(n_blocks):
        stop = start + size + (block < rest)
        test = list(range(start, stop))
        start = stop
        if not test:
            continue
        train = []
        for row in range(len(entry)):
            if row in test:
                continue
            overlaps = any(entry[row] <= exit_[other] and exit_[row] >= entry[other] for other in test)
            last = max(exit_[other] for other in test)
            if not overlaps and not last < entry[row] <= last + embargo:
                train.append(row)
        found.append((test, train))
    return found


@LAW
@given(given=labels(), n_blocks=st.integers(2, 6), embargo=st.integers(0, 90))
def test_the_same_as_the_rule_by_the_book(given: Labels, n_blocks: int, embargo: int) -> None:
    entry, exit_ = given
    for fold, (test, train) in zip(
        folds(entry, exit_, n_blocks=n_blocks, embargo_ms=embargo), naive(entry, exit_, n_blocks, embargo), strict=True
    ):
        assert fold.test.tolist() == test
        assert fold.train.tolist() == train


@LAW
@given(given=labels(), n_blocks=st.integers(2, 6), walk=st.sampled_from(Walk), window=st.integers(1, 3))
def test_nothing_learned_from_lives_during_test_or_embargo(
    given: Labels, n_blocks: int, walk: Walk, window: int
) -> None:
    entry, exit_ = np.array(given[0]), np.array(given[1])
    embargo = embargo_for(given[0], given[1])
    assert embargo >= int((exit_ - entry).max())
    split = folds(given[0], given[1], n_blocks=n_blocks, walk=walk, embargo_ms=None, window_blocks=window)
    for fold in split:
        begins, ends = entry[fold.test].min(), exit_[fold.test].max()
        before, after = exit_[fold.train] < begins, entry[fold.train] > ends + embargo
        assert bool((before | after).all())
        if walk is not Walk.BLOCKED:
            assert bool(before.all())
    tested = np.concatenate([fold.test for fold in split])
    assert tested.tolist() == list(range(len(entry)))


@LAW
@given(given=labels(), n_blocks=st.integers(2, 6))
def test_a_longer_window_only_adds(given: Labels, n_blocks: int) -> None:
    rolling = [
        [set(fold.train.tolist()) for fold in folds(*given, n_blocks=n_blocks, walk=Walk.ROLLING, window_blocks=window)]
        for window in range(1, n_blocks + 1)
    ]
    for short, long in pairwise(rolling):
        assert all(few <= many for few, many in zip(short, long, strict=True))
    expanding = [set(fold.train.tolist()) for fold in folds(*given, n_blocks=n_blocks, walk=Walk.EXPANDING)]
    assert rolling[-1] == expanding
