"""What the learning part of a report says in plain sentences. Doubt is always said first."""

from __future__ import annotations

import math

from lab import wording
from lab.learned import AttemptFigures, Forecasts, Learning, TableFigures, ThresholdRow
from lab.placebo import Placebo
from learning.reliability import Reliability
from signals.method import Method

SHORT = 12
ENOUGH_FORECASTS = 100
"""Fewer outcomes than this say nothing of a probability forecast."""


def no_model(learning: Learning) -> str:
    """The rest of the first line when no model ever decided."""
    if learning.published > 0:
        return ""
    tried = len(learning.attempts)
    if tried == 0:
        return " No training was due, so no bundle was published and the heuristic decided every signal."
    times = "1 attempt" if tried == 1 else f"{tried:,} attempts"
    return f" No bundle was published in {times} at training: the heuristic decided every signal."


def remarks(learning: Learning) -> tuple[str, ...]:
    """What a careful reader should know of the learning, most important first."""
    return tuple(filter(None, (_on_the_model(learning.out_of_sample), _on_the_placebo(learning.placebos[0]))))


def _on_the_model(found: Forecasts | None) -> str:
    if found is None:
        return ""
    skill = found.brier_skill
    figure = (
        f"out of sample its Brier skill against the base rate is {wording.signed(100.0 * skill.value, 1)} % "
        f"(95 % {bounds_percent(found)}; {found.n:,} decided signals on {found.n_days:,} days)"
    )
    if found.n < ENOUGH_FORECASTS or not skill.day.known:
        return f"The model cannot be judged yet: {figure}."
    if skill.day.high < 0.0:
        return f"The model is worse than always saying the base rate: {figure}."
    if skill.day.low <= 0.0:
        return f"The model cannot be told from the base rate: {figure}."
    return f"The model knows more than the base rate: {figure}."


def bounds_percent(found: Forecasts) -> str:
    """The interval of a Brier skill in percent."""
    bounds = found.brier_skill.day
    if not bounds.known:
        return "unknown"
    return f"{wording.signed(100.0 * bounds.low, 1)} to {wording.signed(100.0 * bounds.high, 1)} %"


def _on_the_placebo(found: Placebo) -> str:
    if not math.isfinite(found.p):
        return "The score-shuffle placebo does not apply: shuffling the scores changes no decision."
    better = found.p < 0.05 and found.lift > 0.0
    return (
        f"The score {'knows' if better else 'is not shown to know'} which signals to take: with the scores shuffled "
        f"the same thresholds lift {wording.signed(found.placebo_mean)} R on average "
        f"(middle 95 % {placebo_bounds(found)}), as decided {wording.signed(found.lift)} R "
        f"(p {wording.probability(found.p)} that shuffled scores lift as much)."
    )


def placebo_bounds(found: Placebo) -> str:
    """The middle 95 % of the shuffles."""
    if not found.interval.known:
        return wording.DASH
    return f"{wording.signed(found.interval.low)} to {wording.signed(found.interval.high)}"


def skill_bounds(low: float | None, high: float | None) -> str:
    """The interval of a skill in percent."""
    if low is None or high is None:
        return wording.DASH
    return f"{wording.signed(100.0 * low, 1)} to {wording.signed(100.0 * high, 1)}"


def came_to(attempt: AttemptFigures) -> str:
    """What an attempt came to."""
    return f"bundle {attempt.bundle[:SHORT]}" if attempt.published else f"{attempt.reason}: {attempt.detail}"


def optional(value: float | None, digits: int = 3) -> str:
    """A figure that may not be there."""
    return wording.DASH if value is None else wording.number(value, digits)


def threshold(row: ThresholdRow) -> str:
    """A threshold as it acts: closed says that nothing passes."""
    return f"{row.threshold:g}, nothing passes" if row.closed else f"{row.threshold:g}"


def interval(row: ThresholdRow) -> str:
    """The 90 % interval of a threshold before its clamp."""
    return wording.DASH if row.interval is None else f"{row.interval[0]}–{row.interval[1]}"


