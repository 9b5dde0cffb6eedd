"""Hashes of the live state as the values the rest of the house reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from decision.decide import Action
from persistence.store import Decision, StoredPosition, Training
from signals.profile import Kind
from signals.reasons import Reason


def decision_from(signal_id: str, entry: Mapping[str, str]) -> Decision:
    """The answer a ledger hash holds."""
    return Decision(
        signal_id=signal_id,
        fingerprint=entry["fp"],
        action=Action(entry["action"]),
        reasons=tuple(Reason(code) for code in entry["reasons"].split(",") if code),
        decided_at=int(entry["at"]),
        expires_at=int(entry["expires"]) or None,
        strategy=entry["strategy"],
        symbol=entry["symbol"],
        prefix=entry["prefix"],
        has_position=entry["pos"] == "1",
        body=entry["body"],
        claimed_by=entry.get("claimed_by"),
    )


def forgotten(signal_id: str) -> Decision:
    """The answer to an id whose first answer is older than what is kept: far too late to trade on."""
    return Decision(
        signal_id=signal_id,
        fingerprint="",
        action=Action.REJECTED,
        reasons=(Reason.SIGNAL_EXPIRED,),
        decided_at=0,
        expires_at=None,
        strategy="",
        symbol="",
        prefix="phantom",
        has_position=False,
        body="{}",
        claimed_by=None,
    )


def listed(names: str, name: str) -> bool:
    """Whether a list of names that each end in a comma holds a name."""
    return f",{name}," in f",{names}"


def opened_in_order(positions: Iterable[StoredPosition], strategy: str) -> list[StoredPosition]:
    """Those of a strategy that are open, by the sequence number of their opening."""
    return sorted(
        (position for position in positions if position.open and position.strategy == strategy),
        key=lambda position: position.seq,
    )


def position_from(entry: Mapping[str, str]) -> StoredPosition:
    """The position a hash holds."""
    return StoredPosition(
        signal_id=entry["sid"],
        prefix=entry["prefix"],
        strategy=entry["strategy"],
        symbol=entry["symbol"],
        kind=Kind(entry["kind"]),
        open=entry["status"] == "open",
        following=entry["sim"] == "open",
        version=int(entry["v"]),
        seq=int(entry["seq"]),
        opened_at=int(entry["at"]),
        entry_ms=int(entry["entry_ms"]),
        deadline_ms=int(entry["deadline"]),
        step_ms=int(entry["step"]),
        terms=entry["body"],
        track=entry["track"],
        claimed_by=entry.get("claimed_by"),
        claimed_at=_optional_int(entry.get("claimed_at")),
        unclaimed=entry.get("unclaimed") == "1",
        fills=tuple(line for line in entry.get("fills", "").split("\n") if line),
        outcome=entry.get("outcome"),
        how=entry.get("how"),
        closed_at=_optional_int(entry.get("closed_at")),
        result=entry.get("result"),
        twin=entry.get("twin"),
        correction=entry.get("correction"),
        path=entry.get("path"),
    )


def training_from(entry: Mapping[str, str], completed: str | None) -> Training:
    """Where a strategy stands, from its hash and its counter."""
    return Training(
        completed=int(completed or "0"),
        next_at=int(entry.get("next", "0")),
        requested=int(entry.get("requested", "0")),
        attempt=int(entry.get("attempt", "0")),
        published_attempt=int(entry.get("published", "0")),
        bundle=entry.get("bundle"),
        previous=entry.get("previous"),
        table=entry.get("table"),
        table_count=int(entry.get("table_count", "0")),
    )


def _optional_int(text: str | None) -> int | None:
    return None if text is None else int(text)
