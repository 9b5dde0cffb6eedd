"""Terms, tracks and endings as plain JSON-able mappings, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from phantom.position import Closed, ExitReason, Outcome, Position, Terms, Track
from signals.profile import FillRule
from signals.signal import Side


def terms_record(terms: Terms) -> dict[str, object]:
    """Plain form of the terms.

    Parameters
    ----------
    terms : Terms; prices in quote currency, times in epoch ms
    """
    return {
        "side": terms.side.word,
        "entry": terms.entry,
        "sl": terms.stop_loss,
        "tp": terms.take_profit,
        "tp1": terms.first_target,
        "entry_ms": terms.entry_ms,
        "deadline_ms": terms.deadline_ms,
        "step_ms": terms.step_ms,
        "fill": terms.fill.value,
    }


def terms_from(record: Mapping[str, Any]) -> Terms:
    """Terms from their plain form.

    Raises
    ------
    KeyError, Invalid : if the record is not one that ``terms_record`` wrote
    """
    return Terms(
        side=Side.parse(record["side"]),
        entry=float(record["entry"]),
        stop_loss=float(record["sl"]),
        take_profit=float(record["tp"]),
        first_target=None if record["tp1"] is None else float(record["tp1"]),
        entry_ms=record["entry_ms"],
        deadline_ms=record["deadline_ms"],
        step_ms=record["step_ms"],
        fill=FillRule(record["fill"]),
    )


def track_record(track: Track) -> dict[str, object]:
    """Plain form of what the simulation knows; an unknown entry open is none."""
    return {
        "last_ts": track.last_ts,
        "stop": track.stop,
        "best": track.best,
        "worst": track.worst,
        "filled": track.filled,
        "entry_open": track.entry_open if track.filled else None,
        "tp1_ms": track.tp1_ms,
        "be_moved": track.be_moved,
        "candles": track.candles,
    }


def track_from(record: Mapping[str, Any]) -> Track:
    """A track from its plain form."""
    return Track(
        last_ts=record["last_ts"],
        stop=float(record["stop"]),
        best=float(record["best"]),
        worst=float(record["worst"]),
        filled=record["filled"],
        entry_open=math.nan if record["entry_open"] is None else float(record["entry_open"]),
        tp1_ms=record["tp1_ms"],
        be_moved=record["be_moved"],
        candles=record["candles"],
    )


def closed_record(closed: Closed, costs_bps: float) -> dict[str, object]:
    """Everything an ending says, in the units of SPEC 9.

    Parameters
    ----------
    closed : Closed
    costs_bps : float, round-trip costs in basis points of entry, for the net figures
    """
    track, terms = closed.track, closed.terms
    entered = closed.entered
    net_r = closed.net_r(costs_bps)
    return {
        "outcome": closed.outcome.value,
        "exit_reason": closed.reason.value,
        "exit_price": closed.exit_price,
        "exit_ms": closed.exit_ms,
        "gap": closed.gap,
        "ambiguous": closed.ambiguous,
        "resolved": closed.resolved,
        "late_mark": closed.late_mark,
        "mark_price": closed.mark_price,
        "mark_pnl_percent": closed.mark_percent,
        "gross_r": closed.gross_r,
        "net_r": net_r,
        "gross_pnl_percent": closed.gross_percent,
        "pnl_percent": net_r * terms.risk / terms.entry * 100.0,
        "entry_slip_r": closed.entry_slip_r,
        "mfe_r": closed.mfe_r,
        "mae_r": closed.mae_r,
        "tp1_hit": closed.tp1_hit,
        "be_moved": track.be_moved,
        "runner_hit": closed.tp1_hit and closed.reason is ExitReason.TP,
        "one_r_hit": closed.one_r_hit,
        "two_r_hit": closed.two_r_hit,
        "time_to_tp1_sec": None if track.tp1_ms is None else (track.tp1_ms - terms.entry_ms) / 1000,
        "time_to_exit_sec": (closed.exit_ms - terms.entry_ms) / 1000 if entered else None,
        "candles": track.candles,
        "track": track_record(track),
    }


def closed_from(terms: Terms, record: Mapping[str, Any]) -> Closed:
    """An ending from its plain form and the terms it ended."""
    return Closed(
        terms=terms,
        track=track_from(record["track"]),
        outcome=Outcome(record["outcome"]),
        reason=ExitReason(record["exit_reason"]),
        exit_price=float(record["exit_price"]),
        exit_ms=record["exit_ms"],
        gap=record["gap"],
        ambiguous=record["ambiguous"],
        resolved=record["resolved"],
        late_mark=record["late_mark"],
        mark_price=None if record["mark_price"] is None else float(record["mark_price"]),
    )


def position_from(terms: Mapping[str, Any], track: Mapping[str, Any]) -> Position:
    """An open position from the plain forms of its parts."""
    return Position(terms_from(terms), track_from(track))
