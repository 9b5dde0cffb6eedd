"""Which threshold a score meets: bucket table, then EV over all buckets, then the static one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

TABLE_RECORDS = 50
"""From how many records on there is a table at all."""


class ThresholdSource(StrEnum):
    """Where a threshold came from, in order of priority."""

    QSCORE = "qscore"
    EV = "ev"
    STATIC = "static"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A score in [0, 100] that must be reached, and its source.

    ``moved_from`` is what the records gave where a clamp moved it, else none. ``closed``: the records gave no score
    worth taking, and no ceiling overrules them; then even a score of 100 does not pass.
    """

    value: float
    source: ThresholdSource
    moved_from: float | None = None
    closed: bool = False

    @property
    def clamped(self) -> bool:
        """Whether a clamp changed it."""
        return self.moved_from is not None

    @property
    def unclamped(self) -> float:
        """The threshold before any clamp, in [0, 100]."""
        return self.value if self.moved_from is None else self.moved_from

    def passes(self, score: float) -> bool:
        """Whether a score reaches the threshold; NaN never does.

        Parameters
        ----------
        score : float in [0, 100], or NaN

        Source: SPEC 6; the comparison is written so that an unknown score can only refuse.
        """
        return score >= self.value and not self.closed


@dataclass(frozen=True, slots=True)
class Clamp:
    """The range, in score points, that a learned threshold may take.

    Raises
    ------
    ValueError : unless 0 <= floor <= ceiling <= 100
    """

    floor: float
    ceiling: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.floor <= self.ceiling <= 100.0:
            raise ValueError(f"a clamp lies in [0, 100], not {self.floor}–{self.ceiling}")

    def __str__(self) -> str:
        return f"{self.floor:g}–{self.ceiling:g}"

    def apply(self, value: float, source: ThresholdSource, *, closed: bool = False) -> Threshold:
        """Bring a learned threshold into the range.

        Parameters
        ----------
        value : float in [0, 100], as learned
        source : ``qscore`` or ``ev``
        closed : whether the records gave no score worth taking

        Raises
        ------
        ValueError : for the static threshold, which the user chose and nothing moves

        Source: SPEC 7. A ceiling below 100 overrules "nothing passes": it says that scores above it always may.
        """
        if source is ThresholdSource.STATIC:
            raise ValueError("the static threshold is never clamped")
        inside = max(self.floor, min(self.ceiling, value))
        if inside == value:
            return Threshold(value, source, closed=closed)
        return Threshold(inside, source, moved_from=value)


SEED = Clamp(60.0, 95.0)
"""The range of the founding document; the default for heuristic scores."""
OPEN = Clamp(0.0, 100.0)
"""No limit: the default for ensemble scores, where a floor of 60 would refuse a 2 R system that pays from 33 on."""


def static_threshold(value: float) -> Threshold:
    """The unlearned threshold of a profile.

    Parameters
    ----------
    value : float in [0, 100]; never clamped, since the user chose it

    Source: SPEC 7.
    """
    return Threshold(value, ThresholdSource.STATIC)