def share(value: float | None) -> str:
    """A share that may not be there."""
    return wording.DASH if value is None else wording.percent(value, 0)


def badge(row: ThresholdRow) -> str:
    """From which score on wins are shown to pay, if it is shown."""
    return wording.DASH if row.certified_from is None else f"from {row.certified_from}"


def by_method(table: TableFigures) -> tuple[tuple[ThresholdRow, ThresholdRow | None, ThresholdRow | None], ...]:
    """Every row in force, the one of the other method, and whichever of the two the evidence method learned."""
    beside = table.beside or (None,) * len(table.rows)
    return tuple(
        (row, other, row if table.method == Method.EVIDENCE else other)
        for row, other in zip(table.rows, beside, strict=True)
    )


def method(table: TableFigures) -> str:
    """How far situations lean on each other by the evidence method."""
    lean = {"": "no evidence", "0": "no situation borrows", "inf": "the common curve alone"}
    return lean.get(table.m, f"{table.m} pseudo-records of the common curve each")


def clamp(row: ThresholdRow) -> str:
    """The clamp, and what it moved."""
    return row.clamp if row.unclamped == row.threshold else f"{row.clamp}, from {row.unclamped:g}"


def kind(score_source: str) -> str:
    """Scores of one source, for a heading."""
    names = {"ensemble": "calibrated model", "ensemble_raw": "uncalibrated model", "heuristic": "heuristic"}
    return names.get(score_source, score_source)


def forecasts_line(found: Forecasts) -> tuple[str, ...]:
    """The figures of a set of forecasts in the order of ``FORECAST_HEADINGS``."""
    return (
        f"{found.n:,}",
        wording.percent(found.base_rate),
        wording.percent(found.mean_probability),
        wording.number(found.brier, 4),
        wording.number(found.base_brier, 4),
        f"{wording.signed(100.0 * found.brier_skill.value, 1)} %",
        bounds_percent(found),
        wording.number(found.log_loss, 4),
        wording.number(found.base_log_loss, 4),
        optional(found.auc),
    )


def reliability_line(found: Reliability) -> tuple[str, ...]:
    """How forecasts and outcomes agree, in the order of the table's headings."""
    return (
        f"{found.n:,}",
        wording.signed(found.squared_error, 4),
        f"{wording.signed(found.squared_error_low, 4)} to {wording.signed(found.squared_error_high, 4)}",
        wording.number(found.ece, 3),
        wording.number(found.ece_null, 3),
        wording.number(found.mce, 3),
        wording.number(found.mce_null, 3),
        wording.number(found.miscalibration, 4),
        wording.number(found.discrimination, 4),
        wording.probability(found.spiegelhalter_p),
    )


FORECAST_HEADINGS = (
    "n", "won", "mean forecast", "Brier", "base rate's", "skill", "95 % by days", "log-loss", "base rate's", "AUC",
)  # fmt: skip

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("out of sample", "Signals that a bundle decided after it came into force: the model had seen nothing of them."),
    ("out of fold", "The past records a bundle was trained from, each scored by heads that had not seen it."),
    ("Brier skill", "1 − Brier score / Brier score of the base rate. 0: no better than always saying the win rate."),
    ("calibration", "How often signals forecast at some probability won. On the diagonal forecast and truth agree."),
    ("debiased ECE²", "Squared gap between forecasts and win rates over ten bins, less what chance puts in. 0: none."),
    (
        "MCB, DSC",
        "Brier score = MCB − DSC + base rate's: lost by miscalibration, won by telling apart.",
    ),
    ("placebo", "The same thresholds over scores dealt out anew. The lift that is lost came from the scores."),
    ("bundle", "What a training gives: model, calibration and threshold tables, signed and published as one."),
    ("clamp", "The range a learned threshold is held to: 60–95 for heuristic scores, open or 60–95 for the model's."),
)
