"""Gate variables: yes-or-no conditions of a signal, declared as data, read in the trade's direction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from signals.errors import Invalid
from signals.reasons import Reason

LARGEST = 1e12
MAX_NAME = 40


class Comparison(StrEnum):
    """How one number is compared. Features are stored in the trade's direction, so one rule serves both sides."""

    AT_LEAST = "at_least"
    BELOW = "below"
    ABOVE = "above"
    """Strictly greater: with 0, whether a direction is the trade's."""
    QUANTILE = "at_quantile"
    """At or above that quantile of earlier data; the value it had when the gate set was learned is an argument."""
    MORE_THAN = "more_than"
    """Strictly greater than another feature of the same signal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One comparison: ``feature`` against a number, a quantile in (0, 1), or another feature.

    ``fallback`` is what a quantile stands at before any was learned, in the feature's unit.

    Raises
    ------
    Invalid : if a part is missing, out of range, or does not belong to the test
    """

    feature: str
    test: Comparison
    limit: float = math.nan
    other: str = ""
    fallback: float = math.nan

    def __post_init__(self) -> None:
        if self.feature == "" or (self.test is Comparison.MORE_THAN) != (self.other != ""):
            raise Invalid(Reason.FIELD_RANGE, "feature", "a comparison of two features names both, any other one")
        if self.test is Comparison.MORE_THAN:
            return
        if not abs(self.limit) <= LARGEST:
            raise Invalid(Reason.FIELD_RANGE, self.test.value, f"{self.feature}: expected a number")
        if self.test is Comparison.QUANTILE and not (0.0 < self.limit < 1.0 and abs(self.fallback) <= LARGEST):
            raise Invalid(Reason.FIELD_RANGE, self.test.value, f"{self.feature}: a quantile in (0, 1) with a fallback")

    @property
    def features(self) -> tuple[str, ...]:
        """The features it reads."""
        return (self.feature, self.other) if self.test is Comparison.MORE_THAN else (self.feature,)

    def implies(self, looser: Condition) -> bool:
        """Whether every signal that meets this one meets the other, whatever the data: the same test, tighter."""
        if (self.feature, self.test, self.other) != (looser.feature, looser.test, looser.other):
            return False
        if self.test is Comparison.MORE_THAN:
            return True
        return self.limit <= looser.limit if self.test is Comparison.BELOW else self.limit >= looser.limit

    def __str__(self) -> str:
        match self.test:
            case Comparison.AT_LEAST:
                return f"{self.feature} ≥ {self.limit:g}"
            case Comparison.BELOW:
                return f"{self.feature} < {self.limit:g}"
            case Comparison.ABOVE:
                return f"{self.feature} > {self.limit:g}"
            case Comparison.QUANTILE:
                return f"{self.feature} ≥ its {self.limit:.0%} quantile"
            case Comparison.MORE_THAN:
                return f"{self.feature} > {self.other}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A named condition that holds when all its comparisons do; ``group`` is how reports sort it.

    Raises
    ------
    Invalid : if the name is not of small letters, digits and underscores, or nothing is compared
    """

    name: str
    group: str
    conditions: tuple[Condition, ...]
    features: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        plain = self.name.replace("_", "")
        if not (plain.isascii() and plain.isalnum() and self.name == self.name.lower() and len(self.name) <= MAX_NAME):
            raise Invalid(Reason.FIELD_FORMAT, "name", f"{self.name!r}: small letters, digits and underscores")
        if len(self.conditions) == 0:
            raise Invalid(Reason.FIELD_MISSING, self.name, "nothing is compared")
        names = (name for condition in self.conditions for name in condition.features)
        object.__setattr__(self, "features", tuple(dict.fromkeys(names)))

    def implies(self, looser: Variable) -> bool:
        """Whether every signal that passes this one passes the other by definition (body_060 and body_040)."""
        return all(any(mine.implies(wanted) for mine in self.conditions) for wanted in looser.conditions)

    def __str__(self) -> str:
        return " and ".join(map(str, self.conditions))


def nested(one: Variable, other: Variable) -> bool:
    """Whether one of two variables contains the other by definition: together they say nothing new.

    Parameters
    ----------
    one, other : Variable
    """
    return one.implies(other) or other.implies(one)


def declared(rows: Sequence[Mapping[str, Any]], known: Sequence[Variable]) -> tuple[Variable, ...]:
    """Variables of a user beside the known ones.

    Parameters
    ----------
    rows : each with ``name``, optionally ``group``, and ``when``: a list of comparisons, each with ``feature`` and one
        of ``at_least``, ``below``, ``above`` (a number), ``more_than`` (a feature) or ``at_quantile`` (in (0, 1), with
        ``fallback``)
    known : variables whose names are taken

    Raises
    ------
    Invalid : with the field that broke a rule
    """
    taken = {variable.name for variable in known}
    made = []
    for row in rows:
        unknown = row.keys() - {"name", "group", "when"}
        if unknown or not isinstance(row.get("name"), str) or not isinstance(row.get("when"), list):
            raise Invalid(Reason.FIELD_FORMAT, "variables", f"expected name, group and when, not {sorted(row)}")
        variable = Variable(
            name=row["name"],
            group=str(row.get("group", "own")),
            conditions=tuple(_condition(row["name"], entry) for entry in row["when"]),
        )
        if variable.name in taken:
            raise Invalid(Reason.FIELD_RANGE, "name", f"{variable.name} comes twice")
        taken.add(variable.name)
        made.append(variable)
    return tuple(made)


def _condition(name: str, entry: object) -> Condition:
    if not isinstance(entry, Mapping):
        raise Invalid(Reason.FIELD_TYPE, name, "a comparison is a table")
    tests = [test for test in Comparison if test.value in entry]
    if len(tests) != 1 or entry.keys() - {"feature", "fallback", tests[0].value}:
        raise Invalid(Reason.FIELD_FORMAT, name, f"expected feature and one of {', '.join(Comparison)}")
    test, feature = tests[0], entry.get("feature")
    if not isinstance(feature, str):
        raise Invalid(Reason.FIELD_MISSING, "feature", name)
    if test is Comparison.MORE_THAN:
        return Condition(feature=feature, test=test, other=str(entry[test.value]))
    return Condition(
        feature=feature,
        test=test,
        limit=_number(name, entry[test.value]),
        fallback=_number(name, entry.get("fallback", math.nan)),
    )


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Invalid(Reason.FIELD_TYPE, name, "expected a number")
    return float(value) if abs(value) <= LARGEST or value != value else math.inf


def _at_least(feature: str, limit: float) -> Condition:
    return Condition(feature=feature, test=Comparison.AT_LEAST, limit=limit)


def _one(name: str, group: str, *conditions: Condition) -> Variable:
    return Variable(name=name, group=group, conditions=conditions)


_BODY_WITH_TRADE = Condition(feature="body_sign", test=Comparison.ABOVE, limit=0.0)


def _body(name: str, group: str, limit: float) -> Variable:
    return _one(name, group, _at_least("body_ratio", limit), _BODY_WITH_TRADE)


def _wide(name: str, quantile: float, fallback: float) -> Variable:
    condition = Condition(feature="bb_width_pct", test=Comparison.QUANTILE, limit=quantile, fallback=fallback)
    return _one(name, "bb_width", condition)


VARIABLES: tuple[Variable, ...] = (
    _one("htf", "original", _at_least("ts15", 60.0)),
    _one("vol", "original", _at_least("volume_ratio", 1.30)),
    _body("body", "original", 0.35),
    _one("align_15m", "original", Condition(feature="ema_dir_15m", test=Comparison.ABOVE, limit=0.0)),
    *(_body(f"body_0{percent}", "body", percent / 100) for percent in (40, 45, 50, 60)),
    # Wicks are swapped for shorts: the lower one always lies on the side from which the trade was pushed away.
    _one(
        "wick_align",
        "body",
        Condition(feature="lower_wick_ratio", test=Comparison.MORE_THAN, other="upper_wick_ratio"),
    ),
    *(
        _one(name, "vwap", Condition(feature="vwap_dist_atr", test=Comparison.BELOW, limit=limit))
        for name, limit in (("vwap_045", 0.45), ("vwap_060", 0.60), ("vwap_080", 0.80), ("vwap_100", 1.00))
    ),
    *(
        _one(name, "volume", _at_least("volume_ratio", limit))
        for name, limit in (("vol_110", 1.10), ("vol_120", 1.20), ("vol_150", 1.50))
    ),
    _wide("bb_width_60p", 0.60, 1.5),
    _wide("bb_width_70p", 0.70, 1.8),
    _wide("bb_width_80p", 0.80, 2.2),
    *(_one(f"q_0{score}", "qscore", _at_least("qscore", float(score))) for score in (40, 50, 60, 70)),
    _one("impulse_040", "impulse", _at_least("impulse_ratio", 0.40)),
    _one("impulse_060", "impulse", _at_least("impulse_ratio", 0.60)),
    _one("micro_seq", "micro", _at_least("micro_seq_aligned", 1.0)),
    _one("htf_070", "htf", _at_least("ts15", 70.0)),
    _one("htf_080", "htf", _at_least("ts15", 80.0)),
)
"""The 28 variables of SPEC 11, in its order."""

ORIGINAL: tuple[str, ...] = ("htf", "vol", "body", "align_15m")
"""The four whose 16 bitmaps a report lists."""

BY_NAME: Mapping[str, Variable] = MappingProxyType({variable.name: variable for variable in VARIABLES})
