"""The best threshold without hindsight: chosen on the past, scored on what came next, block after block."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lab.fixed_b import DayMean, day_mean
from lab.statistics import BoolArray, FloatArray, IntArray

BLOCKS = 8
FIRST_SHARE = 0.4
"""Share of the days that only teaches: the first block is chosen on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Days ``first_day`` to ``last_day`` (UTC, since 1970), the threshold the past chose for them, and its result."""

    first_day: int
    last_day: int
    chosen: float
    learned_from: int
    n: int
    accepted: int
    mean_r: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Nested:
    """The best of a grid, looked for in two ways, in R per signal after the cost of the verdict.

    ``best`` and ``best_value`` were chosen after looking at everything, ``value`` is what choosing on the past alone
    would have made of the scored days; ``naive`` is the same best's mean on these very days, ``against`` the nested
    choice minus the current gate on them.
    """

    best: float
    best_value: float
    best_accepted: int
    value: DayMean
    naive: float
    against: DayMean
    blocks: tuple[Block, ...]


def best_of(values: FloatArray) -> int:
    """Place of the largest value; among equals the last, so that a tie on a rising grid refuses more."""
    return int(len(values) - 1 - np.argmax(values[::-1]))


def nested_best(
    *,
    thresholds: FloatArray,
    results: FloatArray,
    accepted: BoolArray,
    current: BoolArray,
    day: IntArray,
    known_day: IntArray,
    blocks: int = BLOCKS,
) -> Nested | None:
    """Choose a threshold on the past and score it on the next block, through the record.

    Parameters
    ----------
    thresholds : ndarray of shape (n_thresholds,), rising
    results : ndarray of shape (n,), net R of every signal
    accepted : ndarray of bool, shape (n, n_thresholds)
    current : ndarray of bool, shape (n,), what the current gate wanted
    day, known_day : ndarray of int, shape (n,), UTC day of each entry and of the day its result was known
    blocks : int >= 1

    Returns
    -------
    Nested, or none when there are too few days for a first choice and a block to score

    Notes
    -----
    A result counts as past only when it was known before the block's first day: what is open at that moment is
    neither learned from nor scored twice.

    Source: nested walk-forward, STATISTICS 2.1.
    """
    if len(day) == 0:
        return None
    first, last = int(day.min()), int(day.max())
    start = first + math.ceil(FIRST_SHARE * (last - first + 1))
    edges = np.unique(np.linspace(start, last + 1, blocks + 1).astype(np.int64))
    taken = np.zeros(len(day), dtype=np.bool_)
    scored = np.zeros(len(day), dtype=np.bool_)
    found: list[Block] = []
    for begins, ends in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        past, now = known_day < begins, (day >= begins) & (day < ends)
        if not bool(past.any()) or not bool(now.any()):
            continue
        place = best_of(results[past] @ accepted[past])
        picked = now & accepted[:, place]
        taken |= picked
        scored |= now
        n = int(np.count_nonzero(now))
        found.append(
            Block(
                first_day=begins,
                last_day=ends - 1,
                chosen=float(thresholds[place]),
                learned_from=int(np.count_nonzero(past)),
                n=n,
                accepted=int(np.count_nonzero(picked)),
                mean_r=float(results[picked].sum()) / n,
            )
        )
    if not found:
        return None
    means = results @ accepted / len(results)
    best = best_of(means)
    gained = (taken.astype(np.float64) - current) * results
    return Nested(
        best=float(thresholds[best]),
        best_value=float(means[best]),
        best_accepted=int(np.count_nonzero(accepted[:, best])),
        value=day_mean(day[scored], (taken * results)[scored]),
        naive=float(np.mean((accepted[:, best] * results)[scored])),
        against=day_mean(day[scored], gained[scored]),
        blocks=tuple(found),
    )
