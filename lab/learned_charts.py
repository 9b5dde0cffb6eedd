"""Pictures of the learning part: settings, placebo, calibration, scores, thresholds and attempts over time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lab import learned_words as words
from lab import wording
from lab.charts import (
    ALWAYS,
    BAD,
    GOOD,
    INK,
    LINE,
    MUTED,
    REFUSED,
    TAKEN,
    Chart,
    Picture,
    draw_charts,
    empty_axes,
    whiskers,
)
from lab.figures import VERDICT_COST_BPS, Group
from lab.learned import Forecasts, Learning, ThresholdMove
from lab.summary import Summary
from learning.reliability import corp_curve
from qscore.row import ALL
from qscore.table import HEURISTIC

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOWEST_SKILL = -60.0
"""Percent of Brier skill below which the timeline stops falling: the first attempts would flatten the rest."""


def draw_learning(summary: Summary) -> tuple[Picture, ...]:
    """Draw the learning part of a summary that has one."""
    learning = summary.learning
    if learning is None:
        return ()
    wanted = [chart for chart in _CHARTS if chart[0] != "settings" or learning.settings]
    return draw_charts(summary, wanted)


def _learning(summary: Summary) -> Learning:
    if summary.learning is None:
        raise ValueError("a summary without a learning part")
    return summary.learning


def _legend(axes: Axes, columns: int) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, borderaxespad=0.2, columnspacing=1.0)


def _moments(at_ms: tuple[int, ...] | list[int]) -> np.ndarray[tuple[int], np.dtype[np.datetime64]]:
    return np.array(at_ms, dtype="datetime64[ms]")


def _settings(summary: Summary, figure: Figure) -> str:
    axes = figure.subplots()
    learning = _learning(summary)
    rows: list[tuple[str, Group, str]] = [(item.name, item.split.executed, TAKEN) for item in learning.settings]
    rows.append(("always-take", learning.settings[0].split.everything, ALWAYS))
    axes.axhline(0.0, color=INK, linewidth=1.0)
    for place, (_, group, colour) in enumerate(rows):
        for index, (at, shade) in enumerate(zip(group.at_cost, (0.45, 0.7, 1.0), strict=False)):
            x = place + (index - 1) * 0.2
            whiskers(axes, x, at.mean_r.value, at.mean_r.day, colour, 1.2 + 1.4 * shade)
    axes.set_xticks(range(len(rows)), [f"{name.replace(' ', chr(10))}\nn {group.n:,}" for name, group, _ in rows])
    axes.set_ylabel("mean R, executed")
    axes.grid(visible=True, axis="y")
    costs = ", ".join(wording.basis_points(at.cost_bps) for at in rows[0][1].at_cost)
    return f"The same signals under each setting at {costs} (left to right, thicker); 95 % intervals by days."


def _placebo(summary: Summary, figure: Figure) -> str:
    axes = figure.subplots()
    found = [item for item in _learning(summary).placebos if len(item.null) > 0]
    if not found:
        return empty_axes(axes, "Shuffling the scores changes no decision.")
    item = found[-1] if found[-1].name == "model scores only" else found[0]
    reach = np.concatenate([item.null, [item.lift, 0.0]])
    bins = np.linspace(float(reach.min()), float(reach.max()), 48).tolist()
    share = np.full(len(item.null), 100.0 / len(item.null))
    axes.hist(item.null, bins=bins, weights=share, color=ALWAYS, alpha=0.5, label="scores shuffled")
    axes.axvline(0.0, color=MUTED, linewidth=1.0)
    axes.axvline(item.lift, color=TAKEN, linewidth=2.4, label="as decided")
    axes.set_xlabel(f"lift over always-take, R at {VERDICT_COST_BPS:g} bp")
    axes.set_ylabel("% of shuffles")
    _legend(axes, 2)
    return (
        f"{item.name.capitalize()}: {item.n:,} decided signals, {len(item.null):,} shuffles. As decided "
        f"{wording.signed(item.lift)} R, shuffled {wording.signed(item.placebo_mean)} R on average; "
        f"p {wording.probability(item.p)} that a shuffle lifts as much."
    )


def _calibration(summary: Summary, figure: Figure) -> str:
    axes = figure.subplots()
    learning = _learning(summary)
    drawn = [bundle.out_of_fold for bundle in learning.bundles if bundle.out_of_fold is not None]
    honest = learning.out_of_sample
    if honest is None and not drawn:
        return empty_axes(axes, "No bundle was published: no forecast was made.")
    axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), label="perfect")
    if drawn:
        _curve(axes, drawn[-1], ALWAYS, "last bundle, out of fold", 1.4)
    if honest is not None:
        _curve(axes, honest, TAKEN, "out of sample", 2.2)
    axes.set_xlim(-2, 102)
    axes.set_ylim(-2, 102)
    axes.grid(visible=True, axis="both")
    axes.set_xlabel("forecast win probability, %")
    axes.set_ylabel("won, %")
    _legend(axes, 3)
    if honest is None:
        return "No signal that a bundle decided has ended yet: only the figures of training are shown."
    skill = wording.signed(100 * honest.brier_skill.value, 1)
    return (
        f"{honest.n:,} signals decided by {_count(learning.published, 'bundle')} after publication, in tenths, with "
        "95 % Wilson intervals; larger points hold more; thin steps are the same without bins. "
        f"Brier skill {skill} % ({words.bounds_percent(honest)})."
    )


def _count(n: int, word: str) -> str:
    return f"1 {word}" if n == 1 else f"{n:,} {word}s"


def _curve(axes: Axes, found: Forecasts, colour: str, label: str, width: float) -> None:
    x = [100.0 * entry.mean_probability for entry in found.curve]
    axes.plot(x, [100.0 * entry.win_rate for entry in found.curve], color=colour, linewidth=width, label=label)
    # The same without bins: bins can hide or make a bend.
    forecast, rate = corp_curve(found.probability, found.won)
    axes.step(100.0 * forecast, 100.0 * rate, where="mid", color=colour, linewidth=width * 0.5, alpha=0.6)
    for place, entry in zip(x, found.curve, strict=True):
        bounds = [100.0 * entry.win_rate_low, 100.0 * entry.win_rate_high]
        axes.plot([place] * 2, bounds, color=colour, linewidth=width * 0.6, alpha=0.7)
        size = 3.0 + 6.0 * math.sqrt(entry.n / found.n)
        axes.plot([place], [100.0 * entry.win_rate], "o", color=colour, markersize=size)


def _scores(summary: Summary, figure: Figure) -> str:
    axes = figure.subplots()
    learning = _learning(summary)
    found, name = learning.out_of_sample, "out of sample"
    if found is None:
        known = [bundle.out_of_fold for bundle in learning.bundles if bundle.out_of_fold is not None]
        found, name = (known[-1] if known else None), "out of fold"
    if found is None:
        return empty_axes(axes, "No bundle was published: no forecast was made.")
    bins = np.linspace(0.0, 100.0, 41).tolist()
    for label, mask, colour in (("losses", ~found.won, BAD), ("wins", found.won, GOOD)):
        if bool(mask.any()):
            share = np.full(int(np.count_nonzero(mask)), 100.0 / np.count_nonzero(mask))
            scores = 100.0 * found.probability[mask]
            axes.hist(scores, bins=bins, weights=share, color=colour, alpha=0.5, label=label)
            axes.axvline(float(np.mean(scores)), color=colour, linewidth=1.6, linestyle=(0, (4, 2)))
    axes.set_xlim(0, 100)
    axes.set_xlabel("model score")
    axes.set_ylabel("% of its signals")
    _legend(axes, 2)
    auc = words.optional(found.auc)
    return f"Scores of {found.n:,} decided signals, {name}; dashed lines are the means. AUC {auc}, 0.5 is chance."


def _thresholds(summary: Summary, figure: Figure) -> str:
    axes = figure.subplots()
    learning = _learning(summary)
    end = summary.run.last_ts
    axes.axhline(learning.static_threshold, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label="static")
    for source, colour in ((HEURISTIC, REFUSED), ("", TAKEN)):
        moves = [move for move in learning.moves if (move.score_source == HEURISTIC) == (source == HEURISTIC)]
        for move in moves:
            whole = move.bucket == ALL
            name = words.kind(move.score_source)
            _steps(axes, move, end, colour, 2.4 if whole else 0.8, name if whole else None)
    axes.set_xlim(*_moments([summary.run.first_ts, end]))
    axes.set_ylim(-3, 103)
    axes.set_ylabel("threshold, score points")
    _legend(axes, 4)
    if not learning.moves:
        return f"No table was learned: the static threshold, {learning.static_threshold:g}, was in force throughout."
    return (
        "Thresholds in effect after their clamp, from each retrain on: thick over all buckets, thin for each bucket of "
        f"20 records or more. Where a kind of score has no table yet, the static {learning.static_threshold:g} holds."
    )


def _steps(axes: Axes, move: ThresholdMove, end: int, colour: str, width: float, label: str | None) -> None:
    values = [math.nan if value is None else value for value in (*move.threshold, move.threshold[-1])]
    alpha = 1.0 if label is not None else 0.55
    times = _moments([*move.at_ms, max(end, move.at_ms[-1])])
    axes.step(times, values, where="post", color=colour, linewidth=width, alpha=alpha, label=label)
    if label is not None:
        axes.plot(times[:-1], values[:-1], "o", color=colour, markersize=4)


def _attempts(summary: Summary, figure: Figure) -> str:
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    learning = _learning(summary)
    attempts = learning.attempts
    if not attempts:
        lower.set_axis_off()
        return empty_axes(upper, "No training was due.")
    times = _moments([attempt.at_ms for attempt in attempts])
    counts = [attempt.count for attempt in attempts]
    upper.plot(times, counts, color=LINE, linewidth=1.6)
    for name, colour, marker, wanted in (("declined", BAD, "X", False), ("published", GOOD, "o", True)):
        chosen = [place for place, attempt in enumerate(attempts) if attempt.published is wanted]
        if chosen:
            upper.plot(
                times[chosen], [counts[place] for place in chosen], marker, color=colour, markersize=7, label=name
            )
        judged = [place for place in chosen if attempts[place].skill is not None]
        skills = [max(LOWEST_SKILL, 100.0 * (attempts[place].skill or 0.0)) for place in judged]
        if judged:
            lower.vlines(times[judged], np.minimum(0.0, skills), np.maximum(0.0, skills), color=colour, linewidth=4.0)
            lower.plot(times[judged], skills, marker, color=colour, markersize=5)
    lower.axhline(0.0, color=INK, linewidth=1.0)
    upper.set_xlim(*_moments([summary.run.first_ts, summary.run.last_ts]))
    upper.set_ylim(0, 1.1 * max(counts))
    upper.set_ylabel("outcomes")
    lower.set_ylabel("Brier skill, %")
    _legend(upper, 2)
    return (
        f"{_count(len(attempts), 'attempt')} at training, {learning.published:,} published; next at "
        f"{attempts[-1].next_at:,} outcomes. Below: out-of-fold skill of the heads as judged; 0 is the base rate."
    )


_CHARTS: tuple[Chart, ...] = (
    ("settings", "The same signals under each setting", _settings, (4.9, 3.8), None),
    ("placebo", "The scores against shuffled scores", _placebo, (4.9, 3.8), None),
    ("calibration", "Calibration of the model", _calibration, (4.9, 4.5), None),
    ("scores", "Model scores of wins and losses", _scores, (4.9, 4.5), None),
    ("thresholds", "Thresholds over time", _thresholds, (4.9, 3.8), (11.0, 3.6)),
    ("attempts", "Training over time", _attempts, (4.9, 4.4), (11.0, 3.9)),
)
