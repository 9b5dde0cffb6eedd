"""Which threshold a score meets: bucket table, then EV over all buckets, then the static one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ThresholdSource(StrEnum):
    """Where a threshold came from, in order of priority."""

    QSCORE = "qscore"
    EV = "ev"
    STATIC = "static"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A score in [0, 100] that must be reached, and its source."""

    value: float
    source: ThresholdSource

    def passes(self, score: float) -> bool:
        """Whether a score reaches the threshold; NaN never does.

        Parameters
        ----------
        score : float in [0, 100], or NaN

        Source: SPEC 6; the comparison is written so that an unknown score can only refuse.
        """
        return score >= self.value


def static_threshold(value: float) -> Threshold:
    """The unlearned threshold of a profile.

    Parameters
    ----------
    value : float in [0, 100]; never clamped, since the user chose it

    Source: SPEC 7.
    """
    return Threshold(value, ThresholdSource.STATIC)
