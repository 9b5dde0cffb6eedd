"""Verdicts as bits, and how many signals and wins each combination of variables has: by popcount, not by filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from gates.evaluate import Verdicts

BoolArray = npt.NDArray[np.bool_]
WordArray = npt.NDArray[np.uint64]
IntArray = npt.NDArray[np.int64]

WORD_BITS: Final = 64
WORDS_AT_ONCE: Final = 2_048
"""Words of each variable worked on together: 28 variables of that many stay in a processor's second cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Verdicts of decided signals as bits: uint64 of shape (n_variables, n_words).

    Wins fill the first ``win_words`` words and losses the rest, each part padded with zeros: one popcount over each
    part then counts wins and losses, and no combination has to be masked with the outcomes. ``known`` is none when
    nothing is missing.

    Raises
    ------
    ValueError : if the parts do not fit
    """

    names: tuple[str, ...]
    passed: WordArray
    known: WordArray | None
    win_words: int
    wins: int
    losses: int

    def __post_init__(self) -> None:
        words = self.win_words + -(-self.losses // WORD_BITS)
        if self.passed.shape != (len(self.names), words) or self.passed.dtype != np.uint64:
            raise ValueError("one row of words for each variable")
        if self.known is not None and self.known.shape != self.passed.shape:
            raise ValueError("one mark for each verdict")
        if self.win_words != -(-self.wins // WORD_BITS):
            raise ValueError("the words of the wins hold the wins")

    @property
    def n(self) -> int:
        """Decided signals."""
        return self.wins + self.losses

    @classmethod
    def of(cls, verdicts: Verdicts, won: BoolArray) -> Packed:
        """Pack verdicts of shape (n_variables, n) with the outcomes, shape (n,).

        Parameters
        ----------
        verdicts : Verdicts of n decided signals
        won : ndarray of bool, shape (n,)

        Raises
        ------
        ValueError : if the shapes differ
        """
        if verdicts.passed.ndim != 2 or won.shape != verdicts.passed.shape[1:]:
            raise ValueError("one outcome for each signal")
        return cls(
            names=verdicts.names,
            passed=_split(verdicts.passed, won),
            known=None if bool(verdicts.known.all()) else _split(verdicts.known, won),
            win_words=-(-int(np.count_nonzero(won)) // WORD_BITS),
            wins=int(np.count_nonzero(won)),
            losses=int(np.count_nonzero(~won)),
        )


def packed_bits(rows: BoolArray) -> WordArray:
    """Bits of rows as words, little-endian, padded with zeros: shape (n_rows, ceil(n / 64)).

    Parameters
    ----------
    rows : ndarray of bool, shape (n_rows, n)
    """
    words = -(-rows.shape[1] // WORD_BITS)
    out = np.zeros((len(rows), words * 8), dtype=np.uint8)
    packed = np.packbits(rows, axis=1, bitorder="little")
    out[:, : packed.shape[1]] = packed
    return out.view(np.uint64).reshape(len(rows), words)


def _split(rows: BoolArray, won: BoolArray) -> WordArray:
    parts = (packed_bits(rows[:, won]), packed_bits(rows[:, ~won]))
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


def cells(n_variables: int, size: int) -> IntArray:
    """Places of the variables of every combination of one size, in lexicographic order: shape (n_cells, size).

    Parameters
    ----------
    n_variables, size : counts
    """
    found = list(combinations(range(n_variables), size))
    return np.array(found, dtype=np.int64).reshape(len(found), size)


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Counts of each combination, int64 of shape (n_cells,) each.

    ``n`` and ``wins`` are those of the signals that pass every variable of the combination, ``known`` and
    ``known_wins`` those for which all its variables are known: what does not pass is the difference.
    """

    members: IntArray
    n: IntArray
    wins: IntArray
    known: IntArray
    known_wins: IntArray

    @property
    def failing(self) -> IntArray:
        """Signals that are known and do not pass."""
        return self.known - self.n

    @property
    def failing_wins(self) -> IntArray:
        """Wins among them."""
        return self.known_wins - self.wins


class Kernel(Protocol):
    """Counts set bits of the words where all rows of a combination have one."""

    def __call__(self, words: WordArray, members: IntArray, win_words: int) -> tuple[IntArray, IntArray]:
        """Set bits among wins and among losses of each combination.

        Parameters
        ----------
        words : uint64 of shape (n_rows, n_words)
        members : int64 of shape (n_cells, size), ascending places, in lexicographic order
        win_words : how many of the words are wins'
        """
        ...


def count_words(words: WordArray, members: IntArray, win_words: int) -> tuple[IntArray, IntArray]:
    """The kernel in numpy: words of a block are combined once for all combinations that begin alike.

    Parameters
    ----------
    words, members, win_words : as in ``Kernel``
    """
    wins, losses = np.zeros(len(members), dtype=np.int64), np.zeros(len(members), dtype=np.int64)
    if len(members) == 0:
        return wins, losses
    heads, starts = np.unique(members[:, :-1], axis=0, return_index=True)
    ends = np.append(starts[1:], len(members))
    for first, last, out in ((0, win_words, wins), (win_words, words.shape[1], losses)):
        for at in range(first, last, WORDS_AT_ONCE):
            block = words[:, at : min(at + WORDS_AT_ONCE, last)]
            for head, start, end in zip(heads, starts, ends, strict=True):
                rows = block[members[start:end, -1]]
                both = rows if len(head) == 0 else rows & np.bitwise_and.reduce(block[head], axis=0)
                out[start:end] += np.bitwise_count(both).sum(axis=1, dtype=np.int64)
    return wins, losses


def count(packed: Packed, members: IntArray, kernel: Kernel = count_words) -> Counts:
    """Count the signals of combinations.

    Parameters
    ----------
    packed : Packed
    members : int64 of shape (n_cells, size), as ``cells`` gives them or a part of it in the same order
    kernel : which implementation counts

    Raises
    ------
    ValueError : if the combinations are not in lexicographic order or name a variable that is not there
    """
    _check(members, len(packed.names))
    wins, losses = kernel(packed.passed, members, packed.win_words)
    if packed.known is None:
        known, known_wins = np.full(len(members), packed.n), np.full(len(members), packed.wins)
    else:
        known_wins, known_losses = kernel(packed.known, members, packed.win_words)
        known = known_wins + known_losses
    return Counts(members, wins + losses, wins, known.astype(np.int64), known_wins.astype(np.int64))


def _check(members: IntArray, n_variables: int) -> None:
    if members.ndim != 2 or members.shape[1] == 0:
        raise ValueError("combinations of at least one variable")
    if len(members) == 0:
        return
    if int(members.min()) < 0 or int(members.max()) >= n_variables:
        raise ValueError("a combination names a variable that is not there")
    code = np.zeros(len(members), dtype=np.int64)
    for column in members.T:
        code = code * n_variables + column
    if bool(np.any(np.diff(members, axis=1) <= 0)) or bool(np.any(np.diff(code) <= 0)):
        raise ValueError("combinations ascend, each once")


def every_cell(packed: Packed, sizes: Sequence[int] = (1, 2, 3), kernel: Kernel = count_words) -> list[Counts]:
    """Counts of all combinations of each size: 28 variables make 28, 378 and 3,276.

    Parameters
    ----------
    packed : Packed
    sizes : of the combinations
    kernel : which implementation counts
    """
    return [count(packed, cells(len(packed.names), size), kernel) for size in sizes]
