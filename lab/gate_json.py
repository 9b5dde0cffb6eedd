"""A gate report as JSON: every figure under a name that stays.

Rates and deltas are shares in [0, 1], results in R, moments in UTC epoch milliseconds, intervals [low, high] at 95 %,
and null is what is not known. The document:

``version`` 1; ``profile``; ``source``; ``window`` {words, from_ms, to_ms}; ``kind`` phantom, executed or all;
``costs_bps``; ``settings`` {top, shifts, earlier, seed}; ``said``: the verdict's sentence and the remarks in order;
``verdict``: OK or a GATES_ code; ``n``, ``wins``; ``first_ms``, ``last_ms``, ``split_ms`` (where the later part
begins); ``left_out`` {not_asked_for, undecided, unsettled}; ``looks`` (large enough to be looked at); ``standings``:
how many rows stand where; ``null``: the best z of each shift, and ``best_z`` the real one; ``hunches`` {enable,
disable, best, found, expected_by_luck, by_luck_low, by_luck_high, shifts}; ``quantiles``: list of {feature, share,
value, learned} and ``signals_before``; ``silent``: variables whose features no signal brought; ``leak_suspects``,
``discovered``, ``honest``: lists of member lists; ``ranking``: variables by delta; ``variables``: list of {name, group,
condition}; ``bitmaps``: list of {holds, n, wins, win_rate, win_rate_interval}; ``months``: list of {name, months,
deltas, n, trend}; ``rows``: solos, then pairs, then triplets, each {members, n, wins, failing, failing_wins, missing,
win_rate, win_rate_interval, delta, delta_interval, p_exact, p_mid, p_corrected, p_later, shrunk_delta,
shrunk_interval, net_r, net_r_at_10_bp, adjusted_log_odds, adjusted_interval, expected, synergy, nested, interaction,
p_interaction, true_synergy, leak_suspect, standing, honest}. ``net_r`` and ``net_r_at_10_bp`` are {mean, interval,
above_failing, above_failing_interval, n_days}; ``interaction`` is null or {log_odds, log_odds_z, additive,
additive_z}.
"""

from __future__ import annotations

from typing import Any, Final

from gates.days import MeanR
from gates.intervals import Interaction, Interval, wilson
from gates.report import Row
from gates.variables import ORIGINAL
from lab import gate_words as words
from lab.gates import GateAnswer, quantile_words, standings
from lab.summary import plain_figures

VERSION: Final = 1


def as_json(answer: GateAnswer) -> dict[str, Any]:
    """The report as JSON can carry it, under the names above."""
    report, luck, settings = answer.report, answer.luck, answer.settings
    searched = report.searched
    hunches = report.counted.hunches
    listed = [item.name for item in answer.variables if item.name in ORIGINAL]
    found: dict[str, Any] = {
        "version": VERSION,
        "profile": answer.profile,
        "source": answer.source,
        "window": {"words": answer.window.words, "from_ms": answer.window.from_ms, "to_ms": answer.window.to_ms},
        "kind": answer.chosen.value,
        "costs_bps": answer.costs_bps,
        "settings": {
            "top": settings.top,
            "shifts": settings.shifts,
            "earlier": settings.earlier,
            "seed": settings.seed,
        },
        "said": [words.verdict(answer), *words.remarks(answer)],
        "verdict": report.verdict.value,
        "n": report.n,
        "wins": report.wins,
        "first_ms": report.first_ms,
        "last_ms": report.last_ms,
        "split_ms": report.split_ms,
        "left_out": {
            "not_asked_for": answer.left.not_asked_for,
            "undecided": answer.left.undecided,
            "unsettled": answer.left.unsettled,
        },
        "looks": words.looks_of(report),
        "standings": dict(standings(answer)),
        "null": [] if searched is None else searched.null.tolist(),
        "best_z": None if searched is None else searched.looked.highest,
        "hunches": {
            "enable": list(hunches.enable),
            "disable": list(hunches.disable),
            "best": list(hunches.best),
            "found": luck.found,
            "expected_by_luck": luck.expected,
            "by_luck_low": luck.low,
            "by_luck_high": luck.high,
            "shifts": luck.shifts,
        },
        "quantiles": [
            {"feature": feature, "share": share, "value": value, "learned": learned}
            for feature, share, value, learned in quantile_words(answer)
        ],
        "signals_before": answer.earlier,
        "silent": list(answer.silent),
        "leak_suspects": [list(row.members) for row in report.leaks],
        "discovered": [list(row.members) for row in report.discovered],
        "honest": [list(row.members) for row in report.honest],
        "ranking": list(report.counted.ranking),
        "variables": [{"name": one.name, "group": one.group, "condition": str(one)} for one in answer.variables],
        "bitmaps": [
            {
                "holds": [name for name, holds in zip(listed, item.state, strict=True) if holds],
                "n": item.n,
                "wins": item.wins,
                "win_rate": item.win_rate,
                "win_rate_interval": _interval(wilson(item.wins, item.n)),
            }
            for item in report.counted.bitmaps
        ],
        "months": [
            {
                "name": item.name,
                "months": list(item.months),
                "deltas": list(item.deltas),
                "n": list(item.n),
                "trend": item.trend,
            }
            for item in report.months
        ],
        "rows": [_row(row, answer) for row in report.rows],
    }
    plain: dict[str, Any] = plain_figures(found)
    return plain


def _row(row: Row, answer: GateAnswer) -> dict[str, Any]:
    return {
        "members": list(row.members),
        "n": row.n,
        "wins": row.wins,
        "failing": row.failing,
        "failing_wins": row.failing_wins,
        "missing": row.missing,
        "win_rate": row.win_rate,
        "win_rate_interval": _interval(row.win_rate_interval),
        "delta": row.delta,
        "delta_interval": _interval(row.delta_interval),
        "p_exact": None if row.exact is None else row.exact.exact,
        "p_mid": None if row.exact is None else row.exact.mid,
        "p_corrected": row.p_corrected,
        "p_later": row.p_later,
        "shrunk_delta": row.shrunk_delta,
        "shrunk_interval": _interval(row.shrunk_interval),
        "net_r": _result(row.result),
        "net_r_at_10_bp": _result(answer.at_10_bp[row.members]) if row.members in answer.at_10_bp else None,
        "adjusted_log_odds": row.adjusted.log_odds,
        "adjusted_interval": _interval(row.adjusted.interval),
        "expected": row.expected,
        "synergy": row.synergy,
        "nested": row.nested,
        "interaction": _interaction(row.interaction),
        "p_interaction": row.p_interaction,
        "true_synergy": row.true_synergy,
        "leak_suspect": row.leak_suspect,
        "standing": row.standing.value,
        "honest": row.honest,
    }


def _interval(found: Interval) -> list[float]:
    return [found.low, found.high]


def _result(found: MeanR) -> dict[str, Any]:
    return {
        "mean": found.mean,
        "interval": _interval(found.interval),
        "above_failing": found.above_failing,
        "above_failing_interval": _interval(found.above_failing_interval),
        "n_days": found.n_days,
    }


def _interaction(found: Interaction | None) -> dict[str, float] | None:
    if found is None:
        return None
    return {
        "log_odds": found.log_odds,
        "log_odds_z": found.log_odds_z,
        "additive": found.additive,
        "additive_z": found.additive_z,
    }
