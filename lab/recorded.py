"""Trades as the record tells them: the same rows a replay gives, from facts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from decision.shape import could_be_explored, size_in_force, was_explored
from lab.trade import Outcome, Trade
from persistence.store import Fact
from phantom.record import terms_from
from signals.bucket import Bucket
from signals.profile import Kind


def trades_of(facts: Iterable[Fact]) -> list[Trade]:
    """Closed positions in the order they closed; a correction replaces the ending it corrects."""
    reasons: dict[str, tuple[str, ...]] = {}
    terms: dict[str, dict[str, Any]] = {}
    twins: dict[str, dict[str, Any]] = {}
    endings: dict[str, dict[str, Any]] = {}
    for fact in facts:
        signal_id = fact.fields.get("sid", "")
        if fact.kind == "decision":
            reasons[signal_id] = tuple(code for code in fact.fields["reasons"].split(",") if code)
        elif fact.kind == "opened":
            terms[signal_id] = json.loads(fact.body)
        elif fact.kind == "touched" and fact.fields["done"] == "1":
            twins[signal_id] = json.loads(fact.body)
        elif fact.kind in ("closed", "corrected"):
            endings[signal_id] = json.loads(fact.body)
    return [
        _trade(signal_id, ending, terms[signal_id], twins.get(signal_id), reasons.get(signal_id, ()))
        for signal_id, ending in endings.items()
    ]


def _trade(
    signal_id: str,
    ending: dict[str, Any],
    terms_record: dict[str, Any],
    twin: dict[str, Any] | None,
    reasons: tuple[str, ...],
) -> Trade:
    terms = terms_from(terms_record)
    # The engine knows the price; only the simulation knows what the candles did meanwhile.
    seen = twin or ending
    outcome: Outcome = ending["outcome"]
    if outcome not in get_args(Outcome):
        raise ValueError(f"{signal_id}: unknown outcome {outcome!r}")
    return Trade(
        signal_id=signal_id,
        strategy=ending["strategy"],
        symbol=ending["symbol"],
        side=terms.side,
        kind=Kind(ending["kind"]),
        ts=ending["ts"],
        entry_ts=terms.entry_ms,
        exit_ts=max(ending["exit_ms"], terms.entry_ms),
        outcome=outcome,
        exit_reason=ending["exit_reason"],
        entry=terms.entry,
        risk=terms.risk,
        reward_to_risk=abs(terms.take_profit - terms.entry) / terms.risk,
        gross_r=ending["gross_r"],
        bucket=Bucket.parse(ending["bucket"]),
        score=ending["score"],
        threshold=ending["threshold"],
        entry_slip_r=seen["entry_slip_r"],
        mfe_r=seen["mfe_r"],
        mae_r=seen["mae_r"],
        mark_r=None if seen["mark_price"] is None else terms.in_r(seen["mark_price"]),
        ambiguous=seen["ambiguous"],
        gap=seen["gap"],
        late_mark=seen["late_mark"],
        tp1_hit=seen["tp1_hit"],
        tag=ending["tag"],
        reasons=reasons,
        score_source=ending["score_source"],
        bundle=ending["bundle"],
        win_probability=ending["win_probability"],
        model_score=ending["model_score"],
        # Facts from before this was recorded say nothing of it.
        threshold_closed=ending.get("threshold_closed") is True,
        **shape_of(ending, reasons),
    )


def shape_of(record: Mapping[str, Any], reasons: Sequence[str]) -> dict[str, Any]:
    """Size, and whether and how probably it was explored, of a recorded decision; facts of before have full size."""
    size = size_in_force(record, reasons)
    return {
        "size_multiplier": 1.0 if size is None else size,
        "explored": was_explored(record, reasons),
        "propensity": record["propensity"] if could_be_explored(record, reasons) else None,
    }
