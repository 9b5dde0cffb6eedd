"""What a strategy's learner takes as an outcome, when, and for how much."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from signals.errors import Invalid
from signals.reasons import Reason


class Maturity(StrEnum):
    """What is done about positions too young to have ended slowly: fast losers are seen first."""

    CUTOFF = "cutoff"
    """Only cohorts old enough that every member has ended."""
    WEIGHTS = "weights"
    """All outcomes, each with the inverse probability that its like was seen to its end."""
    OFF = "off"
    """Whatever has ended counts, as the founding rule has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelling:
    """How outcomes become labels. ``drop_ambiguous``, ``learn_from_timeouts`` and ``window_days`` always count.

    ``maturity``, ``uniqueness``, ``half_life_days`` and ``size_exponent`` belong to the evidence method of labels.
    ``learn_from_timeouts`` none: when labels are by evidence. ``window_days`` is how far back outcomes are taken, 0 all
    of them; ``half_life_days`` halves a weight with every so many days of age, 0 never; ``size_exponent`` is the power
    of |R| in a weight.
    """

    drop_ambiguous: bool = False
    learn_from_timeouts: bool | None = None
    window_days: float = 0.0
    maturity: Maturity = Maturity.CUTOFF
    uniqueness: bool = True
    half_life_days: float = 90.0
    size_exponent: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("window_days", 1e5), ("half_life_days", 1e5), ("size_exponent", 4.0)):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0.0 <= value <= most):
                raise Invalid(Reason.FIELD_RANGE, name, f"0 to {most:g}")


SEED_LABELLING = Labelling()
"""What a profile has when it says nothing."""
