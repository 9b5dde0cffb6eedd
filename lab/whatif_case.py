"""Every recorded signal with what was known when it was decided and what became of it: what a policy is tried on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from decision.decide import Action
from decision.shape import size_in_force
from lab.recorded import trades_of
from lab.trade import BoolArray, FloatArray, IntArray, Trade, TradeTable
from persistence.store import CloseHow, Fact
from signals.reasons import Reason
from signals.signal import Side, Signal

_RUN = frozenset({Reason.RUN_OBSERVE, Reason.RUN_SHADOW})
_UNSOUND = frozenset({Reason.MODEL_DEGRADED, Reason.HEURISTIC_FORBIDDEN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One signal that was decided and has ended.

    ``answered`` is whether the engine was told to execute; ``wanted`` whether the gate wanted that before mode, limits
    and breakers were asked. ``heuristic_score`` and ``trade.model_score`` are the parts of the score in [0, 100].
    ``size`` multiplies the risk of the position. ``ledger_r`` is the net result as the ledger has it.
    """

    trade: Trade
    signal: Signal
    heuristic_score: float
    answered: bool
    wanted: bool
    sound: bool
    how: CloseHow
    ledger_r: float
    size: float = 1.0
    rules: str | None = None

    @property
    def marked_r(self) -> float:
        """Gross R with a simulated timeout at its mark; what the engine reported was real already."""
        trade = self.trade
        simulated = trade.outcome == "timeout" and self.how is not CloseHow.REPORT
        return trade.mark_r if simulated and trade.mark_r is not None else trade.gross_r


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """Cases in the order of their signals, with the columns figures need; shape ``(n,)`` each.

    ``still_open`` signals were decided and have not ended, ``without_data`` never saw a candle: neither has a result.
    """

    rows: tuple[Case, ...]
    table: TradeTable
    size: FloatArray
    marked_r: FloatArray
    still_open: int = 0
    without_data: int = 0

    @classmethod
    def of(cls, rows: Iterable[Case], *, still_open: int = 0) -> Cases:
        """Lay cases out; those that ended without data are counted and left out."""
        given = list(rows)
        kept = sorted(
            (case for case in given if case.trade.outcome != "no_data"),
            key=lambda case: (case.trade.ts, case.trade.signal_id),
        )
        return cls(
            tuple(kept),
            TradeTable.of(case.trade for case in kept),
            np.array([case.size for case in kept], dtype=np.float64),
            np.array([case.marked_r for case in kept], dtype=np.float64),
            still_open,
            len(given) - len(kept),
        )

    def __len__(self) -> int:
        return len(self.rows)

    def net_r(self, bps: float, *, marked: bool = False) -> FloatArray:
        """R after a round-trip cost, by size; a signal that never became a position costs nothing."""
        table = self.table
        gross = self.marked_r if marked else table.gross_r
        return self.size * (gross - np.where(table.closed, bps * table.cost_r_per_bp, 0.0))

    def flags(self, name: str) -> BoolArray:
        """One yes or no of every case."""
        return np.array([getattr(case, name) for case in self.rows], dtype=np.bool_)

    @property
    def day(self) -> IntArray:
        """UTC day of each entry since 1970."""
        return self.table.day

    def of_strategy(self, strategy: str) -> Cases:
        """The cases of one strategy; what is open is counted for all."""
        chosen = [case for case in self.rows if case.trade.strategy == strategy]
        return Cases.of(chosen, still_open=self.still_open)


def cases_of(facts: Sequence[Fact]) -> Cases:
    """Read every decided signal that has ended from the record; a correction replaces the ending it corrects."""
    decisions: dict[str, tuple[Fact, dict[str, Any]]] = {}
    endings: dict[str, dict[str, Any]] = {}
    opened: set[str] = set()
    rules: dict[str, str] = {}
    in_force: dict[str, str | None] = {}
    for fact in facts:
        signal_id = fact.fields.get("sid", "")
        if fact.kind == "decision" and fact.fields["action"] != Action.REJECTED:
            body = json.loads(fact.body)
            decisions[signal_id] = (fact, body)
            in_force[signal_id] = rules.get(body["strategy"])
        elif fact.kind == "opened":
            opened.add(signal_id)
        elif fact.kind == "table":
            rules[fact.fields["strategy"]] = fact.body
        elif fact.kind in ("closed", "corrected"):
            endings[signal_id] = json.loads(fact.body)
    cases = [
        _case(trade, *decisions[trade.signal_id], endings[trade.signal_id], in_force[trade.signal_id])
        for trade in trades_of(facts)
        if trade.signal_id in decisions
    ]
    return Cases.of(cases, still_open=len(opened - endings.keys()))


def _case(trade: Trade, fact: Fact, body: Mapping[str, Any], ending: Mapping[str, Any], rules: str | None) -> Case:
    reasons = frozenset(fact.fields["reasons"].split(","))
    sound = reasons.isdisjoint(_UNSOUND)
    size = size_in_force(body, [Reason(reason) for reason in reasons if reason])
    passed = Reason.SCORE_PASSED in reasons and Reason.BAND_BELOW not in reasons
    return Case(
        trade=trade,
        signal=signal_of(body),
        heuristic_score=_number(body.get("heuristic_score")),
        answered=fact.fields["action"] == Action.EXECUTE,
        wanted=sound and (passed or Reason.SCORE_EXPLORED in reasons or not reasons.isdisjoint(_RUN)),
        sound=sound,
        how=CloseHow(ending["how"]),
        ledger_r=float(ending["net_r"]),
        # A phantom's size is what it would have been; 0 would say that it could not count.
        size=size if size is not None and size > 0.0 else 1.0,
        rules=rules,
    )


def signal_of(body: Mapping[str, Any]) -> Signal:
    """The signal a decision was about; session and regime are in its bucket."""
    names = ("id", "strategy", "symbol", "entry", "tp", "sl", "ts", "tp1", "timeframe", "tag", "regime_confidence")
    return Signal(side=Side.parse(body["side"]), features=body["features"], **{name: body[name] for name in names})


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
