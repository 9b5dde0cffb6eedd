"""The rule score: what the gate knows before it has learned anything, and when the model cannot answer."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from signals.errors import Invalid
from signals.reasons import Reason
from signals.signal import Signal


@dataclass(frozen=True, slots=True)
class Rule:
    """Add ``points`` when ``feature compare bound`` holds; a missing feature never satisfies a rule."""

    feature: str
    compare: Callable[[float, float], bool]
    bound: float
    points: float

    def award(self, value: float) -> float:
        """Points for a value; 0 for NaN, which no comparison may see."""
        return self.points if math.isfinite(value) and self.compare(value, self.bound) else 0.0


RULES: Mapping[str, tuple[Rule, ...]] = {
    "trend": (
        Rule("trend_slope_pct", operator.ge, 5.0, 10.0),
        Rule("ema_stack_score", operator.ge, 50.0, 10.0),
        Rule("break_dist_atr", operator.ge, 0.2, 10.0),
        Rule("range_expansion", operator.ge, 1.2, 10.0),
        Rule("atr_pct", operator.ge, 0.5, -5.0),
    ),
    "scalp": (
        Rule("impulse_ratio", operator.gt, 1.0, 10.0),
        Rule("vwap_dist_atr", operator.lt, 0.6, 10.0),
        Rule("bb_width_rank", operator.gt, 0.7, 5.0),
        Rule("volume_ratio", operator.gt, 1.3, 10.0),
    ),
    "range": (
        Rule("range_pos", operator.le, 0.2, 10.0),
        Rule("rejection_wick", operator.gt, 0.0, 10.0),
        Rule("range_width_atr", operator.ge, 2.0, 10.0),
        Rule("adx", operator.ge, 30.0, -10.0),
    ),
}
"""SPEC 6. ``+10 rejection_wick`` has no bound there: a wick of any length on the rejecting side earns it."""

BASE_SCORE = 50.0
NEUTRAL_SCORE = 50.0


@dataclass(frozen=True, slots=True)
class HeuristicScore:
    """The rule score and the features its rules wanted but did not find."""

    score: float
    missing: tuple[str, ...]


def heuristic_score(signal: Signal, table: str) -> HeuristicScore:
    """Score a signal by fixed rules.

    Parameters
    ----------
    signal : Signal whose features are stored in the trade's direction
    table : ``trend``, ``range`` or ``scalp``

    Returns
    -------
    HeuristicScore : points in [0, 100], always finite, rounded to 4 decimals; names of missing inputs in rule order

    Raises
    ------
    Invalid : if there is no such table

    Source: seed 001 and SPEC 6.
    """
    rules = RULES.get(table)
    if rules is None:
        raise Invalid(Reason.STRATEGY_UNKNOWN, "heuristic", f"no rule table {table!r}; one of {sorted(RULES)}")
    values = [signal.number(rule.feature) for rule in rules]
    total = BASE_SCORE + sum(rule.award(value) for rule, value in zip(rules, values, strict=True))
    missing = tuple(rule.feature for rule, value in zip(rules, values, strict=True) if not math.isfinite(value))
    return HeuristicScore(round(max(0.0, min(100.0, total)), 4), missing)
