"""The counting kernel compiled by numba, for those who installed it: the same counts as in numpy, several times faster.

Imported only when asked for: numba takes half a second to import, and a serving worker never counts combinations.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic

WordArray = npt.NDArray[np.uint64]
IntArray = npt.NDArray[np.int64]
WORDS_AT_ONCE = 1_024
MANY_WORDS = 5_000_000


@intrinsic  # type: ignore[untyped-decorator]
def _ones(_context: Any, word: Any) -> Any:  # noqa: ARG001 # pragma: no cover - numba reads the signature
    """Set bits of a word, as one machine instruction."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _set_bits(words: Any) -> Any:  # pragma: no cover - compiled
    total = np.uint64(0)
    for word in words:
        total += _ones(word)
    return total


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _set_bits_of_both(left: Any, right: Any) -> Any:  # pragma: no cover - compiled
    total = np.uint64(0)
    # Plain slices of one length: the compiler then emits vector instructions.
    for place in range(left.shape[0]):
        total += _ones(left[place] & right[place])
    return total


def _groups(words: Any, members: Any, starts: Any, first: int, last: int, out: Any) -> None:  # pragma: no cover
    size = members.shape[1]
    for group in numba.prange(len(starts) - 1):
        head = np.empty(WORDS_AT_ONCE, dtype=np.uint64)
        for at in range(first, last, WORDS_AT_ONCE):
            end = min(at + WORDS_AT_ONCE, last)
            width = end - at
            if size > 1:
                head[:width] = words[members[starts[group], 0], at:end]
                for level in range(1, size - 1):
                    row = words[members[starts[group], level], at:end]
                    for place in range(width):
                        head[place] &= row[place]
            for cell in range(starts[group], starts[group + 1]):
                tail = words[members[cell, size - 1], at:end]
                if size == 1:
                    out[cell] += np.int64(_set_bits(tail))
                else:
                    out[cell] += np.int64(_set_bits_of_both(head[:width], tail))


_alone = numba.njit(nogil=True)(_groups)
_together = numba.njit(nogil=True, parallel=True)(_groups)


def count_words_compiled(words: WordArray, members: IntArray, win_words: int) -> tuple[IntArray, IntArray]:
    """The kernel compiled: combinations that begin alike are one piece of work, and pieces run side by side.

    Parameters
    ----------
    words, members, win_words : as in ``gates.bits.Kernel``
    """
    wins, losses = np.zeros(len(members), dtype=np.int64), np.zeros(len(members), dtype=np.int64)
    if len(members) == 0:
        return wins, losses
    heads = members[:, :-1]
    changed = np.flatnonzero(np.any(heads[1:] != heads[:-1], axis=1)) + 1
    starts = np.concatenate(([0], changed, [len(members)])).astype(np.int64)
    # Waking other threads costs more than a few milliseconds of counting.
    run = _together if words.shape[1] * len(members) >= MANY_WORDS else _alone
    run(words, members, starts, 0, win_words, wins)
    run(words, members, starts, win_words, words.shape[1], losses)
    return wins, losses
