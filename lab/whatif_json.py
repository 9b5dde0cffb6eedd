"""A what-if as JSON. The shape is a promise: ``schema`` grows when a name goes or changes its meaning.

``policies`` holds the current gate first. Every estimate is ``{value, low, high, low_80, high_80, se, n, n_days,
effective_days, effective_n}`` in R, 95 and 80 % intervals, ``null`` where unknown; figures have six significant digits.
``difference`` is against the current gate per signal, ``lift`` against a random gate per accepted trade. ``results``
has one entry per cost; ``marked`` is the one at ``cost_bps`` with timeouts at their marks instead of 0 R.
``curve`` and ``nested`` are ``null`` under limits, ``ledger`` is ``null`` where there was no record to play again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.day_blocks import Band
from lab.fixed_b import DayMean
from lab.statistics import Interval
from lab.whatif import Curve, WhatIf
from lab.whatif_nested import Nested
from lab.whatif_portfolio import FALL_QUANTILES
from lab.whatif_sequence import Ledger
from lab.whatif_value import AtCost, Value
from lab.whatif_words import finite, focus, remarks, verdict

SCHEMA = 1


def as_json(found: WhatIf, source: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Everything that was found; ``source`` says where the signals come from."""
    return {
        "schema": SCHEMA,
        "verdict": verdict(found),
        "about": focus(found).name,
        "remarks": list(remarks(found)),
        "source": dict(source or {}),
        "signals": len(found.cases),
        "still_open": found.cases.still_open,
        "without_data": found.cases.without_data,
        "span_days": found.span_days,
        "short_span": found.short_span,
        "score_kinds": dict(found.score_kinds),
        "cost_bps": found.verdict_bps,
        "costs_bps": list(found.costs_bps),
        "limited": found.limited,
        "seed": found.seed,
        "policies": [_policy(value) for value in found.values],
        "curve": None if found.curve is None else _curve(found.curve),
        "nested": None if found.nested is None else _nested(found.nested),
        "ledger": None if found.ledger is None else _ledger(found.ledger),
    }


def _interval(interval: Interval) -> dict[str, float | None]:
    return {"low": finite(interval.low), "high": finite(interval.high)}


def _estimate(mean: DayMean) -> dict[str, float | int | None]:
    return {
        "value": finite(mean.value),
        **_interval(mean.interval),
        "low_80": finite(mean.fan.low),
        "high_80": finite(mean.fan.high),
        "se": finite(mean.se),
        "n": mean.n,
        "n_days": mean.n_days,
        "effective_days": finite(mean.effective_days),
        "effective_n": finite(mean.effective_n),
    }


def _result(at: AtCost) -> dict[str, Any]:
    return {
        "cost_bps": at.cost_bps,
        "total_r": finite(at.total_r),
        "per_signal": _estimate(at.per_signal),
        "per_accepted": _estimate(at.per_accepted),
        "difference": _estimate(at.difference),
        "lift": _estimate(at.lift),
    }


def _policy(value: Value) -> dict[str, Any]:
    it = value.portfolio
    return {
        "name": value.name,
        "n": value.n,
        "trained_on": value.excluded,
        "unknown": value.unknown,
        "accepted": {"total": value.accepted, "executed": value.accepted_real, "phantom": value.accepted_phantom},
        "win_rate": {
            "value": finite(value.win_rate),
            **_interval(value.win_interval),
            "wins": value.wins,
            "n": value.decisive,
            "break_even": finite(value.break_even_rate),
        },
        "timeouts": value.timeouts,
        "results": [_result(at) for at in value.at_cost],
        "marked": _result(value.marked),
        "against_current": {
            "n_disagree": value.n_disagree,
            "grey_zone": value.grey,
            "p_better": finite(value.p_better),
            "all_at_once": _interval(value.adjusted),
            "least_detectable_r": finite(value.verdict.difference.least_detectable),
        },
        "random_gate_p": finite(value.random_p),
        "portfolio": {
            "final_r": finite(it.final_r),
            "most_open": it.most_open,
            "mean_open": finite(it.mean_open),
            "most_at_risk_r": finite(it.most_at_risk_r),
            "drawdown_r": finite(it.drawdown_r),
            "drawdown_quantiles_r": {
                f"{share:g}": finite(fall) for share, fall in zip(FALL_QUANTILES, it.drawdown_quantiles_r, strict=True)
            },
            "ratio": {"value": finite(it.ratio), **_interval(it.ratio_interval)},
        },
        "refused_by_limits": None if value.limited is None else dict(value.limited),
    }


def _band(band: Band) -> dict[str, Any]:
    return {
        "value": [finite(value) for value in band.value.tolist()],
        "low": [finite(value) for value in band.low.tolist()],
        "high": [finite(value) for value in band.high.tolist()],
        "multiple": finite(band.multiple),
        "block_days": band.block_days,
    }


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "thresholds": curve.thresholds.tolist(),
        "accepted": [int(count) for count in curve.accepted],
        "disagree": [int(count) for count in curve.disagree],
        "current": finite(curve.current),
        "per_signal": _band(curve.value),
        "difference": _band(curve.difference),
    }


def _nested(nested: Nested) -> dict[str, Any]:
    return {
        "best_after_looking": nested.best,
        "value_after_looking": finite(nested.best_value),
        "naive_on_scored": finite(nested.naive),
        "value": _estimate(nested.value),
        "difference": _estimate(nested.against),
        "blocks": [
            {
                "first_day": block.first_day,
                "last_day": block.last_day,
                "chosen": block.chosen,
                "learned_from": block.learned_from,
                "n": block.n,
                "accepted": block.accepted,
                "mean_r": finite(block.mean_r),
            }
            for block in nested.blocks
        ],
    }


def _ledger(ledger: Ledger) -> dict[str, Any]:
    return {
        "signals": ledger.signals,
        "reproduced": ledger.reproduced,
        "endings": ledger.endings,
        "equity_r": ledger.equity_r,
        "differences": [
            {"signal": item.signal_id, "what": item.what, "recorded": item.recorded, "replayed": item.replayed}
            for item in ledger.differences
        ],
    }
