"""How good a head was on what it had not seen, and whether that is enough to let it speak."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.metrics import SMALLEST, auc
from scorer.calibration import INSIDE
from scorer.schema import Ablation

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

FEW = "HEAD_TOO_FEW"
NO_SKILL = "HEAD_NO_SKILL"


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """What a head said walking forward about rows that neither it nor its calibrator had seen, in their order.

    ``ids`` of the rows; ``said``, ``known`` (the mean label known at the time) and ``truth``: shape (n,),
    probabilities and 0/1, or R; ``gain``: shape (n,), loss of the known mean − loss of the head, in nats or R²;
    ``day`` of the signal.
    """

    ids: tuple[str, ...]
    said: FloatArray
    known: FloatArray
    truth: FloatArray
    gain: FloatArray
    day: IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeadReport:
    """One head: whether it answers, the reason code when not, and its figures. Times in UTC epoch ms.

    ``train_ms`` span what the last model before validation's end had learned from, ``validation_ms`` what was
    validated on, ``fitted_ms`` what the model that answers has learned from.

    ``skill`` is 1 − loss / loss of the mean known at the time, with 95 % bounds by days: log-loss for probabilities,
    squared error for values. The calibration figures are those of ``learning.reliability``, their medians for a perfect
    forecaster (``…_null``) beside them; all of it walking forward, after calibration.
    """

    name: str
    n: int
    reason: str = ""
    fitted_ms: tuple[int, int] | None = None
    train_ms: tuple[int, int] | None = None
    validation_ms: tuple[int, int] | None = None
    n_validation: int = 0
    mean: float | None = None
    skill: float | None = None
    skill_low: float | None = None
    skill_high: float | None = None
    loss: float | None = None
    known_loss: float | None = None
    brier: float | None = None
    auc: float | None = None
    ece: float | None = None
    ece_null: float | None = None
    debiased_ece: float | None = None
    mce: float | None = None
    mce_null: float | None = None
    spiegelhalter_p: float | None = None
    slope: float | None = None
    curve: tuple[Mapping[str, Any], ...] = ()
    validation: Validation | None = field(default=None, repr=False)

    @property
    def served(self) -> bool:
        """Whether it answers."""
        return self.reason == ""

    @property
    def record(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name in self.__slots__
            if name != "validation" and (value := getattr(self, name)) not in (None, (), "")
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How much better one ablation did than another on the same rows: mean difference of losses with 95 % by days."""

    name: str
    better: str
    worse: str
    n: int
    gain: float
    low: float | None
    high: float | None

    @property
    def record(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def compare_ablations(reports: Mapping[Ablation, Sequence[HeadReport]]) -> list[Comparison]:
    """Full against each of the others, head by head, paired on the rows that both validated on.

    Parameters
    ----------
    reports : for each ablation the reports of its heads, of fits on the same rows
    """
    found = []
    whole = {report.name: report.validation for report in reports.get(Ablation.FULL, ())}
    for ablation in (Ablation.TA, Ablation.MECHANICS):
        for report in reports.get(ablation, ()):
            one, other = whole.get(report.name), report.validation
            if one is None or other is None:
                continue
            theirs = dict(zip(other.ids, other.gain.tolist(), strict=True))
            shared = [place for place, name in enumerate(one.ids) if name in theirs]
            difference = np.array([one.gain[place] - theirs[one.ids[place]] for place in shared], dtype=np.float64)
            bounds = _bounds(difference, one.day[shared]) if shared else None
            low, high = (None, None) if bounds is None else bounds
            found.append(
                Comparison(
                    name=report.name,
                    better=Ablation.FULL.value,
                    worse=ablation.value,
                    n=len(shared),
                    gain=float(difference.mean()) if shared else 0.0,
                    low=low,
                    high=high,
                )
            )
    return found


def losses(said: FloatArray, truth: FloatArray, *, value: bool) -> FloatArray:
    """What each forecast cost: squared error of a value, negative log-likelihood in nats of a probability.

    Parameters
    ----------
    said, truth : ndarrays of shape (n,), R, or probabilities and 0/1
    value : which of the two
    """
    if value:
        return np.asarray((truth - said) ** 2, dtype=np.float64)
    inside = np.clip(said, SMALLEST, 1.0 - SMALLEST)
    return np.asarray(-np.where(truth > 0.5, np.log(inside), np.log1p(-inside)), dtype=np.float64)


def report_of(
    name: str,
    found: Validation,
    *,
    n: int,
    fitted_ms: tuple[int, int],
    train_ms: tuple[int, int],
    validation_ms: tuple[int, int],
    value: bool,
) -> HeadReport:
    """Measure a head on what it said walking forward; without an interval above 0 it has no skill.

    Parameters
    ----------
    name : of the head
    found : Validation, one row at least
    n : labels there were
    fitted_ms, train_ms, validation_ms : first and last moments, UTC epoch ms
    value : whether it forecasts R and not a probability
    """
    theirs = float(np.mean(losses(found.known, found.truth, value=value)))
    bounds = _bounds(found.gain, found.day)
    low, high = (None, None) if bounds is None or theirs <= 0.0 else (bounds[0] / theirs, bounds[1] / theirs)
    return HeadReport(
        name=name,
        n=n,
        # Written as what must hold: without an interval, or with one that reaches 0, it does not speak.
        reason="" if low is not None and low > 0.0 else NO_SKILL,
        fitted_ms=fitted_ms,
        train_ms=train_ms,
        validation_ms=validation_ms,
        n_validation=len(found.said),
        mean=float(found.truth.mean()),
        skill=float(found.gain.mean()) / theirs if theirs > 0.0 else 0.0,
        skill_low=low,
        skill_high=high,
        loss=float(np.mean(losses(found.said, found.truth, value=value))),
        known_loss=theirs,
        validation=found,
        **(_value_figures(found) if value else _calibration(found)),
    )


def _value_figures(found: Validation) -> dict[str, Any]:
    spread = found.said - found.said.mean()
    power = float(spread @ spread)
    return {"slope": float(spread @ found.truth) / power if power > 1e-12 else None}


def _calibration(found: Validation) -> dict[str, Any]:
    from learning.reliability import reliability  # noqa: PLC0415 - brings scipy, as below

    hit = found.truth > 0.5
    told = reliability(np.clip(found.said, INSIDE, 1.0 - INSIDE), hit)
    return {
        "brier": told.brier,
        "auc": auc(found.said, hit),
        "ece": told.ece,
        "ece_null": told.ece_null,
        "debiased_ece": told.debiased_ece,
        "mce": told.mce,
        "mce_null": told.mce_null,
        "spiegelhalter_p": told.spiegelhalter_p if math.isfinite(told.spiegelhalter_p) else None,
        "curve": tuple(asdict(entry) for entry in told.curve),
    }


def _bounds(values: FloatArray, day: IntArray) -> tuple[float, float] | None:
    from learning.patterns import day_interval  # noqa: PLC0415 - brings scipy, which a report without heads does without

    return day_interval(values, day)
