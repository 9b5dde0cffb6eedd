"""What the engine says happened: fills and closes of positions it claimed. Its word is the truth."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from persistence.breakers import slip_micro
from persistence.store import CloseCommand, CloseHow, CommitStatus, Store, StoredPosition, micro
from phantom.position import ExitReason, Outcome, Terms, Track
from phantom.record import terms_from, track_from
from runtime.counted import groups_of
from signals.errors import Invalid, Refusal
from signals.parse import canonical_json, number_field, printable, sha256_hex, text_field, time_field
from signals.reasons import Reason
from signals.signal import EARLIEST_TS, ID_PATTERN, LATEST_TS, require

LARGEST = 1e15
"""No price, quantity or fee is larger; within it no product of them overflows."""
LARGEST_RESULT = 1e9
"""R, and thousands of money: a day's counter holds 64 bits of millionths."""
_FIELDS = frozenset({"signal_id", "price", "quantity", "fee", "currency", "venue_id", "ts", "reason"})
_REASONS = {reason.value: reason for reason in (ExitReason.TP, ExitReason.SL, ExitReason.TIMEOUT, ExitReason.MANUAL)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A fill or a close. Price in quote currency, fee in ``currency``; a fill of quantity 0 was not filled."""

    signal_id: str
    price: float
    quantity: float | None
    fee: float
    currency: str | None
    venue_id: str | None
    ts: int
    reason: ExitReason | None = None

    @property
    def key(self) -> str:
        """What makes two reports the same one: a fill's venue id, else everything they say.

        A close is never known by its venue id alone: with another price it is a correction, not a repetition.
        """
        if self.venue_id is not None and self.reason is None:
            return sha256_hex(self.venue_id)[:16]
        return sha256_hex(_report_json(self))[:16]


@dataclass(frozen=True, slots=True)
class ReportReply:
    """Whether a report was taken, and if not which field or state refused it."""

    signal_id: str
    reason: Reason
    field: str | None = None
    detail: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether the report stands in the record, now or from before."""
        return self.reason in (Reason.REPORT_ACCEPTED, Reason.REPORT_DUPLICATE, Reason.REPORT_CORRECTION)

    def as_dict(self) -> dict[str, object]:
        """Plain JSON-able form."""
        return {"signal_id": self.signal_id, "reason": self.reason.value, "field": self.field, "detail": self.detail}


def parse_report(payload: object, *, close: bool) -> Report | Refusal:
    """Build the report a payload describes, or say which field broke which rule."""
    try:
        if not isinstance(payload, Mapping):
            raise Invalid(Reason.PAYLOAD_NOT_OBJECT, "payload", type(payload).__name__)
        for name in payload:
            known = name in _FIELDS and (close or name != "reason")
            require(known, Reason.FIELD_UNKNOWN, printable(str(name)))
        return _report(payload, close=close)
    except Invalid as error:
        return Refusal.of(error)


def _report(payload: Mapping[str, object], *, close: bool) -> Report:
    signal_id = text_field(payload, "signal_id")
    require(ID_PATTERN.fullmatch(signal_id) is not None, Reason.FIELD_FORMAT, "signal_id")
    price = number_field(payload, "price")
    require(0.0 < price <= LARGEST, Reason.FIELD_RANGE, "price", "above 0, at most 1e15")
    quantity = None if payload.get("quantity") is None else number_field(payload, "quantity")
    require(quantity is None or 0.0 <= quantity <= LARGEST, Reason.FIELD_RANGE, "quantity", "0 to 1e15")
    fee = 0.0 if payload.get("fee") is None else number_field(payload, "fee")
    require(abs(fee) <= LARGEST, Reason.FIELD_RANGE, "fee", "at most 1e15")
    ts = time_field(payload, "ts")
    require(EARLIEST_TS < ts <= LATEST_TS, Reason.FIELD_RANGE, "ts", "epoch milliseconds")
    currency, venue_id = (_short_text(payload, name) for name in ("currency", "venue_id"))
    reason = None
    if close:
        word = text_field(payload, "reason")
        require(word in _REASONS, Reason.FIELD_FORMAT, "reason", "tp, sl, timeout or manual")
        reason = _REASONS[word]
    return Report(
        signal_id=signal_id,
        price=price,
        quantity=quantity,
        fee=fee,
        currency=currency,
        venue_id=venue_id,
        ts=ts,
        reason=reason,
    )


def _short_text(payload: Mapping[str, object], name: str) -> str | None:
    if payload.get(name) is None:
        return None
    value = text_field(payload, name)
    require(0 < len(value) <= 64 and value.isprintable(), Reason.FIELD_FORMAT, name, "1-64 printable characters")
    return value


class Reports:
    """Takes fills and closes for one namespace."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def fill(self, payload: object) -> ReportReply:
        """Record a fill. A fill of nothing ends the position: it was never in the market."""
        report = parse_report(payload, close=False)
        if isinstance(report, Refusal):
            return _refused(payload, report)
        position = self._position(report.signal_id)
        if position is None:
            return ReportReply(report.signal_id, Reason.REPORT_UNKNOWN_POSITION, "signal_id")
        if report.quantity is not None and report.quantity <= 0.0:
            if position.fills:
                # The rest of an order was withdrawn; what was filled before is in the market.
                return ReportReply(report.signal_id, Reason.REPORT_CONFLICT, "quantity", "filled in part before")
            return self._end(position, report, Outcome.NO_FILL, ExitReason.NO_FILL)
        slip, expected = self._slip(position, report)
        status = self.store.fill(
            position.signal_id,
            position.prefix,
            report.key,
            _report_json(report),
            now_ms=self.store.now_ms(),
            slip_micro=slip,
            expected_micro=expected,
        )
        return _reply(report, status)

    def _slip(self, position: StoredPosition, report: Report) -> tuple[int, int]:
        """How much worse than its twin's fill this one was, and what the costs allow on the way in: half of them."""
        terms = terms_from(json.loads(position.terms))
        decision = self.store.decision(position.signal_id)
        known: dict[str, Any] = json.loads(decision.body) if decision is not None else {}
        allowed = terms.cost_r(float(known.get("costs_bps", 0.0))) / 2.0
        return slip_micro(terms.in_r(report.price)), max(0, slip_micro(allowed))

    def close(self, payload: object) -> ReportReply:
        """Record how a position ended; a second, different report is a correction."""
        report = parse_report(payload, close=True)
        if isinstance(report, Refusal):
            return _refused(payload, report)
        position = self._position(report.signal_id)
        if position is None:
            return ReportReply(report.signal_id, Reason.REPORT_UNKNOWN_POSITION, "signal_id")
        if report.reason is None:
            raise Invalid(Reason.FIELD_MISSING, "reason")
        return self._end(position, report, None, report.reason)

    def _position(self, signal_id: str) -> StoredPosition | None:
        """The position of a signal, also under another id that had its answer."""
        position = self.store.position(signal_id)
        if position is None:
            decision = self.store.decision(signal_id)
            if decision is not None and decision.signal_id != signal_id:
                return self.store.position(decision.signal_id)
        return position

    def _end(
        self, position: StoredPosition, report: Report, outcome: Outcome | None, reason: ExitReason
    ) -> ReportReply:
        result = self._result(position, report, outcome, reason)
        net_r, money = float(str(result["net_r"])), float(str(0.0 if result["money"] is None else result["money"]))
        if not (abs(net_r) <= LARGEST_RESULT and abs(money) <= 1_000.0 * LARGEST_RESULT):
            return ReportReply(report.signal_id, Reason.FIELD_RANGE, "price", "an impossible result")
        decided = Outcome(str(result["outcome"]))
        body = canonical_json(result)
        if not position.open:
            status = self.store.correct(
                position,
                report.key,
                body,
                learned=decided.decisive,
                now_ms=self.store.now_ms(),
                timed_out=decided is Outcome.TIMEOUT,
            )
            return _reply(report, status, done=Reason.REPORT_CORRECTION)
        status = self.store.close(
            CloseCommand(
                now_ms=self.store.now_ms(),
                signal_id=position.signal_id,
                prefix=position.prefix,
                strategy=position.strategy,
                symbol=position.symbol,
                version=position.version,
                how=CloseHow.REPORT,
                outcome=decided.value,
                result=body,
                track=position.track,
                learned=decided.decisive,
                win=decided is Outcome.WIN,
                r_micro=micro(net_r),
                money_micro=micro(money),
                report_id=report.key,
                groups=groups_of(result),
            )
        )
        if status is CommitStatus.REPLAY:
            # Somebody closed it between our read and our commit: look again, it is a duplicate or a correction.
            reread = self.store.position(position.signal_id)
            if reread is not None and not reread.open:
                return self._end(reread, report, outcome, reason)
        return _reply(report, status)

    def _result(
        self, position: StoredPosition, report: Report, outcome: Outcome | None, reason: ExitReason
    ) -> dict[str, object]:
        terms = terms_from(json.loads(position.terms))
        twin: dict[str, Any] = json.loads(position.twin) if position.twin else {}
        track = track_from(twin["track"] if twin else json.loads(position.track))
        decision = self.store.decision(position.signal_id)
        known: dict[str, Any] = json.loads(decision.body) if decision is not None else {}
        # The costs the decision was made under: the engine's process may know other settings, or none.
        money = _money(terms, position.fills, report, float(known.get("costs_bps", 0.0)))
        entered = outcome is not Outcome.NO_FILL
        decided = outcome or _outcome(reason, money.net_r)
        return {
            **known,
            **_executed_record(terms, track, report, money, entered=entered),
            "outcome": decided.value,
            "exit_reason": reason.value,
            "kind": "executed",
            "unclaimed": False,
            "how": CloseHow.REPORT.value,
            "entry_ms": terms.entry_ms,
            "deadline_ms": terms.deadline_ms,
            "report": json.loads(_report_json(report)),
            "runner_hit": reason is ExitReason.TP,
        }


@dataclass(frozen=True, slots=True)
class _Money:
    fill_price: float
    gross_r: float
    net_r: float
    money: float | None


def _money(terms: Terms, fills: tuple[str, ...], report: Report, costs_bps: float) -> _Money:
    """Real result: average fill to exit, fees as reported, else the profile's costs."""
    parsed: list[dict[str, Any]] = [json.loads(line) for line in fills]
    sized = [(fill["price"], fill["quantity"]) for fill in parsed if fill["quantity"] is not None]
    total = math.fsum(quantity for _, quantity in sized)
    if sized:
        fill_price = math.fsum(price * quantity for price, quantity in sized) / total
    else:
        fill_price = parsed[-1]["price"] if parsed else terms.entry
    gross = terms.side.value * (report.price - fill_price) / terms.risk
    quantity = total if report.quantity is None or report.quantity <= 0.0 else report.quantity
    fees = report.fee + math.fsum(fill["fee"] for fill in parsed)
    # Below 0 is a rebate. Without a quantity, or with one so small that it vanishes, fees cannot be told in R.
    reported = quantity * terms.risk > 0.0 and fees != 0.0
    net = gross - (fees / (quantity * terms.risk) if reported else terms.cost_r(costs_bps))
    money = terms.side.value * (report.price - fill_price) * quantity - fees if quantity > 0.0 else None
    return _Money(fill_price, gross, net, money)


def _outcome(reason: ExitReason, net_r: float) -> Outcome:
    if reason is ExitReason.MANUAL:
        return Outcome.WIN if net_r > 0.0 else Outcome.LOSS
    return {ExitReason.TP: Outcome.WIN, ExitReason.SL: Outcome.LOSS}.get(reason, Outcome.TIMEOUT)


def _executed_record(terms: Terms, track: Track, report: Report, money: _Money, *, entered: bool) -> dict[str, object]:
    best, worst = terms.in_r(track.best), terms.in_r(track.worst)
    reached = terms.in_r(report.price) if entered else 0.0
    mfe, mae = max(best, reached, 0.0), max(-worst, -reached, 0.0)
    gross, net = (money.gross_r, money.net_r) if entered else (0.0, 0.0)
    percent = terms.risk / terms.entry * 100.0
    return {
        "exit_price": report.price,
        "exit_ms": report.ts,
        "fill_price": money.fill_price if entered else None,
        "gap": False,
        "ambiguous": False,
        "resolved": False,
        "late_mark": False,
        "mark_price": None,
        "mark_pnl_percent": None,
        "gross_r": gross,
        "net_r": net,
        "gross_pnl_percent": gross * percent,
        "pnl_percent": net * percent,
        "money": money.money if entered else None,
        "entry_slip_r": terms.in_r(money.fill_price) if entered else 0.0,
        "mfe_r": mfe,
        "mae_r": mae,
        "tp1_hit": track.tp1_ms is not None or report.reason is ExitReason.TP,
        "be_moved": track.be_moved,
        "one_r_hit": mfe >= 1.0,
        "two_r_hit": mfe >= 2.0,
        "time_to_tp1_sec": None if track.tp1_ms is None else (track.tp1_ms - terms.entry_ms) / 1000,
        "time_to_exit_sec": (report.ts - terms.entry_ms) / 1000 if entered else None,
        "candles": track.candles,
    }


def _report_json(report: Report) -> str:
    return canonical_json(asdict(report) | {"reason": report.reason.value if report.reason else None})


def _refused(payload: object, refusal: Refusal) -> ReportReply:
    asked = payload.get("signal_id") if isinstance(payload, Mapping) else None
    return ReportReply(printable(str(asked or "")), refusal.reason, refusal.field, refusal.detail)


def _reply(report: Report, status: CommitStatus, *, done: Reason = Reason.REPORT_ACCEPTED) -> ReportReply:
    reason = {
        CommitStatus.DONE: done,
        CommitStatus.REPLAY: Reason.REPORT_DUPLICATE,
        CommitStatus.MISSING: Reason.REPORT_UNKNOWN_POSITION,
        CommitStatus.NOT_CLAIMED: Reason.REPORT_NOT_CLAIMED,
        CommitStatus.EXECUTED: Reason.REPORT_NOT_CLAIMED,
        CommitStatus.CLOSED: Reason.REPORT_CONFLICT,
        CommitStatus.STALE: Reason.REPORT_CONFLICT,
    }[status]
    return ReportReply(report.signal_id, reason)
