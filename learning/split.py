"""Time-ordered blocks, with every training label removed that overlaps a test label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


class Walk(StrEnum):
    """What a fold may train on."""

    BLOCKED = "blocked"
    """Every other block: all rows get an answer. Calibrator and thresholds need that many."""
    EXPANDING = "expanding"
    """Earlier blocks only: what would have been known. The first block gets no answer."""
    ROLLING = "rolling"
    """The nearest of the earlier blocks, as many as told: what is left of the past where the past is forgotten."""


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """One block to answer for and what may be learned from: indices, shape (n_test,) and (n_train,), ascending."""

    block: int
    test: IntArray
    train: IntArray


def blocks(n_rows: int, n_blocks: int) -> list[IntArray]:
    """Cut rows 0..n−1 into consecutive blocks whose sizes differ by one at most; never an empty one.

    Parameters
    ----------
    n_rows, n_blocks : counts, n_rows >= 0, n_blocks >= 2

    Raises
    ------
    ValueError : if fewer than two blocks are asked for
    """
    if n_blocks < 2:
        raise ValueError("at least two blocks")
    parts = np.array_split(np.arange(n_rows, dtype=np.int64), n_blocks)
    return [part for part in parts if len(part) > 0]


SPAN_SHARE = 0.01
"""Of the whole span, the least embargo: what remembers longer than a label lives is still forgotten."""


def embargo_for(entry_ms: Sequence[int], exit_ms: Sequence[int]) -> int:
    """How long after a test block nothing may be learned from: the longest label, but at least 1 % of the span.

    Parameters
    ----------
    entry_ms, exit_ms : sequences of length n_rows, epoch ms; a label lives on [entry, exit]

    Returns
    -------
    int, ms; 0 without rows

    Source: STATISTICS 5 (rules); López de Prado (2018), chapter 7.4.2.
    """
    if len(entry_ms) == 0:
        return 0
    entry, exit_ = np.asarray(entry_ms, dtype=np.int64), np.asarray(exit_ms, dtype=np.int64)
    return max(int((exit_ - entry).max()), math.ceil(SPAN_SHARE * int(exit_.max() - entry.min())))


def folds(
    entry_ms: Sequence[int],
    exit_ms: Sequence[int],
    *,
    n_blocks: int,
    walk: Walk = Walk.BLOCKED,
    embargo_ms: int | None = 0,
    window_blocks: int = 1,
) -> list[Fold]:
    """Split examples for out-of-fold answers.

    Parameters
    ----------
    entry_ms, exit_ms : sequences of length n_rows, epoch ms, exits not descending; a label lives on [entry, exit]
    n_blocks : number of blocks
    walk : what a fold may train on
    embargo_ms : training labels that begin within this time after the test block's last exit go as well; none takes
        that of ``embargo_for``. A walk forward trains on nothing after its test block and needs none
    window_blocks : how many blocks before the test block a rolling walk trains on, >= 1

    Returns
    -------
    list of Fold; no training label shares a millisecond with a test label of its fold

    Raises
    ------
    ValueError : if lengths differ, exits descend, a label ends before it begins, or the window is empty

    Source: López de Prado (2018), Advances in Financial Machine Learning, chapter 7; STATISTICS 5.
    """
    entry, exit_ = np.asarray(entry_ms, dtype=np.int64), np.asarray(exit_ms, dtype=np.int64)
    if entry.shape != exit_.shape or entry.ndim != 1:
        raise ValueError("one entry and one exit for each row")
    if np.any(np.diff(exit_) < 0) or np.any(exit_ < entry):
        raise ValueError("labels must be in the order of their exits and end after they begin")
    if window_blocks < 1:
        raise ValueError("a window of one block at least")
    embargo = embargo_for(entry_ms, exit_ms) if embargo_ms is None else embargo_ms
    found = []
    cut = blocks(len(entry), n_blocks)
    for number, test in enumerate(cut):
        first, last = int(test[0]), int(test[-1])
        # Rows are in the order of their exits, so a label outside the block overlaps one inside exactly when it
        # overlaps the block's whole span: nothing is removed that need not be.
        begins, ends = int(entry[test].min()), int(exit_[last])
        before = np.flatnonzero(exit_[:first] < begins)
        after = last + 1 + np.flatnonzero(entry[last + 1 :] > ends + embargo)
        train = np.concatenate((before, after)) if walk is Walk.BLOCKED else before
        if walk is Walk.ROLLING:
            train = train[train >= int(cut[max(0, number - window_blocks)][0])]
        found.append(Fold(number, test, train.astype(np.int64)))
    return found
