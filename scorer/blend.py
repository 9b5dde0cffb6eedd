"""How much of the final score is the model's and how much the rules'."""

from __future__ import annotations

from enum import StrEnum

from scorer.bundle import SCORE_DIGITS
from signals.errors import Invalid
from signals.reasons import Reason


class Blend(StrEnum):
    """The named weights of the ensemble in the final score."""

    RULES_ONLY = "rules_only"
    CONSERVATIVE = "conservative"
    MODERATE = "moderate"
    AGGRESSIVE = "aggressive"
    FULL = "full"

    @property
    def weight(self) -> float:
        """Share of the ensemble in the final score, in [0, 1]."""
        return _WEIGHTS[self]

    @classmethod
    def parse(cls, text: str) -> Blend:
        """Read a name; ``shadow`` is what the Lab calls ``rules_only``.

        Parameters
        ----------
        text : one of the names, in small letters

        Raises
        ------
        Invalid : if there is no blend of that name

        Source: SPEC 6.
        """
        if text == SHADOW:
            return cls.RULES_ONLY
        try:
            return cls(text)
        except ValueError as error:
            raise Invalid(Reason.FIELD_RANGE, "blend", f"expected one of {', '.join((*cls, SHADOW))}") from error


SHADOW = "shadow"
_WEIGHTS = {
    Blend.RULES_ONLY: 0.0,
    Blend.CONSERVATIVE: 0.1,
    Blend.MODERATE: 0.3,
    Blend.AGGRESSIVE: 0.5,
    Blend.FULL: 1.0,
}


def blend(heuristic: float, ensemble: float, w: float) -> float:
    """Final score: (1 − w)·heuristic + w·ensemble, rounded to 4 decimals as it is compared and stored.

    Parameters
    ----------
    heuristic, ensemble : float in [0, 100]; NaN when there is none
    w : float in [0, 1]; a part of weight 0 is not looked at

    Returns
    -------
    float in [0, 100], or NaN when a part that counts is missing: it is never made up

    Raises
    ------
    ValueError : if w leaves [0, 1]

    Source: SPEC 6.
    """
    if not 0.0 <= w <= 1.0:
        raise ValueError(f"a blend weight lies in [0, 1], not {w}")
    if w == 1.0:
        return round(ensemble, SCORE_DIGITS)
    if w == 0.0:
        return round(heuristic, SCORE_DIGITS)
    return round((1.0 - w) * heuristic + w * ensemble, SCORE_DIGITS)
