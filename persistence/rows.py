"""Facts as rows of the record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from persistence.store import Fact
from signals.errors import Permanent
from signals.parse import canonical_json, sha256_hex

CIRCUMSTANCES = frozenset({"v", "track", "last_ts", "expires", "day"})
"""Fields that say when and after how many checkpoints a fact was committed, not what happened."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FLAGS = (
    "tp1_hit",
    "be_moved",
    "runner_hit",
    "one_r_hit",
    "two_r_hit",
    "ambiguous",
    "gap",
    "late_mark",
    "unclaimed",
)


class BadFact(Permanent):
    """A fact the record cannot take, now or later: the fault is in its content."""


def digest(fact: Fact) -> str:
    """What two facts under one id must have in common to be the same fact.

    After Redis has been rolled back to an older log, the same candles and the same resent signals commit the same
    facts again, but at another moment: with another sequence number, another expiry, and after checkpoints taken
    elsewhere. Those circumstances are left out; whoever claimed, what was answered and how it ended stay in.
    """
    said = {name: value for name, value in fact.fields.items() if name not in CIRCUMSTANCES}
    try:
        return sha256_hex(canonical_json([fact.kind, fact.id, said, fact.body]))
    except UnicodeError as error:
        raise BadFact(f"{fact.id!r}: not text ({error})") from error


@dataclass(frozen=True, slots=True)
class GateSlot:
    """The one gate report of a profile and a slot (a UTC day or an ISO week), as it was stored; ``body`` is JSON."""

    profile: str
    slot: str
    body: str
    created_at: str


GENESIS = "0" * 64
"""What the first link of a chain follows."""


@dataclass(frozen=True, slots=True)
class Link:
    """One fact's place in the chain."""

    number: int
    id: str
    seq: int
    prev: str
    hash: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A fact as it lies in Postgres, to the last column."""

    seq: int
    id: str
    kind: str
    at_ms: int
    fields: str
    body: str
    sha256: str
    recorded_us: int
    position: int


def link_hash(prev: str, namespace: str, row: Stored) -> str:
    """sha256 of the hash before and the row's every column, each with its length in front so that none runs over.

    Migration 0004 does the same in SQL for the facts that were there before the chain.
    """
    words = (namespace, row.id, row.seq, row.kind, row.at_ms, row.fields, row.body, row.sha256, row.recorded_us)
    encoded = [str(word).encode() for word in (*words, row.position)]
    return sha256_hex(prev.encode() + b"".join(b"%d:%b," % (len(word), word) for word in encoded))


def link_from(row: Sequence[Any]) -> tuple[Link, Stored | None]:
    """A row of ``chain_in_order``: the link, and its fact unless that is gone."""
    number, fact_id, seq, prev, found, fact_seq, *rest = row
    link = Link(number, fact_id, seq, prev, found)
    return link, None if fact_seq is None else Stored(fact_seq, fact_id, *rest)


def trade_row(namespace: str, fact: Fact) -> dict[str, object]:
    """The ``phantom_trades`` row of a ``closed`` fact."""
    body = _Body(fact)
    row: dict[str, object] = {
        "namespace": namespace,
        "id": body.text("id"),
        "symbol": body.text("symbol"),
        "side": body.text("side"),
        "entry": body.number("entry"),
        "sl": body.number("sl"),
        "tp": body.number("tp"),
        "signal_time": body.moment("ts"),
        "exit_time": body.moment("exit_ms"),
        "outcome": body.text("outcome"),
        "pnl_percent": body.number("pnl_percent"),
        "exit_reason": body.text("exit_reason"),
        "strategy_name": body.text("strategy"),
        "was_executed": body.text("kind") == "executed",
        "ml_score": body.optional_number("score"),
        "realized_rr": body.number("net_r"),
        "features_json": body.features(),
        "created_at": _moment(fact.at_ms, fact.id, "at"),
        "mfe": body.number("mfe_r"),
        "mae": body.number("mae_r"),
        "how": body.text("how"),
        "mark_price": body.optional_number("mark_price"),
        "mark_pnl_percent": body.optional_number("mark_pnl_percent"),
        "gross_r": body.number("gross_r"),
        "gross_pnl_percent": body.number("gross_pnl_percent"),
        "entry_slip_r": body.number("entry_slip_r"),
        "bundle": body.optional_text("bundle"),
        "threshold": body.optional_number("threshold"),
        "bucket": body.optional_text("bucket"),
    }
    return row | {name: body.flag(name) for name in _FLAGS}


def trade_differs(made: Mapping[str, object], found: Mapping[str, Any]) -> list[str]:
    """Columns in which a stored trade row is not the one its fact makes."""
    wanted = dict(made) | {"updated_at": made["created_at"], "features_json": json.loads(str(made["features_json"]))}
    return [name for name, value in wanted.items() if found[name] != value]


class _Body:
    """A closed fact's body, read with complaints that name the key."""

    def __init__(self, fact: Fact) -> None:
        self._id = fact.id
        try:
            content: Any = json.loads(fact.body)
        except (ValueError, RecursionError) as error:
            raise BadFact(f"{fact.id}: the body is not JSON") from error
        if not isinstance(content, Mapping):
            raise BadFact(f"{fact.id}: the body is not an object")
        self._content: Mapping[str, Any] = content

    def _present(self, key: str) -> Any:
        if key not in self._content:
            raise BadFact(f"{self._id}: the body has no {key!r}")
        return self._content[key]

    def _wrong(self, key: str, wanted: str) -> BadFact:
        return BadFact(f"{self._id}: {key!r} must be {wanted}, not {type(self._content[key]).__name__}")

    def text(self, key: str) -> str:
        value = self._present(key)
        if not isinstance(value, str):
            raise self._wrong(key, "text")
        return value

    def optional_text(self, key: str) -> str | None:
        return None if self._present(key) is None else self.text(key)

    def number(self, key: str) -> float:
        value = self._present(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number")
        try:
            return float(value)
        except OverflowError:
            raise self._wrong(key, "a number a float can hold") from None

    def optional_number(self, key: str) -> float | None:
        return None if self._present(key) is None else self.number(key)

    def flag(self, key: str) -> bool:
        value = self._present(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def moment(self, key: str) -> datetime:
        value = self._present(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, "whole epoch milliseconds")
        return _moment(value, self._id, key)

    def features(self) -> str:
        value = self._present("features")
        if not isinstance(value, Mapping):
            raise self._wrong("features", "an object")
        try:
            return canonical_json(value)
        except ValueError:
            raise BadFact(f"{self._id}: 'features' holds a number JSON does not know") from None


def _moment(at_ms: int, fact_id: str, key: str) -> datetime:
    try:
        return _EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:
        raise BadFact(f"{fact_id}: {key!r} is not a moment: {at_ms}") from None
