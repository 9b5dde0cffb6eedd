"""Solo, pair and triplet win rates as the founding report tells them: what was counted, before any doubt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gates.bits import Counts, Kernel, Packed, cells, count, count_words
from gates.variables import Variable, nested

IntArray = npt.NDArray[np.int64]

ENOUGH: Final = 20
"""Signals on either side from which on a solo delta is called sufficient."""
TOP: Final = 10
"""How many of the best solo variables go into pairs and triplets."""
POINT: Final = 0.01
HUNCH_DELTA: Final = 5 * POINT
HUNCH_WIN_RATE: Final = 0.60
HUNCH_N: Final = 30
STEADY: Final = 2 * POINT
"""Less movement of a monthly delta than this is called stable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solo:
    """One variable alone. Rates in [0, 1], NaN where nobody passes (or fails); ``delta`` = passing − failing."""

    name: str
    n: int
    wins: int
    failing: int
    failing_wins: int
    missing: int

    @property
    def win_rate(self) -> float:
        """Of the signals that pass."""
        return self.wins / self.n if self.n > 0 else math.nan

    @property
    def failing_win_rate(self) -> float:
        """Of the signals that are known not to pass."""
        return self.failing_wins / self.failing if self.failing > 0 else math.nan

    @property
    def delta(self) -> float:
        """Win rate passing minus failing."""
        return self.win_rate - self.failing_win_rate

    @property
    def sufficient(self) -> bool:
        """Whether both sides have twenty signals."""
        return min(self.n, self.failing) >= ENOUGH


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """Two or three variables together. ``expected`` is the mean of the members' solo win rates.

    ``synergy`` = win rate − expected; none where one member contains another by definition, and NaN where nobody
    passes.
    """

    members: tuple[str, ...]
    n: int
    wins: int
    known: int
    known_wins: int
    expected: float
    nested: bool

    @property
    def win_rate(self) -> float:
        """Of the signals that pass all members."""
        return self.wins / self.n if self.n > 0 else math.nan

    @property
    def synergy(self) -> float | None:
        """What the combination has above the mean of its members."""
        return None if self.nested else self.win_rate - self.expected

    @property
    def delta(self) -> float:
        """Win rate of the signals that pass all members minus that of the others whose members are all known."""
        others = self.known - self.n
        return self.win_rate - (self.known_wins - self.wins) / others if others > 0 else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Bitmap:
    """One of the sixteen states of the four original variables; ``state`` in their order."""

    state: tuple[bool, ...]
    n: int
    wins: int

    @property
    def win_rate(self) -> float:
        """Of the signals in this state."""
        return self.wins / self.n if self.n > 0 else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunches:
    """The founding report's list. Thousands of looks at a few hundred trades: hunches, and called so."""

    enable: tuple[str, ...]
    disable: tuple[str, ...]
    best: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Everything that is counted of one set of decided signals. ``ranking`` names sufficient variables, best first."""

    n: int
    wins: int
    solos: tuple[Solo, ...]
    ranking: tuple[str, ...]
    combinations: tuple[Combination, ...]
    bitmaps: tuple[Bitmap, ...]
    hunches: Hunches


def solos_of(packed: Packed, kernel: Kernel = count_words) -> tuple[Solo, ...]:
    """Every variable alone, in the order of the variables.

    Parameters
    ----------
    packed : Packed
    kernel : which implementation counts

    Source: SPEC 11.
    """
    found = count(packed, cells(len(packed.names), 1), kernel)
    return tuple(
        Solo(
            name=name,
            n=n,
            wins=wins,
            failing=known - n,
            failing_wins=known_wins - wins,
            missing=packed.n - known,
        )
        for name, n, wins, known, known_wins in zip(
            packed.names,
            found.n.tolist(),
            found.wins.tolist(),
            found.known.tolist(),
            found.known_wins.tolist(),
            strict=True,
        )
    )


def ranked(solos: Sequence[Solo]) -> tuple[str, ...]:
    """Names of the sufficient variables by delta, best first; equal ones in the order of the variables.

    Parameters
    ----------
    solos : as ``solos_of`` gives them
    """
    told = [(place, solo) for place, solo in enumerate(solos) if solo.sufficient]
    return tuple(solo.name for _, solo in sorted(told, key=lambda entry: (-entry[1].delta, entry[0])))


def combinations_of(
    packed: Packed,
    variables: Sequence[Variable],
    solos: Sequence[Solo],
    names: Sequence[str],
    kernel: Kernel = count_words,
) -> tuple[Combination, ...]:
    """All pairs and triplets of some variables, pairs first, each in the order of the variables.

    Parameters
    ----------
    packed : Packed
    variables : those that were packed, in the same order
    solos : as ``solos_of`` gives them
    names : the variables that are combined: the ten best, or all
    kernel : which implementation counts

    Source: SPEC 11.
    """
    place = {name: number for number, name in enumerate(packed.names)}
    chosen = np.array(sorted(place[name] for name in names), dtype=np.int64)
    inside = [[nested(one, other) for other in variables] for one in variables]
    found: list[Combination] = []
    for size in (2, 3):
        places = chosen[cells(len(chosen), size)] if len(chosen) >= size else np.empty((0, size), dtype=np.int64)
        found += _told(count(packed, places, kernel), packed.names, solos, inside)
    return tuple(found)


def _told(
    counts: Counts, names: Sequence[str], solos: Sequence[Solo], inside: Sequence[Sequence[bool]]
) -> list[Combination]:
    rows = zip(
        counts.members.tolist(),
        counts.n.tolist(),
        counts.wins.tolist(),
        counts.known.tolist(),
        counts.known_wins.tolist(),
        strict=True,
    )
    return [
        Combination(
            members=tuple(names[place] for place in members),
            n=n,
            wins=wins,
            known=known,
            known_wins=known_wins,
            expected=math.fsum(solos[place].win_rate for place in members) / len(members),
            nested=any(inside[one][other] for at, one in enumerate(members) for other in members[at + 1 :]),
        )
        for members, n, wins, known, known_wins in rows
    ]


def bitmaps_of(packed: Packed, names: Sequence[str], kernel: Kernel = count_words) -> tuple[Bitmap, ...]:
    """All states of a few variables, from none to all, over the signals for which all of them are known.

    Parameters
    ----------
    packed : Packed
    names : the four original variables, or others; at most eight
    kernel : which implementation counts

    Raises
    ------
    ValueError : if there are none or too many, or one was not packed
    """
    if not 1 <= len(names) <= 8 or not set(names) <= set(packed.names):
        raise ValueError("one to eight of the packed variables")
    place = {name: number for number, name in enumerate(packed.names)}
    order = sorted(names, key=place.__getitem__)
    # Only signals that are known everywhere: their marks stand for "all known" in every count below.
    known = packed.passed[:0] if packed.known is None else packed.known[[place[name] for name in order]]
    rows = [packed.passed[place[name]] for name in order]
    if packed.known is not None:
        everyone = np.bitwise_and.reduce(known, axis=0)
        rows = [row & everyone for row in rows]
        totals = _set_bits(everyone, packed.win_words)
    else:
        totals = packed.wins, packed.losses
    at_least: dict[int, tuple[int, int]] = {0: totals}
    stacked = np.stack(rows)
    for size in range(1, len(order) + 1):
        members = cells(len(order), size)
        wins, losses = kernel(stacked, members, packed.win_words)
        for chosen, won, lost in zip(members.tolist(), wins.tolist(), losses.tolist(), strict=True):
            at_least[sum(1 << bit for bit in chosen)] = (won, lost)
    return tuple(
        Bitmap(state=tuple(bool(state >> bit & 1) for bit in range(len(order))), n=won + lost, wins=won)
        for state in range(1 << len(order))
        for won, lost in (_exactly(at_least, state, len(order)),)
    )


def _exactly(at_least: dict[int, tuple[int, int]], state: int, bits: int) -> tuple[int, int]:
    """Signals in exactly this state, from those in at least it: inclusion and exclusion over the other bits."""
    free = [bit for bit in range(bits) if not state >> bit & 1]
    won = lost = 0
    for chosen in range(1 << len(free)):
        more = state | sum(1 << free[bit] for bit in range(len(free)) if chosen >> bit & 1)
        sign = -1 if chosen.bit_count() % 2 else 1
        won, lost = won + sign * at_least[more][0], lost + sign * at_least[more][1]
    return won, lost


def _set_bits(words: npt.NDArray[np.uint64], win_words: int) -> tuple[int, int]:
    ones = np.bitwise_count(words)
    return int(ones[:win_words].sum()), int(ones[win_words:].sum())


def hunches_of(solos: Sequence[Solo], combinations: Sequence[Combination]) -> Hunches:
    """The founding report's recommendations: enable, disable, the best combination.

    Parameters
    ----------
    solos : as ``solos_of`` gives them
    combinations : as ``combinations_of`` gives them

    Source: SPEC 11: enable at a delta above 5 points, a win rate of 60 % and 30 signals; disable below −5 points.
    """
    enough = [item for item in combinations if item.n >= HUNCH_N and not item.nested]
    best = max(enough, key=lambda item: (item.win_rate, item.n), default=None)
    return Hunches(
        enable=tuple(
            solo.name
            for solo in solos
            if solo.delta > HUNCH_DELTA and solo.win_rate >= HUNCH_WIN_RATE and solo.n >= HUNCH_N
        ),
        disable=tuple(solo.name for solo in solos if solo.sufficient and solo.delta < -HUNCH_DELTA),
        best=() if best is None else best.members,
    )


def counted(
    packed: Packed,
    variables: Sequence[Variable],
    *,
    original: Sequence[str],
    top: int | None = TOP,
    kernel: Kernel = count_words,
) -> Counted:
    """Count everything the founding report shows.

    Parameters
    ----------
    packed : Packed
    variables : those that were packed, in the same order
    original : names whose states are listed; those that were not packed are left out
    top : how many of the best solo variables are combined; none for all of them
    kernel : which implementation counts

    Source: SPEC 11.
    """
    solos = solos_of(packed, kernel)
    ranking = ranked(solos)
    names = packed.names if top is None else ranking[:top]
    combinations = combinations_of(packed, variables, solos, names, kernel)
    listed = [name for name in original if name in packed.names]
    return Counted(
        n=packed.n,
        wins=packed.wins,
        solos=solos,
        ranking=ranking,
        combinations=combinations,
        bitmaps=bitmaps_of(packed, listed, kernel) if listed else (),
        hunches=hunches_of(solos, combinations),
    )


def trend(deltas: Sequence[float]) -> str:
    """How a variable's monthly delta moved last: ``improving``, ``degrading``, ``stable`` (within two points).

    Parameters
    ----------
    deltas : monthly deltas in [−1, 1], oldest first, NaN where a month had too little

    Returns
    -------
    The word, or ``unknown`` with fewer than two known months
    """
    known = [delta for delta in deltas if math.isfinite(delta)]
    if len(known) < 2:
        return "unknown"
    # Differences of shares: two points on paper must not become more by their last digit.
    moved = round(known[-1] - known[-2], 12)
    if moved > STEADY:
        return "improving"
    return "degrading" if moved < -STEADY else "stable"
