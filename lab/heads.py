"""What the heads beside the score said at each decision, against what then happened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.trade import DAY_MS
from learning.head_report import Validation, losses, report_of
from learning.head_rows import TARGETS, HeadRow, head_rows
from learning.metrics import Bin
from scorer.heads import PROBABILITIES, VALUES


@dataclass(frozen=True, slots=True)
class HeadOutcome:
    """A decided signal: what the heads said then, by name, and what is known of it now."""

    row: HeadRow
    said: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadFigures:
    """One head out of sample: probabilities in [0, 1] or R.

    ``skill`` is 1 − loss / loss of the mean of these very outcomes, which nobody could know: the strict reading;
    log-loss for probabilities, squared error for values, 95 % bounds by days.
    """

    name: str
    n: int
    n_days: int
    mean: float
    mean_said: float
    skill: float
    skill_low: float | None
    skill_high: float | None
    brier: float | None
    auc: float | None
    ece: float | None
    ece_null: float | None
    mce: float | None
    mce_null: float | None
    curve: tuple[Bin, ...]


def outcomes_of(results: Iterable[Mapping[str, Any]], paths: Iterable[str]) -> list[HeadOutcome]:
    """Join what was said at decisions with endings and paths, in the order of the signals."""
    ended = list(results)
    said = {str(result["id"]): result["heads"] for result in ended if result.get("heads")}
    return [HeadOutcome(row, said[row.id]) for row in head_rows(ended, paths) if row.id in said]


def head_figures(outcomes: Sequence[HeadOutcome]) -> tuple[HeadFigures, ...]:
    """The figures of every head that answered for a signal whose label is known."""
    found = (_figures(name, outcomes) for name in (*VALUES, *PROBABILITIES))
    return tuple(one for one in found if one is not None)


def _figures(name: str, outcomes: Sequence[HeadOutcome]) -> HeadFigures | None:
    told = [
        (one.row, float(one.said[name]), label)
        for one in outcomes
        if name in one.said and (label := TARGETS[name].of(one.row)) is not None
    ]
    if not told:
        return None
    value = name in VALUES
    said, truth = (np.array([one[place] for one in told], dtype=np.float64) for place in (1, 2))
    known = np.full(len(told), truth.mean())
    gain = losses(known, truth, value=value) - losses(said, truth, value=value)
    day = np.array([row.ts // DAY_MS for row, _, _ in told], dtype=np.int64)
    span = (min(row.entry_ms for row, _, _ in told), max(TARGETS[name].end_ms(row) for row, _, _ in told))
    report = report_of(
        name,
        Validation(tuple(row.id for row, _, _ in told), said, known, truth, gain, day),
        n=len(told),
        fitted_ms=span,
        train_ms=span,
        validation_ms=span,
        value=value,
    )
    return HeadFigures(
        name=name,
        n=len(told),
        n_days=len(np.unique(day)),
        mean=float(truth.mean()),
        mean_said=float(said.mean()),
        skill=0.0 if report.skill is None else report.skill,
        skill_low=report.skill_low,
        skill_high=report.skill_high,
        brier=report.brier,
        auc=report.auc,
        ece=report.ece,
        ece_null=report.ece_null,
        mce=report.mce,
        mce_null=report.mce_null,
        curve=tuple(Bin(**entry) for entry in report.curve),
    )
