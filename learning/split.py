"""Time-ordered blocks, with every training label removed that overlaps a test label."""

from __future__ import annotations

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


def folds(
    entry_ms: Sequence[int],
    exit_ms: Sequence[int],
    *,
    n_blocks: int,
    walk: Walk = Walk.BLOCKED,
    embargo_ms: int = 0,
) -> list[Fold]:
    """Split examples for out-of-fold answers.

    Parameters
    ----------
    entry_ms, exit_ms : sequences of length n_rows, epoch ms, exits not descending; a label lives on [entry, exit]
    n_blocks : number of blocks
    walk : whether later blocks may be trained on
    embargo_ms : training labels that begin within this time after the test block's last exit go as well

    Returns
    -------
    list of Fold; no training label shares a millisecond with a test label of its fold

    Raises
    ------
    ValueError : if lengths differ, exits descend, or a label ends before it begins

    Source: López de Prado (2018), Advances in Financial Machine Learning, chapter 7; STATISTICS 5.
    """
    entry, exit_ = np.asarray(entry_ms, dtype=np.int64), np.asarray(exit_ms, dtype=np.int64)
    if entry.shape != exit_.shape or entry.ndim != 1:
        raise ValueError("one entry and one exit for each row")
    if np.any(np.diff(exit_) < 0) or np.any(exit_ < entry):
        raise ValueError("labels must be in the order of their exits and end after they begin")
    found = []
    for number, test in enumerate(blocks(len(entry), n_blocks)):
        first, last = int(test[0]), int(test[-1])
        # Rows are in the order of their exits, so a label outside the block overlaps one inside exactly when it
        # overlaps the block's whole span: nothing is removed that need not be.
        begins, ends = int(entry[test].min()), int(exit_[last])
        before = np.flatnonzero(exit_[:first] < begins)
        after = last + 1 + np.flatnonzero(entry[last + 1 :] > ends + embargo_ms)
        train = before if walk is Walk.EXPANDING else np.concatenate((before, after))
        found.append(Fold(number, test, train.astype(np.int64)))
    return found
