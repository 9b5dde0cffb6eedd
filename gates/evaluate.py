"""One evaluator for one signal and for a million: columns in, passed and known out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gates.variables import Comparison, Condition, Variable
from signals.errors import Invalid
from signals.reasons import Reason
from signals.signal import FeatureValue

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Quantiles = Mapping[tuple[str, float], float]
"""Where quantiles of features stand, by feature and share, in the feature's unit: learned on earlier data."""


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """What each variable says of each signal: bool of shape (n_variables, ...).

    ``known`` is false where a feature was missing or no finite number; ``passed`` is false there as well, so that what
    is not known never lets anything through.
    """

    names: tuple[str, ...]
    passed: BoolArray
    known: BoolArray

    def __post_init__(self) -> None:
        if self.passed.shape != self.known.shape or len(self.passed) != len(self.names):
            raise ValueError("one verdict and one mark for each variable")
        if bool(np.any(self.passed & ~self.known)):
            raise ValueError("what is not known has not passed")


def evaluate(variables: Sequence[Variable], columns: Mapping[str, FloatArray], quantiles: Quantiles) -> Verdicts:
    """Evaluate every variable on columns of signals.

    Parameters
    ----------
    variables : sequence of Variable
    columns : by feature name, all of one shape ``(n,)`` or ``()``; in the trade's direction and each feature's own
        unit, NaN where missing. A feature that is absent is missing everywhere.
    quantiles : where quantiles stand; one that is not given stands at its fallback

    Returns
    -------
    Verdicts of shape (n_variables, n) or (n_variables,)

    Raises
    ------
    ValueError : if columns differ in shape

    Source: SPEC 11.
    """
    shapes = {column.shape for column in columns.values()}
    if len(shapes) > 1:
        raise ValueError(f"columns of different shapes: {sorted(shapes)}")
    shape = next(iter(shapes), ())
    passed = np.ones((len(variables), *shape), dtype=np.bool_)
    known = np.ones((len(variables), *shape), dtype=np.bool_)
    missing = np.full(shape, np.nan)
    for place, variable in enumerate(variables):
        for condition in variable.conditions:
            read = [columns.get(name, missing) for name in condition.features]
            for column in read:
                known[place] &= np.isfinite(column)
            passed[place] &= _holds(condition, read, quantiles)
    return Verdicts(tuple(variable.name for variable in variables), passed & known, known)


def evaluate_one(
    variables: Sequence[Variable], features: Mapping[str, FeatureValue], quantiles: Quantiles
) -> dict[str, bool | None]:
    """Evaluate every variable on one signal; none where a feature is missing.

    Parameters
    ----------
    variables : sequence of Variable
    features : as stored with the decision, in the trade's direction
    quantiles : as in ``evaluate``
    """
    wanted = {name for variable in variables for name in variable.features}
    found = evaluate(variables, {name: np.asarray(number(features.get(name))) for name in wanted}, quantiles)
    return {
        name: bool(passed) if known else None
        for name, passed, known in zip(found.names, found.passed.tolist(), found.known.tolist(), strict=True)
    }


def number(value: object) -> float:
    """A stored feature as a number: true and false as 1 and 0, anything that is no plausible number as NaN.

    Parameters
    ----------
    value : whatever was sent
    """
    if not isinstance(value, (bool, int, float)):
        return math.nan
    return float(value) if -1e12 <= value <= 1e12 else math.nan


def columns_of(rows: Sequence[Mapping[str, FeatureValue]], variables: Sequence[Variable]) -> dict[str, FloatArray]:
    """The features that variables read, as columns of shape (n,), NaN where missing.

    Parameters
    ----------
    rows : stored features of n signals
    variables : sequence of Variable
    """
    wanted = dict.fromkeys(name for variable in variables for name in variable.features)
    return {name: np.array([number(row.get(name)) for row in rows], dtype=np.float64) for name in wanted}


def learn_quantiles(variables: Sequence[Variable], columns: Mapping[str, FloatArray]) -> dict[tuple[str, float], float]:
    """Where the quantiles of earlier signals stand; a feature without any finite number keeps its fallback.

    Parameters
    ----------
    variables : sequence of Variable
    columns : of earlier signals only: a quantile of the signals it is applied to would know their future
    """
    found = {}
    for variable in variables:
        for condition in variable.conditions:
            if condition.test is not Comparison.QUANTILE or condition.feature not in columns:
                continue
            column = columns[condition.feature]
            seen = column[np.isfinite(column)]
            if len(seen) > 0:
                # An observed value, not one between two: "at or above" then means the same on paper and here.
                found[condition.feature, condition.limit] = float(np.quantile(seen, condition.limit, method="higher"))
    return found


def _holds(condition: Condition, read: Sequence[FloatArray], quantiles: Quantiles) -> BoolArray:
    with np.errstate(invalid="ignore"):
        match condition.test:
            case Comparison.AT_LEAST:
                return np.asarray(read[0] >= condition.limit)
            case Comparison.BELOW:
                return np.asarray(read[0] < condition.limit)
            case Comparison.ABOVE:
                return np.asarray(read[0] > condition.limit)
            case Comparison.QUANTILE:
                limit = quantiles.get((condition.feature, condition.limit), condition.fallback)
                if not math.isfinite(limit):
                    raise Invalid(Reason.FIELD_NOT_FINITE, condition.feature, "a quantile that is no number")
                return np.asarray(read[0] >= limit)
            case Comparison.MORE_THAN:
                return np.asarray(read[0] > read[1])
